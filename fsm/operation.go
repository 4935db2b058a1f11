package fsm

import (
	"fmt"
)

// OperationKind is the driver call that an operation is about.
type OperationKind uint8

// The operations. Values are stored: append only.
const (
	OpCreateVolume OperationKind = iota + 1
	OpDeleteVolume
	OpExtendVolume
	OpCreateSnapshot
	OpDeleteSnapshot
	OpManageVolume
	OpUnmanageVolume
	OpRetypeVolume
)

// Operation is one driver call on a volume or snapshot that a member owes. It is
// kept until a report commits its end, so that it survives any crash, and is made
// again if the end is not known: drivers' calls are idempotent.
type Operation struct {
	ID         uint64        `cbor:"1,keyasint"` // log index of the request; see oweNth
	Kind       OperationKind `cbor:"2,keyasint"`
	Cluster    string        `cbor:"3,keyasint"`
	Host       string        `cbor:"4,keyasint"` // the member that owes it
	VolumeID   string        `cbor:"5,keyasint"`
	SnapshotID string        `cbor:"6,keyasint,omitempty"`
	Size       int64         `cbor:"7,keyasint,omitempty"`  // GiB that a volume is to be extended to
	Snapshots  []string      `cbor:"8,keyasint,omitempty"`  // that are deleted before their volume, or retyped with it
	VolumeType string        `cbor:"9,keyasint,omitempty"`  // that a volume is to get, by name
	Replicated bool          `cbor:"10,keyasint,omitempty"` // whether volumes of that type are replicated
}

// owe records a new operation.
func (s *State) owe(op *Operation, m Meta) { s.oweNth(op, 0, m) }

// maxIndexBits is how many bits a log index has at most: a million entries a second
// would take half a year to need more. The bits above number the operations of one
// entry.
const maxIndexBits = 44

// oweNth records one of several operations that an entry asks for, each with a number
// of its own.
func (s *State) oweNth(op *Operation, n int, m Meta) {
	op.ID = m.Index | uint64(n)<<maxIndexBits //nolint:gosec // not negative
	s.operations.Set(op.ID, op)
	s.owed.Set(under(op.Host, indexKey(op.ID)), op.ID)
}

func (s *State) dropOperation(op *Operation) {
	s.operations.Delete(op.ID)
	s.owed.Delete(under(op.Host, indexKey(op.ID)))
}

// Owed returns the oldest operations that a member owes, at most limit of them.
func (s *State) Owed(host string, limit int) []Operation {
	var ops []Operation
	eachUnder(&s.owed, host, func(_ string, id uint64) bool {
		if op, ok := s.operations.Get(id); ok {
			ops = append(ops, *op)
		}
		return len(ops) < limit
	})
	return ops
}

func (s *State) owesAny(host string) bool {
	any := false
	eachUnder(&s.owed, host, func(string, uint64) bool { any = true; return false })
	return any
}

// Owes reports whether a member still owes an operation.
func (s *State) Owes(host string, operation uint64) bool {
	op, ok := s.operations.Get(operation)
	return ok && op.Host == host
}

// EndOperation is a member's word on how the driver's call ended. Epoch is the
// one under which the call began: the end of a call from before a switch counts
// for nothing, and the operation is made again at the new site. So does one that
// arrives while a failover promotes, since the executor may have asked already
// which volumes there are.
type EndOperation struct {
	Operation uint64       `cbor:"1,keyasint"`
	Host      string       `cbor:"2,keyasint"`
	Epoch     uint64       `cbor:"3,keyasint"`
	Error     string       `cbor:"4,keyasint,omitempty"`
	Update    VolumeUpdate `cbor:"5,keyasint,omitempty"`
	Size      int64        `cbor:"6,keyasint,omitempty"` // GiB of a volume that was adopted
}

func (EndOperation) kind() Kind { return kindEndOperation }

func (c EndOperation) apply(s *State, m Meta) error {
	op, ok := s.operations.Get(c.Operation)
	if !ok || op.Host != c.Host {
		return refuse(ErrStale, fmt.Sprintf("%q no longer owes operation %d", c.Host, c.Operation))
	}
	cl, ok := s.clusters.Get(op.Cluster)
	if !ok || cl.Epoch != c.Epoch {
		return refuse(ErrStale, fmt.Sprintf("operation %d began in epoch %d, which is over", c.Operation, c.Epoch))
	}
	if f, ok := s.unfinished(op.Cluster); ok && f.Phase == Promoting {
		return refuse(ErrStale, fmt.Sprintf("operation %d is to be made again: failover %s is promoting", c.Operation, f.ID))
	}
	s.dropOperation(op)
	c.end(s, op, cl, m)
	return nil
}

