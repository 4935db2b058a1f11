package fsm

import (
	"cmp"
	"fmt"
	"iter"
	"slices"
	"strings"
)

// Mode says what a failover presumes of the site in use.
type Mode string

// The modes of a failover.
const (
	Forced  Mode = "forced"  // the site in use is presumed lost
	Planned Mode = "planned" // drain, last sync, demote, promote; loses nothing
)

// Phase is where a failover stands. It only moves forward.
type Phase string

// The phases of a failover.
const (
	Draining  Phase = "draining"  // members close their gates and end running calls
	Promoting Phase = "promoting" // the executor is to have the driver promote the target
	Switching Phase = "switching" // the switch is committed, members tell their drivers
	Done      Phase = "done"
	Failed    Phase = "failed"
	Aborted   Phase = "aborted"
)

// Terminal reports whether a failover in this phase is over.
func (p Phase) Terminal() bool { return p == Done || p == Failed || p == Aborted }

// MemberState is how far a member has followed a failover.
type MemberState string

// The states of a member in a failover.
const (
	MemberStateWaiting  MemberState = "waiting"  // owes its drain
	MemberStateDrained  MemberState = "drained"  // gate closed, no call runs
	MemberStateSwitched MemberState = "switched" // driver told of the new site
	MemberStateError    MemberState = "error"    // driver refuses, or no answer
)

// Member is the part of one member in a failover.
type Member struct {
	Host  string      `cbor:"1,keyasint"`
	State MemberState `cbor:"2,keyasint"`
	Error string      `cbor:"3,keyasint,omitempty"`
	At    Time        `cbor:"4,keyasint,omitempty"` // of the last change
}

// Failover is the record of one attempt to switch a cluster to another site, or one of
// its groups alone: then too all members of the cluster follow, and the epoch is the
// cluster's.
type Failover struct {
	ID          string   `cbor:"1,keyasint"`
	Cluster     string   `cbor:"2,keyasint"` // or the host of a service outside clusters
	From        string   `cbor:"3,keyasint"`
	Target      string   `cbor:"4,keyasint"`
	Mode        Mode     `cbor:"5,keyasint"`
	Reason      string   `cbor:"6,keyasint,omitempty"`
	RequestedBy string   `cbor:"7,keyasint,omitempty"`
	Phase       Phase    `cbor:"8,keyasint"`
	Attempt     uint64   `cbor:"9,keyasint,omitempty"`  // grows with every Assign
	Executor    string   `cbor:"10,keyasint,omitempty"` // the member that is to promote
	ClaimIndex  uint64   `cbor:"11,keyasint,omitempty"` // of this attempt's latest claim; 0 if none
	Claimed     bool     `cbor:"12,keyasint,omitempty"` // an executor of any attempt has claimed
	Ended       bool     `cbor:"13,keyasint,omitempty"` // this attempt has ended with its outcome unknown
	Unknown     bool     `cbor:"14,keyasint,omitempty"` // any attempt may have promoted something
	Error       string   `cbor:"15,keyasint,omitempty"` // of the last attempt
	Members     []Member `cbor:"16,keyasint,omitempty"` // by host
	Epoch       uint64   `cbor:"17,keyasint,omitempty"` // that the switch led to; 0 before it
	Results     uint64   `cbor:"18,keyasint,omitempty"` // volumes with a result of their own
	FailedCount uint64   `cbor:"19,keyasint,omitempty"` // of these, volumes that failed
	RequestedAt Time     `cbor:"20,keyasint,omitempty"`
	StepAt      Time     `cbor:"21,keyasint,omitempty"` // when the phase, the attempt or its call began, or the attempt ended
	SwitchedAt  Time     `cbor:"22,keyasint,omitempty"`
	FinishedAt  Time     `cbor:"23,keyasint,omitempty"`
	RequestedIn uint64   `cbor:"24,keyasint,omitempty"` // log index of the request
	Index       uint64   `cbor:"25,keyasint,omitempty"` // of its last change

	// PreviousStatus is the cluster's replication status before the request.
	PreviousStatus ReplicationStatus `cbor:"26,keyasint,omitempty"`

	// Group is the group that is switched alone; empty if the whole cluster is.
	Group string `cbor:"27,keyasint,omitempty"`
}

// maxFailovers is how many failovers are kept as history.
const maxFailovers = 1000

// Failover returns the failover with the given id.
func (s *State) Failover(id string) (Failover, bool) { return deref(s.failovers.Get(id)) }

// Failovers yields the failovers requested before the log index before, newest
// first; a before of zero starts with the newest.
func (s *State) Failovers(before uint64) iter.Seq[Failover] {
	return newestFirst(&s.failoverOrder, s.Failover, before)
}

