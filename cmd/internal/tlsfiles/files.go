package tlsfiles

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// maxFile bounds a file of certificates or keys, in bytes.
const maxFile = 1 << 20

// maxVerified bounds the certificates that are remembered as good.
const maxVerified = 1024

// Paths are the files that a node needs, all PEM.
type Paths struct {
	CA   string // certificates of the deployment's authority; several while one replaces another
	Cert string // of this node, with what is between it and the authority, if anything
	Key  string // of Cert

	// APICert and APIKey are what users of the API are shown. Empty: Cert and Key.
	APICert, APIKey string
}

// Files returns the files that are named.
func (p Paths) Files() []string {
	return slices.DeleteFunc([]string{p.CA, p.Cert, p.Key, p.APICert, p.APIKey}, func(path string) bool { return path == "" })
}

// Certificates are those of one node and of the authorities it trusts. They can be
// read again while they are in use.
type Certificates struct {
	paths   Paths
	own     identity
	current atomic.Pointer[loaded]
}

// loaded is what the files held when they were read.
type loaded struct {
	node, api tls.Certificate
	roots     *x509.CertPool
	all       []Expiry

	mu       sync.Mutex
	verified map[string]verified // by the bytes of the certificate and what is above it
}

type verified struct {
	identity

	until time.Time
}

// Expiry is until when a certificate is good.
type Expiry struct {
	Use   string // ca, node or api
	Path  string
	Until time.Time
}

// Open reads the files of a node. Its certificate must name it, and be good.
func Open(paths Paths, deployment, node string) (*Certificates, error) {
	c := &Certificates{paths: paths, own: identity{deployment, node}}
	return c, c.Load()
}

// Load reads the files again. An error leaves everything as it was.
func (c *Certificates) Load() error {
	authorities, err := readCertificates(c.paths.CA)
	if err != nil {
		return err
	}
	next := &loaded{roots: x509.NewCertPool(), verified: make(map[string]verified)}
	for _, cert := range authorities {
		if !cert.IsCA {
			return fmt.Errorf("%s: the certificate of %q is no authority's", c.paths.CA, cert.Subject.CommonName)
		}
		next.roots.AddCert(cert)
	}
	next.expires("ca", c.paths.CA, authorities...)
	if next.node, err = readPair(c.paths.Cert, c.paths.Key); err != nil {
		return err
	}
	next.expires("node", c.paths.Cert, next.node.Leaf)
	next.api = next.node
	if c.paths.APICert != "" {
		if next.api, err = readPair(c.paths.APICert, c.paths.APIKey); err != nil {
			return err
		}
		next.expires("api", c.paths.APICert, next.api.Leaf)
	}
	if err := next.check(c.own); err != nil {
		return fmt.Errorf("%s: %w", c.paths.Cert, err)
	}
	c.current.Store(next)
	return nil
}

// check says why a node cannot show its own certificate.
func (l *loaded) check(own identity) error {
	chain := []*x509.Certificate{l.node.Leaf}
	for _, raw := range l.node.Certificate[1:] {
		cert, err := x509.ParseCertificate(raw)
		if err != nil {
			return err
		}
		chain = append(chain, cert)
	}
	is, err := l.verify(chain)
	if err != nil {
		return err
	}
	if is != own {
		return fmt.Errorf("it is the certificate of node %q of deployment %q, this is node %q of %q", is.node, is.deployment, own.node, own.deployment)
	}
	return nil
}

// expires notes the certificate of several that ends first.
func (l *loaded) expires(use, path string, certs ...*x509.Certificate) {
	first := slices.MinFunc(certs, func(a, b *x509.Certificate) int { return a.NotAfter.Compare(b.NotAfter) })
	l.all = append(l.all, Expiry{Use: use, Path: path, Until: first.NotAfter})
}

// Files returns the files that the certificates were read from.
func (c *Certificates) Files() []string { return c.paths.Files() }

// Expiries are the ends of the certificates in use. Of several in one file it is
// the first to end.
func (c *Certificates) Expiries() []Expiry { return slices.Clone(c.current.Load().all) }

// verify returns the node that a chain of certificates proves. The bytes of a
// chain that was good are remembered: nodes ask each other thousands of questions
// a second.
func (l *loaded) verify(chain []*x509.Certificate) (identity, error) {
	var key []byte
	for _, cert := range chain {
		key = append(key, cert.Raw...)
	}
	now := time.Now()
	l.mu.Lock()
	seen, ok := l.verified[string(key)]
	l.mu.Unlock()
	if ok && now.Before(seen.until) {
		return seen.identity, nil
	}
	is, until, err := l.prove(chain)
	if err != nil {
		return identity{}, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.verified) >= maxVerified {
		clear(l.verified)
	}
	l.verified[string(key)] = verified{is, until}
	return is, nil
}

func (l *loaded) prove(chain []*x509.Certificate) (is identity, until time.Time, err error) {
	leaf := chain[0]
	between := x509.NewCertPool()
	for _, cert := range chain[1:] {
		between.AddCert(cert)
	}
	// A node is a client and a server: certificates of people are for clients
	// only, those of web servers for servers only.
	for _, use := range []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth} {
		chains, err := leaf.Verify(x509.VerifyOptions{Roots: l.roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{use}})
		if err != nil {
			return identity{}, time.Time{}, fmt.Errorf("the certificate of %q: %w", leaf.Subject.CommonName, err)
		}
		until = leaf.NotAfter
		for _, cert := range chains[0] {
			until = earlier(until, cert.NotAfter)
		}
	}
	is, err = identityOf(leaf)
	return is, until, err
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// readPair reads a certificate and its key.
func readPair(certPath, keyPath string) (tls.Certificate, error) {
	cert, err := read(certPath)
	if err != nil {
		return tls.Certificate{}, err
	}
	key, err := ReadSecret(keyPath)
	if err != nil {
		return tls.Certificate{}, err
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("%s with %s: %w", certPath, keyPath, err)
	}
	if now := time.Now(); now.After(pair.Leaf.NotAfter) || now.Before(pair.Leaf.NotBefore) {
		return tls.Certificate{}, fmt.Errorf("%s: the certificate is good from %s to %s only",
			certPath, pair.Leaf.NotBefore.UTC().Format(time.RFC3339), pair.Leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	return pair, nil
}

// readCertificates reads all certificates in a file, at least one.
func readCertificates(path string) ([]*x509.Certificate, error) {
	content, err := read(path)
	if err != nil {
		return nil, err
	}
	var all []*x509.Certificate
	for block, rest := pem.Decode(content); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("%s: has a %q, only certificates belong here", path, block.Type)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		all = append(all, cert)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s: has no certificate in PEM", path)
	}
	return all, nil
}

// Pool reads certificates of authorities, as a client of the API trusts them.
func Pool(path string) (*x509.CertPool, error) {
	all, err := readCertificates(path)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	for _, cert := range all {
		pool.AddCert(cert)
	}
	return pool, nil
}

// read reads a file of sensible size.
func read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it was only read
	content, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(content) > maxFile {
		return nil, fmt.Errorf("%s: larger than %d bytes", path, maxFile)
	}
	return bytes.TrimSpace(content), nil
}

// errReadable is about a secret that is none.
var errReadable = errors.New("every user of this machine may read or change it: take that away, as in chmod 600")

// ReadSecret reads a file that others must not read. Its group may.
func ReadSecret(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o007 != 0 {
		return nil, &fs.PathError{Op: "read", Path: path, Err: errReadable}
	}
	return read(path)
}
