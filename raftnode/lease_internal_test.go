package raftnode

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/lockstep-storage/lockstep/fsm"
)

// TestLeaseTimingIsSafe checks the inequality G(1-rho) >= (L+K)(1+rho)+q.
func TestLeaseTimingIsSafe(t *testing.T) {
	t.Parallel()
	const s, ms = time.Second, time.Millisecond
	tests := map[string]struct {
		in   LeaseTiming
		want string // part of the error; empty: it is safe
	}{
		"the default":              {in: DefaultLeaseTiming()},
		"just long enough":         {in: LeaseTiming{Duration: 3 * s, Kill: 2 * s, Grace: 5 * s}},
		"a nanosecond too short":   {in: LeaseTiming{Duration: 3 * s, Kill: 2 * s, Grace: 5*s - 1}, want: "grace"},
		"lateness not counted":     {in: LeaseTiming{Duration: 3 * s, Kill: 2 * s, Grace: 5 * s, Lateness: ms}, want: "grace"},
		"clock error not counted":  {in: LeaseTiming{Duration: 3 * s, Kill: 2 * s, Grace: 5 * s, ClockError: 0.001}, want: "grace"},
		"clock error, one side":    {in: LeaseTiming{Duration: 3 * s, Kill: 2 * s, Grace: 5*s + 5*ms, ClockError: 0.001}, want: "5.0100100"},
		"clock error, both sides":  {in: LeaseTiming{Duration: 3 * s, Kill: 2 * s, Grace: 5*s + 11*ms, ClockError: 0.001}},
		"kill not counted":         {in: LeaseTiming{Duration: 3 * s, Kill: 3 * s, Grace: 5 * s}, want: "grace"},
		"nothing set":              {want: "duration"},
		"a negative kill":          {in: LeaseTiming{Duration: s, Kill: -s, Grace: s}, want: "kill"},
		"a negative lateness":      {in: LeaseTiming{Duration: s, Grace: s, Lateness: -s}, want: "lateness"},
		"a clock that is no clock": {in: LeaseTiming{Duration: s, Grace: 9 * s, ClockError: 0.2}, want: "clock_error"},
	}
	for name, test := range tests {
		err := test.in.validate()
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
}

// leased runs the lease of a follower's service and waits until it is held.
func leased(t *testing.T, f *fleet) (*fleetNode, *Lease) {
	t.Helper()
	n := f.follower()
	l := n.NewLease(f.service(n))
	done := make(chan struct{})
	ctx, cancel := contextOf(t)
	go func() { defer close(done); l.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	f.until("a lease", func() bool { return holds(l) })
	return n, l
}

func holds(l *Lease) bool {
	held, _ := l.Current()
	return held != nil
}

func TestG4_Lease(t *testing.T) {
	t.Parallel()
	const duration = 1500 * time.Millisecond
	story(t, "it is kept while it is renewed, and is the same one", 3, 3, func(t *testing.T, f *fleet) {
		_, l := leased(t, f)
		first, _ := l.Current()
		<-time.After(time.Minute)
		if now, _ := l.Current(); now != first || first.Err() != nil {
			t.Error("a lease that was renewed has ended")
		}
	})
	story(t, "it counts from before it was asked for", 3, 3, func(t *testing.T, f *fleet) {
		n, l := leased(t, f)
		var asked atomic.Pointer[time.Time]
		f.losing(func(from, _, method string) error {
			if from == n.id && method == methodLease {
				asked.Store(new(time.Now()))
				<-time.After(400 * time.Millisecond) // on its way
			}
			return nil
		})
		<-time.After(3 * time.Second)
		f.losing(func(from, _, method string) error {
			if from == n.id && method == methodLease {
				return errUnreachable
			}
			return nil
		})
		held, changed := l.Current()
		<-changed
		last := *asked.Load()
		if end := last.Add(duration); !time.Now().Equal(end) || held.Err() == nil {
			t.Errorf("it ended %v after the last question, want %v", time.Since(last), duration)
		}
	})
	story(t, "it ends at its deadline though Run hangs", 3, 3, func(t *testing.T, f *fleet) {
		n, l := leased(t, f)
		over := make(chan struct{})
		var asked atomic.Pointer[time.Time]
		f.tamper(func(from, _, method string, answer []byte) ([]byte, error) {
			if from == n.id && method == methodLease {
				<-over
			}
			return answer, nil
		})
		f.losing(func(from, _, method string) error {
			if from == n.id && method == methodLease {
				asked.Store(new(time.Now()))
			}
			return nil
		})
		held, _ := l.Current()
		<-held.Done()
		if d := time.Since(*asked.Load()); d > duration || holds(l) {
			t.Errorf("it ended %v after the question that hangs", d)
		}
		close(over)
	})
	story(t, "after it has lapsed there is another one", 3, 3, func(t *testing.T, f *fleet) {
		n, l := leased(t, f)
		first, _ := l.Current()
		f.isolate(n)
		<-first.Done()
		if holds(l) {
			t.Error("a node that is cut off holds a lease")
		}
		f.heal(n)
		f.until("a lease", func() bool { return holds(l) })
		if second, _ := l.Current(); second == first || second.Err() != nil {
			t.Error("the new lease is the old one")
		}
	})
	story(t, "it is held only once what the leader had committed is applied", 3, 3, func(t *testing.T, f *fleet) {
		n := f.follower()
		l := n.NewLease(f.service(n))
		ahead := n.index() + 1
		f.tamper(func(_, _, method string, answer []byte) ([]byte, error) {
			if method == methodLease {
				return answerOf(indexAnswer{ahead})
			}
			return answer, nil
		})
		ctx, cancel := contextOf(t)
		done := make(chan struct{})
		go func() { defer close(done); l.Run(ctx) }()
		<-time.After(10 * time.Second)
		if holds(l) {
			t.Errorf("held at %d, though %d had been committed", n.index(), ahead)
		}
		f.propose(n, fsm.RegisterNode{Node: fsm.Node{ID: "x"}})
		f.until("a lease", func() bool { return holds(l) })
		cancel()
		<-done
		if holds(l) {
			t.Error("it outlives Run")
		}
	})
}

func TestG15_NoQuorumNoLease(t *testing.T) {
	t.Parallel()
	story(t, "not even for the leader itself", 3, 3, func(t *testing.T, f *fleet) {
		leader := f.leader()
		host := f.service(leader)
		if _, err := leader.grant(t.Context(), f.question(host, leader.id)); err != nil {
			t.Fatalf("with a quorum: %v", err)
		}
		f.isolate(leader)
		if _, err := leader.grant(t.Context(), f.question(host, leader.id)); err == nil {
			t.Error("granted by a leader that nobody confirms")
		}
		<-time.After(10 * time.Second)
		if _, err := leader.grant(t.Context(), f.question(host, leader.id)); !errors.Is(err, fsm.ErrNotLeader) {
			t.Errorf("after it stepped down: %v", err)
		}
	})
}

func TestGrant(t *testing.T) {
	t.Parallel()
	story(t, "only to services that the state shows on that node", 3, 3, func(t *testing.T, f *fleet) {
		leader, n := f.leader(), f.follower()
		host := f.service(n)
		if _, err := leader.grant(t.Context(), f.question(host, "another")); !errors.Is(err, fsm.ErrNotFound) {
			t.Errorf("to another node: %v", err)
		}
		if _, err := leader.grant(t.Context(), f.question("other@aa", n.id)); !errors.Is(err, fsm.ErrNotFound) {
			t.Errorf("to a service that is not registered: %v", err)
		}
		if _, err := n.grant(t.Context(), f.question(host, n.id)); !errors.Is(err, fsm.ErrNotLeader) {
			t.Errorf("by a follower: %v", err)
		}
		index, err := leader.grant(t.Context(), f.question(host, n.id))
		if err != nil || index < leader.index() {
			t.Errorf("index %d, %v; want at least %d", index, err, leader.index())
		}
	})
	story(t, "it is noted before anybody confirms it", 3, 3, func(t *testing.T, f *fleet) {
		leader := f.leader()
		host := f.service(leader)
		var noted atomic.Bool
		f.losing(func(_, _, method string) error {
			if method == methodTerm {
				r, _ := leader.leading()
				_, known := r.noted()[host]
				noted.Store(known)
				return errUnreachable
			}
			return nil
		})
		if _, err := leader.grant(t.Context(), f.question(host, leader.id)); err == nil {
			t.Error("granted though nobody confirms the term")
		}
		r, _ := leader.leading()
		if !noted.Load() || r == nil || r.gone(host, 0, leader.cfg.Clock()+leader.cfg.Lease.Grace-time.Second) {
			t.Errorf("noted %v before the proof", noted.Load())
		}
	})
	story(t, "a member that has had its time is refused", 3, 3, func(t *testing.T, f *fleet) {
		leader := f.leader()
		host := f.service(leader)
		f.propose(leader, fsm.RequestFailover{ID: "f", Cluster: "c@aa", Target: "site-b", Mode: fsm.Forced})
		<-time.After(leader.cfg.Limits.Drain)
		if _, err := leader.grant(t.Context(), f.question(host, leader.id)); !errors.Is(err, fsm.ErrConflict) {
			t.Errorf("grant = %v, want %v", err, fsm.ErrConflict)
		}
	})
}

func TestReign(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		lease := fleetLease()
		const began = time.Hour
		node := &Node{cfg: Config{Lease: lease, Clock: func() time.Duration { return began }}, logger: hclog.NewNullLogger()}
		r := newReign(node)
		at := func(d time.Duration) time.Duration { return began + d }

		if r.gone("h", 0, at(lease.Grace-1)) || !r.gone("h", 0, at(lease.Grace)) {
			t.Error("somebody never heard of is gone before the new leader's wait, or not after it")
		}
		r.note("h", at(time.Second))
		if r.gone("h", 0, at(lease.Grace+time.Second-1)) || !r.gone("h", 0, at(lease.Grace+time.Second)) {
			t.Error("a grant holds for the grace, from when it was made")
		}
		r.note("h", at(-time.Hour)) // noted late: another request was faster
		if r.gone("h", 0, at(lease.Grace+time.Second-1)) {
			t.Error("a grant has shortened an earlier wait")
		}
		if r.note("k", at(0)); r.live("k", at(0)) {
			t.Error("live before the lease was granted")
		}
		r.granted("k", at(2), fsm.TimeOf(time.Now()))
		r.granted("k", at(1), fsm.TimeOf(time.Now())) // answered late: another request was faster
		if !r.live("k", at(1)) || r.live("k", at(2)) || r.live("l", at(0)) {
			t.Error("live is who was granted a lease that is current")
		}
		if r.retire("h", 0, at(lease.Grace)) {
			t.Error("retired though it may hold a lease")
		}
		if !r.retire("h", 0, at(lease.Grace+time.Second)) || r.note("h", at(lease.Grace+time.Second)) {
			t.Error("a service that is about to be deleted is granted a lease")
		}
		r.retire("h", 0, at(lease.Grace+time.Second))
		if r.readmit("h"); r.note("h", at(lease.Grace+time.Second)) {
			t.Error("a service that is deleted twice is granted a lease before the second answer")
		}
		if r.readmit("h"); !r.note("h", at(lease.Grace+2*time.Second)) {
			t.Error("a service that was not deleted is refused for ever")
		}

		node.reign = r
		if _, err := node.leading(); !errors.Is(err, fsm.ErrNotLeader) {
			t.Errorf("a leader that has not caught up answers %v", err)
		}
	})
}

