package tlsfiles

import (
	"crypto/tls"
	"errors"
	"fmt"

	"github.com/lockstep-storage/lockstep/api"
	"github.com/lockstep-storage/lockstep/raftnode"
)

var (
	_ api.Certificates      = (*Certificates)(nil)
	_ raftnode.Certificates = (*Certificates)(nil)
)

// nodeServerName is what a node asks for when it connects to another one, so that
// it is shown the node's certificate and not that of the API's users. It resolves
// to nothing.
const nodeServerName = "node.lockstep.internal"

// Listen implements [raftnode.Certificates].
func (c *Certificates) Listen() *tls.Config {
	cfg := c.between()
	cfg.ClientAuth = tls.RequireAnyClientCert // whose, Node says
	cfg.VerifyConnection = func(state tls.ConnectionState) error {
		_, err := c.Node(&state)
		return err
	}
	return cfg
}

// Dial implements [raftnode.Certificates] and [api.Certificates].
func (c *Certificates) Dial(node string) *tls.Config {
	cfg := c.between()
	cfg.ServerName = nodeServerName
	cfg.InsecureSkipVerify = true // instead of the host name, Node checks the chain and the name
	cfg.VerifyConnection = func(state tls.ConnectionState) error {
		is, err := c.Node(&state)
		if err == nil && is != node {
			err = fmt.Errorf("it is the certificate of node %q, not of %q", is, node)
		}
		return err
	}
	return cfg
}

// between is what both sides of a connection between nodes have in common. There
// are no session tickets, so each connection begins with a look at a certificate.
func (c *Certificates) between() *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		SessionTicketsDisabled: true,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return &c.current.Load().node, nil
		},
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return &c.current.Load().node, nil
		},
	}
}

// API is for the listener of the API. Nodes show a certificate there, users need
// none; who has shown what, [Certificates.Node] says.
func (c *Certificates) API() *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS12,
		SessionTicketsDisabled: true,
		ClientAuth:             tls.RequestClientCert,
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			if hello.ServerName == nodeServerName {
				return &c.current.Load().node, nil
			}
			return &c.current.Load().api, nil
		},
	}
}

// Node implements [raftnode.Certificates] and [api.Certificates].
func (c *Certificates) Node(state *tls.ConnectionState) (string, error) {
	if state == nil {
		return "", errors.New("the connection is not encrypted")
	}
	if len(state.PeerCertificates) == 0 {
		return "", errors.New("no certificate was shown")
	}
	is, err := c.current.Load().verify(state.PeerCertificates)
	if err != nil {
		return "", err
	}
	if is.deployment != c.own.deployment {
		return "", fmt.Errorf("node %q belongs to deployment %q, this node to %q", is.node, is.deployment, c.own.deployment)
	}
	return is.node, nil
}
