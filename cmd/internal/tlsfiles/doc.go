// Package tlsfiles makes and reads the files by which the nodes of a deployment
// know each other: the certificate of the deployment's authority, a certificate for
// each node that says its name, and the keys of gossip.
package tlsfiles
