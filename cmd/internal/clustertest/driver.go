package clustertest

import (
	"context"
	"errors"
	"hash/fnv"
	"sync"
	"time"

	"github.com/lockstep-storage/lockstep/driverhost"
)

// driver is one running driver process of an array: see life.go for how it ends. It
// knows nothing after it was opened again.
type driver struct {
	array  *Array
	host   string
	agent  *process
	lease  driverhost.Deadline
	report func(stuck bool) // tells the agent's worker whether the process cannot be ended

	late   lateness      // guarded by Array.mu
	killed chan struct{} // closed when it is made to end
	gone   chan struct{} // closed when nothing is left of the process
	kill   func()
	exit   func()

	mu    sync.Mutex
	held  *grant        // the lease that the process knows of
	wedge chan struct{} // closed when the kernel lets go of the process; nil unless it holds it
}

var (
	_ driverhost.ActiveActive = (*driver)(nil)
	_ driverhost.Process      = (*driver)(nil)
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
		d := &driver{array: a, host: req.Host, agent: agent, lease: req.Lease, report: req.OnStuck, killed: make(chan struct{}), gone: make(chan struct{})}
		d.kill = sync.OnceFunc(func() { close(d.killed) })
		d.exit = sync.OnceFunc(func() { a.unlock(d) })
		if err := d.awaitPredecessor(ctx, req.ActiveBackendID); err != nil {
			return nil, err
		}
		until, _ := req.Lease.Deadline()
		if _, err := d.extend(until); err != nil {
			d.exit()
			return nil, err
		}
		a.processes.Go(d.live)
		return d, nil
	}
}

// awaitPredecessor takes the lock on the service. What holds it may be a driver that
// outlived its agent.
func (d *driver) awaitPredecessor(ctx context.Context, site string) error {
	patience := time.NewTimer(killAfter() + reapWithin())
	defer patience.Stop()
	stuck := false
	for !d.array.lock(d, site) {
		select {
		case <-d.array.owner(d.host):
		case <-patience.C:
			stuck = true
			d.array.toReport(d.array.driver(d.host), d.agent)
			d.report(true)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if stuck {
		d.report(false)
	}
	return nil
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

// unlock is the end of a driver's process: nothing holds its lock any more.
func (a *Array) unlock(d *driver) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.drivers[d.host] == d {
		delete(a.drivers, d.host)
	}
	close(d.gone)
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

// Close implements [io.Closer]. Like the real one it does not wait for ever.
func (d *driver) Close() error {
	if !d.agent.lives() {
		return nil // it cannot end anything any more
	}
	d.kill()
	select {
	case <-d.gone:
		return nil
	case <-time.After(lease().Kill):
		return errors.New("the driver's process does not end")
	}
}

// during makes a call: it waits as long as the storage takes, and then has the
// effect, unless the call is no longer wanted.
func (d *driver) during(ctx context.Context, c *call, wait time.Duration) error {
	g, err := d.begin(ctx, c)
	if err != nil {
		return err
	}
	defer d.array.leave(c)
	return d.work(ctx, g, wait)
}

// begin sends a request, as the agent does: with the deadline of the lease that the
// call is made under.
func (d *driver) begin(ctx context.Context, c *call) (*grant, error) {
	if !d.agent.runs() {
		return nil, errKilled
	}
	given := driverhost.DeadlineOf(ctx)
	if given == nil {
		given = d.lease
	}
	until, _ := given.Deadline()
	if until <= 0 {
		return nil, driverhost.ErrLeaseEnded
	}
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	select {
	case <-d.killed:
		<-d.gone
		return nil, driverhost.ErrDriverLost
	default:
	}
	g, err := d.extend(until)
	if err == nil {
		c.driver, c.host, c.slept = d, d.host, d.agent.slept()
		d.array.enter(c)
	}
	return g, err
}

// work waits for the storage, and for the kernel if that holds the process. A call
// whose process is made to end ends with that.
func (d *driver) work(ctx context.Context, g *grant, wait time.Duration) error {
	err := d.await(ctx, g, wait)
	if held := d.wedged(); held != nil {
		<-held
		if err == nil {
			err = d.mayAsk(g)
		}
	}
	select {
	case <-d.killed:
		<-d.gone
		return driverhost.ErrDriverLost
	default:
		return err
	}
}

// await waits for the storage, until the call is cancelled, or until the process does
// so itself because the deadline has passed: its agent may be stopped, or dead.
func (d *driver) await(ctx context.Context, g *grant, wait time.Duration) error {
	done := time.NewTimer(wait)
	defer done.Stop()
	cancelled, resumed := ctx.Done(), (<-chan struct{})(nil)
	for {
		expire := time.NewTimer(d.agent.left(d.until(g)))
		select {
		case <-done.C:
			d.agent.machineRuns()
			return d.mayAsk(g) // it wakes, and looks whether it may go on
		case <-expire.C:
			if d.agent.machineRuns(); d.mayAsk(g) != nil {
				return d.letGo(driverhost.ErrLeaseEnded)
			}
		case <-cancelled:
			if resumed = d.agent.stopped(); resumed == nil && d.agent.lives() {
				return d.letGo(context.Cause(ctx))
			}
			cancelled = nil // nobody tells the process
		case <-resumed:
			cancelled, resumed = ctx.Done(), nil
		case <-d.killed:
			return driverhost.ErrDriverLost
		}
		expire.Stop()
	}
}

// letGo is the end of a call that is no longer wanted: a while later.
func (d *driver) letGo(cause error) error {
	select {
	case <-time.After(d.array.patience()):
	case <-d.killed:
	}
	return cause
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
	c := &call{kind: promoteCall, epoch: req.Token.Epoch, claim: req.Token.Claim}
	g, err := d.begin(ctx, c)
	if err != nil {
		return none, err
	}
	defer d.array.leave(c)
	err = d.work(ctx, g, slow)
	switch {
	case b == LateButYes && err != nil && d.agent.lives() && !d.array.isFenced(c):
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
	c := &call{kind: switchCall, epoch: req.Token.Epoch, claim: req.Token.Claim}
	g, err := d.begin(ctx, c)
	if err != nil {
		return err
	}
	defer d.array.leave(c)
	for {
		if err := d.work(ctx, g, time.Millisecond); err != nil {
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
