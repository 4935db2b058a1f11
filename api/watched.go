package api

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/lockstep-storage/lockstep/api/auth"
)

// recheck is how long a request that waits for a change may go on after its token
// was revoked or a policy has changed. When a token ends is known beforehand.
const recheck = 5 * time.Second

// whileAllowed calls do, which may take as long as the client wants, with a context
// that ends when who asks may no longer: then the refusal is the answer, unless there
// is one already. What cannot be found out ends it, too: a new request would not be
// let in either.
func (s *Server) whileAllowed(x *exchange, policies []string, do func() error) error {
	if s.cfg.Authenticator == nil {
		return do()
	}
	whole := x.r
	defer func() { x.r = whole }()
	ctx, end := context.WithCancelCause(whole.Context())
	x.r = whole.WithContext(ctx)
	var watch sync.WaitGroup
	defer watch.Wait()
	defer end(nil)
	token, until := x.token, x.until
	watch.Go(func() { end(s.awaitRefusal(ctx, token, until, policies)) })
	return do()
}

// awaitRefusal returns why the caller may no longer do what the policies are about,
// nil when ctx ends first.
func (s *Server) awaitRefusal(ctx context.Context, token string, until time.Time, policies []string) error {
	for {
		wait := recheck
		if !until.IsZero() {
			wait = min(wait, max(0, time.Until(until)))
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
		caller, err := s.cfg.Authenticator.Authenticate(ctx, token)
		if errors.Is(err, auth.ErrUnavailable) { // or ctx has ended: then nobody asks why
			return unavailable()
		}
		if err != nil {
			return unauthorized()
		}
		if err := permitted(s.cfg.Policies(), caller.Roles, policies); err != nil {
			return err
		}
		until = caller.Until
	}
}

// refusal returns why a request that waited may no longer, nil if it may.
func (x *exchange) refusal() error {
	if f, ok := errors.AsType[*fault](context.Cause(x.r.Context())); ok {
		return f
	}
	return nil
}
