package fsm

import (
	"fmt"
	"slices"
)

// errOvertaken refuses a command of Plan that was decided on what is no longer so: it
// arrives in an entry of another term than the one in which the leader looked, or
// after a claim that the leader had not seen.
const errOvertaken = ErrStale

// Assign gives a failover to an executor, which starts a new attempt. It names
// the claim that the leader saw: if there is a newer one, the old executor has
// come back in between and keeps the attempt (G16).
type Assign struct {
	Failover   string `cbor:"1,keyasint"`
	Attempt    uint64 `cbor:"2,keyasint,omitempty"` // that the leader saw
	ClaimIndex uint64 `cbor:"3,keyasint,omitempty"` // that the leader saw
	Executor   string `cbor:"4,keyasint"`
	Term       uint64 `cbor:"5,keyasint"`
}

func (Assign) kind() Kind { return kindAssign }

func (c Assign) apply(s *State, m Meta) error {
	f, err := s.current(c.Failover, c.Attempt, Draining, Promoting)
	if err != nil {
		return err
	}
	if c.Term != m.Term || c.ClaimIndex != f.ClaimIndex {
		return errOvertaken
	}
	if err := s.refuseStuck(f.Cluster); err != nil {
		return err
	}
	if svc, ok := s.services.Get(c.Executor); !ok || svc.Group() != f.Cluster {
		return refuse(ErrStale, fmt.Sprintf("%q is no member of %q", c.Executor, f.Cluster))
	}
	if st, ok := s.staged.Get(f.Cluster); ok && st.Epoch != 0 {
		return refuse(ErrStale, "results of the switch before are not settled yet")
	}
	s.dropStaged(f.Cluster) // what an earlier attempt staged counts for nothing
	next := new(*f)
	next.Phase, next.Attempt, next.Executor, next.StepAt = Promoting, f.Attempt+1, c.Executor, m.At
	// An attempt that claimed and is replaced may have promoted something.
	next.Unknown = f.Unknown || f.ClaimIndex != 0
	next.ClaimIndex, next.Ended = 0, false
	s.putFailover(next, m)
	return nil
}

// Claim is the executor's word that it is about to call the driver. It goes
// through the log because only the log can say that the executor has not been
// replaced while it was out of touch. Its index is the second half of the fencing
// token of the call.
type Claim struct {
	Failover string `cbor:"1,keyasint"`
	Attempt  uint64 `cbor:"2,keyasint"`
	Host     string `cbor:"3,keyasint"`
}

func (Claim) kind() Kind { return kindClaim }

func (c Claim) apply(s *State, m Meta) error {
	f, err := s.current(c.Failover, c.Attempt, Promoting)
	if err != nil {
		return err
	}
	if f.Executor != c.Host || f.Ended {
		return refuse(ErrStale, fmt.Sprintf("%q is not the executor of failover %s", c.Host, c.Failover))
	}
	if err := s.refuseStuck(f.Cluster); err != nil {
		return err
	}
	next := new(*f)
	if f.ClaimIndex == 0 {
		next.StepAt = m.At
	} else {
		// A claim after a claim of the same attempt follows a call whose end nobody
		// knows: a lease that lapsed, or a restart. It gets no more time, or a
		// member that comes and goes would never be replaced (G5).
		next.Unknown = true
	}
	next.ClaimIndex, next.Claimed = m.Index, true
	s.dropStaged(f.Cluster)
	s.putFailover(next, m)
	return nil
}

// claimed returns a failover whose latest claim is the given one, so that the
// result of a replaced executor, or of a claim that lapsed, counts for nothing.
func (s *State) claimed(id string, attempt, claim uint64) (*Failover, error) {
	f, err := s.current(id, attempt, Promoting)
	if err == nil && (f.ClaimIndex != claim || claim == 0 || f.Ended) {
		return nil, refuse(ErrStale, fmt.Sprintf("the claim %d of failover %s has been superseded", claim, id))
	}
	return f, err
}

// FailoverCompleted commits the switch: status, active backend of the cluster or of the
// group, epoch and every staged result in one change (G2, G6). It carries the number of
// volumes with a result, and is refused if they are not all staged.
type FailoverCompleted struct {
	Failover   string `cbor:"1,keyasint"`
	Attempt    uint64 `cbor:"2,keyasint"`
	ClaimIndex uint64 `cbor:"3,keyasint"`
	Results    uint64 `cbor:"4,keyasint,omitempty"`
}

