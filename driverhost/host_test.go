package driverhost_test

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/lockstep-storage/lockstep/driverhost"
)

// A node without services is still a node: what runs beside its drivers would be
// stopped if they were done at once.
func TestAHostWithoutServicesRunsUntilItIsStopped(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		h, err := driverhost.New(driverhost.Config{State: w, Proposer: w, Logger: nullLogger()})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- h.Run(ctx) }()
		synctest.Wait()
		if len(ended) > 0 {
			t.Error("it has ended by itself")
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
