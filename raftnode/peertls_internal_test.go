package raftnode

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// authority signs certificates, whose common names are the names of nodes.
type authority struct {
	tb   testing.TB
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newAuthority(tb testing.TB) *authority {
	tb.Helper()
	a := &authority{tb: tb}
	a.key, a.cert = a.sign("authority", time.Now().Add(time.Hour))
	return a
}

// sign makes a certificate, by itself if the authority has none yet.
func (a *authority) sign(name string, until time.Time) (*ecdsa.PrivateKey, *x509.Certificate) {
	a.tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.tb.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: until, IsCA: a.cert == nil, BasicConstraintsValid: true,
	}
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		a.tb.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.tb.Fatal(err)
	}
	return key, cert
}

// passports are the certificates of one node.
type passports struct {
	own     tls.Certificate
	trusted *x509.CertPool
	revoked atomic.Bool // whatever is shown is good no more
}

var _ Certificates = (*passports)(nil)

// of returns what a node named so has, that trusts the authority.
func (a *authority) of(name string, until time.Time) *passports {
	key, cert := a.sign(name, until)
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return &passports{own: tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}, trusted: pool}
}

func (p *passports) config() *tls.Config {
	return &tls.Config{
		Certificates: []tls.Certificate{p.own}, ClientAuth: tls.RequireAnyClientCert, MinVersion: tls.VersionTLS13,
		InsecureSkipVerify: true,
	}
}

func (p *passports) Listen() *tls.Config {
	c := p.config()
	c.VerifyConnection = func(state tls.ConnectionState) error {
		_, err := p.Node(&state)
		return err
	}
	return c
}

func (p *passports) Dial(node string) *tls.Config {
	c := p.config()
	c.VerifyConnection = func(state tls.ConnectionState) error {
		is, err := p.Node(&state)
		if err == nil && is != node {
			err = errors.New("certificate of " + is)
		}
		return err
	}
	return c
}

func (p *passports) Node(state *tls.ConnectionState) (string, error) {
	if p.revoked.Load() {
		return "", errors.New("trusts nobody any more")
	}
	leaf := state.PeerCertificates[0]
	_, err := leaf.Verify(x509.VerifyOptions{Roots: p.trusted, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	return leaf.Subject.CommonName, err
}

// Whoever lacks the right certificate gets no answer from Raft, whether it dials or
// is dialed.
func TestRaftIsForNodesWithTheirOwnCertificate(t *testing.T) {
	t.Parallel()
	ours, theirs := newAuthority(t), newAuthority(t)
	hour := time.Now().Add(time.Hour)
	start := func(name, deployment string, peers Certificates) *transport {
		return startTransport(t, func(c *TransportConfig) { c.Node, c.Deployment, c.Peers = name, deployment, peers })
	}
	a := start("node1", "east", ours.of("node1", hour))
	b := start("node2", "east", ours.of("node2", hour))
	grantVotes(t, a)
	grantVotes(t, b)
	if err := errors.Join(askForVote(a, "node2", b.LocalAddr()), askForVote(b, "node1", a.LocalAddr())); err != nil {
		t.Fatal(err)
	}
	wantError(t, askForVote(a, "node3", b.LocalAddr()), "certificate of node2")
	trusting := theirs.of("node2", hour)
	trusting.trusted = ours.of("", hour).trusted // it trusts us, we do not trust it
	for name, stranger := range map[string]*transport{
		"no certificate":                start("node2", "east", nil),
		"of another authority":          start("node2", "east", trusting),
		"expired":                       start("node2", "east", ours.of("node2", time.Now().Add(-time.Hour))),
		"of another node":               start("node2", "east", ours.of("node3", hour)),
		"of another deployment":         start("node2", "west", ours.of("node2", hour)),
		"of the node that it dials":     start("node2", "east", ours.of("node1", hour)),
		"under the name that it dials":  start("node1", "east", ours.of("node2", hour)),
		"as the node dialed, all of it": start("node1", "east", ours.of("node1", hour)),
	} {
		grantVotes(t, stranger)
		if askForVote(stranger, "node1", a.LocalAddr()) == nil {
			t.Errorf("%s: has the answer of a node that it dialed", name)
		}
		if askForVote(a, "node2", stranger.LocalAddr()) == nil {
			t.Errorf("%s: has been asked for a vote and gave it", name)
		}
	}
}

func TestAStrangerGetsNoWordWithoutACertificate(t *testing.T) {
	t.Parallel()
	ours := newAuthority(t)
	a := startTransport(t, func(c *TransportConfig) { c.Peers = ours.of("node1", time.Now().Add(time.Hour)) })
	conn := dial(t, a.LocalAddr())
	if err := (hello{deployment: "east", node: "node2"}).write(conn); err != nil {
		t.Fatal(err)
	}
	if got, _ := io.ReadAll(conn); len(got) > 7 { // an alert of TLS
		t.Errorf("plain TCP was answered %q", got)
	}
	bare := tls.Client(dial(t, a.LocalAddr()), &tls.Config{InsecureSkipVerify: true})
	_ = hello{deployment: "east", node: "node2"}.write(bare)
	if got, err := io.ReadAll(bare); len(got) > 0 || err == nil {
		t.Errorf("TLS without a certificate was answered %q, %v", got, err)
	}
}

// A connection ends, whichever side has made it, when the certificate that it
// began with is good no more.
func TestAConnectionDoesNotOutliveItsCertificate(t *testing.T) {
	t.Parallel()
	ours := newAuthority(t)
	hour := time.Now().Add(time.Hour)
	papers := map[string]*passports{"node1": ours.of("node1", hour), "node2": ours.of("node2", hour)}
	start := func(name string) *transport {
		return startTransport(t, func(c *TransportConfig) { c.Node, c.Peers = name, papers[name] })
	}
	a, b := start("node1"), start("node2")
	grantVotes(t, a)
	pipeline, err := b.AppendEntriesPipeline("node1", a.LocalAddr())
	if err != nil {
		t.Fatal(err)
	}
	defer pipeline.Close()
	open := func(t *transport) int {
		t.layer.mu.Lock()
		defer t.layer.mu.Unlock()
		return len(t.layer.open)
	}
	eventually(t, func() bool { return open(a) == 1 && open(b) == 1 })
	a.layer.dropExpired()
	if open(a) != 1 {
		t.Fatal("a good connection was closed")
	}
	papers["node1"].revoked.Store(true)
	a.layer.dropExpired()
	if open(a) != 0 {
		t.Error("the connection is still known")
	}
	eventually(t, func() bool {
		_, err := pipeline.AppendEntries(&raft.AppendEntriesRequest{Term: 1}, new(raft.AppendEntriesResponse))
		return err != nil
	})
	if askForVote(b, "node1", a.LocalAddr()) == nil {
		t.Error("a new connection was accepted")
	}
}
