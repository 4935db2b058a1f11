package agent_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/memberlist"

	"github.com/lockstep-storage/lockstep/api"
	"github.com/lockstep-storage/lockstep/api/client"
	"github.com/lockstep-storage/lockstep/cmd/internal/agent"
	"github.com/lockstep-storage/lockstep/cmd/internal/config"
	"github.com/lockstep-storage/lockstep/cmd/internal/tlsfiles"
	"github.com/lockstep-storage/lockstep/scripts/freeport"
)

const deployment = "east"

// must ends the test on an error.
func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// member is a node of a deployment with certificates, and its addresses.
type member struct {
	name, api, raft, gossip string
}

// secured starts nodes with real files and sockets, all ports of which are
// encrypted, and waits until they have a leader.
func secured(t *testing.T, dir string, size int) []member {
	t.Helper()
	must[tlsfiles.Created](t)(tlsfiles.CreateAuthority(dir, deployment, 10))
	must[tlsfiles.Created](t)(tlsfiles.CreateGossipKey(dir))
	var members []member
	var join []string
	for i := range size {
		base := must[int](t)(freeport.Find(t.Context(), 3))
		addr := func(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
		m := member{fmt.Sprintf("node%d", i+1), addr(base), addr(base + 1), addr(base + 2)}
		members = append(members, m)
		join = append(join, strconv.Quote(m.gossip))
	}
	for _, m := range members {
		must[tlsfiles.Created](t)(tlsfiles.CreateCertificate(dir, m.name, nil, 5))
		cfg := must[config.Config](t)(config.Parse("test.yaml", fmt.Appendf(nil, `
node: %s
deployment: %s
data_dir: %q
bootstrap_expect: %d
tls: {ca: %[5]s/ca.pem, cert: %[5]s/%[1]s.pem, key: %[5]s/%[1]s-key.pem}
api: {listen: %[6]q}
raft: {listen: %[7]q}
gossip: {listen: %[8]q, key_file: %[5]s/gossip.key, join: [%[9]s]}
`, m.name, deployment, filepath.Join(dir, "data-"+m.name), size, dir, m.api, m.raft, m.gossip, strings.Join(join, ", "))))
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- agent.Run(ctx, cfg, "v1", agent.Processes("lockstep"), hclog.NewNullLogger()) }()
		t.Cleanup(func() {
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
	for _, m := range members {
		c := must[*client.Client](t)(client.New([]string{m.api}, client.Options{TLS: trusting(t, dir)}))
		until(t, m.name+" to know a leader", func() bool {
			s, err := c.Status(t.Context())
			return err == nil && s.Leader != ""
		})
	}
	return members
}

// trusting is what a user of the API has.
func trusting(t *testing.T, dir string) *tls.Config {
	t.Helper()
	return &tls.Config{RootCAs: must[*x509.CertPool](t)(tlsfiles.Pool(filepath.Join(dir, "ca.pem"))), MinVersion: tls.VersionTLS12}
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(time.Minute)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("gave up waiting for %s", what)
		}
	}
}

// papers are the certificates of a node in a directory.
func papers(t *testing.T, dir, deployment, node string) *tlsfiles.Certificates {
	t.Helper()
	if _, err := os.Stat(filepath.Join(dir, "ca.pem")); err != nil {
		must[tlsfiles.Created](t)(tlsfiles.CreateAuthority(dir, deployment, 10))
	}
	cert := filepath.Join(dir, node+".pem")
	if _, err := os.Stat(cert); err != nil {
		must[tlsfiles.Created](t)(tlsfiles.CreateCertificate(dir, node, nil, 5))
	}
	return must[*tlsfiles.Certificates](t)(tlsfiles.Open(tlsfiles.Paths{
		CA: filepath.Join(dir, "ca.pem"), Cert: cert, Key: filepath.Join(dir, node+"-key.pem"),
	}, deployment, node))
}

// blind shows its certificate to whomever it meets, and believes everyone.
func blind(c *tlsfiles.Certificates) *tls.Config {
	cfg := c.Dial("").Clone()
	cfg.VerifyConnection = nil
	return cfg
}

// strangers are those who lack something, by what they lack, and how they dial.
func strangers(t *testing.T, dir string) map[string]*tls.Config {
	t.Helper()
	return map[string]*tls.Config{
		"TLS":                    nil,
		"a certificate":          {InsecureSkipVerify: true},
		"one of this authority":  blind(papers(t, t.TempDir(), deployment, "node2")),
		"one of this deployment": blind(papers(t, t.TempDir(), "west", "node2")),
		"one that names a node":  {InsecureSkipVerify: true, Certificates: []tls.Certificate{must[tls.Certificate](t)(tls.LoadX509KeyPair(filepath.Join(dir, "ca.pem"), filepath.Join(dir, "ca-key.pem")))}},
	}
}

func connect(t *testing.T, address string, cfg *tls.Config) net.Conn {
	t.Helper()
	conn := must[net.Conn](t)(new(net.Dialer).DialContext(t.Context(), "tcp", address))
	t.Cleanup(func() { _ = conn.Close() })
	must[any](t)(nil, conn.SetDeadline(time.Now().Add(10*time.Second)))
	if cfg == nil {
		return conn
	}
	return tls.Client(conn, cfg)
}

// hello is how a node introduces itself to Raft.
func hello(node string) string {
	return "LOCKSTEP/2" + string(rune(len(deployment))) + deployment + string(rune(len(node))) + node
}

// Whoever lacks the right certificate or key gets nothing, at any port.
func TestPortsAreForThoseWhoHaveTheRightCertificateOrKey(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "tls")
	m := secured(t, dir, 1)[0]
	member := papers(t, dir, deployment, "node2")
	t.Run("raft", func(t *testing.T) {
		t.Parallel()
		introduce := func(cfg *tls.Config, name string) string {
			conn := connect(t, m.raft, cfg)
			_, _ = io.WriteString(conn, hello(name)+"\x02d1")
			answer := make([]byte, len(hello("node1")))
			n, _ := io.ReadFull(conn, answer)
			return string(answer[:n])
		}
		if got := introduce(member.Dial("node1"), "node2"); got != hello("node1") {
			t.Errorf("a node is answered %q", got)
		}
		for lacks, cfg := range strangers(t, dir) {
			if got := introduce(cfg, "node2"); strings.Contains(got, "LOCKSTEP") {
				t.Errorf("who lacks %s is answered %q", lacks, got)
			}
		}
		// It learns the names, of which it had dialed one, and then nothing more:
		// a message of Raft is not answered.
		conn := connect(t, m.raft, member.Dial("node1"))
		_, _ = io.WriteString(conn, hello("node3")+"\x02d1\x01\x80")
		if got, err := io.ReadAll(conn); len(got) != len(hello("node1"))+1+int(append(got, make([]byte, 99)...)[len(hello("node1"))]) || err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("node2 under the name of node3 is answered %q, %v", got, err)
		}
	})
	t.Run("questions", func(t *testing.T) {
		t.Parallel()
		ask := func(c api.Certificates, node string) ([]byte, error) {
			return api.NewPeerClient(deployment, c).Ask(t.Context(), node, m.api, "term", nil)
		}
		if answer, err := ask(member, "node1"); err != nil || len(answer) == 0 {
			t.Errorf("a node is answered %q, %v", answer, err)
		}
		if answer, err := ask(member, "node3"); !errors.Is(err, api.ErrUnreachable) {
			t.Errorf("who asks node3 at the address of node1 is answered %q, %v", answer, err)
		}
		if answer, err := ask(nil, "node1"); err == nil {
			t.Errorf("who lacks TLS is answered %q", answer)
		}
		for lacks, cfg := range strangers(t, dir) {
			if cfg == nil {
				continue
			}
			c := &http.Client{Transport: &http.Transport{TLSClientConfig: cfg}}
			r := must[*http.Request](t)(http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+m.api+"/internal/v1/term", nil))
			r.Header.Set("X-Lockstep-Deployment", deployment)
			resp, err := c.Do(r)
			if err != nil {
				continue
			}
			body, _ := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if resp.StatusCode != http.StatusForbidden || !bytes.Contains(body, []byte("Only nodes of the deployment")) {
				t.Errorf("who lacks %s is answered %d %s", lacks, resp.StatusCode, body)
			}
		}
	})
	t.Run("api", func(t *testing.T) {
		t.Parallel()
		plain := must[*client.Client](t)(client.New([]string{"http://" + m.api}, client.Options{Patience: -1}))
		if _, err := plain.Status(t.Context()); err == nil {
			t.Error("who lacks TLS is answered")
		}
		other := filepath.Join(t.TempDir(), "tls")
		papers(t, other, deployment, "node1")
		deceived := must[*client.Client](t)(client.New([]string{m.api}, client.Options{Patience: -1, TLS: trusting(t, other)}))
		if _, err := deceived.Status(t.Context()); err == nil || !strings.Contains(err.Error(), "unknown authority") {
			t.Errorf("who trusts another authority: %v", err)
		}
	})
	t.Run("gossip", func(t *testing.T) {
		t.Parallel()
		if m.join(t) == nil {
			t.Error("who lacks a key may join")
		}
		if m.join(t, bytes.Repeat([]byte("k"), 32)) == nil {
			t.Error("who lacks the key may join")
		}
		if err := m.join(t, gossipKey(t, dir)); err != nil {
			t.Errorf("who has the key: %v", err)
		}
	})
}

