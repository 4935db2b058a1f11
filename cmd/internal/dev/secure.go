package dev

import (
	"crypto/tls"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/lockstep-storage/lockstep/cmd/internal/tlsfiles"
)

// tlsFiles are the files of one node, quoted for its configuration.
type tlsFiles struct {
	CA, Cert, Key, GossipKey string
}

func (p *plan) tlsDir() string { return filepath.Join(p.options.Dir, "tls") }

// filesOf returns what stands in the configuration of a node, nil without TLS.
func (p *plan) filesOf(n *node) *tlsFiles {
	if !p.options.TLS {
		return nil
	}
	in := func(name string) string { return strconv.Quote(filepath.Join(p.tlsDir(), name)) }
	return &tlsFiles{CA: in("ca.pem"), Cert: in(n.Name + ".pem"), Key: in(n.Name + "-key.pem"), GossipKey: in("gossip.key")}
}

// secure makes the files that are not there yet: a directory can be used again,
// with more nodes.
func (p *plan) secure(deployment string) error {
	dir := p.tlsDir()
	p.CACert = filepath.Join(dir, "ca.pem")
	err := unlessThere(p.CACert, func() error {
		_, err := tlsfiles.CreateAuthority(dir, deployment, tlsfiles.AuthorityDays)
		return err
	})
	if err != nil {
		return err
	}
	err = unlessThere(filepath.Join(dir, "gossip.key"), func() error {
		_, err := tlsfiles.CreateGossipKey(dir)
		return err
	})
	if err != nil {
		return err
	}
	for _, n := range p.nodes {
		err := unlessThere(filepath.Join(dir, n.Name+".pem"), func() error {
			_, err := tlsfiles.CreateCertificate(dir, n.Name, nil, tlsfiles.NodeDays)
			return err
		})
		if err != nil {
			return err
		}
	}
	pool, err := tlsfiles.Pool(p.CACert)
	if err != nil {
		return err
	}
	p.clientTLS = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	return nil
}

func unlessThere(path string, create func() error) error {
	_, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return create()
	}
	return err
}