// Unfinished returns the failover of a cluster that has not ended.
func (s *State) Unfinished(cluster string) (Failover, bool) { return deref(s.unfinished(cluster)) }

func (s *State) unfinished(cluster string) (*Failover, bool) {
	c, ok := s.clusters.Get(cluster)
	if !ok || c.Failover == "" {
		return nil, false
	}
	f, ok := s.failovers.Get(c.Failover)
	if !ok || f.Phase.Terminal() {
		return nil, false
	}
	return f, true
}

func failingOver(f *Failover) error {
	return refuseField(ErrFailingOver, "cluster", f.Cluster,
		fmt.Sprintf("failover %s of %q to %q is %s: wait for it, or abort it", f.ID, f.Cluster, f.Target, f.Phase))
}

// RequestFailover asks for a cluster, or a service outside clusters, to be
// switched to another site. Repeating it with the same id is harmless; any other
// while one is unfinished is refused (G1). A request for the site that is active
// already is done at once and changes nothing. With a group, only that is switched; the
// phases are the same, and so are the members that follow.
type RequestFailover struct {
	ID          string `cbor:"1,keyasint"`
	Cluster     string `cbor:"2,keyasint"`
	Target      string `cbor:"3,keyasint"` // empty: the only replication target there is
	Mode        Mode   `cbor:"4,keyasint"`
	Reason      string `cbor:"5,keyasint,omitempty"`
	RequestedBy string `cbor:"6,keyasint,omitempty"`
	Group       string `cbor:"7,keyasint,omitempty"` // of the cluster, to be switched alone
	Attached    bool   `cbor:"8,keyasint,omitempty"` // also if volumes of the group are in use
}

func (RequestFailover) kind() Kind { return kindRequestFailover }

func (c RequestFailover) apply(s *State, m Meta) error {
	cl, ok := s.clusters.Get(c.Cluster)
	if !ok {
		return notFound("cluster", "cluster or host", c.Cluster)
	}
	if old, ok := s.failovers.Get(c.ID); ok {
		if old.Cluster == c.Cluster && old.Group == c.Group && (old.Target == c.Target || c.Target == "") && old.Mode == c.Mode {
			return nil
		}
		return refuseField(ErrConflict, "id", c.ID, fmt.Sprintf("failover %s was asked for with other parameters", c.ID))
	}
	if f, ok := s.unfinished(c.Cluster); ok {
		return failingOver(f)
	}
	if err := cmp.Or(c.check(s, cl), c.checkGroup(s, cl)); err != nil {
		return err
	}
	f := &Failover{
		ID: c.ID, Cluster: cl.Name, Group: c.Group, From: c.from(s, cl), Target: c.target(s), Mode: c.Mode,
		Reason: c.Reason, RequestedBy: c.RequestedBy, Phase: Draining,
		RequestedAt: m.At, StepAt: m.At, RequestedIn: m.Index, PreviousStatus: cl.ReplicationStatus,
	}
	s.beginFailover(f, cl, m)
	s.putFailover(f, m)
	s.failoverOrder.Set(m.Index, f.ID)
	s.trimFailovers()
	return nil
}

// beginFailover closes the gates of a cluster for a new failover, unless that has
// nothing to do.
func (s *State) beginFailover(f *Failover, cl *Cluster, m Meta) {
	if f.Target == f.From && !cl.Held {
		f.Phase, f.Epoch, f.FinishedAt = Done, cl.Epoch, m.At
		if f.Group == "" {
			s.forgetFailoverError(cl, m)
		}
		return
	}
	next := new(*cl)
	next.Failover, next.ReplicationStatus = f.ID, ReplicationFailingOver
	for svc := range s.Members(cl.Name) {
		f.Members = append(f.Members, Member{Host: svc.Host, State: MemberStateWaiting, At: m.At})
	}
	s.putCluster(next, m)
}

func (c RequestFailover) check(s *State, cl *Cluster) error {
	if c.ID == "" || len(c.ID) > 64 {
		return refuseField(ErrInvalid, "id", c.ID, "a failover needs an id of 1 to 64 characters")
	}
	if c.Mode != Forced && c.Mode != Planned {
		return refuseField(ErrInvalid, "mode", string(c.Mode),
			fmt.Sprintf("mode %q must be %q or %q", c.Mode, Forced, Planned), string(Forced), string(Planned))
	}
	allowed := append([]string{DefaultBackendID}, s.Targets(cl.Name)...)
	target := c.target(s)
	if target == "" {
		return refuseField(ErrInvalid, "backend_id", c.Target,
			fmt.Sprintf("cluster %q has %d replication targets: name one", cl.Name, len(allowed)-1), allowed...)
	}
	if !slices.Contains(allowed, target) {
		return refuseField(ErrInvalid, "backend_id", target,
			fmt.Sprintf("backend_id %q is not a site of %q: it has %s", target, cl.Name, list(allowed)), allowed...)
	}
	return nil
}

