package clustertest

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lockstep-storage/lockstep/cmd/internal/history"
	"github.com/lockstep-storage/lockstep/fsm"
)

// story is one random history of a deployment.
type story struct {
	t        testing.TB
	c        *Cluster
	seed     int64
	rnd      *rand.Rand // of the event that is under way
	stats    *Coverage
	clients  sync.WaitGroup
	operator sync.WaitGroup
	broken   map[*Member]func() // how to mend each member that is broken
	links    []func()           // how to mend each link that is cut
	leaving  *Member            // that was turned off for good and is not removed yet, if there is one
	left     chan departure     // it, once that is done
	returned []*Member          // with what they had before they were removed
	stuck    *Member            // whose drivers the kernel holds, if there is one
	joined   int
	serial   int
	drawn    []string // of each event, what chance has decided before anything was looked at

	mu        sync.Mutex
	notes     strings.Builder
	asked     []asked // failovers that clients asked for
	volumes   []string
	snapshots []string
	unknown   map[string]*history.Pending // requests without an answer, by id
}

// asked is a failover that a client asked for.
type asked struct{ id, cluster string }

// newStory starts the deployment of a seed. Change may make its world another one.
func newStory(t testing.TB, seed int64, stats *Coverage, change func(*Options)) *story {
	rnd := rand.New(rand.NewPCG(uint64(seed), 0))
	opts := Options{
		Size: 3 + 2*rnd.IntN(2), Seed: uint64(seed), Logger: nodeLog(t), Stats: stats,
		Snapshots: rnd.IntN(2) == 0,
	}
	if rnd.IntN(2) == 0 {
		opts.Drift = lease().ClockError
	}
	if rnd.IntN(4) == 0 {
		opts.Clusters = []string{ClusterName, "other@bb"}
	}
	change(&opts)
	s := &story{
		t: t, seed: seed, rnd: rnd, stats: stats, broken: map[*Member]func(){}, left: make(chan departure, 1),
		unknown: map[string]*history.Pending{},
	}
	s.c = Start(t, opts)
	t.Cleanup(s.operator.Wait) // of a history that has failed, before all is stopped
	weather := weathers[rnd.IntN(len(weathers))]
	if opts.Liars && weather == nil {
		// Raft sends again without end to a log that has forgotten: time has to pass.
		weather = weathers[1]
	}
	s.c.net.setWeather(weather)
	letGo := time.Duration(rnd.Int64N(int64(lease().Kill)))
	for i, name := range opts.Clusters {
		if rnd.IntN(4) > 0 {
			s.c.Arrays[name].Moody(rand.New(rand.NewPCG(uint64(seed), 10+uint64(i))), letGo)
		}
	}
	for _, m := range s.c.Members {
		if rnd.IntN(4) == 0 {
			m.disk.setLatency(time.Duration(rnd.Int64N(int64(10 * time.Millisecond))))
		}
	}
	return s
}

// weathers are how the network can be during a whole history.
var weathers = []Weather{
	nil,
	func(rnd *rand.Rand) (time.Duration, bool, bool) {
		return time.Duration(rnd.Int64N(int64(20 * time.Millisecond))), rnd.IntN(100) == 0, rnd.IntN(50) == 0
	},
	func(rnd *rand.Rand) (time.Duration, bool, bool) {
		if rnd.IntN(10) > 0 {
			return time.Duration(rnd.Int64N(int64(5 * time.Millisecond))), false, false
		}
		return time.Duration(rnd.Int64N(int64(lease().Duration))), rnd.IntN(5) == 0, rnd.IntN(5) == 0
	},
}

// run breaks and mends the deployment, and judges it.
func (s *story) run() {
	for n := range *events {
		s.rnd = chance(s.seed, n)
		pause := time.Duration(s.rnd.Int64N(int64(500 * time.Millisecond)))
		<-time.After(pause)
		s.event(pause)
		s.check()
	}
	s.rnd = chance(s.seed, *events)
	s.heal()
	s.clients.Wait()
	s.admit()
	s.settle()
	s.check()
	s.learnUnknown()
}

// chance is what decides on the n-th event of a history, and on no other: whatever has
// become of the events before it, those that follow are the same.
func chance(seed int64, n int) *rand.Rand {
	return rand.New(rand.NewPCG(uint64(seed), 1000+uint64(n))) //nolint:gosec // a seed names the run
}

// learnUnknown notes what has become of the requests that had no answer, once all is
// quiet: nothing is on its way any more.
func (s *story) learnUnknown() {
	for request, pending := range s.unknown {
		e, committed := s.c.oracle.effectOf(request)
		if !committed {
			pending.Void()
			continue
		}
		pending.Settle(answerOf(e.refusal), e.from, e.by)
	}
}

// check looks for violations that were seen so far.
func (s *story) check() {
	s.c.stuckIsReported()
	for name, a := range s.c.Arrays {
		for _, v := range a.Violations() {
			s.t.Errorf("%s: %s", name, v)
		}
	}
	for _, v := range s.c.oracle.Violations() {
		s.t.Error(v)
	}
	if s.t.Failed() {
		s.note("FAILED")
		s.t.FailNow()
	}
}

func (s *story) note(format string, args ...any) {
	line := fmt.Sprintf("%8.3fs %s", s.c.now().Seconds(), fmt.Sprintf(format, args...))
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintln(&s.notes, line)
	if *verbose {
		s.t.Log(line)
	}
}

