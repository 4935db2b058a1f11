package fsm

import (
	"errors"
	"strconv"
	"strings"
)

// Code is why a command was refused. It is the error, its name on the wire and
// its name in the log, so a caller tests it with errors.Is on whichever node the
// refusal was made. Codes are part of the API: never rename one.
type Code string

// The reasons for a refusal.
const (
	ErrInvalid     Code = "invalid"      // can never succeed
	ErrNotFound    Code = "not_found"    // names nothing that exists
	ErrExists      Code = "exists"       // names what exists already
	ErrConflict    Code = "conflict"     // not in the current state
	ErrStale       Code = "stale"        // superseded by a later decision
	ErrFailingOver Code = "failing_over" // a failover of the cluster is unfinished
	ErrFrozen      Code = "frozen"       // the cluster is frozen
	ErrDisabled    Code = "disabled"     // the cluster or service is disabled
	ErrHeld        Code = "held"         // a failed failover may have promoted something
	ErrBehind      Code = "behind"       // the driver has not been told the committed site
	ErrNotLeader   Code = "not_leader"   // ask the leader
	ErrNoLeader    Code = "no_leader"    // nobody leads; try again
	ErrTooLarge    Code = "too_large"    // over a limit of the log
	ErrNoSpace     Code = "no_space"     // a node has no space left for the log
	ErrOverQuota   Code = "over_quota"   // over a limit of the project
	ErrInternal    Code = "internal"     // a fault of Lockstep
)

// Error implements error.
func (c Code) Error() string { return strings.ReplaceAll(string(c), "_", " ") }

// CodeOf returns the code that err wraps, or [ErrInternal].
func CodeOf(err error) Code {
	if c, ok := errors.AsType[Code](err); ok {
		return c
	}
	return ErrInternal
}

// Refusal is the answer of [State.Apply] to a command that changes nothing: a
// code for programs, a sentence for people, and where one field is at fault its
// name, its value and what would be allowed.
type Refusal struct {
	Code    Code     `cbor:"1,keyasint" json:"code"`
	Message string   `cbor:"2,keyasint,omitempty" json:"message,omitempty"`
	Field   string   `cbor:"3,keyasint,omitempty" json:"field,omitempty"`
	Value   string   `cbor:"4,keyasint,omitempty" json:"value,omitempty"`
	Allowed []string `cbor:"5,keyasint,omitempty" json:"allowed,omitempty"`
}

// Error implements error.
func (r *Refusal) Error() string { return r.Message }

// Unwrap makes errors.Is(err, code) true.
func (r *Refusal) Unwrap() error { return r.Code }

func refuse(code Code, message string) error {
	return &Refusal{Code: code, Message: message}
}

func refuseField(code Code, field, value, message string, allowed ...string) error {
	return &Refusal{Code: code, Message: message, Field: field, Value: value, Allowed: allowed}
}

// list names what is allowed, for people.
func list(names []string) string {
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = strconv.Quote(n)
	}
	return strings.Join(quoted, ", ")
}
