package driverhost_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/lockstep-storage/lockstep/driverhost"
)

// driver records its calls; answers are set per call name.
type driver struct {
	mu      sync.Mutex
	calls   []string
	answer  map[string]func(context.Context) error
	results driverhost.FailoverResult
	update  driverhost.VolumeUpdate
	most    int // calls in flight at once, at most
	flying  int
}

func newDriver() *driver { return &driver{answer: map[string]func(context.Context) error{}} }

// on sets how a call answers; the context is the call's.
func (d *driver) on(call string, answer func(context.Context) error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.answer[call] = answer
}

func (d *driver) call(ctx context.Context, name, detail string) error {
	d.mu.Lock()
	d.calls = append(d.calls, strings.TrimSpace(name+" "+detail))
	answer := d.answer[name]
	d.flying++
	d.most = max(d.most, d.flying)
	d.mu.Unlock()
	defer func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.flying--
	}()
	if answer == nil {
		return nil
	}
	return answer(ctx)
}

// heard returns the calls so far.
func (d *driver) heard() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.calls)
}

func (d *driver) count(prefix string) (n int) {
	for _, c := range d.heard() {
		if strings.HasPrefix(c, prefix) {
			n++
		}
	}
	return n
}

func (d *driver) FreezeBackend(ctx context.Context, _ driverhost.Token) error {
	return d.call(ctx, "freeze", "")
}

func (d *driver) ThawBackend(ctx context.Context, _ driverhost.Token) error {
	return d.call(ctx, "thaw", "")
}

func (d *driver) CreateVolume(ctx context.Context, req driverhost.VolumeRequest) (driverhost.VolumeUpdate, error) {
	return d.update, d.call(ctx, "create", fmt.Sprintf("%s@%d", req.Volume.ID, req.Token.Epoch))
}

func (d *driver) DeleteVolume(ctx context.Context, req driverhost.VolumeRequest) error {
	return d.call(ctx, "delete", req.Volume.ID)
}

func (d *driver) ExtendVolume(ctx context.Context, req driverhost.ExtendVolumeRequest) error {
	return d.call(ctx, "extend", fmt.Sprintf("%s to %d", req.Volume.ID, req.NewSizeGiB))
}

func (d *driver) CreateSnapshot(ctx context.Context, req driverhost.SnapshotRequest) error {
	return d.call(ctx, "snapshot", req.Snapshot.ID)
}

func (d *driver) DeleteSnapshot(ctx context.Context, req driverhost.SnapshotRequest) error {
	return d.call(ctx, "unsnapshot", req.Snapshot.ID)
}

func (d *driver) ManageVolume(ctx context.Context, req driverhost.ManageVolumeRequest) (driverhost.ManagedVolume, error) {
	return driverhost.ManagedVolume{SizeGiB: 7}, d.call(ctx, "manage", fmt.Sprintf("%s as %s@%d", req.Reference, req.Volume.ID, req.Token.Epoch))
}

func (d *driver) UnmanageVolume(ctx context.Context, req driverhost.VolumeRequest) error {
	return d.call(ctx, "unmanage", req.Volume.ID)
}

func (d *driver) ManageableVolumes(ctx context.Context) ([]driverhost.Manageable, error) {
	return []driverhost.Manageable{{Reference: "lun", SizeGiB: 7}}, d.call(ctx, "manageable", "")
}

func (d *driver) RetypeVolume(ctx context.Context, req driverhost.RetypeVolumeRequest) error {
	return d.call(ctx, "retype", fmt.Sprintf("%s %v %q", req.Volume.ID, req.Replicated, req.Snapshots))
}

func (d *driver) Stats(context.Context) (driverhost.Stats, error) {
	return driverhost.Stats{TotalCapacityGiB: 7}, nil
}

func (d *driver) Close() error { return d.call(context.Background(), "close", "") }

func (d *driver) promotion(ctx context.Context, name string, req driverhost.FailoverRequest) (driverhost.FailoverResult, error) {
	err := d.call(ctx, name, fmt.Sprintf("%s to %s@%d", req.From, req.Target, req.Token.Epoch))
	if err != nil {
		return driverhost.FailoverResult{}, err
	}
	return d.results, nil
}

// activeActive is a driver for clusters, hostOnly one for services outside them.
type (
	activeActive struct{ *driver }
	planner      struct{ activeActive }
	hostOnly     struct{ *driver }
)

func (d activeActive) Failover(ctx context.Context, req driverhost.FailoverRequest) (driverhost.FailoverResult, error) {
	return d.promotion(ctx, "failover", req)
}

func (d activeActive) FailoverCompleted(ctx context.Context, req driverhost.FailoverCompletedRequest) error {
	return d.call(ctx, "completed", fmt.Sprintf("%s@%d", req.ActiveBackendID, req.Token.Epoch))
}

func (d planner) Demote(ctx context.Context, req driverhost.DemoteRequest) error {
	return d.call(ctx, "demote", fmt.Sprintf("%s for %s@%d", req.From, req.Target, req.Token.Epoch))
}

func (d hostOnly) FailoverHost(ctx context.Context, req driverhost.FailoverRequest) (driverhost.FailoverResult, error) {
	return d.promotion(ctx, "failover_host", req)
}