// target is the site asked for; without one, Cinder's drivers take the first
// target, which is a guess unless there is only one.
func (c RequestFailover) target(s *State) string {
	if c.Target != "" {
		return c.Target
	}
	if all := s.Targets(c.Cluster); len(all) == 1 {
		return all[0]
	}
	return ""
}

// forgetFailoverError ends the error of a failover that has promoted nothing: the
// cluster is asked for where it still is.
func (s *State) forgetFailoverError(cl *Cluster, m Meta) {
	if cl.ReplicationStatus != ReplicationFailoverError {
		return
	}
	next := new(*cl)
	s.followSite(next, m)
	s.putCluster(next, m)
}

func (s *State) putFailover(f *Failover, m Meta) {
	f.Index = m.Index
	s.failovers.Set(f.ID, f)
}

// trimFailovers drops the oldest failovers that are history.
func (s *State) trimFailovers() {
	for s.failoverOrder.Len() > maxFailovers {
		dropped := false
		s.failoverOrder.Scan(func(index uint64, id string) bool {
			f, ok := s.failovers.Get(id)
			if ok && !f.Phase.Terminal() {
				return true
			}
			s.failoverOrder.Delete(index)
			s.failovers.Delete(id)
			dropped = true
			return false
		})
		if !dropped {
			return
		}
	}
}

// AbortFailover ends a failover before anything was promoted. It is refused once
// an executor of any attempt has claimed: from then on something may be promoted
// (G9).
type AbortFailover struct {
	ID string `cbor:"1,keyasint"`
}

func (AbortFailover) kind() Kind { return kindAbortFailover }

func (c AbortFailover) apply(s *State, m Meta) error {
	f, ok := s.failovers.Get(c.ID)
	switch {
	case !ok:
		return notFound("failover", "failover", c.ID)
	case f.Phase == Aborted:
		return nil
	case f.Phase.Terminal():
		return refuseField(ErrConflict, "failover", c.ID, fmt.Sprintf("failover %s is %s already", f.ID, f.Phase))
	case f.Claimed:
		return refuseField(ErrConflict, "failover", c.ID,
			fmt.Sprintf("failover %s cannot be aborted: %q has begun to promote %q", f.ID, f.Executor, f.Target))
	}
	next := new(*f)
	next.Phase, next.FinishedAt = Aborted, m.At
	old, _ := s.clusters.Get(f.Cluster)
	cl := new(*old)
	cl.ReplicationStatus = f.PreviousStatus
	s.putCluster(cl, m)
	s.putFailover(next, m)
	return nil
}

// FinishFailover ends a failover whose members in touch have all reported. The
// others stay listed, and converge when they return.
type FinishFailover struct {
	Failover string   `cbor:"1,keyasint"`
	Attempt  uint64   `cbor:"2,keyasint"`
	Term     uint64   `cbor:"3,keyasint"`
	Silent   []string `cbor:"4,keyasint,omitempty"` // members that did not answer in time
}

func (FinishFailover) kind() Kind { return kindFinishFailover }

func (c FinishFailover) apply(s *State, m Meta) error {
	f, err := s.current(c.Failover, c.Attempt, Switching)
	if err != nil {
		return err
	}
	if c.Term != m.Term {
		return errOvertaken
	}
	next := new(*f)
	next.Phase, next.FinishedAt = Done, m.At
	for _, host := range c.Silent {
		// One that has reported since the leader looked is not silent.
		if svc, ok := s.services.Get(host); ok && svc.Group() == f.Cluster && svc.Reported.Epoch != f.Epoch {
			next.setMember(host, MemberStateError, "no answer", m)
		}
	}
	s.putFailover(next, m)
	return nil
}

// current returns a failover if it is in the given attempt and in one of phases:
// every report and every command of Plan is a compare-and-set on these three.
func (s *State) current(id string, attempt uint64, phases ...Phase) (*Failover, error) {
	f, ok := s.failovers.Get(id)
	if !ok || f.Attempt != attempt || !slices.Contains(phases, f.Phase) {
		return nil, refuse(ErrStale, fmt.Sprintf("failover %s is no longer where this was decided", id))
	}
	return f, nil
}

// setMember records what a member has done. f must not be in the state yet; its
// list of members is replaced, not edited.
func (f *Failover) setMember(host string, state MemberState, problem string, m Meta) {
	member := Member{Host: host, State: state, Error: problem, At: m.At}
	at, known := slices.BinarySearchFunc(f.Members, host, func(e Member, host string) int { return strings.Compare(e.Host, host) })
	members := slices.Clone(f.Members)
	if known {
		members[at] = member
	} else {
		members = slices.Insert(members, at, member)
	}
	f.Members = members
}
