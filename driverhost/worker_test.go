package driverhost_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-storage/lockstep/driverhost"
	"github.com/lockstep-storage/lockstep/fsm"
)

func TestG10_DriverIsToldTheCommittedSiteBeforeItsFirstCall(t *testing.T) {
	t.Parallel()
	bubble(t, "after a failover that it slept through", func(t *testing.T) {
		w := newWorld(t)
		for _, host := range []string{hostName, otherHost} {
			w.must(fsm.RegisterService{Host: host, Node: host[:2], Cluster: clusterName, Targets: []string{"site-b", "site-c"}})
		}
		w.must(fsm.CreateVolume{Volume: fsm.Volume{ID: "v", Size: 1, Host: hostName}})
		w.switchTo("f")

		n := start(w, newDriver(), nil)
		if got := n.heard(); len(got) != 0 {
			t.Fatalf("without a lease the driver heard %q", got)
		}
		n.lease.grant()
		synctest.Wait()
		if got, want := n.heard(), []string{"open site-b@2", "completed site-b@2", "create v@2"}; !slices.Equal(got, want) {
			t.Errorf("the driver heard %q, want %q", got, want)
		}
	})
	bubble(t, "and again after a restart, although its predecessor reported it", func(t *testing.T) {
		first := member(t)
		first.stop()
		second := start(first.world, newDriver(), nil)
		second.lease.grant()
		synctest.Wait()
		if got, want := second.heard(), []string{"open default@1", "completed default@1"}; !slices.Equal(got, want) {
			t.Errorf("the driver heard %q, want %q", got, want)
		}
	})
	bubble(t, "but not while a failover drains or promotes", func(t *testing.T) {
		n := member(t)
		n.stop()
		n.must(fsm.RequestFailover{ID: "f", Cluster: clusterName, Target: "site-b", Mode: fsm.Forced})
		late := start(n.world, newDriver(), nil)
		late.lease.grant()
		synctest.Wait()
		n.assign("f", otherHost)
		synctest.Wait()
		if n := late.count("completed"); n != 0 {
			t.Errorf("the driver was told a site %d times in mid-failover", n)
		}
		n.must(fsm.AbortFailover{ID: "f"})
		synctest.Wait()
		if n := late.count("completed default@1"); n != 1 {
			t.Errorf("after it the driver was told the site %d times, want once: %q", n, late.heard())
		}
	})
}

func TestServiceThatCannotFollowAFailoverIsRefused(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		driver  func(*driver) driverhost.Driver
		cluster string
		targets []string
		want    []string // parts of the error; none: it starts
	}{
		"in a cluster, without failover": {
			driver:  func(d *driver) driverhost.Driver { return d },
			cluster: clusterName, targets: []string{"site-b"},
			want: []string{hostName, clusterName, `"site-b"`, "failover and failover_completed", "remove the targets", "out of the cluster"},
		},
		"in a cluster, with failover_host only": {
			driver:  func(d *driver) driverhost.Driver { return hostOnly{d} },
			cluster: clusterName, targets: []string{"site-b"},
			want: []string{"lacks failover and failover_completed"},
		},
		"outside clusters, with neither": {
			driver:  func(d *driver) driverhost.Driver { return d },
			targets: []string{"site-b"},
			want:    []string{"neither failover nor failover_host", "remove the targets"},
		},
		"outside clusters, with failover_host": {
			driver:  func(d *driver) driverhost.Driver { return hostOnly{d} },
			targets: []string{"site-b"},
		},
		"without targets": {
			driver:  func(d *driver) driverhost.Driver { return d },
			cluster: clusterName,
		},
	}
	for name, test := range tests {
		bubble(t, name, func(t *testing.T) {
			d := newDriver()
			lease := newLease()
			lease.grant()
			w := newWorld(t)
			host := newHost(t, w, driverhost.Service{
				Host: hostName, Node: "n1", Cluster: test.cluster, Targets: test.targets, Lease: lease, Open: opener(d, test.driver(d)),
			})
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			err := host.Run(ctx)
			if (err == nil) != (test.want == nil) {
				t.Fatalf("Run = %v", err)
			}
			for _, part := range test.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q does not say %q", err, part)
				}
			}
			if got := d.heard(); got[len(got)-1] != "close" {
				t.Errorf("the driver was not closed: %q", got)
			}
		})
	}
}

