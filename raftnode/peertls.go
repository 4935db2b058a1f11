package raftnode

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// Certificates are how nodes of a deployment know each other.
type Certificates interface {
	// Listen is for the side that is dialed: only nodes of the deployment get
	// through its handshake.
	Listen() *tls.Config

	// Dial is for the side that dials: only the node named gets through.
	Dial(node string) *tls.Config

	// Node returns the node whose certificate the other side of a connection
	// has shown. Of an open connection it says whether the certificate is still
	// good.
	Node(state *tls.ConnectionState) (string, error)
}

// nodeSeparator is between the name of a node and its address. Names have none.
const nodeSeparator = "@"

// addressOf is what Raft's transport calls the address of a peer: with its name,
// so that a connection belongs to one node, whoever else gets its address.
func addressOf(id raft.ServerID, address raft.ServerAddress) raft.ServerAddress {
	return raft.ServerAddress(id) + nodeSeparator + address
}

// transport is Raft's transport on a stream layer that wants to know whom it
// dials.
type transport struct {
	*raft.NetworkTransport
	layer *streamLayer
}

var (
	_ raft.Transport   = (*transport)(nil)
	_ raft.WithClose   = (*transport)(nil)
	_ raft.WithPreVote = (*transport)(nil)
)

// AppendEntriesPipeline implements [raft.Transport].
func (t *transport) AppendEntriesPipeline(id raft.ServerID, target raft.ServerAddress) (raft.AppendPipeline, error) {
	return t.NetworkTransport.AppendEntriesPipeline(id, addressOf(id, target))
}

// AppendEntries implements [raft.Transport].
func (t *transport) AppendEntries(id raft.ServerID, target raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	return t.NetworkTransport.AppendEntries(id, addressOf(id, target), args, resp)
}

// RequestVote implements [raft.Transport].
func (t *transport) RequestVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	return t.NetworkTransport.RequestVote(id, addressOf(id, target), args, resp)
}

// RequestPreVote implements [raft.WithPreVote].
func (t *transport) RequestPreVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	return t.NetworkTransport.RequestPreVote(id, addressOf(id, target), args, resp)
}

// InstallSnapshot implements [raft.Transport].
func (t *transport) InstallSnapshot(id raft.ServerID, target raft.ServerAddress, args *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	return t.NetworkTransport.InstallSnapshot(id, addressOf(id, target), args, resp, data)
}

// TimeoutNow implements [raft.Transport].
func (t *transport) TimeoutNow(id raft.ServerID, target raft.ServerAddress, args *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	return t.NetworkTransport.TimeoutNow(id, addressOf(id, target), args, resp)
}

// peerConn is a connection to a node that has shown its certificate.
type peerConn struct {
	*tls.Conn
	forget func()
}

// Close implements [net.Conn].
func (c *peerConn) Close() error {
	c.forget()
	return c.Conn.Close()
}

// admit returns the connection to a peer that has said who it is. Over TLS its
// certificate must say the same.
func (l *streamLayer) admit(conn net.Conn, peer hello) (net.Conn, error) {
	if err := l.own.accepts(peer); err != nil {
		return nil, err
	}
	if l.known != nil {
		is, err := parseDirectory(peer.directory)
		if err == nil {
			err = l.known(peer.node, is)
		}
		if err != nil {
			return nil, err
		}
	}
	secured, ok := conn.(*tls.Conn)
	if !ok {
		return conn, nil
	}
	if err := l.shows(secured, peer.node); err != nil {
		return nil, err
	}
	c := &peerConn{Conn: secured}
	c.forget = sync.OnceFunc(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.open, c)
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open[c] = struct{}{}
	return c, nil
}

// shows says why a peer is not the node whose name it gives.
func (l *streamLayer) shows(conn *tls.Conn, name string) error {
	state := conn.ConnectionState()
	node, err := l.peers.Node(&state)
	if err == nil && node != name {
		err = fmt.Errorf("the peer says that it is %q and shows the certificate of %q", name, node)
	}
	return err
}

// expiryInterval is how often open connections are looked at.
const expiryInterval = 2 * time.Second

// watchCertificates drops peers whose certificate is not good any more, until ctx
// ends.
func (l *streamLayer) watchCertificates(ctx context.Context) {
	if l.peers == nil {
		return
	}
	tick := time.NewTicker(expiryInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			l.dropExpired()
		case <-ctx.Done():
			return
		}
	}
}

// dropExpired closes the connections to peers whose certificate is not good any
// more: they would live on as long as nothing breaks them.
func (l *streamLayer) dropExpired() {
	l.mu.Lock()
	open := make([]*peerConn, 0, len(l.open))
	for c := range l.open {
		open = append(open, c)
	}
	l.mu.Unlock()
	for _, c := range open {
		state := c.ConnectionState()
		if _, err := l.peers.Node(&state); err != nil {
			l.refused(c.RemoteAddr().String(), errors.Join(err, c.Close()))
		}
	}
}
