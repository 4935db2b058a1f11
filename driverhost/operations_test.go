package driverhost_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-storage/lockstep/driverhost"
	"github.com/lockstep-storage/lockstep/fsm"
)

func TestOperationsReachTheDriver(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		ask    []fsm.Command
		call   string
		answer error
		status fsm.VolumeStatus // empty: gone
	}{
		"create":        {call: "create w@1", ask: []fsm.Command{fsm.CreateVolume{Volume: fsm.Volume{ID: "w", Size: 1, Host: hostName}}}, status: fsm.StatusAvailable},
		"delete":        {call: "delete v", ask: []fsm.Command{fsm.DeleteVolume{ID: "v"}}},
		"extend":        {call: "extend v to 2", ask: []fsm.Command{fsm.ExtendVolume{ID: "v", Size: 2}}, status: fsm.StatusAvailable},
		"create fails":  {call: "create w@1", ask: []fsm.Command{fsm.CreateVolume{Volume: fsm.Volume{ID: "w", Size: 1, Host: hostName}}}, answer: errBroken, status: fsm.StatusError},
		"delete fails":  {call: "delete v", ask: []fsm.Command{fsm.DeleteVolume{ID: "v"}}, answer: driverhost.ErrBusy, status: fsm.StatusErrorDeleting},
		"extend fails":  {call: "extend v to 2", ask: []fsm.Command{fsm.ExtendVolume{ID: "v", Size: 2}}, answer: errBroken, status: fsm.StatusErrorExtending},
		"manage":        {call: "manage lun as w@1", ask: []fsm.Command{fsm.ManageVolume{Volume: fsm.Volume{ID: "w", Host: hostName, Reference: "lun"}}}, status: fsm.StatusAvailable},
		"manage fails":  {call: "manage lun as w@1", ask: []fsm.Command{fsm.ManageVolume{Volume: fsm.Volume{ID: "w", Host: hostName, Reference: "lun"}}}, answer: errBroken, status: fsm.StatusError},
		"unmanage":      {call: "unmanage v", ask: []fsm.Command{fsm.UnmanageVolume{ID: "v"}}},
		"retype":        {call: `retype v true []`, ask: retypes(), status: fsm.StatusAvailable},
		"retype fails":  {call: `retype v true []`, ask: retypes(), answer: errBroken, status: fsm.StatusAvailable},
		"take snapshot": {call: "snapshot s", ask: []fsm.Command{fsm.CreateSnapshot{Snapshot: fsm.Snapshot{ID: "s", VolumeID: "v"}}}, status: fsm.StatusAvailable},
	}
	for name, test := range tests {
		bubble(t, name, func(t *testing.T) {
			n := member(t)
			n.create("v")
			call, _, _ := strings.Cut(test.call, " ")
			n.on(call, answers(test.answer))
			n.must(test.ask...)
			synctest.Wait()
			if got := n.heard(); got[len(got)-1] != test.call {
				t.Errorf("the driver heard %q, want %q at the end", got, test.call)
			}
			id := "v"
			if strings.Contains(test.call, "w") {
				id = "w"
			}
			if got := n.volume(id).Status; got != test.status {
				t.Errorf("the volume is %q, want %q", got, test.status)
			}
			time.Sleep(time.Minute)
			if again := n.count(test.call); again != 1 {
				t.Errorf("called %d times", again)
			}
		})
	}
}

func retypes() []fsm.Command {
	return []fsm.Command{
		fsm.CreateVolumeType{Type: fsm.VolumeType{ID: "t", Name: "gold", ExtraSpecs: []fsm.KeyValue{{Key: "replication_enabled", Value: "<is> True"}}}},
		fsm.RetypeVolume{ID: "v", Type: "gold"},
	}
}

// A retype that means nothing for the storage does not ask the driver.
func TestRetypeThatTheStorageNeedNotKnowOf(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := member(t)
		n.create("v")
		n.must(fsm.CreateVolumeType{Type: fsm.VolumeType{ID: "t", Name: "tin"}}, fsm.RetypeVolume{ID: "v", Type: "tin"})
		synctest.Wait()
		if v := n.volume("v"); v.VolumeType != "tin" || v.Status != fsm.StatusAvailable || n.count("retype") != 0 {
			t.Errorf("the volume is %s of type %q after %q", v.Status, v.VolumeType, n.heard())
		}
	})
}

