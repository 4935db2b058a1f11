package clustertest

import (
	"context"
	"errors"
	"hash/fnv"
	"sync"
	"time"

	"github.com/lockstep-storage/lockstep/driverhost"
)

// driver is one running driver process of an array. It knows nothing after it was
// opened again, holds a lock while it lives, and tests right before each request
// to the storage that it may still make it. When its agent dies it exits, soon or,
// as an orphan, only when the deadline of its lease passes.
type driver struct {
	array *Array
	host  string
	agent *process
	gone  chan struct{} // closed when the process has exited
	exit  func()
}

var (
	_ driverhost.ActiveActive = (*driver)(nil)
	_ driverhost.Demoter      = (*driver)(nil)
	_ driverhost.GroupMover   = (*driver)(nil)

	errBroken  = errors.New("connection to the array lost")
	errRefused = errors.New("the array says no")
)

// opener opens drivers for the services of one node's process.
func (a *Array) opener(agent *process) driverhost.Opener {
	return func(ctx context.Context, req driverhost.OpenRequest) (driverhost.Driver, error) {
		if !agent.runs() {
			return nil, errKilled
		}
		d := &driver{array: a, host: req.Host, agent: agent, gone: make(chan struct{})}
		d.exit = sync.OnceFunc(func() {
			a.mu.Lock()
			defer a.mu.Unlock()
			if a.drivers[req.Host] == d {
				delete(a.drivers, req.Host)
			}
			close(d.gone)
		})
		for !a.lock(d, req.ActiveBackendID) { // an orphan holds it
			select {
			case <-a.owner(req.Host):
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
		}
		return d, nil
	}
}

// lock takes the lock of the host's drivers.
func (a *Array) lock(d *driver, site string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.drivers[d.host] != nil {
		a.stats.Add("driver: waits for an orphan", 1)
		return false
	}
	a.drivers[d.host] = d
	a.switches[d.host], a.sites[d.host] = 0, site
	return true
}

// owner tells when the driver that holds the lock has exited.
func (a *Array) owner(host string) <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	if d := a.drivers[host]; d != nil {
		return d.gone
	}
	exited := make(chan struct{})
	close(exited)
	return exited
}

// orphan is what becomes of a driver whose agent has died: it exits after a while.
func (d *driver) orphan(after time.Duration) { time.AfterFunc(after, d.exit) }

// Close implements [io.Closer].
func (d *driver) Close() error {
	if d.agent.lives() {
		d.exit()
	}
	return nil
}

// during makes a call: it waits as long as the storage takes, and then has the
// effect, unless the call is no longer wanted.
func (d *driver) during(ctx context.Context, c *call, wait time.Duration) error {
	if err := d.mayAsk(ctx); err != nil {
		return err
	}
	c.driver, c.host = d, d.host
	d.array.enter(c)
	defer d.array.leave(c)
	return d.work(ctx, wait)
}

// mayAsk is tested right before a request to the storage.
func (d *driver) mayAsk(ctx context.Context) error {
	if !d.agent.runs() {
		return errKilled
	}
	return context.Cause(ctx)
}

// work waits for the storage. A call that is cancelled ends a while later; one
// whose agent has died when its process exits.
func (d *driver) work(ctx context.Context, wait time.Duration) error {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		if !d.agent.machineStopped() {
			return nil
		}
		return d.mayAsk(ctx) // it wakes, and looks whether it may go on
	case <-d.gone:
		return errKilled
	case <-ctx.Done():
	}
	if !d.agent.lives() {
		<-d.gone
		return errKilled
	}
	select {
	case <-time.After(d.array.patience()):
	case <-d.gone:
	}
	return context.Cause(ctx)
}

func (a *Array) patience() time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.letGo
}

func (d *driver) Failover(ctx context.Context, req driverhost.FailoverRequest) (driverhost.FailoverResult, error) {
	var none driverhost.FailoverResult
	b, slow := d.array.behaviour()
	if b == Hang {
		slow = time.Hour
	}
	if err := d.mayAsk(ctx); err != nil {
		return none, err
	}
	c := &call{driver: d, host: d.host, kind: promoteCall, epoch: req.Token.Epoch, claim: req.Token.Claim}
	d.array.enter(c)
	defer d.array.leave(c)
	err := d.work(ctx, slow)
	switch {
	case b == LateButYes && err != nil && d.agent.lives():
		d.array.promote(req)
		return none, nil
	case err != nil:
		return none, err
	case b == Refuse:
		d.array.withdraw(req.Token.Epoch)
		return none, driverhost.ErrUnableToFailOver
	case b == Invalid:
		d.array.withdraw(req.Token.Epoch)
		return none, driverhost.ErrInvalidReplicationTarget
	}
	d.array.promote(req)
	if b == Break {
		return none, errBroken
	}
	if b == SomeFail {
		return d.someFail(req), nil
	}
	return none, nil
}

