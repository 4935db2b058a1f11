package lab

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"strconv"
)

// Network connects the nodes, and can be told not to.
type Network interface {
	// Listen is where a node listens for a service, as host:port.
	Listen(node int, service Service) string
	// Reach is where the other nodes reach it.
	Reach(node int, service Service) string
	// Client is where the harness reaches it, whatever is cut between nodes.
	Client(node int, service Service) string
	// Start starts a process that is attached to the network as a node.
	Start(node int, cmd *exec.Cmd) error
	// Break makes a rule hold until mend is called.
	Break(rule Rule) (mend func())
	// Mode says in words how this network works.
	Mode() string
	// Close ends the network.
	Close() error
}

// Service is one of the ports of a node.
type Service int

// The services of a node.
const (
	API Service = iota
	Raft
	Gossip
)

// NewNetwork returns the best network that this process may have: one with a
// namespace for each node in a sandbox, else a proxy between ports of one machine.
func NewNetwork(ctx context.Context, nodes int) (Network, error) {
	if Sandboxed() {
		n, err := newSwitch(nodes)
		if err != nil {
			return nil, fmt.Errorf("network: %w", err)
		}
		return n, nil
	}
	n, err := newProxy(ctx, nodes)
	if err != nil {
		return nil, fmt.Errorf("network: %w", err)
	}
	return n, nil
}

func hostPort(host string, port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) }
