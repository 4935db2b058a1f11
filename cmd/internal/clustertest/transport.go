package clustertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/lockstep-storage/lockstep/raftnode"
)

// wire is Raft's transport of one process over the simulated network. It does not
// pipeline: one message of a replication is under way at a time, which is what
// Raft does with a transport that cannot.
type wire struct {
	net      *network
	process  *process
	consumer chan raft.RPC

	mu        sync.Mutex
	heartbeat func(raft.RPC)
}

var (
	_ raft.Transport   = (*wire)(nil)
	_ raft.WithPreVote = (*wire)(nil)
)

func newWire(net *network, p *process) *wire {
	return &wire{net: net, process: p, consumer: make(chan raft.RPC)}
}

const (
	rpcTimeout      = 100 * time.Millisecond
	snapshotTimeout = time.Second
)

// rpc sends a message to the Raft of another node.
func rpc[A any](w *wire, to raft.ServerAddress, command any, data io.Reader, answer *A) error {
	timeout, once := rpcTimeout, false
	var stream []byte
	if data != nil {
		timeout, once = snapshotTimeout, true
		var err error
		if stream, err = io.ReadAll(data); err != nil {
			return fmt.Errorf("read the snapshot: %w", err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	got, err := w.net.send(ctx, w.process, string(to), message{once: once, handle: func(p *process, late context.Context) (any, error) {
		return p.wire.answer(late, command, stream)
	}})
	if err != nil {
		return err
	}
	a, ok := got.(*A)
	if !ok {
		return fmt.Errorf("%T is no answer to %T", got, command)
	}
	*answer = *a
	return nil
}

// answer has the Raft of this process handle a message.
func (w *wire) answer(ctx context.Context, command any, stream []byte) (any, error) {
	answers := make(chan raft.RPCResponse, 1)
	call := raft.RPC{Command: command, RespChan: answers}
	if stream != nil {
		call.Reader = bytes.NewReader(stream)
	}
	w.mu.Lock()
	heartbeat := w.heartbeat
	w.mu.Unlock()
	if a, ok := command.(*raft.AppendEntriesRequest); ok && heartbeat != nil && isHeartbeat(a) {
		heartbeat(call)
	} else {
		select {
		case w.consumer <- call:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-w.process.died:
			return nil, errKilled
		}
	}
	select {
	case a := <-answers:
		return a.Response, a.Error
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-w.process.died:
		return nil, errKilled
	}
}

// isHeartbeat is Raft's own test, by which its network transport takes a heartbeat
// past a loop that waits for the disk.
func isHeartbeat(a *raft.AppendEntriesRequest) bool {
	return a.Term != 0 && len(a.Addr) > 0 && a.PrevLogEntry == 0 && a.PrevLogTerm == 0 &&
		len(a.Entries) == 0 && a.LeaderCommitIndex == 0
}

// Consumer implements [raft.Transport].
func (w *wire) Consumer() <-chan raft.RPC { return w.consumer }

// LocalAddr implements [raft.Transport].
func (w *wire) LocalAddr() raft.ServerAddress { return raft.ServerAddress(w.process.node) }

// AppendEntriesPipeline implements [raft.Transport].
func (w *wire) AppendEntriesPipeline(raft.ServerID, raft.ServerAddress) (raft.AppendPipeline, error) {
	return nil, raft.ErrPipelineReplicationNotSupported
}

// AppendEntries implements [raft.Transport].
func (w *wire) AppendEntries(_ raft.ServerID, to raft.ServerAddress, a *raft.AppendEntriesRequest, r *raft.AppendEntriesResponse) error {
	sent := *a // Raft uses its message again while this one may still be on its way
	return rpc(w, to, &sent, nil, r)
}

// RequestVote implements [raft.Transport].
func (w *wire) RequestVote(_ raft.ServerID, to raft.ServerAddress, a *raft.RequestVoteRequest, r *raft.RequestVoteResponse) error {
	return rpc(w, to, a, nil, r)
}

// RequestPreVote implements [raft.WithPreVote].
func (w *wire) RequestPreVote(_ raft.ServerID, to raft.ServerAddress, a *raft.RequestPreVoteRequest, r *raft.RequestPreVoteResponse) error {
	return rpc(w, to, a, nil, r)
}

// InstallSnapshot implements [raft.Transport].
func (w *wire) InstallSnapshot(_ raft.ServerID, to raft.ServerAddress, a *raft.InstallSnapshotRequest, r *raft.InstallSnapshotResponse, data io.Reader) error {
	return rpc(w, to, a, data, r)
}

// TimeoutNow implements [raft.Transport].
func (w *wire) TimeoutNow(_ raft.ServerID, to raft.ServerAddress, a *raft.TimeoutNowRequest, r *raft.TimeoutNowResponse) error {
	return rpc(w, to, a, nil, r)
}

// EncodePeer implements [raft.Transport].
func (w *wire) EncodePeer(_ raft.ServerID, a raft.ServerAddress) []byte { return []byte(a) }

// DecodePeer implements [raft.Transport].
func (w *wire) DecodePeer(b []byte) raft.ServerAddress { return raft.ServerAddress(b) }

// SetHeartbeatHandler implements [raft.Transport].
func (w *wire) SetHeartbeatHandler(fn func(raft.RPC)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.heartbeat = fn
}

// asker carries the questions of one process to the others.
type asker struct {
	c       *Cluster
	process *process
}

func (a asker) Ask(ctx context.Context, id, _, method string, body []byte) ([]byte, error) {
	asked := a.c.now()
	got, err := a.c.net.send(ctx, a.process, id, message{handle: func(p *process, late context.Context) (any, error) {
		return p.peer.Answer(late, a.process.node, method, body)
	}})
	if err != nil {
		return nil, err
	}
	a.c.leases.heard(a.process.node, method, body, asked)
	answer, ok := got.([]byte)
	if !ok {
		return nil, errors.New("the answer is no bytes")
	}
	return answer, nil
}

// directory is what gossip would tell, always and at once.
type directory struct{ c *Cluster }

var _ raftnode.Discovery = directory{}

func (d directory) Peers() []raftnode.Peer {
	var all []raftnode.Peer
	for _, m := range d.c.members() {
		if p, ok := d.Peer(m.ID); ok {
			all = append(all, p)
		}
	}
	return all
}

func (d directory) Peer(id string) (raftnode.Peer, bool) {
	m := d.c.member(id)
	if m == nil {
		return raftnode.Peer{}, false
	}
	return raftnode.Peer{ID: id, Addr: id, Meta: m.meta(), Alive: m.alive()}, true
}

func (directory) UpdateMeta(raftnode.Meta) error { return nil }
