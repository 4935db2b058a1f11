package fsm

import (
	"fmt"
	"slices"
	"time"
)

// Limits paces a failover. They are the leader's configuration.
type Limits struct {
	Drain    time.Duration // for a member to drain
	Promote  time.Duration // for an executor's call to answer
	Switch   time.Duration // for a member to be told of the new site
	Backoff  time.Duration // before the second attempt; doubles with each one, up to 16 times
	Attempts uint64        // before a failover has failed
}

// DefaultLimits are generous to drivers and still bound a failover (G5).
func DefaultLimits() Limits {
	return Limits{
		Drain: 30 * time.Second, Promote: 10 * time.Minute, Switch: time.Minute,
		Backoff: 500 * time.Millisecond, Attempts: 8,
	}
}

// Observation is what the leader sees and the log does not hold.
type Observation struct {
	Term   uint64          // in which the leader looked
	Now    Time            // the leader's clock; paces steps and nothing else
	Seen   map[string]Time // on that clock, when the leader first saw the step of each unfinished failover; absent: its StepAt
	Node   string          // the leader
	Live   map[string]bool // hosts that hold a lease, as far as the leader knows
	Gone   map[string]bool // hosts that can no longer hold one
	Limits Limits
}

// lasted is for how long the leader has seen the step of f that is under way. StepAt
// is of the clock of whoever led then, which may be an hour ahead.
func (o Observation) lasted(f *Failover) time.Duration {
	if seen, ok := o.Seen[f.ID]; ok {
		return o.Now.Sub(seen)
	}
	return o.Now.Sub(f.StepAt)
}

// Plan returns what the leader should commit next: at most one command per
// cluster, each a compare-and-set on what it was decided on. It is empty when
// there is nothing to decide, so the leader can look at any time.
func (s *State) Plan(o Observation) []Command {
	var cmds []Command
	s.clusters.Scan(func(_ string, cl *Cluster) bool {
		if cmd := s.planCluster(cl, o); cmd != nil {
			cmds = append(cmds, cmd)
		}
		return true
	})
	return cmds
}

func (s *State) planCluster(cl *Cluster, o Observation) Command {
	if f, ok := s.unfinished(cl.Name); ok {
		if cmd := s.planFailover(cl, f, o); cmd != nil {
			return cmd
		}
	}
	if st, ok := s.staged.Get(cl.Name); ok && st.Epoch != 0 {
		return SettleResults{Cluster: cl.Name, Epoch: st.Epoch, Term: o.Term}
	}
	return s.planMove(cl, o)
}

func (s *State) planFailover(cl *Cluster, f *Failover, o Observation) Command {
	if cmd, decided := s.planStuck(f, o); decided {
		return cmd
	}
	switch f.Phase {
	case Draining:
		if !f.draining(o) {
			return s.planAssign(cl, f, o)
		}
	case Promoting:
		if !f.promoting(o) {
			return s.planAssign(cl, f, o)
		}
	case Switching:
		return s.planFinish(cl, f, o)
	case Done, Failed, Aborted:
	}
	return nil
}

// draining reports whether a member has yet to drain that is not gone.
func (f *Failover) draining(o Observation) bool {
	return slices.ContainsFunc(f.Members, func(v Member) bool {
		return v.State == MemberStateWaiting && !o.Gone[v.Host]
	})
}

// promoting reports whether the attempt goes on: its executor is at work, or it
// has ended a moment ago and the next one should wait.
func (f *Failover) promoting(o Observation) bool {
	if f.Ended {
		lasted := o.lasted(f)
		return lasted >= 0 && lasted < o.Limits.backoff(f.Attempt)
	}
	return !o.Gone[f.Executor]
}

// backoff is how long to wait after an attempt has ended.
func (l Limits) backoff(attempt uint64) time.Duration {
	return l.Backoff << min(max(attempt, 1)-1, 4)
}

