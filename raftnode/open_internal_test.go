package raftnode

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/lockstep-storage/lockstep/fsm"
)

// site is a set of processes on real files, sockets and gossip. Only the way
// between their APIs is a map.
type site struct {
	tb testing.TB

	stay bool // nodes keep their Raft address

	mu   sync.Mutex
	api  map[string]*Process
	raft map[string]string // by node, if they stay
}

func (s *site) Ask(ctx context.Context, _, address, method string, body []byte) ([]byte, error) {
	s.mu.Lock()
	p, ok := s.api[address]
	s.mu.Unlock()
	if !ok {
		return nil, errUnreachable
	}
	return p.Answer(ctx, "", method, body)
}

func (s *site) open(dir, id, logStore, deployment string, expect int, seeds ...string) (*Process, error) {
	timing := DefaultTiming()
	timing.Heartbeat, timing.Election = time.Second, time.Second // of a machine that others use too
	s.mu.Lock()
	listen := cmp.Or(s.raft[id], "127.0.0.1:0")
	s.mu.Unlock()
	return Open(s.tb.Context(), Place{
		Dir: dir, LogStore: logStore, Raft: listen, Gossip: "127.0.0.1:0", API: id + ":80", Seeds: seeds,
	}, Config{
		ID: id, Deployment: deployment, Release: "v1", Timing: timing, Lease: DefaultLeaseTiming(), Limits: fsm.DefaultLimits(),
		Expect: expect, Asker: s, Logger: hclog.NewNullLogger(),
	})
}

// run opens a node and runs it until stop is called, or the test ends.
func (s *site) run(dir, id, logStore string, expect int, seeds ...string) (p *Process, stop func()) {
	s.tb.Helper()
	p, err := s.open(dir, id, logStore, "east", expect, seeds...)
	if err != nil {
		s.tb.Fatal(err)
	}
	s.mu.Lock()
	s.api[id+":80"] = p
	if s.stay {
		s.raft[id] = p.layer.Addr().String()
	}
	s.mu.Unlock()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		s.mu.Lock()
		delete(s.api, id+":80")
		s.mu.Unlock()
		cancel()
		if err := <-ended; err != nil {
			s.tb.Error(err)
		}
	})
	s.tb.Cleanup(stop)
	return p, stop
}

func commit(t *testing.T, p *Process, id string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if _, err := p.Propose(ctx, "", newcomer(id)); err != nil {
		t.Fatalf("commit at %s: %v", p.cfg.ID, err)
	}
}

func TestG13_ProcessesOnFilesAndSockets(t *testing.T) {
	t.Parallel()
	s := &site{tb: t, api: map[string]*Process{}}
	dirs := []string{t.TempDir(), t.TempDir(), t.TempDir(), t.TempDir()}
	a, _ := s.run(dirs[0], "a", LogStoreWAL, 3)
	b, stopB := s.run(dirs[1], "b", LogStoreBoltDB, 3, a.gossip.Addr())
	c, _ := s.run(dirs[2], "c", LogStoreWAL, 3, a.gossip.Addr())
	for _, p := range []*Process{a, b, c} {
		commit(t, p, "by-"+p.cfg.ID)
	}

	stopB()
	commit(t, c, "while-b-is-away")
	if _, err := s.open(dirs[1], "b", LogStoreBoltDB, "west", 3); err == nil || !strings.Contains(err.Error(), "east") {
		t.Errorf("the data of another deployment was opened: %v", err)
	}
	if _, err := s.open(dirs[1], "z", LogStoreBoltDB, "east", 3); err == nil || !strings.Contains(err.Error(), "z") {
		t.Errorf("the data of another node was opened: %v", err)
	}
	if _, err := s.open(dirs[1], "b", LogStoreWAL, "east", 3); err == nil || !strings.Contains(err.Error(), "log_store") {
		t.Errorf("the log was opened with the other store: %v", err)
	}

	b, _ = s.run(dirs[1], "b", LogStoreBoltDB, 3, a.gossip.Addr()) // at another address
	commit(t, b, "b-is-back")
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := b.Linearize(ctx); err != nil {
		t.Error(err)
	}
	for _, id := range []string{"by-a", "by-b", "by-c", "while-b-is-away"} {
		b.View(func(st *fsm.State) {
			if _, ok := st.Node(id); !ok {
				t.Errorf("after its restart b has lost %s", id)
			}
		})
	}

	d, _ := s.run(dirs[3], "d", LogStoreBoltDB, 0, c.gossip.Addr())
	commit(t, d, "by-d")
	peers, err := d.Peers()
	i := slices.IndexFunc(peers, func(p PeerStatus) bool { return p.ID == "d" })
	if err != nil || len(peers) != 4 || i < 0 || peers[i].Voter || !peers[i].Alive || peers[i].Release != "v1" {
		t.Errorf("peers as d sees them: %+v, %v", peers, err)
	}
}

func TestOpenLeavesNothingOpenAfterAnError(t *testing.T) {
	t.Parallel()
	s := &site{tb: t, api: map[string]*Process{}}
	dir := t.TempDir()
	if _, err := Open(t.Context(), Place{Dir: dir, LogStore: LogStoreBoltDB, Raft: "127.0.0.1:0", Gossip: "127.0.0.1:0"}, Config{
		ID: "a", Deployment: "east", Logger: hclog.NewNullLogger(),
	}); err == nil {
		t.Fatal("a node without timing was opened")
	}
	p, err := s.open(dir, "a", LogStoreBoltDB, "east", 1)
	if err != nil {
		t.Fatalf("after an error the directory cannot be opened: %v", err)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.Run(over); err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
