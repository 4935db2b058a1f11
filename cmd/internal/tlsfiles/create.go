package tlsfiles

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// How long certificates are good unless told otherwise, in days.
const (
	AuthorityDays = 3650
	NodeDays      = 365

	maxDays = 7300
)

// The files of a directory. A node's are called after it.
const (
	fileCA     = "ca.pem"
	fileCAKey  = "ca-key.pem"
	fileGossip = "gossip.key"
)

// skew is by how much clocks may differ for a fresh certificate to be good.
const skew = 5 * time.Minute

// Created is what was made.
type Created struct {
	Deployment string     `json:"deployment,omitempty"`
	Node       string     `json:"node,omitempty"`
	Hosts      []string   `json:"hosts,omitempty"`
	Cert       string     `json:"cert,omitempty"` // path
	Key        string     `json:"key"`            // path
	Until      *time.Time `json:"until,omitempty"`
}

// CreateAuthority makes the authority of a deployment in dir, which it makes too.
func CreateAuthority(dir, deployment string, days int) (Created, error) {
	if err := errors.Join(checkName("--deployment", deployment), checkDays(days)); err != nil {
		return Created{}, err
	}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: "Lockstep " + deployment}, NotAfter: time.Now().AddDate(0, 0, days),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
	}
	template.URIs = append(template.URIs, authorityURI(deployment))
	made := Created{Deployment: deployment, Cert: filepath.Join(dir, fileCA), Key: filepath.Join(dir, fileCAKey)}
	return made.write(template, nil)
}

// CreateCertificate makes the certificate of a node with the authority in dir.
// Hosts are the names and addresses by which users reach its API; localhost is
// always among them.
func CreateCertificate(dir, node string, hosts []string, days int) (Created, error) {
	if err := errors.Join(checkName("NODE", node), checkDays(days)); err != nil {
		return Created{}, err
	}
	authority, err := readPair(filepath.Join(dir, fileCA), filepath.Join(dir, fileCAKey))
	if errors.Is(err, fs.ErrNotExist) {
		return Created{}, fmt.Errorf("--dir %q: %w: 'lockstep tls ca create' makes an authority", dir, err)
	}
	if err != nil {
		return Created{}, fmt.Errorf("--dir: %w", err)
	}
	deployment, ok := deploymentOf(authority.Leaf)
	if !ok || !authority.Leaf.IsCA {
		return Created{}, fmt.Errorf("--dir %q: %s is not the certificate of a deployment's authority", dir, fileCA)
	}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: node}, NotAfter: time.Now().AddDate(0, 0, days),
		KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	template.URIs = append(template.URIs, nodeURI(deployment, node))
	if template.NotAfter.After(authority.Leaf.NotAfter) {
		return Created{}, fmt.Errorf("--days %d: the authority itself ends on %s", days, authority.Leaf.NotAfter.UTC().Format(time.DateOnly))
	}
	made := Created{
		Deployment: deployment, Node: node,
		Cert: filepath.Join(dir, node+".pem"), Key: filepath.Join(dir, node+"-key.pem"),
	}
	if made.Hosts, err = addHosts(template, hosts); err != nil {
		return Created{}, err
	}
	return made.write(template, &authority)
}

// CreateGossipKey makes a key for gossip in dir.
func CreateGossipKey(dir string) (Created, error) {
	made := Created{Key: filepath.Join(dir, fileGossip)}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return Created{}, fmt.Errorf("--dir: %w", err)
	}
	return made, create(made.Key, []byte(newGossipKey()+"\n"), 0o600)
}

// hostName is a name of the domain name system, of which the first label may be *.
var hostName = regexp.MustCompile(`^(\*\.)?([0-9A-Za-z_]([0-9A-Za-z_-]{0,61}[0-9A-Za-z_])?\.)*[0-9A-Za-z_]([0-9A-Za-z_-]{0,61}[0-9A-Za-z_])?$`)

func addHosts(template *x509.Certificate, hosts []string) (all []string, err error) {
	seen := map[string]bool{}
	for _, host := range append([]string{"localhost", "127.0.0.1", "::1"}, hosts...) {
		if seen[host] {
			continue
		}
		seen[host] = true
		all = append(all, host)
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
			continue
		}
		if len(host) > 253 || !hostName.MatchString(host) {
			return nil, fmt.Errorf("--host %q: must be a host name or an IP address, without a port", host)
		}
		template.DNSNames = append(template.DNSNames, host)
	}
	return all, nil
}

// write makes a key and signs the certificate, by itself without an authority. The
// key never is a file that others can read.
func (c Created) write(template *x509.Certificate, authority *tls.Certificate) (Created, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Created{}, fmt.Errorf("make a key: %w", err)
	}
	template.NotBefore = time.Now().Add(-skew)
	parent, signer := template, crypto.PrivateKey(key)
	if authority != nil {
		parent, signer = authority.Leaf, authority.PrivateKey
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		return Created{}, fmt.Errorf("sign: %w", err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return Created{}, fmt.Errorf("encode the key: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(c.Cert), 0o700); err != nil {
		return Created{}, fmt.Errorf("--dir: %w", err)
	}
	if err := create(c.Cert, encode("CERTIFICATE", cert), 0o644); err != nil {
		return Created{}, err
	}
	if err := create(c.Key, encode("PRIVATE KEY", secret), 0o600); err != nil {
		return Created{}, errors.Join(err, os.Remove(c.Cert)) // one without the other is of no use
	}
	until := template.NotAfter.UTC().Truncate(time.Second)
	c.Until = &until
	return c, nil
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// create writes a file that must not be there yet.
func create(path string, content []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s is there already: nothing is ever overwritten", path)
	}
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// checkName wants what the configuration calls a name.
func checkName(field, name string) error {
	const allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_"
	if name == "" || len(name) > 128 || strings.Trim(name, allowed) != "" || strings.Trim(name, ".") == "" {
		return fmt.Errorf("%s %q: must be 1 to 128 letters, digits, '.', '-' and '_', and not only dots", field, name)
	}
	return nil
}

func checkDays(days int) error {
	if days < 1 || days > maxDays {
		return fmt.Errorf("--days %d: must be 1 to %d", days, maxDays)
	}
	return nil
}