// planAssign gives a failover to its next executor, or gives it up. After an attempt
// that ended badly it is another member's turn, since what one cannot reach another
// may.
func (s *State) planAssign(cl *Cluster, f *Failover, o Observation) Command {
	if st, ok := s.staged.Get(cl.Name); ok && st.Epoch != 0 {
		return nil // results of the switch before are settled first
	}
	giveUp := GiveUp{Failover: f.ID, Attempt: f.Attempt, ClaimIndex: f.ClaimIndex, Term: o.Term, Error: f.Error}
	if f.Attempt >= o.Limits.Attempts {
		giveUp.Error = fmt.Sprintf("gave up after %d attempts: %s", f.Attempt, f.Error)
		return giveUp
	}
	executor, ok := s.executor(cl, f, o)
	if !ok {
		if o.lasted(f) < o.Limits.Drain+o.Limits.Switch {
			return nil
		}
		giveUp.Error = fmt.Sprintf("no live member is configured with %q", f.Target)
		return giveUp
	}
	return Assign{
		Failover: f.ID, Attempt: f.Attempt, ClaimIndex: f.ClaimIndex, Term: o.Term,
		Executor: executor,
	}
}

// executor picks the next member to execute a failover: at first the leader's own,
// then each in turn, by name.
func (s *State) executor(cl *Cluster, f *Failover, o Observation) (host string, ok bool) {
	var able []Service
	for svc := range s.Members(cl.Name) {
		if o.Live[svc.Host] && (f.Target == DefaultBackendID || slices.Contains(svc.Targets, f.Target)) {
			able = append(able, svc)
		}
	}
	if len(able) == 0 {
		return "", false
	}
	next := slices.IndexFunc(able, func(v Service) bool {
		if f.Executor == "" {
			return v.Node == o.Node
		}
		return v.Host > f.Executor
	})
	return able[max(next, 0)].Host, true
}

// planFinish ends a failover when every member in touch has reported, or has had
// its time.
func (s *State) planFinish(cl *Cluster, f *Failover, o Observation) Command {
	late := o.lasted(f) >= o.Limits.Switch
	var silent []string
	for svc := range s.Members(cl.Name) {
		if svc.Reported.Epoch == cl.Epoch || o.Gone[svc.Host] {
			continue
		}
		if !late {
			return nil
		}
		silent = append(silent, svc.Host)
	}
	return FinishFailover{Failover: f.ID, Attempt: f.Attempt, Term: o.Term, Silent: silent}
}

// planMove gives what a lost member owes to the first live one.
func (s *State) planMove(cl *Cluster, o Observation) Command {
	from, to := "", ""
	for svc := range s.Members(cl.Name) {
		switch {
		case o.Live[svc.Host] && to == "":
			to = svc.Host
		case o.Gone[svc.Host] && !svc.Stuck && from == "" && (s.owesFreeze(cl, svc.Host) || s.owesAny(svc.Host)):
			from = svc.Host
		}
	}
	if from == "" || to == "" {
		return nil
	}
	return MoveOperations{From: from, To: to, Term: o.Term}
}

// Overdue reports whether a member has had its time in a failover: one that does
// not drain, or an executor whose call does not answer. Such a member is refused
// its next lease, so that the step ends (G5) when its grant has run out. Of o, only
// the times and the limits matter.
func (s *State) Overdue(host string, o Observation) bool {
	svc, ok := s.services.Get(host)
	if !ok {
		return false
	}
	f, ok := s.unfinished(svc.Group())
	if !ok {
		return false
	}
	switch f.Phase {
	case Draining:
		for _, member := range f.Members {
			if member.Host == host && member.State == MemberStateWaiting {
				return o.lasted(f) >= o.Limits.Drain
			}
		}
	case Promoting:
		return f.Executor == host && !f.Ended && o.lasted(f) >= o.Limits.Promote
	case Switching, Done, Failed, Aborted:
	}
	return false
}
