package clustertest

import (
	"math"
	"time"

	"github.com/lockstep-storage/lockstep/driverhost"
)

// The parts of K, as driverhost/process has them: a process that has outlived its
// lease is killed, and reported as stuck if it does not end in time.
func killAfter() time.Duration  { return lease().Kill / 2 }
func reapWithin() time.Duration { return lease().Kill / 4 }

// grant is one unbroken lease as a driver's process knows it. Guarded by driver.mu.
type grant struct{ until time.Duration }

// extend notes that the lease lasts until then, by the clock of the machine, and
// returns it. One that has passed is not revived: what began under it stays ended.
func (d *driver) extend(until time.Duration) (*grant, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.agent.clock()
	if until <= now {
		return nil, driverhost.ErrLeaseEnded
	}
	if d.held == nil || d.held.until <= now {
		d.held = &grant{}
	}
	d.held.until = max(d.held.until, until)
	return d.held, nil
}

// until is when a lease ends, as far as the process knows.
func (d *driver) until(g *grant) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	return g.until
}

// deadline is when the lease that the process knows of ends.
func (d *driver) deadline() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.held.until
}

// mayAsk is tested right before each request to the storage.
func (d *driver) mayAsk(g *grant) error {
	if d.until(g) <= d.agent.clock() {
		return driverhost.ErrLeaseEnded
	}
	return nil
}

// live takes the renewals of the lease from the agent, for as long as that runs, and
// ends the process after its deadline, whether the agent runs or not.
func (d *driver) live() {
	givenUp := math.MaxInt64 - killAfter() // by the agent, which ends the process then
	for {
		d.agent.machineRuns()
		if d.agent.clock() >= min(d.deadline(), givenUp)+killAfter() {
			d.kill()
		}
		var renewed <-chan struct{}
		if d.agent.awake() {
			var until time.Duration
			until, renewed = d.lease.Deadline()
			if _, err := d.extend(until); err == nil {
				givenUp = math.MaxInt64 - killAfter()
			} else {
				givenUp = min(givenUp, d.agent.clock())
			}
		}
		end := time.NewTimer(d.agent.left(min(d.deadline(), givenUp) + killAfter()))
		select {
		case <-renewed:
		case <-end.C:
		case <-d.killed:
			end.Stop()
			d.die()
			return
		}
		end.Stop()
	}
}

// die is the end of a process that was killed. Its agent tells of one that has not
// ended in time, since the kernel does not let go of it.
func (d *driver) die() {
	d.array.processes.Go(d.reap)
	patience := time.NewTimer(reapWithin())
	defer patience.Stop()
	select {
	case <-d.gone:
		return
	case <-patience.C:
	}
	d.array.toReport(d, d.agent)
	if d.agent.runs() {
		d.report(true)
	}
	<-d.gone
	if d.agent.runs() {
		d.report(false)
	}
}

// reap waits for the end of a process that was killed.
func (d *driver) reap() {
	select {
	case <-time.After(d.array.patience() / 4):
	case <-d.gone:
		return
	}
	if held := d.wedged(); held != nil {
		<-held
	}
	d.exit()
}

// Lost implements [driverhost.Process].
func (d *driver) Lost() <-chan struct{} { return d.gone }

// wedged tells when the kernel lets go of the process; it is nil unless it holds it.
func (d *driver) wedged() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.wedge
}

// hold has the kernel hold the process: its calls do not end, and it cannot be killed.
func (d *driver) hold() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.wedge == nil {
		d.wedge = make(chan struct{})
	}
}

// release lets go of the process.
func (d *driver) release() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.wedge != nil {
		close(d.wedge)
		d.wedge = nil
	}
}