func (FailoverCompleted) kind() Kind { return kindFailoverCompleted }

func (c FailoverCompleted) apply(s *State, m Meta) error {
	f, err := s.claimed(c.Failover, c.Attempt, c.ClaimIndex)
	if err != nil {
		return err
	}
	var results, failed uint64
	if st, ok := s.staged.Get(f.Cluster); ok {
		results, failed = uint64(st.results.Len()), st.Failed
	}
	if results != c.Results {
		return refuseField(ErrConflict, "results", fmt.Sprint(c.Results),
			fmt.Sprintf("%d results are staged, not %d", results, c.Results))
	}
	next, cl := s.copies(f)
	next.Results, next.FailedCount = results, failed
	next.Phase, next.StepAt, next.SwitchedAt, next.Error = Switching, m.At, m.At, ""
	next.nextEpoch(cl)
	s.switchTo(next, cl, m)
	if st, ok := s.staged.Get(f.Cluster); ok {
		st.Epoch = cl.Epoch
	}
	s.putCluster(cl, m)
	s.putFailover(next, m)
	return nil
}

// copies returns what a failover changes when it ends its promotion, to be edited
// and put back.
func (s *State) copies(f *Failover) (*Failover, *Cluster) {
	cl, _ := s.clusters.Get(f.Cluster)
	return new(*f), new(*cl)
}

// nextEpoch moves cl to the epoch that the claim of f leads to.
func (f *Failover) nextEpoch(cl *Cluster) {
	cl.Epoch, cl.Claim = cl.Epoch+1, f.ClaimIndex
	f.Epoch = cl.Epoch
}

// DriverRefusal is how a driver may refuse a failover: both are promises that
// nothing is promoted, or that all of it has been undone.
type DriverRefusal string

// The refusals, by the names of Cinder's exceptions.
const (
	InvalidReplicationTarget DriverRefusal = "InvalidReplicationTarget"
	UnableToFailOver         DriverRefusal = "UnableToFailOver"
)

// FailoverRefused is the executor's word that the driver refuses the failover.
// If no earlier call of this failover may have promoted something, members go on
// serving where they were; else the gates stay closed (G9). Reopened says that
// the driver has raised the token of the site in use and opened it again, so that
// members have to be told anew.
type FailoverRefused struct {
	Failover   string        `cbor:"1,keyasint"`
	Attempt    uint64        `cbor:"2,keyasint"`
	ClaimIndex uint64        `cbor:"3,keyasint"`
	Refusal    DriverRefusal `cbor:"4,keyasint"`
	Error      string        `cbor:"5,keyasint,omitempty"`
	Reopened   bool          `cbor:"6,keyasint,omitempty"`
}

func (FailoverRefused) kind() Kind { return kindFailoverRefused }

func (c FailoverRefused) apply(s *State, m Meta) error {
	f, err := s.claimed(c.Failover, c.Attempt, c.ClaimIndex)
	if err != nil {
		return err
	}
	if c.Refusal != InvalidReplicationTarget && c.Refusal != UnableToFailOver {
		allowed := []string{string(InvalidReplicationTarget), string(UnableToFailOver)}
		return refuseField(ErrInvalid, "refusal", string(c.Refusal),
			fmt.Sprintf("a driver refuses with one of %s, not %q", list(allowed), c.Refusal), allowed...)
	}
	next, cl := s.copies(f)
	if c.Reopened {
		next.nextEpoch(cl)
	}
	next.Error = c.Error
	s.fail(next, cl, c.Refusal, m)
	return nil
}

// fail ends a failover that did not switch. Both records are copies to be edited.
func (s *State) fail(f *Failover, cl *Cluster, refusal DriverRefusal, m Meta) {
	f.Phase, f.FinishedAt = Failed, m.At
	cl.hold(f)
	cl.ReplicationStatus = f.PreviousStatus
	alone := f.Group != "" && !cl.Held // nothing but the group has been tried
	switch {
	case alone && refusal == UnableToFailOver:
		s.failGroup(f, cl, m)
	case cl.Held || !alone && refusal == UnableToFailOver:
		s.failGroup(f, cl, m)
		cl.ReplicationStatus = ReplicationFailoverError
		s.disable(cl, ReasonFailoverError, m)
	}
	s.dropStaged(f.Cluster)
	s.putCluster(cl, m)
	s.putFailover(f, m)
}

