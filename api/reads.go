package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/lockstep-storage/lockstep/fsm"
)

// How long an answer waits to hear which services are up: until a leader is
// elected, or, where that need not be known, until one that there is would have
// answered.
const (
	presenceTimeout      = 2 * time.Second
	stalePresenceTimeout = 500 * time.Millisecond
)

// The answers to how fresh a read has to be.
const (
	linearizable = "linearizable"
	stale        = "stale"
)

// staleRead reports whether the request takes an answer that may be old.
func (x *exchange) staleRead() bool { return x.query.Get("consistency") == stale }

// look returns once the state here is fresh enough for the request. A stale read
// says how stale it is.
func (s *Server) look(x *exchange) error {
	switch level := x.query.Get("consistency"); level {
	case "", linearizable:
		if err := s.node.Linearize(x.r.Context()); err != nil {
			return fmt.Errorf("linearize: %w", err)
		}
		return nil
	case stale:
		s.sayHowStale(x)
		return nil
	default:
		return fieldFault("consistency", level, fmt.Sprintf("consistency %q must be %q or %q.", level, linearizable, stale), linearizable, stale)
	}
}

func (s *Server) sayHowStale(x *exchange) {
	st := s.node.Status()
	x.Header().Set("X-Lockstep-Applied-Index", strconv.FormatUint(st.AppliedIndex, 10))
	if !st.LastContact.IsZero() {
		x.Header().Set("X-Lockstep-Last-Contact", max(time.Since(st.LastContact), 0).Round(time.Millisecond).String())
	}
}

// presence returns which services are up. A stale read does without when nobody
// can say; then known is false.
func (s *Server) presence(x *exchange) (up map[string]Presence, known bool, err error) {
	timeout := presenceTimeout
	if x.staleRead() {
		timeout = stalePresenceTimeout
	}
	ctx, cancel := context.WithTimeout(x.r.Context(), timeout)
	defer cancel()
	up, err = s.node.Presence(ctx)
	switch {
	case err == nil:
		return up, true, nil
	case x.staleRead():
		return nil, false, nil
	}
	return nil, false, fmt.Errorf("presence: %w", err)
}

// maxKey is the length in bytes that an idempotency key may have.
const maxKey = 255

// identities makes the ids that a request needs: the request id that makes it
// safe to repeat, and those of the records that it creates. With an idempotency
// key they follow from the key, the user and the path, so that a repeated request
// means the same records.
type identities struct {
	scope string // empty without a key
	sum   string // of the body
}

// identities returns the source of ids of the request, whose body has been read.
func (x *exchange) identities() (identities, error) {
	key := x.r.Header.Get("Idempotency-Key")
	if len(key) > maxKey {
		return identities{}, fieldFault("Idempotency-Key", cut(key), fmt.Sprintf("Idempotency-Key must have at most %d bytes, not %d.", maxKey, len(key)))
	}
	if key == "" {
		return identities{}, nil
	}
	scope := strings.Join([]string{"lockstep", x.user, x.project, x.r.Method, x.r.URL.Path, key}, "\x00")
	return identities{scope: scope, sum: string(x.sum[:])}, nil
}

// of returns the id for a purpose.
func (i identities) of(purpose string) string {
	if i.scope == "" {
		return uuid.NewString()
	}
	return uuid.NewSHA1(uuid.NameSpaceURL, []byte(i.scope+"\x00"+purpose)).String()
}

// request returns the request id for a command about subject. It depends on the
// body: the same key with another body is another request, and refused because
// the record exists already.
func (i identities) request(subject string) string {
	return i.of("request\x00" + subject + "\x00" + i.sum)
}

// commit proposes a command about subject, and returns once the state here shows
// it.
func (s *Server) commit(x *exchange, ids identities, subject string, cmd fsm.Command) error {
	if _, err := s.node.Propose(x.r.Context(), ids.request(subject), cmd); err != nil {
		return fmt.Errorf("propose %T: %w", cmd, err)
	}
	return nil
}

// act proposes a command about subject for a request that creates no record.
func (s *Server) act(x *exchange, subject string, cmd fsm.Command) error {
	ids, err := x.identities()
	if err != nil {
		return err
	}
	return s.commit(x, ids, subject, cmd)
}

// refusedFor returns the refusal in err if it has one of the codes.
func refusedFor(err error, codes ...fsm.Code) (*fsm.Refusal, bool) {
	r, ok := errors.AsType[*fsm.Refusal](err)
	if !ok {
		return nil, false
	}
	return r, slices.Contains(codes, r.Code)
}

// badRequest returns a refusal with a message of Cinder's.
func badRequest(format string, args ...any) error {
	return newFault(http.StatusBadRequest, format, args...)
}
