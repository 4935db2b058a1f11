package raftnode

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-storage/lockstep/fsm"
)

// longLease is a lease that the leaders of a fleet cannot wait out.
func longLease() LeaseTiming {
	return LeaseTiming{
		Duration: 6 * time.Second, Kill: 2 * time.Second, Grace: 9 * time.Second,
		ClockError: 0.01, Lateness: 50 * time.Millisecond,
	}
}

// with restarts a node with another lease.
func (f *fleet) with(n *fleetNode, lease LeaseTiming) {
	f.tb.Helper()
	f.kill(n)
	n.lease = lease
	f.start(n)
	f.until("a leader", func() bool { return f.leader() != nil })
}

// registered waits until everybody knows the span of a node's leases.
func (f *fleet) registered(n *fleetNode, span time.Duration) {
	f.tb.Helper()
	f.until("the span is registered", func() bool {
		for _, o := range f.nodes {
			if o.up && o.span(n.id) != span {
				return false
			}
		}
		return true
	})
}

func (n *fleetNode) span(id string) (span time.Duration) {
	n.View(func(s *fsm.State) { span = spanOf(s, id) })
	return span
}

// leads makes a node the leader.
func (f *fleet) leads(n *fleetNode) {
	f.tb.Helper()
	f.until(n.id+" leads", func() bool {
		if leader := f.leader(); leader != nil && leader != n {
			_ = leader.raft.LeadershipTransfer().Error()
		}
		return f.leader() == n
	})
}

// TestLeastGraceForTwoClocks lets the member's clock be as slow as it may be, and
// the leader's as fast.
func TestLeastGraceForTwoClocks(t *testing.T) {
	t.Parallel()
	errs := []float64{0, 0.001, 0.01, 0.1}
	for _, slow := range errs {
		for _, fast := range errs {
			member := LeaseTiming{Duration: 3 * time.Second, Kill: 2 * time.Second, ClockError: slow}
			leader := LeaseTiming{ClockError: fast, Lateness: 100 * time.Millisecond}
			ends := float64(member.Duration+member.Kill) / (1 - slow)
			waited := float64(leader.LeastGrace(member.Span())) / (1 + fast)
			if margin := time.Duration(waited - ends); margin < leader.Lateness || margin > leader.Lateness*5/4 {
				t.Errorf("clocks off by %v and %v: the leader waits %v longer than calls run", slow, fast, margin)
			}
		}
	}
}

func TestLeaseBetweenNodesConfiguredDifferently(t *testing.T) {
	t.Parallel()
	story(t, "a leader refuses a lease that outlasts its grace", 3, 3, func(t *testing.T, f *fleet) {
		n := f.follower()
		f.with(n, longLease())
		leader := f.leader()
		host := f.service(n)
		f.registered(n, longLease().Span())
		l := n.NewLease(host)
		ctx, cancel := contextOf(t)
		done := make(chan struct{})
		go func() { defer close(done); l.Run(ctx) }()
		defer func() { cancel(); <-done }()
		f.until("it is refused", func() bool { return n.LeaseRefused() != nil })
		refusal, ok := errors.AsType[*fsm.Refusal](n.LeaseRefused())
		if !ok || refusal.Field != "lease.grace" || refusal.Value != leader.lease.Grace.String() {
			t.Fatalf("refused with %#v", refusal)
		}
		least := leader.lease.LeastGrace(longLease().Span())
		for _, part := range []string{leader.lease.Grace.String(), least.String(), "6s", "2s", n.id, leader.id} {
			if !strings.Contains(refusal.Message, part) {
				t.Errorf("the refusal lacks %s: %s", part, refusal.Message)
			}
		}
		<-time.After(10 * time.Second)
		if holds(l) {
			t.Error("granted a lease that outlasts the leader's grace")
		}
		f.with(leader, longLease())
		f.leads(leader)
		f.until("a leader with a longer grace grants it", func() bool { return holds(l) })
		if err := n.LeaseRefused(); err != nil {
			t.Errorf("refused, though granted: %v", err)
		}
	})
	story(t, "a leader after one with a longer grace waits as long as that one would have", 3, 3, func(t *testing.T, f *fleet) {
		old, n, next := f.nodes[0], f.nodes[1], f.nodes[2]
		f.with(n, longLease())
		f.with(old, longLease())
		f.leads(old)
		host := f.service(n)
		f.registered(n, longLease().Span())
		if _, err := old.grant(t.Context(), n.NewLease(host).question()); err != nil {
			t.Fatal(err)
		}
		f.kill(old)
		f.leads(next)
		r, err := next.leading()
		if err != nil {
			t.Fatal(err)
		}
		gone := func() (gone bool) {
			next.View(func(s *fsm.State) { gone = r.observe(s).Gone[host] })
			return gone
		}
		f.until("the member is gone", gone)
		if waited := next.clock.now() - r.elected; waited < longLease().Span() {
			t.Errorf("a member whose leases span %v was gone %v after the election", longLease().Span(), waited)
		}
	})
	story(t, "none is granted before the span is registered", 3, 3, func(t *testing.T, f *fleet) {
		leader, n := f.leader(), f.follower()
		host := f.service(n)
		f.registered(n, fleetLease().Span())
		q := f.question(host, n.id)
		if _, err := leader.grant(t.Context(), q); err != nil {
			t.Fatal(err)
		}
		q.Duration++
		if _, err := leader.grant(t.Context(), q); !errors.Is(err, fsm.ErrNotFound) {
			t.Errorf("grant = %v, want %v", err, fsm.ErrNotFound)
		}
		q.Duration = 0
		if _, err := leader.grant(t.Context(), q); !errors.Is(err, fsm.ErrInvalid) {
			t.Errorf("grant of no lease = %v, want %v", err, fsm.ErrInvalid)
		}
	})
	story(t, "a span is shortened once an earlier run's leases are over", 3, 3, func(t *testing.T, f *fleet) {
		n := f.follower()
		f.with(n, longLease())
		f.registered(n, longLease().Span())
		f.with(n, fleetLease())
		began := n.began
		f.registered(n, fleetLease().Span())
		if passed := n.clock.now() - began; passed < longLease().Span() {
			t.Errorf("shortened %v after the node had started again", passed)
		}
	})
}