func TestServiceOutsideClustersFailsOverByItsHost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDriver()
		n := start(newWorld(t), d, func(_ *driverhost.Config, svc *driverhost.Service) {
			svc.Cluster, svc.Open = "", opener(d, hostOnly{d})
		})
		n.lease.grant()
		synctest.Wait()
		n.must(fsm.RequestFailover{ID: "f", Cluster: hostName, Target: "site-b", Mode: fsm.Forced})
		synctest.Wait()
		n.assign("f", hostName)
		synctest.Wait()
		if cl := n.cluster(hostName); cl.ActiveBackendID != "site-b" || n.count("failover_host default to site-b@2") != 1 {
			t.Errorf("cluster %+v, the driver heard %q", cl, n.heard())
		}
		if err := n.host.Ready(); err != nil {
			t.Errorf("it does not serve the new site: %v", err)
		}
	})
}

func TestMemberWhoseDriverRefusesTheSite(t *testing.T) {
	t.Parallel()
	bubble(t, "reports it once, is asked with back-off, and heals", func(t *testing.T) {
		n := member(t)
		n.on("completed", answers(errBroken))
		n.switchTo("f")
		synctest.Wait()
		before := n.proposed("MemberSwitched")
		for i := range 500 { // others commit, which is no reason to ask again
			n.must(fsm.RegisterNode{Node: fsm.Node{ID: "n1", Release: string(rune('a' + i%26))}})
			synctest.Wait()
		}
		if asked := n.count("completed site-b"); asked > 2 {
			t.Errorf("the driver was asked %d times at once", asked)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if asked := n.count("completed site-b"); asked < 10 || asked > 60 {
			t.Errorf("the driver was asked %d times in a minute", asked)
		}
		if again := n.proposed("MemberSwitched"); again != before {
			t.Errorf("the same error was reported %d times", again-before+1)
		}
		svc := n.self()
		if svc.Reported.Error != errBroken.Error() || svc.DisabledReason != fsm.ReasonDriverError || n.serves() {
			t.Errorf("service = %+v, serves %v", svc, n.serves())
		}
		n.on("completed", nil)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if svc := n.self(); svc.Reported.Error != "" || !n.serves() {
			t.Errorf("it has not healed: %+v", svc)
		}
	})
	bubble(t, "in words that are no text, and many", func(t *testing.T) {
		n := member(t)
		n.on("completed", answers(errors.New(strings.Repeat("\xff\xfe", 1<<20))))
		n.switchTo("f")
		synctest.Wait()
		if got := n.self().Reported.Error; got == "" || len(got) > 2000 {
			t.Errorf("an error of %d bytes was reported", len(got))
		}
	})
}

func TestG4_LeaseLost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := member(t)
		cancelled := false
		n.on("create", func(ctx context.Context) error {
			err := untilCancelled(ctx)
			cancelled = true
			return err
		})
		n.create("v")
		n.lease.lapse()
		synctest.Wait()
		if !cancelled {
			t.Error("the call in flight outlives the lease")
		}
		n.on("create", nil)
		n.create("w")
		time.Sleep(time.Minute)
		if n.serves() || n.host.Ready() == nil || n.count("create") != 1 {
			t.Errorf("serves %v without a lease; the driver heard %q", n.serves(), n.heard())
		}
		n.lease.grant()
		time.Sleep(time.Minute)
		synctest.Wait()
		if n.volume("v").Status != fsm.StatusAvailable || n.volume("w").Status != fsm.StatusAvailable {
			t.Errorf("with a new lease: v %s, w %s", n.volume("v").Status, n.volume("w").Status)
		}
	})
}

// TestG3_MemberIsNotToldOfAnEpochThatIsOver lets a member that was away get its lease
// before anything has noticed that the next failover promotes already: to the lease
// belongs what the state shows then.
func TestG3_MemberIsNotToldOfAnEpochThatIsOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := member(t)
		n.lease.lapse()
		n.switchTo("first")
		synctest.Wait() // it would tell the driver of epoch 2, and waits for a lease
		n.silence()
		n.must(fsm.MemberSwitched{Host: otherHost, Epoch: 2, ActiveBackendID: "site-b"}, fsm.FinishFailover{Failover: "first", Attempt: 1, Term: 1})
		n.must(fsm.RequestFailover{ID: "second", Cluster: clusterName, Target: "site-c", Mode: fsm.Forced})
		n.assign("second", otherHost)
		n.must(fsm.Claim{Failover: "second", Attempt: 1, Host: otherHost})
		n.lease.grant()
		synctest.Wait()
		if n.count("completed site-b@2") != 0 {
			t.Errorf("while epoch 3 is promoted, the driver heard %q", n.heard())
		}
	})
}

