package raftnode

import (
	"context"
	"io"

	"github.com/hashicorp/raft"
)

// punctual is a transport that answers for Raft when a snapshot comes too late:
// one whose sender has given up on it may arrive after a later one, or after the
// entries that follow it. Raft installs whatever a leader of its term sends. It
// would go back to where it was, with a log whose end it has thrown away, and then
// panic when it looks for it. Who has applied all that is in a snapshot needs
// nothing of it, and says that it has it (Ongaro and Ousterhout, section 7).
//
// It also repairs entries that follow what is here in a snapshot only, see append, and
// takes nothing into an empty log before the node is a peer for good, see isPeer.
type punctual struct {
	raft.Transport
	raft.WithPreVote
	logs     *tailLog // what Raft has to use
	consumer chan raft.RPC
	isPeer   func(ctx context.Context, leader string) error
}

// newPunctual wraps t, for a Raft that keeps its log in logs. The wrapper passes
// nothing on before serve runs. What isPeer returns is what a leader is answered who
// sends a node its first entries.
func newPunctual(t raft.Transport, logs raft.LogStore, isPeer func(ctx context.Context, leader string) error) *punctual {
	p := &punctual{Transport: t, logs: &tailLog{LogStore: logs}, consumer: make(chan raft.RPC), isPeer: isPeer}
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

// serve passes messages on, one at a time as Raft takes them, until ctx ends.
// While it holds one, nothing changes what r has applied but what went before.
func (p *punctual) serve(ctx context.Context, r *raft.Raft) {
	for {
		select {
		case rpc := <-p.Transport.Consumer():
			p.pass(ctx, rpc, r)
		case <-ctx.Done():
			return
		}
	}
}

func (p *punctual) pass(ctx context.Context, rpc raft.RPC, r *raft.Raft) {
	if leader, brings := bringsLog(rpc.Command); brings && r.LastIndex() == 0 {
		if err := p.isPeer(ctx, leader); err != nil {
			if rpc.Reader != nil {
				_, _ = io.Copy(io.Discard, rpc.Reader) // what follows it on the connection is the next message
			}
			rpc.Respond(nil, err)
			return
		}
	}
	install, ok := rpc.Command.(*raft.InstallSnapshotRequest)
	if ok && install.LastLogIndex <= r.AppliedIndex() {
		_, err := io.Copy(io.Discard, rpc.Reader)
		rpc.Respond(&raft.InstallSnapshotResponse{
			RPCHeader: install.RPCHeader, Term: r.CurrentTerm(), Success: install.Term >= r.CurrentTerm(),
		}, err)
		return
	}
	if ok {
		p.logs.installing.Store(install.LastLogIndex)
		defer p.logs.installing.Store(0)
	}
	passed := rpc
	if entries, ok := rpc.Command.(*raft.AppendEntriesRequest); ok {
		passed.Command = p.append(entries, r)
	}
	answers := make(chan raft.RPCResponse, 1)
	passed.RespChan = answers
	select {
	case p.consumer <- passed:
	case <-ctx.Done():
		return
	}
	select {
	case answer := <-answers:
		rpc.RespChan <- answer
	case <-ctx.Done():
	}
}

// bringsLog reports whether a message begins a log, and who sends it.
func bringsLog(command any) (leader string, brings bool) {
	switch m := command.(type) {
	case *raft.AppendEntriesRequest:
		return string(m.ID), len(m.Entries) > 0
	case *raft.InstallSnapshotRequest:
		return string(m.ID), true
	}
	return "", false
}

// append returns a message as Raft has to see it, which is two things short of the
// algorithm.
//
// Raft takes entries that follow its last one or one in its log, and none that
// follow something in its snapshot: after a snapshot, the answer to the first entries
// need only be lost, or another lead with an older snapshot. The leader goes back step
// by step, sends its snapshot again, and goes round like that without a pause.
// What is applied here is in the log of every leader of this term or a later one
// (leader completeness), so entries up to the start of the log are left out, and
// with them the question what they follow.
//
// And it takes for committed what its own log has, up to the leader's commit index,
// although it has compared only the entries of this message with the leader's.
func (p *punctual) append(m *raft.AppendEntriesRequest, r *raft.Raft) *raft.AppendEntriesRequest {
	seen := *m
	if m.Term < r.CurrentTerm() {
		return m // from a leader that is deposed: Raft says so
	}
	if compared := m.PrevLogEntry + uint64(len(m.Entries)); seen.LeaderCommitIndex > compared {
		seen.LeaderCommitIndex = compared
	}
	if m.PrevLogEntry == 0 || m.PrevLogEntry > r.AppliedIndex() || m.PrevLogEntry == r.LastIndex() {
		return &seen
	}
	first, err := p.logs.FirstIndex()
	if first == 0 {
		first = r.AppliedIndex() + 1 // the log is empty: all there is came with a snapshot
	}
	if err == nil && m.PrevLogEntry < first {
		seen.PrevLogEntry, seen.PrevLogTerm = 0, 0
		seen.Entries = m.Entries[min(first-1-m.PrevLogEntry, uint64(len(m.Entries))):]
	}
	return &seen
}