// text is all that is known of the history, for people.
func (s *story) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var text strings.Builder
	text.WriteString(s.notes.String())
	text.WriteString("\nclients:\n")
	for _, op := range s.c.History.Operations() {
		fmt.Fprintf(&text, "%8.3fs %8.3fs client %d: %+v: %+v\n", op.Begin.Seconds(), op.End.Seconds(), op.Client, op.Request, op.Answer)
	}
	text.WriteString("\ndisks:\n")
	for _, m := range s.c.members() {
		fmt.Fprintf(&text, "%s: %s\n", m.ID, m.disk.describe())
	}
	text.WriteString("\ncommitted:\n")
	s.c.oracle.write(&text)
	for name, a := range s.c.Arrays {
		for _, v := range a.Violations() {
			fmt.Fprintf(&text, "%s: %s\n", name, v)
		}
	}
	for _, v := range s.c.oracle.Violations() {
		fmt.Fprintln(&text, v)
	}
	return text.String()
}

// event does one random thing. What is drawn before the state of anything is looked at
// is kept: it is what a seed names.
func (s *story) event(after time.Duration) {
	s.comeBack()
	who, leader, which, what := s.rnd.IntN(1000), s.rnd.IntN(3) == 0, s.rnd.IntN(len(s.c.opts.Clusters)), s.rnd.IntN(100)
	s.drawn = append(s.drawn, fmt.Sprintf("after %v: %d, leader %v, cluster %d, event %d", after, who, leader, which, what))
	m, cluster := s.someone(who, leader), s.c.opts.Clusters[which]
	switch {
	case what < 24:
		s.fault(m, cluster)
	case what < 40:
		s.mendOne()
	case what < 54:
		s.failover(m, cluster)
	case what < 57:
		s.abort(m)
	case what < 60:
		s.freeze(m, cluster)
	case what < 86:
		s.volume(m, cluster)
	default:
		s.read(m, cluster)
	}
}

// someone is one of the members, or the one that leads.
func (s *story) someone(who int, leader bool) *Member { //nolint:revive // one of two members
	all := s.c.members()
	if leader {
		for _, o := range s.c.Live() {
			if o.Node.Status().Leader == o.ID {
				return o
			}
		}
	}
	return all[who%len(all)]
}

func (s *story) name(kind string) string {
	s.serial++
	return fmt.Sprintf("%s%d", kind, s.serial)
}

// settle waits until all is quiet, opens what is closed, and compares what there
// is with what there should be.
func (s *story) settle() {
	s.g5EveryFailoverEnds()
	for _, name := range s.c.opts.Clusters {
		s.reopen(name)
	}
	s.c.Eventually("every volume operation has ended", s.nothingOwed)
	s.c.Eventually("quiet and agreed", s.c.Quiet)
	leader := s.c.Leader()
	state := leader.Node.Clone()
	s.c.oracle.finish(s.c.members(), state.Index())
	s.c.oracle.g13Same(leader.ID, state)
	for name, a := range s.c.Arrays {
		cl, _ := state.Cluster(name)
		if a.Promoted() != cl.ActiveBackendID {
			s.t.Errorf("G3: %s is on %q, its array on %q", name, cl.ActiveBackendID, a.Promoted())
		}
	}
}

// g5EveryFailoverEnds: in bounded time after all is mended.
func (s *story) g5EveryFailoverEnds() {
	s.c.Eventually("G5: quiet and agreed", s.c.Quiet)
	state := s.c.Leader().Node.Clone()
	for _, a := range s.asked {
		if f, ok := state.Failover(a.id); ok && !f.Phase.Terminal() {
			s.t.Errorf("G5: failover %s is still %s", a.id, f.Phase)
		}
	}
}

// reopen thaws a cluster, and has a failback open gates that are held closed (G9).
func (s *story) reopen(name string) {
	cl, _ := s.c.Leader().Node.Clone().Cluster(name)
	if cl.Frozen {
		s.must(fsm.SetFrozen{Cluster: name})
	}
	if !cl.Held {
		return
	}
	for _, m := range s.c.Live() {
		if _, serves := m.Hosts.Serves(name); serves {
			s.t.Errorf("G9: %s serves although something may be promoted", m.ID)
		}
	}
	id := s.name("f")
	s.must(fsm.RequestFailover{ID: id, Cluster: name, Target: fsm.DefaultBackendID, Mode: fsm.Forced})
	s.c.Eventually("G9: the failback opens the gates", s.c.Phase(id, fsm.Done))
}

// must asks for something that nothing is in the way of any more.
func (s *story) must(cmd fsm.Command) {
	if err := s.c.Ask(s.c.Leader(), 20*time.Second, cmd); err != nil {
		s.t.Fatalf("%T: %v", cmd, err)
	}
}

func (s *story) nothingOwed() bool {
	state := s.c.Leader().Node.Clone()
	for v := range state.Volumes(0) {
		if v.Status == fsm.StatusCreating || v.Status == fsm.StatusDeleting || v.Status == fsm.StatusExtending {
			return false
		}
	}
	for sn := range state.Snapshots(0) {
		if sn.Status == fsm.StatusCreating || sn.Status == fsm.StatusDeleting {
			return false
		}
	}
	return true
}