// What could be adopted is asked of the driver at the gate: not without a lease, not
// during a failover, but while frozen.
func TestManageable(t *testing.T) {
	t.Parallel()
	list := func(t *testing.T, n *node) ([]driverhost.Manageable, error) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		return n.host.Manageable(ctx, clusterName)
	}
	bubble(t, "lists what the driver says", func(t *testing.T) {
		n := member(t)
		n.must(fsm.SetFrozen{Cluster: clusterName, Frozen: true})
		synctest.Wait()
		if got, err := list(t, n); err != nil || len(got) != 1 || got[0].Reference != "lun" {
			t.Errorf("got %v, %v", got, err)
		}
		if _, err := n.host.Manageable(t.Context(), "x@y"); fsm.CodeOf(err) != fsm.ErrNotFound {
			t.Errorf("a cluster that is not here: %v", err)
		}
	})
	bubble(t, "says why not, without a lease", func(t *testing.T) {
		n := member(t)
		n.lease.lapse()
		synctest.Wait()
		if got, err := list(t, n); err == nil {
			t.Errorf("got %v", got)
		}
		if n.count("manageable") != 0 {
			t.Error("the driver was asked without a lease")
		}
	})
	bubble(t, "waits no longer than who asks", func(t *testing.T) {
		n := member(t)
		n.on("manageable", untilCancelled)
		if got, err := list(t, n); err == nil {
			t.Errorf("got %v", got)
		}
	})
}

func TestOperationIsMadeAgain(t *testing.T) {
	t.Parallel()
	bubble(t, "when the storage has fenced it, with back-off", func(t *testing.T) {
		n := member(t)
		n.on("create", answers(driverhost.ErrFenced))
		n.create("v")
		for i := range 200 { // what others commit is no reason to try again
			n.must(fsm.RegisterNode{Node: fsm.Node{ID: "n1", Release: fmt.Sprint(i)}})
			synctest.Wait()
		}
		if tries := n.count("create"); tries > 2 {
			t.Errorf("tried %d times at once", tries)
		}
		n.on("create", nil)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if v := n.volume("v"); v.Status != fsm.StatusAvailable {
			t.Errorf("the volume is %s", v.Status)
		}
	})
	bubble(t, "at the new epoch, when a failover has cancelled it", func(t *testing.T) {
		n := member(t)
		n.on("create", untilCancelled)
		n.create("v")
		n.promote(fsm.Forced)
		n.on("create", nil)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		calls := slices.DeleteFunc(n.heard(), func(c string) bool { return !strings.HasPrefix(c, "create") })
		if want := []string{"create v@1", "create v@2"}; !slices.Equal(calls, want) {
			t.Errorf("the driver heard %q, want %q", calls, want)
		}
	})
	bubble(t, "when its end is lost", func(t *testing.T) {
		n := member(t)
		n.loseCommands(func(cmd fsm.Command) error {
			if _, ok := cmd.(fsm.EndOperation); ok && n.proposed("EndOperation") == 1 {
				return fsm.ErrNoLeader
			}
			return nil
		})
		n.create("v")
		time.Sleep(time.Second)
		synctest.Wait()
		if v := n.volume("v"); v.Status != fsm.StatusAvailable || n.count("create") != 2 {
			t.Errorf("the volume is %s after %d calls", v.Status, n.count("create"))
		}
	})
}

func TestOperationThatWasMovedIsNotReported(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := member(t)
		let := make(chan struct{})
		n.on("create", func(context.Context) error { <-let; return nil })
		n.create("v")
		n.must(fsm.MoveOperations{From: hostName, To: otherHost, Term: 1})
		close(let)
		time.Sleep(time.Minute)
		synctest.Wait()
		if v := n.volume("v"); v.Status != fsm.StatusCreating || n.count("create") != 1 {
			t.Errorf("the volume is %s after %d calls, though another member owes it", v.Status, n.count("create"))
		}
	})
}

func TestOperationsAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDriver()
		n := start(newWorld(t), d, func(cfg *driverhost.Config, _ *driverhost.Service) { cfg.Concurrency = 3 })
		n.lease.grant()
		synctest.Wait()
		n.on("create", func(ctx context.Context) error {
			select {
			case <-time.After(time.Second):
				return nil
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		})
		for i := range 10 {
			n.create(fmt.Sprint("v", i))
		}
		if flying := n.count("create"); flying != 3 {
			t.Errorf("%d calls are in flight, want 3", flying)
		}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if n.most != 3 || n.count("create") != 10 {
			t.Errorf("%d calls in all, %d at once", n.count("create"), n.most)
		}
		n.View(func(s *fsm.State) {
			if owed := s.Owed(hostName, 1); len(owed) != 0 {
				t.Errorf("%d operations are left", len(owed))
			}
		})
	})
}

func TestADriverThatSaysTooMuchOfAVolumeFailsTheOperation(t *testing.T) {
	t.Parallel()
	bubble(t, "once, instead of being asked for ever", func(t *testing.T) {
		n := member(t)
		n.update = driverhost.VolumeUpdate{ReplicationDriverData: strings.Repeat("x", fsm.MaxEntry)}
		n.create("v")
		time.Sleep(time.Minute)
		synctest.Wait()
		if v := n.volume("v"); v.Status != fsm.StatusError {
			t.Errorf("the volume is %s, want it in error", v.Status)
		}
		if calls := n.count("create"); calls != 1 {
			t.Errorf("the driver was asked %d times", calls)
		}
	})
}
