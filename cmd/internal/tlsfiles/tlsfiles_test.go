package tlsfiles_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-storage/lockstep/cmd/internal/tlsfiles"
)

// authority makes the authority of a deployment in a directory of its own.
func authority(t *testing.T, deployment string) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "tls")
	if _, err := tlsfiles.CreateAuthority(dir, deployment, 10); err != nil {
		t.Fatal(err)
	}
	return dir
}

// paths makes the certificate of a node and returns its files.
func paths(t *testing.T, dir, node string) tlsfiles.Paths {
	t.Helper()
	made, err := tlsfiles.CreateCertificate(dir, node, nil, 5)
	if err != nil {
		t.Fatal(err)
	}
	return tlsfiles.Paths{CA: filepath.Join(dir, "ca.pem"), Cert: made.Cert, Key: made.Key}
}

func open(t *testing.T, p tlsfiles.Paths, node string) *tlsfiles.Certificates {
	t.Helper()
	c, err := tlsfiles.Open(p, "east", node)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// talk connects two sides and says what each of them makes of the other.
func talk(t *testing.T, server, client *tls.Config) (serverErr, clientErr error) {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	done := make(chan error, 1)
	go func() {
		raw, err := l.Accept()
		if err != nil {
			done <- err
			return
		}
		defer raw.Close()
		conn := tls.Server(raw, server)
		_, err = conn.Write([]byte("hello"))
		done <- err
	}()
	near, err := new(net.Dialer).DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	conn := tls.Client(near, client)
	if _, clientErr = io.ReadFull(conn, make([]byte, 5)); clientErr != nil {
		_ = near.Close() // the other side need not wait
	}
	return <-done, clientErr
}

func TestNodesOfOneDeploymentKnowEachOtherByName(t *testing.T) {
	t.Parallel()
	dir := authority(t, "east")
	one := open(t, paths(t, dir, "node1"), "node1")
	two := open(t, paths(t, dir, "node2"), "node2")
	for range 2 { // the second time from memory
		if serverErr, clientErr := talk(t, one.Listen(), two.Dial("node1")); serverErr != nil || clientErr != nil {
			t.Errorf("node2 dials node1: %v, %v", serverErr, clientErr)
		}
		if _, clientErr := talk(t, one.Listen(), two.Dial("node3")); clientErr == nil || !strings.Contains(clientErr.Error(), `"node1", not of "node3"`) {
			t.Errorf("node1 is at the address of node3: %v", clientErr)
		}
	}
}

// Whoever shows something else than a good certificate of the deployment fails the
// handshake, on either side.
func TestStrangersFailTheHandshake(t *testing.T) {
	t.Parallel()
	dir := authority(t, "east")
	one := open(t, paths(t, dir, "node1"), "node1")
	pair := func(p tlsfiles.Paths) tls.Certificate {
		pair, err := tls.LoadX509KeyPair(p.Cert, p.Key)
		if err != nil {
			t.Fatal(err)
		}
		return pair
	}
	for name, shown := range map[string][]tls.Certificate{
		"nothing":                  nil,
		"of another authority":     {pair(paths(t, authority(t, "east"), "node2"))},
		"of another deployment":    {pair(paths(t, authority(t, "west"), "node2"))},
		"expired":                  {signed(t, dir, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Second) })},
		"not good yet":             {signed(t, dir, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) })},
		"of nobody":                {signed(t, dir, func(c *x509.Certificate) { c.URIs = nil })},
		"of two":                   {signed(t, dir, func(c *x509.Certificate) { c.URIs = append(c.URIs, urn(t, "lockstep:node:east:node3")) })},
		"one authority, two names": {signed(t, dir, func(c *x509.Certificate) { c.URIs[0] = urn(t, "lockstep:node:west:node2") })},
		"for clients only":         {signed(t, dir, func(c *x509.Certificate) { c.ExtKeyUsage = c.ExtKeyUsage[:1] })},
		"for servers only":         {signed(t, dir, func(c *x509.Certificate) { c.ExtKeyUsage = c.ExtKeyUsage[1:] })},
		"another kind of name":     {signed(t, dir, func(c *x509.Certificate) { c.URIs[0] = urn(t, "lockstep:ca:east") })},
	} {
		stranger := &tls.Config{Certificates: shown, InsecureSkipVerify: true, MinVersion: tls.VersionTLS13}
		if serverErr, _ := talk(t, one.Listen(), stranger); serverErr == nil {
			t.Errorf("%s: was let in", name)
		}
		if shown == nil {
			continue
		}
		if _, clientErr := talk(t, stranger, one.Dial("node2")); clientErr == nil {
			t.Errorf("%s: was talked to", name)
		}
		state := &tls.ConnectionState{}
		leaf, err := x509.ParseCertificate(shown[0].Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		state.PeerCertificates = []*x509.Certificate{leaf}
		if node, err := one.Node(state); err == nil {
			t.Errorf("%s: is taken for %s", name, node)
		}
	}
	// The way to make all those is right: without a change, it lets in.
	good := &tls.Config{
		Certificates:       []tls.Certificate{signed(t, dir, func(*x509.Certificate) {})},
		InsecureSkipVerify: true, MinVersion: tls.VersionTLS13,
	}
	if serverErr, clientErr := talk(t, one.Listen(), good); serverErr != nil || clientErr != nil {
		t.Errorf("a good certificate: %v, %v", serverErr, clientErr)
	}
	if _, err := one.Node(nil); err == nil {
		t.Error("a connection without TLS has a node")
	}
	if _, err := one.Node(&tls.ConnectionState{}); err == nil {
		t.Error("a connection without a certificate has a node")
	}
}