func TestFreezeAndThawReachTheDriver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := member(t)
		for _, frozen := range []bool{true, false} {
			n.on("freeze", answers(errBroken)) // the first try fails
			n.must(fsm.SetFrozen{Cluster: clusterName, Frozen: frozen, Owner: hostName})
			synctest.Wait()
			n.on("freeze", nil)
			time.Sleep(time.Second)
			synctest.Wait()
			if owner := n.cluster(clusterName).FreezeOwner; owner != "" || n.serves() == frozen {
				t.Errorf("frozen %v: %q still owes it, serves %v", frozen, owner, n.serves())
			}
		}
		if f, th := n.count("freeze"), n.count("thaw"); f != 2 || th != 1 {
			t.Errorf("the driver heard %q", n.heard())
		}
	})
}

func TestG11_RegistrationIsTheMembersOnly(t *testing.T) {
	t.Parallel()
	bubble(t, "a restart commits nothing", func(t *testing.T) {
		first := member(t)
		first.stop()
		before := first.cluster(clusterName)
		second := start(first.world, newDriver(), nil)
		if n := second.proposed("RegisterService"); n != 1 {
			t.Errorf("it was registered %d times", n)
		}
		if after := second.cluster(clusterName); after != before {
			t.Errorf("the cluster changed from %+v to %+v", before, after)
		}
	})
	bubble(t, "a service that was deleted while it runs comes back", func(t *testing.T) {
		n := member(t)
		n.must(fsm.DeleteService{Host: hostName, Term: 1})
		synctest.Wait()
		if svc := n.self(); svc.Node != "n1" {
			t.Errorf("service = %+v", svc)
		}
	})
	bubble(t, "a refused registration is tried again, slowly", func(t *testing.T) {
		w := newWorld(t)
		w.must(fsm.RegisterService{Host: hostName, Node: "n1", Cluster: "other@aa"})
		n := start(w, newDriver(), nil)
		time.Sleep(time.Minute)
		if tries := n.proposed("RegisterService"); tries < 5 || tries > 60 {
			t.Errorf("it was tried %d times in a minute", tries)
		}
	})
}

// process is a driver in a process of its own, which may end.
type process struct {
	planner

	lost chan struct{}
}

func (p process) Lost() <-chan struct{} { return p.lost }

// What a driver was told dies with its process: the next one is told the site, and
// takes a call only then.
func TestG10_DriverThatWasLostIsToldTheSiteAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d, lost := newDriver(), make(chan struct{})
		first := true
		n := start(newWorld(t), d, func(_ *driverhost.Config, svc *driverhost.Service) {
			svc.Open = func(ctx context.Context, req driverhost.OpenRequest) (driverhost.Driver, error) {
				p := process{planner: planner{activeActive{d}}, lost: make(chan struct{})}
				if first {
					first, p.lost = false, lost
				}
				return opener(d, p)(ctx, req)
			}
		})
		n.lease.grant()
		synctest.Wait()
		d.on("completed", untilCancelled)
		close(lost)
		time.Sleep(time.Second)
		n.create("v")
		if got, want := n.heard(), []string{"open default@1", "completed default@1", "close", "open default@1", "completed default@1"}; !slices.Equal(got, want) {
			t.Errorf("the driver heard %q, want %q", got, want)
		}
		if n.serves() {
			t.Error("it serves with a driver that has been told nothing")
		}
	})
}

func TestDriverThatDoesNotOpenIsTriedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDriver()
		d.on("open", answers(errBroken))
		n := start(newWorld(t), d, nil)
		n.lease.grant()
		time.Sleep(10 * time.Second)
		if tries := n.count("open"); tries < 3 || tries > 20 {
			t.Errorf("it was opened %d times in ten seconds", tries)
		}
		d.on("open", nil)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if err := n.host.Ready(); err != nil {
			t.Error(err)
		}
		if stats := n.host.Stats()[hostName]; stats.TotalCapacityGiB != 7 {
			t.Errorf("stats = %+v", stats)
		}
	})
}

func TestNewRefusesWhatItCannotRun(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	good := driverhost.Service{Host: hostName, Lease: newLease(), Open: opener(newDriver(), newDriver())}
	for name, services := range map[string][]driverhost.Service{
		"no lease":         {{Host: hostName, Open: good.Open}},
		"no opener":        {{Host: hostName, Lease: good.Lease}},
		"no host":          {{Open: good.Open, Lease: good.Lease}},
		"a service twice":  {good, good},
		"the second wrong": {good, {Host: otherHost}},
	} {
		if _, err := driverhost.New(driverhost.Config{State: w, Proposer: w, Services: services, Logger: nullLogger()}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := driverhost.New(driverhost.Config{Services: []driverhost.Service{good}}); err == nil {
		t.Error("no error without state, proposer and logger")
	}
}