// AttemptEnded says that the driver's call has ended and nobody knows what it
// promoted. Only a new attempt follows it.
type AttemptEnded struct {
	Failover   string `cbor:"1,keyasint"`
	Attempt    uint64 `cbor:"2,keyasint"`
	ClaimIndex uint64 `cbor:"3,keyasint"`
	Error      string `cbor:"4,keyasint,omitempty"`
}

func (AttemptEnded) kind() Kind { return kindAttemptEnded }

func (c AttemptEnded) apply(s *State, m Meta) error {
	f, err := s.claimed(c.Failover, c.Attempt, c.ClaimIndex)
	if err != nil {
		return err
	}
	next := new(*f)
	next.Ended, next.Unknown, next.Error, next.StepAt = true, true, c.Error, m.At
	s.putFailover(next, m)
	return nil
}

// GiveUp ends a failover that has had too many attempts, or that nobody can
// execute. Like [Assign] it loses against a claim that the leader has not seen.
type GiveUp struct {
	Failover   string `cbor:"1,keyasint"`
	Attempt    uint64 `cbor:"2,keyasint,omitempty"`
	ClaimIndex uint64 `cbor:"3,keyasint,omitempty"`
	Term       uint64 `cbor:"4,keyasint"`
	Error      string `cbor:"5,keyasint,omitempty"`
}

func (GiveUp) kind() Kind { return kindGiveUp }

func (c GiveUp) apply(s *State, m Meta) error {
	f, err := s.current(c.Failover, c.Attempt, Draining, Promoting)
	if err != nil {
		return err
	}
	if c.Term != m.Term || c.ClaimIndex != f.ClaimIndex {
		return errOvertaken
	}
	next, cl := s.copies(f)
	next.Unknown, next.Error = f.Unknown || f.ClaimIndex != 0, c.Error
	s.fail(next, cl, UnableToFailOver, m)
	return nil
}

// MemberDrained is a member's word that its gate is closed and no call runs.
type MemberDrained struct {
	Failover string `cbor:"1,keyasint"`
	Attempt  uint64 `cbor:"2,keyasint,omitempty"`
	Host     string `cbor:"3,keyasint"`
}

func (MemberDrained) kind() Kind { return kindMemberDrained }

func (c MemberDrained) apply(s *State, m Meta) error {
	f, err := s.current(c.Failover, c.Attempt, Draining)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(f.Members, func(v Member) bool { return v.Host == c.Host && v.State == MemberStateWaiting }) {
		return refuse(ErrStale, fmt.Sprintf("%q owes no drain to failover %s", c.Host, c.Failover))
	}
	next := new(*f)
	next.setMember(c.Host, MemberStateDrained, "", m)
	s.putFailover(next, m)
	return nil
}

// MemberSwitched is a member's word on how its driver took the committed site of
// Epoch. One whose driver refuses is disabled until a later report heals it.
type MemberSwitched struct {
	Host            string `cbor:"1,keyasint"`
	Epoch           uint64 `cbor:"2,keyasint"`
	ActiveBackendID string `cbor:"3,keyasint"`
	Error           string `cbor:"4,keyasint,omitempty"`
}

func (MemberSwitched) kind() Kind { return kindMemberSwitched }

func (c MemberSwitched) apply(s *State, m Meta) error {
	old, ok := s.services.Get(c.Host)
	if !ok {
		return notFound("host", "service", c.Host)
	}
	cl, ok := s.clusters.Get(old.Group())
	if !ok || cl.Epoch != c.Epoch || cl.ActiveBackendID != c.ActiveBackendID {
		return refuse(ErrStale, fmt.Sprintf("epoch %d is not the committed one", c.Epoch))
	}
	svc := new(*old)
	svc.Reported = Report{Epoch: c.Epoch, ActiveBackendID: intern(c.ActiveBackendID), Error: c.Error, At: m.At}
	switch {
	case c.Error != "" && (!svc.Disabled || ownReason(svc.DisabledReason)):
		svc.Disabled, svc.DisabledReason = true, ReasonDriverError
	case c.Error == "" && svc.DisabledReason == ReasonDriverError:
		svc.Disabled, svc.DisabledReason = cl.disablesMembers()
	}
	s.putService(svc, m)
	f, ok := s.failovers.Get(cl.Failover)
	if !ok || f.Epoch != cl.Epoch || f.Phase == Failed {
		return nil
	}
	state := MemberStateSwitched
	if c.Error != "" {
		state = MemberStateError
	}
	next := new(*f)
	next.setMember(c.Host, state, c.Error, m)
	s.putFailover(next, m)
	return nil
}