// A changed file is what the next connection sees; what cannot be read changes
// nothing; an authority that is gone takes its certificates with it at once, on
// open connections too.
func TestCertificatesAreReadAgain(t *testing.T) {
	t.Parallel()
	before, after := authority(t, "east"), authority(t, "east")
	old, fresh := paths(t, before, "node1"), paths(t, after, "node1")
	mine := paths(t, before, "node2")
	one, two := open(t, old, "node1"), open(t, mine, "node2")
	leaf := func(p tlsfiles.Paths) *tls.ConnectionState {
		pair, err := tls.LoadX509KeyPair(p.Cert, p.Key)
		if err != nil {
			t.Fatal(err)
		}
		return &tls.ConnectionState{PeerCertificates: []*x509.Certificate{pair.Leaf}}
	}
	connection := leaf(old)
	if node, err := two.Node(connection); err != nil || node != "node1" {
		t.Fatalf("the old certificate: %q, %v", node, err)
	}
	replace(t, old.Cert, fresh.Cert)
	if err := one.Load(); err == nil {
		t.Error("a certificate with the key of another was read")
	}
	if serverErr, clientErr := talk(t, one.Listen(), two.Dial("node1")); serverErr != nil || clientErr != nil {
		t.Errorf("after a refused change: %v, %v", serverErr, clientErr)
	}
	replace(t, old.Key, fresh.Key)
	appendFile(t, old.CA, fresh.CA) // both nodes have this file
	if err := errors.Join(one.Load(), two.Load()); err != nil {
		t.Fatal(err)
	}
	if serverErr, clientErr := talk(t, one.Listen(), two.Dial("node1")); serverErr != nil || clientErr != nil {
		t.Errorf("with a certificate of the new authority: %v, %v", serverErr, clientErr)
	}
	replace(t, old.CA, fresh.CA)
	if err := two.Load(); err == nil {
		t.Error("node2 was read although its own certificate is of the authority that is gone")
	}
	fresher := paths(t, after, "node2")
	replace(t, mine.Cert, fresher.Cert)
	replace(t, mine.Key, fresher.Key)
	if err := two.Load(); err != nil {
		t.Fatal(err)
	}
	if node, err := two.Node(connection); err == nil {
		t.Errorf("the old certificate is still good for %q", node)
	}
}

