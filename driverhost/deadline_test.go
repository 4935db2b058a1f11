package driverhost_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/lockstep-storage/lockstep/driverhost"
)

// until is a deadline that nobody renews.
type until time.Duration

func (u until) Deadline() (time.Duration, <-chan struct{}) { return time.Duration(u), nil }

// In a process that was stopped the context of a call may go on for a moment after its
// lease, so the clock is asked too.
func TestG4_AllowedAsksTheClockOfTheLease(t *testing.T) {
	t.Parallel()
	now, err := driverhost.BootTime()
	if err != nil {
		t.Fatal(err)
	}
	gone := errors.New("nobody wants it any more")
	cancelled, cancel := context.WithCancelCause(t.Context())
	cancel(gone)
	later := until(now + time.Hour)
	for name, tc := range map[string]struct {
		ctx  context.Context //nolint:containedctx // what is asked
		want error
	}{
		"the lease goes on":              {driverhost.WithDeadline(t.Context(), later), nil},
		"the lease has ended":            {driverhost.WithDeadline(t.Context(), until(now)), driverhost.ErrLeaseEnded},
		"there is no lease":              {driverhost.WithDeadline(t.Context(), until(0)), driverhost.ErrLeaseEnded},
		"the call was cancelled":         {driverhost.WithDeadline(cancelled, later), gone},
		"it was cancelled, and it ended": {driverhost.WithDeadline(cancelled, until(now)), gone},
		"outside any lease":              {t.Context(), nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := driverhost.Allowed(tc.ctx); !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
		})
	}
}