func TestNewLeaderWaitsForEveryone(t *testing.T) {
	t.Parallel()
	story(t, "heard of or not", 3, 3, func(t *testing.T, f *fleet) {
		old := f.leader()
		host := f.service(old)
		f.kill(old)
		lost := old.cfg.Clock()
		f.until("a new leader", func() bool { return f.leader() != nil })
		r, err := f.leader().leading()
		if err != nil {
			t.Fatal(err)
		}
		f.until("the old leader is gone", func() bool { return r.gone(host, 0, r.node.cfg.Clock()) })
		if waited := r.node.cfg.Clock() - r.elected; waited < fleetLease().Grace || r.elected < lost {
			t.Errorf("gone %v after the election", waited)
		}
	})
}

func TestLastCommand(t *testing.T) {
	t.Parallel()
	const command, noop, config = raft.LogCommand, raft.LogNoop, raft.LogConfiguration
	tests := map[string]struct {
		first uint64 // index of the first entry that is still there
		log   []raft.LogType
		want  uint64
	}{
		"all is applied":                    {first: 1, log: []raft.LogType{command, command}, want: 2},
		"a command":                         {first: 1, log: []raft.LogType{command, command, noop, command}, want: 4},
		"no command after the applied one":  {first: 1, log: []raft.LogType{command, command, noop, config}, want: 2},
		"a command before others":           {first: 1, log: []raft.LogType{command, command, noop, command, config, noop}, want: 4},
		"the rest is in a snapshot":         {first: 4, log: []raft.LogType{config, noop}, want: 2},
		"the rest is, but for a command":    {first: 4, log: []raft.LogType{command, noop}, want: 4},
		"nothing is committed that is kept": {first: 1, want: 2},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := raft.NewInmemStore()
			for i, kind := range test.log {
				if err := store.StoreLog(&raft.Log{Index: test.first + uint64(i), Type: kind}); err != nil {
					t.Fatal(err)
				}
			}
			n := &Node{replica: newReplica(hclog.NewNullLogger()), cfg: Config{Storage: Storage{Logs: store}}}
			n.ApplyBatch([]*raft.Log{register(t, 1, "a"), register(t, 2, "b")})
			got, err := n.lastCommand(max(2, test.first+uint64(len(test.log))-1))
			if err != nil || got != test.want {
				t.Errorf("lastCommand = %d, %v; want %d", got, err, test.want)
			}
		})
	}
}
