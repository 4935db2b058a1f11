package tlsfiles

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// What a certificate is for stands in a URI among its names (RFC 5280, 4.2.1.6),
// not in a host name: nodes move, and a host name is not theirs alone.
//
//	urn:lockstep:node:DEPLOYMENT:NODE
//	urn:lockstep:ca:DEPLOYMENT
const (
	scheme     = "urn"
	prefixNode = "lockstep:node:"
	prefixCA   = "lockstep:ca:"
)

func nodeURI(deployment, node string) *url.URL {
	return &url.URL{Scheme: scheme, Opaque: prefixNode + deployment + ":" + node}
}

func authorityURI(deployment string) *url.URL {
	return &url.URL{Scheme: scheme, Opaque: prefixCA + deployment}
}

// identity is whom a node's certificate names.
type identity struct {
	deployment, node string
}

// identityOf reads a certificate's name. Exactly one is allowed: nobody is two
// nodes.
func identityOf(cert *x509.Certificate) (identity, error) {
	var found []identity
	for _, uri := range cert.URIs {
		rest, ok := strings.CutPrefix(uri.Opaque, prefixNode)
		deployment, node, parted := strings.Cut(rest, ":")
		if uri.Scheme == scheme && ok && parted && deployment != "" && node != "" {
			found = append(found, identity{deployment, node})
		}
	}
	switch len(found) {
	case 0:
		return identity{}, fmt.Errorf("the certificate of %q names no node: it needs one URI %s",
			cert.Subject.CommonName, nodeURI("DEPLOYMENT", "NODE"))
	case 1:
		return found[0], nil
	default:
		return identity{}, errors.New("the certificate names several nodes")
	}
}

// deploymentOf returns the deployment that an authority is for.
func deploymentOf(cert *x509.Certificate) (string, bool) {
	for _, uri := range cert.URIs {
		if deployment, ok := strings.CutPrefix(uri.Opaque, prefixCA); ok && uri.Scheme == scheme && deployment != "" {
			return deployment, true
		}
	}
	return "", false
}