func TestAnotherCertificateForUsersOfTheAPI(t *testing.T) {
	t.Parallel()
	dir, public := authority(t, "east"), authority(t, "public")
	p := paths(t, dir, "node1")
	made, err := tlsfiles.CreateCertificate(public, "any", []string{"volumes.example.org"}, 3)
	if err != nil {
		t.Fatal(err)
	}
	p.APICert, p.APIKey = made.Cert, made.Key
	one := open(t, p, "node1")
	two := open(t, paths(t, dir, "node2"), "node2")
	pool, err := tlsfiles.Pool(filepath.Join(public, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	user := &tls.Config{RootCAs: pool, ServerName: "volumes.example.org", MinVersion: tls.VersionTLS12}
	if serverErr, clientErr := talk(t, one.API(), user); serverErr != nil || clientErr != nil {
		t.Errorf("a user: %v, %v", serverErr, clientErr)
	}
	if serverErr, clientErr := talk(t, one.API(), two.Dial("node1")); serverErr != nil || clientErr != nil {
		t.Errorf("a node: %v, %v", serverErr, clientErr)
	}
	var uses []string
	for _, e := range one.Expiries() {
		uses = append(uses, e.Use)
		if days := time.Until(e.Until).Hours() / 24; days < 2 || days > 10 {
			t.Errorf("%s ends in %v days", e.Use, days)
		}
	}
	if got := strings.Join(uses, " "); got != "ca node api" {
		t.Errorf("expiries of %s", got)
	}
}

func TestFilesAreChecked(t *testing.T) {
	t.Parallel()
	dir := authority(t, "east")
	good := paths(t, dir, "node1")
	write := func(content string, mode os.FileMode) string {
		path := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(path, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	key, err := os.ReadFile(good.Key)
	if err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*tlsfiles.Paths){
		"no such file":                    func(p *tlsfiles.Paths) { p.CA = filepath.Join(dir, "none") },
		"has no certificate in PEM":       func(p *tlsfiles.Paths) { p.CA = write("words", 0o600) },
		`has a "PRIVATE KEY", only`:       func(p *tlsfiles.Paths) { p.CA = good.Key },
		"is no authority's":               func(p *tlsfiles.Paths) { p.CA = good.Cert },
		"chmod 600":                       func(p *tlsfiles.Paths) { p.Key = write(string(key), 0o604) },
		"larger than":                     func(p *tlsfiles.Paths) { p.Cert = write(strings.Repeat("x", 2<<20), 0o600) },
		"private key does not match":      func(p *tlsfiles.Paths) { p.Key = filepath.Join(dir, "ca-key.pem") },
		"signed by unknown authority":     func(p *tlsfiles.Paths) { p.CA = filepath.Join(authority(t, "east"), "ca.pem") },
		`is the certificate of node "n2"`: func(p *tlsfiles.Paths) { *p = paths(t, dir, "n2") },
		`of deployment "west", this is`:   func(p *tlsfiles.Paths) { *p = paths(t, authority(t, "west"), "node1") },
		"is good from ":                   func(p *tlsfiles.Paths) { p.Cert, p.Key = expired(t, dir) },
		"api.pem: no such file":           func(p *tlsfiles.Paths) { p.APICert, p.APIKey = filepath.Join(dir, "api.pem"), good.Key },
	} {
		p := good
		change(&p)
		if _, err := tlsfiles.Open(p, "east", "node1"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}

func TestMadeFilesAreSafe(t *testing.T) {
	t.Parallel()
	dir := authority(t, "east")
	p := paths(t, dir, "node1")
	if _, err := tlsfiles.CreateGossipKey(dir); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{filepath.Join(dir, "ca-key.pem"), p.Key, filepath.Join(dir, "gossip.key")} {
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
	before, err := os.ReadFile(p.Key)
	if err != nil {
		t.Fatal(err)
	}
	for name, again := range map[string]func() error{
		"ca":         func() error { _, err := tlsfiles.CreateAuthority(dir, "east", 10); return err },
		"cert":       func() error { _, err := tlsfiles.CreateCertificate(dir, "node1", nil, 5); return err },
		"gossip-key": func() error { _, err := tlsfiles.CreateGossipKey(dir); return err },
		"ca as node": func() error { _, err := tlsfiles.CreateCertificate(dir, "ca", nil, 5); return err },
	} {
		if err := again(); err == nil || !strings.Contains(err.Error(), "is there already: nothing is ever overwritten") {
			t.Errorf("%s: %v", name, err)
		}
	}
	// One half that is there keeps the other from being made.
	if err := os.Remove(p.Cert); err != nil {
		t.Fatal(err)
	}
	if _, err := tlsfiles.CreateCertificate(dir, "node1", nil, 5); err == nil {
		t.Error("a certificate was made although a key is there")
	}
	if _, err := os.Stat(p.Cert); err == nil {
		t.Error("half a pair was left behind")
	}
	if after, err := os.ReadFile(p.Key); err != nil || string(after) != string(before) {
		t.Error("a key was overwritten")
	}
}

func TestMistakesNameTheField(t *testing.T) {
	t.Parallel()
	dir := authority(t, "east")
	for want, make := range map[string]func() error{
		`--deployment "a/b"`:            func() error { _, err := tlsfiles.CreateAuthority(t.TempDir(), "a/b", 10); return err },
		`--deployment ""`:               func() error { _, err := tlsfiles.CreateAuthority(t.TempDir(), "", 10); return err },
		"--days 0: must be 1 to 7300":   func() error { _, err := tlsfiles.CreateAuthority(t.TempDir(), "e", 0); return err },
		`NODE "../x"`:                   func() error { _, err := tlsfiles.CreateCertificate(dir, "../x", nil, 5); return err },
		`NODE ".."`:                     func() error { _, err := tlsfiles.CreateCertificate(dir, "..", nil, 5); return err },
		"--days 11: the authority":      func() error { _, err := tlsfiles.CreateCertificate(dir, "n", nil, 11); return err },
		`--host "a:80": must be a host`: func() error { _, err := tlsfiles.CreateCertificate(dir, "n", []string{"a:80"}, 5); return err },
		`--host "": must be a host`:     func() error { _, err := tlsfiles.CreateCertificate(dir, "n", []string{""}, 5); return err },
		"tls ca create":                 func() error { _, err := tlsfiles.CreateCertificate(t.TempDir(), "n", nil, 5); return err },
	} {
		if err := make(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
	if left, err := filepath.Glob(filepath.Join(dir, "n*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestGossipKeys(t *testing.T) {
	t.Parallel()
	a, b := base64.StdEncoding.EncodeToString(make([]byte, 32)), strings.Repeat("QUJD", 10)+"QUI="
	path := filepath.Join(t.TempDir(), "gossip.key")
	for content, want := range map[string]int{
		a: 1, a + "\n": 1, "# old\n" + a + "\n\n  " + b + "\n": 2,
		"": 0, "# none\n": 0, "secret": 0, a[:40]: 0, a + a: 0, a + "\nsecret": 0, a + " " + b: 0,
	} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		keys, err := tlsfiles.ReadGossipKeys(path)
		if len(keys) != want || (err == nil) != (want > 0) {
			t.Errorf("%q: %d keys, %v", content, len(keys), err)
		}
		if err != nil && (strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), a[:20])) {
			t.Errorf("the error tells the key: %v", err)
		}
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := tlsfiles.ReadGossipKeys(path); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a key that everyone reads: %v", err)
	}
}
