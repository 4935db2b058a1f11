package bench_test

import (
	"context"
	"time"

	"github.com/lockstep-storage/lockstep/driverhost"
)

// instant is a driver of a storage that does everything at once.
type instant struct{}

var _ driverhost.ActiveActive = instant{}

func openInstant(context.Context, driverhost.OpenRequest) (driverhost.Driver, error) {
	return instant{}, nil
}

func (instant) Failover(context.Context, driverhost.FailoverRequest) (driverhost.FailoverResult, error) {
	return driverhost.FailoverResult{}, nil
}

func (instant) FailoverCompleted(context.Context, driverhost.FailoverCompletedRequest) error {
	return nil
}
func (instant) FreezeBackend(context.Context, driverhost.Token) error { return nil }
func (instant) ThawBackend(context.Context, driverhost.Token) error   { return nil }

func (instant) CreateVolume(context.Context, driverhost.VolumeRequest) (driverhost.VolumeUpdate, error) {
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
