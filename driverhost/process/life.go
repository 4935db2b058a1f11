package process

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/lockstep-storage/lockstep/driverhost"
	"github.com/lockstep-storage/lockstep/driverhost/process/driverpb"
)

// guard ends the process when its lease has ended. The process has its own wall; this
// is for one that does not keep the contract, and for what a driver has started.
func (r *remote) guard() {
	var end time.Duration // of the lease
	asked := false
	for {
		until, renewed := r.lease.Deadline()
		now, err := driverhost.BootTime()
		if err != nil {
			r.logger.Error("without a clock no driver can be trusted", "error", err)
			r.child.signal(unix.SIGKILL)
			return
		}
		if until > 0 {
			end = until
		} else {
			end = min(end, now) // it has lapsed, or was given up
		}
		next := end + r.cfg.termAfter()
		if now >= next {
			if !asked {
				r.child.signal(unix.SIGTERM)
			}
			asked, next = true, end+r.cfg.killAfter()
		}
		if now >= next {
			r.child.signal(unix.SIGKILL)
			return
		}
		timer := time.NewTimer(next - now)
		select {
		case <-renewed:
		case <-timer.C:
		case <-r.child.exited:
			timer.Stop()
			return
		}
		timer.Stop()
	}
}

// renewals passes each renewal of the lease on, and the level of the log with it. One
// that does not get there leaves the process with the deadline that it has.
func (r *remote) renewals() {
	for {
		until, renewed := r.lease.Deadline()
		if until > 0 {
			ctx, cancel := context.WithTimeout(r.alive, r.cfg.Kill)
			_, err := r.driver.Renew(ctx, &driverpb.RenewRequest{Deadline: int64(until), LogLevel: r.logger.GetLevel().String()})
			cancel()
			if err != nil && r.alive.Err() == nil {
				r.logger.Debug("the driver's process has not heard that its lease lasts longer", "error", err)
			}
		}
		select {
		case <-renewed:
		case <-r.alive.Done():
			return
		}
	}
}

// Lost implements [driverhost.Process].
func (r *remote) Lost() <-chan struct{} { return r.child.exited }

// Close ends the driver and waits until nothing is left of its process; but not for
// ever: the next driver is opened only when the lock is free.
func (r *remote) Close() error {
	err := r.child.running()
	if err == nil && r.driver != nil {
		err = r.closeDriver()
	}
	_ = r.child.lifeline.Close() // a second time at worst
	r.child.signal(unix.SIGKILL)
	timer := time.NewTimer(r.cfg.Kill)
	defer timer.Stop()
	select {
	case <-r.child.gone:
	case <-timer.C:
		return errors.Join(err, fmt.Errorf("driver process %d does not end", r.child.cmd.Process.Pid))
	}
	// What has let go of the lock may still have the pipes.
	cut := time.AfterFunc(time.Second, func() { _ = r.child.closePipes() })
	r.plugin.Kill() // removes the socket, and waits for the last lines of the log
	cut.Stop()
	_ = r.child.closePipes()
	r.wg.Wait()
	return err
}

func (r *remote) closeDriver() error {
	ctx, cancel := context.WithTimeout(r.alive, r.cfg.killAfter())
	defer cancel()
	answer, err := r.driver.Close(ctx, &driverpb.CloseRequest{})
	if err != nil {
		return fmt.Errorf("close the driver: %w", err)
	}
	return errorOf(answer.GetFailure())
}

// running returns how the process has ended, or nil.
func (c *child) running() error {
	select {
	case <-c.exited:
		return c.outcome()
	default:
		return nil
	}
}

// call makes one call. It ends when the driver has answered, or when nothing is left
// of its process: whoever waits for the end of calls can go on then, and not before.
// When ctx ends, the driver is told.
func (r *remote) call(ctx context.Context, token driverhost.Token, do func(context.Context, *driverpb.Call) (*driverpb.Failure, error)) error {
	lease := driverhost.DeadlineOf(ctx)
	if lease == nil {
		lease = r.lease
	}
	until, _ := lease.Deadline()
	if until <= 0 {
		return driverhost.ErrLeaseEnded
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	call := &driverpb.Call{Id: r.calls.Add(1), Deadline: int64(until), Token: tokenToWire(token)}
	ended := make(chan struct{})
	defer close(ended)
	// Not under ctx: the call is waited for, and its cancellation made, after that.
	stop := context.AfterFunc(ctx, func() { r.cancel(call.GetId(), ended) }) //nolint:contextcheck // see above
	defer stop()
	failure, err := do(r.alive, call) //nolint:contextcheck // see above
	if err == nil {
		return errorOf(failure)
	}
	if status.Code(err) != codes.Unavailable { // else the process has ended, or is about to
		r.logger.Error("the driver does not keep to its contract, ending its process", "pid", r.child.cmd.Process.Pid, "error", err)
	}
	r.child.signal(unix.SIGKILL)
	<-r.child.gone
	return fmt.Errorf("%w: %s", driverhost.ErrDriverLost, err.Error())
}

// cancel tells the driver that a call is no longer wanted, again and again, since the
// word may overtake the call.
func (r *remote) cancel(id uint64, ended <-chan struct{}) {
	const longest = time.Second
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, longest) {
		ctx, stop := context.WithTimeout(r.alive, longest)
		_, err := r.driver.Cancel(ctx, &driverpb.CancelRequest{Id: id})
		stop()
		if err != nil {
			r.logger.Debug("call not cancelled yet", "error", err)
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ended:
			timer.Stop()
			return
		}
	}
}

// quiet is a logger for go-plugin, whose own words are about what this package sees
// and says itself. Those of the driver it passes on.
type quiet struct {
	hclog.Logger

	driver hclog.Logger
}

// Named returns the driver's logger, but for the parts of go-plugin itself.
func (q quiet) Named(name string) hclog.Logger {
	if name == "stdio" {
		return q.Logger
	}
	return changeable{q.driver}
}

// changeable is a logger whose level may change. go-plugin asks for the level once, and
// passes nothing on that is below it.
type changeable struct{ hclog.Logger }

// GetLevel is that of a logger which decides by itself.
func (changeable) GetLevel() hclog.Level { return hclog.Trace }