// gossipKey returns the only key of gossip in a directory.
func gossipKey(t *testing.T, dir string) []byte {
	t.Helper()
	content := must[[]byte](t)(os.ReadFile(filepath.Join(dir, "gossip.key")))
	return must[[]byte](t)(base64.StdEncoding.DecodeString(strings.TrimSpace(string(content))))
}

// join has a stranger join the gossip of a node, and leave at once. It reads with any
// of its keys, and writes with the first.
func (m member) join(t *testing.T, keys ...[]byte) error {
	t.Helper()
	cfg := memberlist.DefaultLocalConfig()
	cfg.Name, cfg.BindAddr, cfg.BindPort, cfg.LogOutput = "stranger", "127.0.0.1", 0, io.Discard
	if keys != nil {
		cfg.Keyring = must[*memberlist.Keyring](t)(memberlist.NewKeyring(keys, keys[0]))
	}
	list := must[*memberlist.Memberlist](t)(memberlist.Create(cfg))
	defer func() { _ = list.Shutdown() }()
	_, err := list.Join([]string{m.gossip})
	return err
}

// Three nodes start from nothing but the files, and take a new certificate and a
// new gossip key while they run.
func TestThreeNodesWithCertificates(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "tls")
	members := secured(t, dir, 3)
	serial := func() string { return handshake(t, members[0].api, trusting(t, dir)) }
	before := serial()
	for _, name := range []string{"node1.pem", "node1-key.pem"} {
		must[any](t)(nil, os.Remove(filepath.Join(dir, name)))
	}
	must[tlsfiles.Created](t)(tlsfiles.CreateCertificate(dir, "node1", []string{"volumes.example.org"}, 6))
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP) // so that it ends no one who does not wait for it yet
	defer signal.Stop(hangups)
	must[any](t)(nil, syscall.Kill(os.Getpid(), syscall.SIGHUP))
	until(t, "the new certificate", func() bool { return serial() != before })

	old, next := gossipKey(t, dir), bytes.Repeat([]byte("n"), 32)
	use := func(keys ...[]byte) {
		var lines strings.Builder
		for _, key := range keys {
			lines.WriteString(base64.StdEncoding.EncodeToString(key) + "\n")
		}
		must[any](t)(nil, os.WriteFile(filepath.Join(dir, "gossip.key"), []byte(lines.String()), 0o600))
		must[any](t)(nil, syscall.Kill(os.Getpid(), syscall.SIGHUP))
	}
	use(old, next)
	for _, m := range members {
		until(t, m.name+" to read with the new key", func() bool { return m.join(t, next, old) == nil })
	}
	use(next, old)
	for _, m := range members {
		until(t, m.name+" to write with the new key", func() bool { return m.join(t, next) == nil })
	}
	use(next)
	for _, m := range members {
		until(t, m.name+" to forget the old key", func() bool { return m.join(t, old, next) != nil })
	}
	c := must[*client.Client](t)(client.New([]string{members[0].api}, client.Options{TLS: trusting(t, dir)}))
	until(t, "all nodes to be seen", func() bool {
		peers, err := c.Peers(t.Context())
		alive := 0
		for _, p := range peers {
			if p.Alive && p.Suffrage == "voter" {
				alive++
			}
		}
		return err == nil && alive == 3
	})
	if err := c.EnsureVolumeType(t.Context(), "gold", nil); err != nil {
		t.Error(err) // a command that a follower has to forward, or the leader to replicate
	}
}

// handshake returns the serial number of the certificate shown to a user.
func handshake(t *testing.T, address string, cfg *tls.Config) string {
	t.Helper()
	d := tls.Dialer{Config: cfg}
	conn := must[net.Conn](t)(d.DialContext(t.Context(), "tcp", address))
	defer conn.Close()
	return conn.(*tls.Conn).ConnectionState().PeerCertificates[0].SerialNumber.String() //nolint:errcheck // it is one
}
