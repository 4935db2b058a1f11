package raftnode

import (
	"errors"
	"net"
)

// errSilent is why a node whose disk does not answer talks to nobody.
var errSilent = errors.New("the disk of this node does not answer")

// mute cuts all connections and lets none begin until unmute is called.
func (l *streamLayer) mute() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.silent = true
	for conn := range l.conns {
		_ = conn.Conn.Close() // whoever uses it sees the error
	}
	clear(l.conns)
}

func (l *streamLayer) unmute() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.silent = false
}

// track returns conn as one that mute can cut, or closes it.
func (l *streamLayer) track(conn net.Conn) (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.silent {
		_ = conn.Close() // it was not used yet
		return nil, errSilent
	}
	tracked := &trackedConn{Conn: conn, layer: l}
	l.conns[tracked] = true
	return tracked, nil
}

// trackedConn is a connection that its layer knows of until it is closed.
type trackedConn struct {
	net.Conn
	layer *streamLayer
}

// Close implements [net.Conn].
func (c *trackedConn) Close() error {
	c.layer.mu.Lock()
	delete(c.layer.conns, c)
	c.layer.mu.Unlock()
	return c.Conn.Close()
}