// end commits the end of an operation that is owed no more.
func (c EndOperation) end(s *State, op *Operation, cl *Cluster, m Meta) {
	switch op.Kind {
	case OpCreateVolume, OpDeleteVolume, OpExtendVolume, OpManageVolume, OpUnmanageVolume, OpRetypeVolume:
		c.endVolume(s, op, cl, m)
	case OpCreateSnapshot, OpDeleteSnapshot:
		c.endSnapshot(s, op, m)
	}
}

func (c EndOperation) endVolume(s *State, op *Operation, cl *Cluster, m Meta) {
	v, _, err := s.editVolume(op.VolumeID)
	if err != nil {
		return
	}
	before := v.PreviousStatus
	v.PreviousStatus = ""
	switch op.Kind {
	case OpDeleteVolume, OpUnmanageVolume:
		if c.Error == "" {
			s.dropWith(op, v)
			return
		}
		v.Status = StatusErrorDeleting
		s.volumeStays(v, m)
	case OpExtendVolume:
		c.endExtend(op, v, before)
	case OpRetypeVolume:
		c.endRetype(s, op, v, before, cl)
	case OpManageVolume:
		c.endManage(s, v, cl)
	case OpCreateVolume, OpCreateSnapshot, OpDeleteSnapshot: // snapshots do not come here
		c.endCreate(v, cl)
	}
	v.update(c.Update)
	s.putVolume(v, m)
}

func (c EndOperation) endCreate(v *Volume, cl *Cluster) {
	v.Status = StatusAvailable
	if c.Error != "" {
		v.Status = StatusError
	}
	v.FailedEpoch = 0
	if !v.Replicated {
		v.BackendID = intern(cl.ActiveBackendID)
	}
}

func (c EndOperation) endExtend(op *Operation, v *Volume, before VolumeStatus) {
	switch {
	case c.Error != "":
		v.Status = StatusErrorExtending
	case before == StatusInUse:
		v.Status, v.Size = StatusInUse, op.Size
	default:
		v.Status, v.Size = StatusAvailable, op.Size
	}
}

// dropWith drops a volume that was deleted, with its attachments and the snapshots
// that were deleted with it.
func (s *State) dropWith(op *Operation, v *Volume) {
	for _, id := range op.Snapshots {
		if sn, ok := s.snapshots.Get(id); ok && sn.VolumeID == v.ID {
			s.dropSnapshot(sn)
		}
	}
	for _, a := range s.Attachments(v.ID) {
		s.dropAttachment(&a)
	}
	s.dropVolume(v)
}

func (c EndOperation) endSnapshot(s *State, op *Operation, m Meta) {
	old, ok := s.snapshots.Get(op.SnapshotID)
	if !ok {
		return
	}
	sn := new(*old)
	sn.Nominal = false
	switch {
	case op.Kind == OpDeleteSnapshot && c.Error == "":
		s.dropSnapshot(sn)
		return
	case op.Kind == OpDeleteSnapshot:
		sn.Status = StatusErrorDeleting
	case c.Error != "":
		sn.Status = StatusError
	default:
		sn.Status = StatusAvailable
	}
	s.putSnapshot(sn, m)
}

// abandon ends with an error what a service owes that nobody else can do.
func (s *State) abandon(host string, m Meta) {
	c := EndOperation{Error: "its service is gone"}
	for s.owesAny(host) {
		for _, op := range s.Owed(host, maxMoved) {
			s.dropOperation(&op)
			if cl, ok := s.clusters.Get(op.Cluster); ok {
				c.end(s, &op, cl, m)
			}
		}
	}
}

// maxMoved bounds what one command moves, so that no apply is long.
const maxMoved = 1000

// MoveOperations gives what a lost member owes to another one, a bounded number
// at a time.
type MoveOperations struct {
	From string `cbor:"1,keyasint"`
	To   string `cbor:"2,keyasint"`
	Term uint64 `cbor:"3,keyasint"`
}

func (MoveOperations) kind() Kind { return kindMoveOperations }

func (c MoveOperations) apply(s *State, m Meta) error {
	to, ok := s.services.Get(c.To)
	if !ok || c.Term != m.Term || c.From == c.To {
		return errOvertaken
	}
	if from, ok := s.services.Get(c.From); ok && from.Stuck {
		return errOvertaken // it may still be at work
	}
	for _, op := range s.Owed(c.From, maxMoved) {
		if op.Cluster != to.Group() {
			continue
		}
		s.dropOperation(&op)
		moved := op
		moved.Host = to.Host
		s.operations.Set(moved.ID, &moved)
		s.owed.Set(under(moved.Host, indexKey(moved.ID)), moved.ID)
	}
	if cl, ok := s.clusters.Get(to.Group()); ok && s.owesFreeze(cl, c.From) {
		next := new(*cl)
		next.FreezeOwner = to.Host
		s.putCluster(next, m)
	}
	return nil
}
