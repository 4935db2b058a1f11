package fsm

import (
	"errors"
	"time"
)

// Time is a wall-clock time in microseconds since the Unix epoch. It comes from
// the node that accepted a request and is for people: no rule but the pacing of
// retries depends on it.
type Time int64

// TimeOf converts t, dropping what is below a microsecond.
func TimeOf(t time.Time) Time { return Time(t.UnixMicro()) }

// Time converts t to UTC; the zero Time becomes the zero [time.Time].
func (t Time) Time() time.Time {
	if t == 0 {
		return time.Time{}
	}
	return time.UnixMicro(int64(t)).UTC()
}

// Sub returns t-o.
func (t Time) Sub(o Time) time.Duration { return time.Duration(t-o) * time.Microsecond }

// Meta is what a log entry says beside its command.
type Meta struct {
	Index   uint64 // of the entry
	Term    uint64 // of the entry
	Request string // idempotent request id; empty for commands that are compare-and-set
	At      Time   // when the command was accepted
}

// Command is one change to the state. The set is closed: only this package can
// add to it, and each member says here, beside its fields, when it is refused.
type Command interface {
	kind() Kind
	apply(s *State, m Meta) error
}

// Grows reports whether cmd asks for something new that is to be kept: it is
// refused first when space runs out. Failovers, reports and deletions are not.
func Grows(cmd Command) bool {
	switch cmd.(type) {
	case CreateVolume, ExtendVolume, ManageVolume, CreateSnapshot, CreateVolumeType, CreateGroupType, CreateGroup:
		return true
	}
	return false
}

// maxRequests is how many outcomes are remembered for repeated request ids. A
// client repeats a request within seconds; this is minutes of the heaviest load.
const maxRequests = 1 << 14

// outcome is what became of a request.
type outcome struct {
	Index   uint64   `cbor:"1,keyasint"`
	Refusal *Refusal `cbor:"2,keyasint,omitempty"`
}

// Apply commits cmd. A non-nil error wraps a [Code] and means that nothing but
// the index has changed. A request id that was applied before changes nothing
// and is answered as it was the first time.
func (s *State) Apply(m Meta, cmd Command) error {
	s.index = m.Index
	if m.Request == "" {
		return cmd.apply(s, m)
	}
	if o, seen := s.requests.Get(m.Request); seen {
		if o.Refusal != nil {
			return o.Refusal
		}
		return nil
	}
	err := cmd.apply(s, m)
	o := outcome{Index: m.Index}
	if err != nil && !errors.As(err, &o.Refusal) {
		o.Refusal = &Refusal{Code: CodeOf(err), Message: err.Error()}
	}
	s.requests.Set(m.Request, o)
	s.requestOrder.Set(m.Index, m.Request)
	if s.requestOrder.Len() > maxRequests {
		_, oldest, _ := s.requestOrder.PopMin()
		s.requests.Delete(oldest)
	}
	return err
}

// RequestIndex returns the log index at which a request id was first applied.
func (s *State) RequestIndex(request string) (uint64, bool) {
	o, ok := s.requests.Get(request)
	return o.Index, ok
}
