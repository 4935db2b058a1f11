package driverhost_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-storage/lockstep/driverhost"
	"github.com/lockstep-storage/lockstep/fsm"
)

// mortal is a driver whose process can end.
type mortal struct {
	planner

	lost chan struct{}
}

func (m mortal) Lost() <-chan struct{} { return m.lost }

// dies ends the process; calls in flight end as those of a process do.
func (m mortal) dies() error {
	close(m.lost)
	return fmt.Errorf("%w: killed", driverhost.ErrDriverLost)
}

// reborn opens a new process each time.
type reborn struct {
	*driver

	mu  sync.Mutex
	now mortal
}

func (r *reborn) open(ctx context.Context, req driverhost.OpenRequest) (driverhost.Driver, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now = mortal{planner{activeActive{r.driver}}, make(chan struct{})}
	return r.now, r.call(ctx, "open", fmt.Sprintf("%s@%d", req.ActiveBackendID, req.Token.Epoch))
}

func (r *reborn) dies(context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now.dies()
}

// mortalMember is a member whose driver is a process.
func mortalMember(t *testing.T) (*node, *reborn) {
	t.Helper()
	d := &reborn{driver: newDriver()}
	n := start(newWorld(t), d.driver, func(_ *driverhost.Config, svc *driverhost.Service) { svc.Open = d.open })
	n.must(fsm.RegisterService{Host: otherHost, Node: "n2", Cluster: clusterName, Targets: []string{"site-b", "site-c"}})
	n.lease.grant()
	synctest.Wait()
	return n, d
}

func TestProcessOfADriver(t *testing.T) {
	t.Parallel()
	bubble(t, "that ends is opened again, and told before it serves", func(t *testing.T) {
		n, d := mortalMember(t)
		_ = d.dies(t.Context())
		synctest.Wait()
		if n.serves() {
			t.Error("a member whose driver has ended serves")
		}
		time.Sleep(time.Second)
		if n.count("open") != 2 || n.count("completed") != 2 || !n.serves() {
			t.Errorf("heard %q", n.heard())
		}
	})
	bubble(t, "that ends in a promotion leaves its outcome unknown", func(t *testing.T) {
		n, d := mortalMember(t)
		n.on("failover", d.dies)
		n.promote(fsm.Forced)
		time.Sleep(time.Second)
		if f := n.failover("f"); !f.Ended || !f.Unknown || f.Phase != fsm.Promoting {
			t.Errorf("failover is %+v", f)
		}
	})
	bubble(t, "that ends in an operation leaves it owed", func(t *testing.T) {
		n, d := mortalMember(t)
		n.on("create", d.dies)
		n.create("v")
		if v := n.volume("v"); v.Status != fsm.StatusCreating {
			t.Errorf("after the first loss the volume is %s", v.Status)
		}
		n.on("create", nil)
		time.Sleep(time.Second)
		if v := n.volume("v"); v.Status != fsm.StatusAvailable {
			t.Errorf("volume is %s", v.Status)
		}
	})
	bubble(t, "that an operation always ends does not do so for ever", func(t *testing.T) {
		n, d := mortalMember(t)
		n.on("create", d.dies)
		n.create("v")
		time.Sleep(10 * time.Minute)
		if v := n.volume("v"); v.Status != fsm.StatusError || n.count("create") != 5 {
			t.Errorf("volume is %s after %d calls", v.Status, n.count("create"))
		}
	})
}

// Until the driver is open, which it is only once nothing is left of the one before,
// nothing is reported or claimed.
func TestNothingIsReportedBeforeTheDriverIsOpen(t *testing.T) {
	t.Parallel()
	bubble(t, "while an orphan holds the lock", func(t *testing.T) {
		d, free, stuck := newDriver(), make(chan struct{}), func(bool) {}
		n := start(newWorld(t), d, func(_ *driverhost.Config, svc *driverhost.Service) {
			svc.Open = func(ctx context.Context, req driverhost.OpenRequest) (driverhost.Driver, error) {
				stuck = req.OnStuck
				select {
				case <-free:
					return planner{activeActive{d}}, nil
				case <-ctx.Done():
					return nil, context.Cause(ctx)
				}
			}
		})
		n.lease.grant()
		synctest.Wait()
		n.must(fsm.RequestFailover{ID: "f", Cluster: clusterName, Target: "site-b", Mode: fsm.Forced})
		time.Sleep(time.Minute)
		stuck(true)
		synctest.Wait()
		if !n.self().Stuck {
			t.Error("what cannot be ended is not reported")
		}
		for _, kind := range []string{"MemberDrained", "MemberSwitched", "Claim", "EndOperation"} {
			if n.proposed(kind) != 0 {
				t.Errorf("%s was proposed", kind)
			}
		}
		close(free)
		synctest.Wait()
		if n.self().Stuck || n.proposed("MemberDrained") != 1 {
			t.Errorf("once it is open: stuck %v, drained %d times", n.self().Stuck, n.proposed("MemberDrained"))
		}
	})
}

func TestStuckIsReportedUntilTheStateShowsIt(t *testing.T) {
	t.Parallel()
	bubble(t, "although commands are lost", func(t *testing.T) {
		var stuck func(bool)
		d := newDriver()
		n := start(newWorld(t), d, func(_ *driverhost.Config, svc *driverhost.Service) {
			svc.Open = func(_ context.Context, req driverhost.OpenRequest) (driverhost.Driver, error) {
				stuck = req.OnStuck
				return planner{activeActive{d}}, nil
			}
		})
		n.lease.grant()
		synctest.Wait()
		n.loseCommands(func(fsm.Command) error { return errors.New("no leader") })
		n.lease.lapse() // it needs none
		stuck(true)
		time.Sleep(time.Minute)
		n.loseCommands(nil)
		time.Sleep(time.Minute)
		if !n.self().Stuck || !n.host.Drivers()[hostName].Stuck {
			t.Errorf("stuck is shown as %v and %+v", n.self().Stuck, n.host.Drivers())
		}
	})
}

// clinging is a driver whose process does not end when it is closed.
type clinging struct {
	planner

	stuck func(bool)
	freed chan struct{}
}

// Close implements [io.Closer].
func (c clinging) Close() error {
	c.stuck(true)
	<-c.freed
	return c.planner.Close()
}

func TestStuckIsReportedWhileTheMemberStops(t *testing.T) {
	t.Parallel()
	bubble(t, "its process does not end", func(t *testing.T) {
		d, freed := newDriver(), make(chan struct{})
		n := start(newWorld(t), d, func(_ *driverhost.Config, svc *driverhost.Service) {
			svc.Open = func(_ context.Context, req driverhost.OpenRequest) (driverhost.Driver, error) {
				return clinging{planner{activeActive{d}}, req.OnStuck, freed}, nil
			}
		})
		n.lease.grant()
		synctest.Wait()
		stopped := make(chan struct{})
		go func() {
			n.stop()
			close(stopped)
		}()
		synctest.Wait()
		if !n.self().Stuck {
			t.Error("nobody is told of what cannot be ended")
		}
		close(freed)
		<-stopped
	})
}