// MovesGroups implements [driverhost.GroupMover].
func (d *driver) MovesGroups() bool { return true }

// someFail reports about half of the volumes failed.
func (d *driver) someFail(req driverhost.FailoverRequest) (result driverhost.FailoverResult) {
	var failed []string
	for _, v := range req.Volumes {
		h := fnv.New32a()
		_, _ = h.Write([]byte(v.ID))
		if bad := h.Sum32()%2 == 0; bad {
			failed = append(failed, v.ID)
			result.Volumes = append(result.Volumes, driverhost.VolumeResult{VolumeID: v.ID, Failed: true, Error: "not in sync"})
		}
	}
	d.array.stats.Add("promotion: volumes failed", len(failed))
	d.array.reportFailed(req.Token.Claim, failed)
	return result
}

func (d *driver) Demote(ctx context.Context, req driverhost.DemoteRequest) error {
	return d.during(ctx, &call{kind: promoteCall, epoch: req.Token.Epoch, claim: req.Token.Claim}, d.array.opTime)
}

func (d *driver) FailoverCompleted(ctx context.Context, req driverhost.FailoverCompletedRequest) error {
	if err := d.mayAsk(ctx); err != nil {
		return err
	}
	c := &call{driver: d, host: d.host, kind: switchCall, epoch: req.Token.Epoch, claim: req.Token.Claim}
	d.array.enter(c)
	defer d.array.leave(c)
	for {
		if err := d.work(ctx, time.Millisecond); err != nil {
			return err
		}
		if !d.array.isStuck(d.host) {
			break
		}
	}
	d.array.mu.Lock()
	defer d.array.mu.Unlock()
	if err := d.array.refuse[d.host]; err != nil {
		return err
	}
	d.array.switches[d.host], d.array.sites[d.host] = req.Token.Epoch, req.ActiveBackendID
	return nil
}

// volume makes an ordinary call.
func (d *driver) volume(ctx context.Context, token driverhost.Token, v driverhost.Volume) error {
	wait, answer := d.array.mood(d.host)
	c := &call{kind: volumeCall, epoch: token.Epoch, claim: token.Claim, group: v.Group, site: v.Site}
	if err := d.during(ctx, c, wait); err != nil {
		return err
	}
	return answer
}

// mood is how long a volume call takes, and how it ends.
func (a *Array) mood(host string) (wait time.Duration, answer error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.stuck[host]:
		return time.Hour, nil
	case a.rnd == nil:
		return a.opTime, nil
	}
	switch a.rnd.IntN(6) {
	case 0:
		a.stats.Add("driver: volume call fails", 1)
		return a.opTime, errRefused
	case 1:
		a.stats.Add("driver: volume call hangs", 1)
		return 10 * time.Second, nil
	case 2, 3:
		a.stats.Add("driver: volume call is slow", 1)
		return time.Duration(a.rnd.Int64N(int64(3 * time.Second))), nil
	}
	return a.opTime, nil
}

func (d *driver) FreezeBackend(ctx context.Context, token driverhost.Token) error {
	return d.freeze(ctx, token, "freeze")
}

func (d *driver) ThawBackend(ctx context.Context, token driverhost.Token) error {
	return d.freeze(ctx, token, "thaw")
}

func (d *driver) freeze(ctx context.Context, token driverhost.Token, what string) error {
	if err := d.during(ctx, &call{kind: freezeCall, epoch: token.Epoch, claim: token.Claim}, time.Millisecond); err != nil {
		return err
	}
	d.array.mu.Lock()
	defer d.array.mu.Unlock()
	d.array.freezes = append(d.array.freezes, what)
	return nil
}

func (d *driver) CreateVolume(ctx context.Context, req driverhost.VolumeRequest) (driverhost.VolumeUpdate, error) {
	return driverhost.VolumeUpdate{ProviderID: d.host}, d.volume(ctx, req.Token, req.Volume)
}

func (d *driver) DeleteVolume(ctx context.Context, req driverhost.VolumeRequest) error {
	return d.volume(ctx, req.Token, req.Volume)
}

func (d *driver) ExtendVolume(ctx context.Context, req driverhost.ExtendVolumeRequest) error {
	return d.volume(ctx, req.Token, req.Volume)
}

func (d *driver) CreateSnapshot(ctx context.Context, req driverhost.SnapshotRequest) error {
	return d.volume(ctx, req.Token, req.Snapshot.Volume)
}

func (d *driver) DeleteSnapshot(ctx context.Context, req driverhost.SnapshotRequest) error {
	return d.volume(ctx, req.Token, req.Snapshot.Volume)
}

func (d *driver) Stats(context.Context) (driverhost.Stats, error) { return driverhost.Stats{}, nil }
