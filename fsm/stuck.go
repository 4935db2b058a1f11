package fsm

import "fmt"

// ReportStuck is a member's word that processes of its driver cannot be ended, so that
// they may work on the storage whatever becomes of its lease; or that they have ended
// after all. Repeating it is harmless.
//
// Nothing is decided as if such a member were gone or drained: no attempt of a failover
// begins, and what it owes stays with it. Once its node is surely off, deleting the
// service ends that.
type ReportStuck struct {
	Host  string `cbor:"1,keyasint"`
	Stuck bool   `cbor:"2,keyasint,omitempty"`
}

func (ReportStuck) kind() Kind { return kindReportStuck }

func (c ReportStuck) apply(s *State, m Meta) error {
	old, ok := s.services.Get(c.Host)
	if !ok {
		return notFound("host", "service", c.Host)
	}
	if old.Stuck == c.Stuck {
		return nil
	}
	svc := new(*old)
	svc.Stuck = c.Stuck
	s.putService(svc, m)
	return nil
}

// stuck returns the first member of a cluster whose driver cannot be ended.
func (s *State) stuck(cluster string) (Service, bool) {
	for svc := range s.Members(cluster) {
		if svc.Stuck {
			return svc, true
		}
	}
	return Service{}, false
}

// refuseStuck refuses what would let another member work on the storage.
func (s *State) refuseStuck(cluster string) error {
	svc, ok := s.stuck(cluster)
	if !ok {
		return nil
	}
	return refuseField(ErrConflict, "host", svc.Host, svc.stuckMessage())
}

// StuckReason says, for people, what a member whose driver is stuck needs; it is empty
// for others.
func (v *Service) StuckReason() string {
	if !v.Stuck {
		return ""
	}
	return v.stuckMessage()
}

// stuckMessage says what has happened and what to do, in this order: a node that is on
// must not be removed.
func (v *Service) stuckMessage() string {
	return fmt.Sprintf("processes of the driver of %s cannot be ended and may still work on the storage: "+
		"power off %s, then remove it from the deployment (lockstep peers remove %[2]s) and fail over again", v.Host, v.Node)
}

// planStuck decides on a failover with a member that is stuck; decided is false if that
// does not matter now. It waits for as long as a member may take to drain, since a
// process may end after all, and then gives up (G5).
func (s *State) planStuck(f *Failover, o Observation) (cmd Command, decided bool) {
	svc, ok := s.stuck(f.Cluster)
	atWork := f.Phase == Promoting && f.ClaimIndex != 0 && !f.Ended && !o.Gone[f.Executor]
	if !ok || atWork || f.Phase == Switching {
		return nil, false
	}
	if o.lasted(f) < o.Limits.Drain {
		return nil, true
	}
	return GiveUp{Failover: f.ID, Attempt: f.Attempt, ClaimIndex: f.ClaimIndex, Term: o.Term, Error: svc.stuckMessage()}, true
}
