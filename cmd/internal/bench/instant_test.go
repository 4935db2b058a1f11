package bench_test

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/lockstep-storage/lockstep/driverhost"
)

// instant is a driver of a storage that does everything at once, but for what a
// measurement has it hold.
type instant struct {
	dir string
}

// The calls that a driver can be held in, by a file of that name.
const (
	holdCreate    = "hold-create" // however often it is cancelled, as a storage may
	holdFailover  = "hold-failover"
	holdCompleted = "hold-completed"
)

// hold does not return while the file is there and ctx has not ended.
func (i instant) hold(ctx context.Context, name string) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := os.Stat(filepath.Join(i.dir, name)); err != nil {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

var _ driverhost.ActiveActive = instant{}

func (i instant) Failover(ctx context.Context, _ driverhost.FailoverRequest) (driverhost.FailoverResult, error) {
	i.hold(ctx, holdFailover)
	return driverhost.FailoverResult{}, nil
}

func (i instant) FailoverCompleted(ctx context.Context, _ driverhost.FailoverCompletedRequest) error {
	i.hold(ctx, holdCompleted)
	return nil
}
func (instant) FreezeBackend(context.Context, driverhost.Token) error { return nil }
func (instant) ThawBackend(context.Context, driverhost.Token) error   { return nil }

func (i instant) CreateVolume(ctx context.Context, _ driverhost.VolumeRequest) (driverhost.VolumeUpdate, error) {
	i.hold(context.WithoutCancel(ctx), holdCreate)
	return driverhost.VolumeUpdate{}, nil
}
func (instant) DeleteVolume(context.Context, driverhost.VolumeRequest) error       { return nil }
func (instant) ExtendVolume(context.Context, driverhost.ExtendVolumeRequest) error { return nil }
func (instant) CreateSnapshot(context.Context, driverhost.SnapshotRequest) error   { return nil }
func (instant) DeleteSnapshot(context.Context, driverhost.SnapshotRequest) error   { return nil }
func (instant) Stats(context.Context) (driverhost.Stats, error) {
	return driverhost.Stats{At: time.Now()}, nil
}
func (instant) Close() error { return nil }
