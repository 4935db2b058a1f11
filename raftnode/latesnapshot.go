package raftnode

import (
	"io"

	"github.com/hashicorp/raft"
)

// punctual is a transport that answers for Raft when a snapshot comes too late:
// one whose sender has given up on it may arrive after a later one, or after the
// entries that follow it. Raft installs whatever a leader of its term sends. It
// would go back to where it was, with a log whose end it has thrown away, and then
// panic when it looks for it. Who has applied all that is in a snapshot needs
// nothing of it, and says that it has it (Ongaro and Ousterhout, section 7).
type punctual struct {
	raft.Transport
	raft.WithPreVote
	consumer chan raft.RPC
}

// newPunctual wraps t. The wrapper passes nothing on before serve runs.
func newPunctual(t raft.Transport) *punctual {
	p := &punctual{Transport: t, consumer: make(chan raft.RPC)}
	p.WithPreVote, _ = t.(raft.WithPreVote)
	return p
}

// Consumer implements [raft.Transport].
func (p *punctual) Consumer() <-chan raft.RPC { return p.consumer }

// Close implements [raft.WithClose].
func (p *punctual) Close() error {
	if c, ok := p.Transport.(raft.WithClose); ok {
		return c.Close()
	}
	return nil
}

// serve passes messages on, one at a time as Raft takes them, until stop is closed.
// While it holds one, nothing changes what r has applied but what went before.
func (p *punctual) serve(r *raft.Raft, stop <-chan struct{}) {
	for {
		select {
		case rpc := <-p.Transport.Consumer():
			p.pass(rpc, r, stop)
		case <-stop:
			return
		}
	}
}

func (p *punctual) pass(rpc raft.RPC, r *raft.Raft, stop <-chan struct{}) {
	install, ok := rpc.Command.(*raft.InstallSnapshotRequest)
	if ok && install.LastLogIndex <= r.AppliedIndex() {
		_, err := io.Copy(io.Discard, rpc.Reader)
		rpc.Respond(&raft.InstallSnapshotResponse{
			RPCHeader: install.RPCHeader, Term: r.CurrentTerm(), Success: install.Term >= r.CurrentTerm(),
		}, err)
		return
	}
	answers := make(chan raft.RPCResponse, 1)
	passed := rpc
	passed.RespChan = answers
	select {
	case p.consumer <- passed:
	case <-stop:
		return
	}
	select {
	case answer := <-answers:
		rpc.RespChan <- answer
	case <-stop:
	}
}
