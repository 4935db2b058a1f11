package fsm

// TaskKind is what a member owes in the course of a failover or freeze.
type TaskKind uint8

// The tasks of a member.
const (
	TaskDrain   TaskKind = iota + 1 // let running calls end, then report MemberDrained
	TaskPromote                     // claim the attempt, call driver.Failover, report
	TaskSwitch                      // call driver.FailoverCompleted, report MemberSwitched
	TaskFreeze                      // call driver.FreezeBackend, report FreezeReported
	TaskThaw                        // call driver.ThawBackend, report FreezeReported
)

// Task is one thing that a member owes. Tasks are comparable, so that a worker
// can tell whether the one it is doing is still wanted.
type Task struct {
	Kind     TaskKind
	Host     string
	Cluster  string
	Failover string // of a drain or a promotion
	Attempt  uint64 // of a drain or a promotion
	Group    string // that a promotion is about alone
	From     string // of a promotion
	Target   string // of a promotion, or the site to switch to
	Mode     Mode   // of a promotion
	Epoch    uint64 // a promotion leads to it; a switch is about it
	Claim    uint64 // of the committed epoch, for a switch
}

// Todo returns what a service owes now, if anything. Told is the epoch that its
// running driver was last told: zero for a driver just started, so that it learns
// the committed site although its predecessor had already reported it. Todo
// depends on nothing else, so it gives the same answer after a snapshot was
// installed, or when ten changes were seen as one.
//
// While a failover drains or promotes, nothing is owed but the drain and the
// promotion: a driver that starts in the middle is told only afterwards.
func (s *State) Todo(host string, told uint64) (Task, bool) {
	svc, ok := s.services.Get(host)
	if !ok {
		return Task{}, false
	}
	cl, ok := s.clusters.Get(svc.Group())
	if !ok {
		return Task{}, false
	}
	if f, ok := s.unfinished(cl.Name); ok && f.Phase != Switching {
		return f.todo(cl, host)
	}
	t := Task{Host: host, Cluster: cl.Name, Target: cl.ActiveBackendID, Epoch: cl.Epoch, Claim: cl.Claim}
	switch {
	case cl.Held:
		return Task{}, false
	case told != cl.Epoch || svc.Reported.Epoch != cl.Epoch || svc.Reported.Error != "":
		t.Kind = TaskSwitch
	case s.owesFreeze(cl, host) && cl.Frozen:
		t.Kind = TaskFreeze
	case s.owesFreeze(cl, host):
		t.Kind = TaskThaw
	default:
		return Task{}, false
	}
	return t, true
}

// todo is what a member owes before the switch is committed.
func (f *Failover) todo(cl *Cluster, host string) (Task, bool) {
	t := Task{Host: host, Cluster: cl.Name, Failover: f.ID, Attempt: f.Attempt}
	if f.Phase == Draining {
		for _, member := range f.Members {
			if member.Host == host && member.State == MemberStateWaiting {
				t.Kind = TaskDrain
				return t, true
			}
		}
		return Task{}, false
	}
	if f.Executor != host || f.Ended {
		return Task{}, false
	}
	t.Kind, t.Group, t.From, t.Target, t.Mode, t.Epoch = TaskPromote, f.Group, f.From, f.Target, f.Mode, cl.Epoch+1
	return t, true
}

// Call is a kind of driver call that passes the gate.
type Call uint8

// The kinds of calls.
const (
	CallVolume Call = iota + 1 // creates, deletes, grows or takes a snapshot of something
	CallFreeze                 // tells the driver of a freeze or thaw
	CallLook                   // reads what is at the site in use, and changes nothing
)

// Admit is what the gate asks of the state, each time, since a gate that
// remembered being open could be wrong: may the driver of host, whose running
// process was last told the epoch told, make this call now? The error says why
// not. The lease is the gate's own business.
func (s *State) Admit(host string, told uint64, call Call) error {
	svc, ok := s.services.Get(host)
	if !ok {
		return ErrNotFound
	}
	cl, ok := s.clusters.Get(svc.Group())
	if !ok {
		return ErrNotFound
	}
	if f, ok := s.unfinished(cl.Name); ok && f.Phase != Switching {
		return ErrFailingOver
	}
	switch {
	case cl.Held:
		return ErrHeld
	case told != cl.Epoch:
		return ErrBehind
	case cl.Frozen && call == CallVolume:
		return ErrFrozen
	}
	return nil
}
