package driverhost_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-storage/lockstep/driverhost"
	"github.com/lockstep-storage/lockstep/fsm"
)

// TestG9_WhatTheDriverAnswersIsWhatIsReported maps the driver's errors: only its
// word that nothing is promoted lets members serve on.
func TestG9_WhatTheDriverAnswersIsWhatIsReported(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		answer error
		phase  fsm.Phase
		status fsm.ReplicationStatus
		ended  bool
		serves bool
	}{
		"success": {phase: fsm.Switching, status: fsm.ReplicationFailedOver, serves: true},
		"invalid target": {
			answer: fmt.Errorf("site-b: %w", driverhost.ErrInvalidReplicationTarget),
			phase:  fsm.Failed, status: fsm.ReplicationEnabled, serves: true,
		},
		"unable": {
			answer: fmt.Errorf("array: %w", driverhost.ErrUnableToFailOver),
			phase:  fsm.Failed, status: fsm.ReplicationFailoverError, serves: true,
		},
		"target unreachable": {answer: driverhost.ErrTargetUnreachable, phase: fsm.Promoting, status: fsm.ReplicationFailingOver, ended: true},
		"fenced":             {answer: driverhost.ErrFenced, phase: fsm.Promoting, status: fsm.ReplicationFailingOver, ended: true},
		"any other":          {answer: errBroken, phase: fsm.Promoting, status: fsm.ReplicationFailingOver, ended: true},
		"words too many for the log": {
			answer: errors.New(strings.Repeat("\xff", 2<<20)),
			phase:  fsm.Promoting, status: fsm.ReplicationFailingOver, ended: true,
		},
	}
	for name, test := range tests {
		bubble(t, name, func(t *testing.T) {
			n := member(t)
			n.on("failover", answers(test.answer))
			n.promote(fsm.Forced)
			f, cl := n.failover("f"), n.cluster(clusterName)
			if f.Phase != test.phase || cl.ReplicationStatus != test.status || f.Ended != test.ended || n.serves() != test.serves {
				t.Errorf("phase %s, status %s, ended %v, serves %v; want %+v", f.Phase, cl.ReplicationStatus, f.Ended, n.serves(), test)
			}
			if calls := n.count("failover"); calls != 1 {
				t.Errorf("the driver was asked %d times", calls)
			}
		})
	}
}

func TestResultsAreStagedBeforeTheSwitch(t *testing.T) {
	t.Parallel()
	many := func(count, size int) (results []driverhost.VolumeResult) {
		for i := range count {
			results = append(results, driverhost.VolumeResult{
				VolumeID: fmt.Sprint("v", i), Failed: i%5 == 0, Error: "no replica",
				VolumeUpdate: driverhost.VolumeUpdate{ReplicationDriverData: strings.Repeat("d", size)},
			})
		}
		return results
	}
	tests := map[string]struct {
		results []driverhost.VolumeResult
		want    uint64
		failed  uint64
		staged  int // commands, at least
	}{
		"none":                 {},
		"more than one chunk":  {results: many(2500, 0), want: 2500, failed: 500, staged: 3},
		"large ones":           {results: many(1000, 2<<10), want: 1000, failed: 200, staged: 3},
		"one volume twice":     {results: slices.Concat(many(7, 0), many(5, 0)), want: 7, failed: 2, staged: 1},
		"text that is no text": {results: []driverhost.VolumeResult{{VolumeID: "v", Error: "\xff", VolumeUpdate: driverhost.VolumeUpdate{ProviderID: "\xfe"}}}, want: 1, staged: 1},
	}
	for name, test := range tests {
		bubble(t, name, func(t *testing.T) {
			n := member(t)
			n.results.Volumes = test.results
			n.promote(fsm.Forced)
			f := n.failover("f")
			if f.Phase != fsm.Switching || f.Results != test.want || f.FailedCount != test.failed {
				t.Errorf("%s with %d results, %d failed; want %d and %d", f.Phase, f.Results, f.FailedCount, test.want, test.failed)
			}
			if staged := n.proposed("StageResults"); staged < test.staged {
				t.Errorf("staged in %d commands, want at least %d", staged, test.staged)
			}
			if calls := n.count("failover"); calls != 1 {
				t.Errorf("the driver was asked %d times", calls)
			}
		})
	}
	bubble(t, "what no entry can hold ends the attempt", func(t *testing.T) {
		n := member(t)
		n.results.Volumes = many(1, 2<<20)
		n.promote(fsm.Forced)
		if f := n.failover("f"); !f.Ended || n.count("failover") != 1 {
			t.Errorf("ended %v, the driver heard %q", f.Ended, n.heard())
		}
	})
	bubble(t, "a chunk that is lost is staged by a new claim", func(t *testing.T) {
		n := member(t)
		n.results.Volumes = many(10, 0)
		n.loseCommands(func(cmd fsm.Command) error {
			if _, ok := cmd.(fsm.StageResults); ok {
				return fsm.ErrNoLeader
			}
			return nil
		})
		n.promote(fsm.Forced)
		n.loseCommands(nil)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if f := n.failover("f"); f.Results != 10 || n.proposed("Claim") < 2 {
			t.Errorf("%d results with %d claims", f.Results, n.proposed("Claim"))
		}
	})
}

func TestPlannedSwitchover(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		demote, failover, reopen error
		heard                    []string // after the claim
		phase                    fsm.Phase
		ended                    bool
		epoch                    uint64
		site                     string
	}{
		"demotes, then promotes": {
			heard: []string{"demote default for site-b@2", "failover default to site-b@2", "completed site-b@2"},
			phase: fsm.Switching, epoch: 2, site: "site-b",
		},
		"refused: opens the old site again": {
			failover: driverhost.ErrUnableToFailOver,
			heard:    []string{"demote default for site-b@2", "failover default to site-b@2", "failover site-b to default@2", "completed default@2"},
			phase:    fsm.Failed, epoch: 2, site: "default",
		},
		"refused, and the old site does not open: unknown": {
			failover: driverhost.ErrUnableToFailOver, reopen: errBroken,
			heard: []string{"demote default for site-b@2", "failover default to site-b@2", "failover site-b to default@2"},
			phase: fsm.Promoting, ended: true, epoch: 1, site: "default",
		},
		"refused, and refused again when opening: unknown": {
			failover: driverhost.ErrUnableToFailOver, reopen: driverhost.ErrUnableToFailOver,
			heard: []string{"demote default for site-b@2", "failover default to site-b@2", "failover site-b to default@2"},
			phase: fsm.Promoting, ended: true, epoch: 1, site: "default",
		},
		"no demote: nothing is promoted, the old site is opened again": {
			demote: errBroken,
			heard:  []string{"demote default for site-b@2", "failover site-b to default@2", "completed default@2"},
			phase:  fsm.Failed, epoch: 2, site: "default",
		},
		"the demoting member cannot reach the target: another may": {
			demote: driverhost.ErrTargetUnreachable,
			heard:  []string{"demote default for site-b@2"},
			phase:  fsm.Promoting, ended: true, epoch: 1, site: "default",
		},
		"promotion broken: unknown, and the old site stays closed": {
			failover: errBroken,
			heard:    []string{"demote default for site-b@2", "failover default to site-b@2"},
			phase:    fsm.Promoting, ended: true, epoch: 1, site: "default",
		},
	}
	for name, test := range tests {
		bubble(t, name, func(t *testing.T) {
			n := member(t)
			n.on("demote", answers(test.demote))
			n.on("failover", func(context.Context) error {
				if n.count("failover") == 1 && test.demote == nil {
					return test.failover
				}
				return test.reopen
			})
			before := len(n.heard())
			n.promote(fsm.Planned)
			if got := n.heard()[before:]; !slices.Equal(got, test.heard) {
				t.Errorf("the driver heard %q, want %q", got, test.heard)
			}
			f, cl := n.failover("f"), n.cluster(clusterName)
			if f.Phase != test.phase || f.Ended != test.ended || cl.Epoch != test.epoch || cl.ActiveBackendID != test.site {
				t.Errorf("phase %s, ended %v, epoch %d, site %s; want %+v", f.Phase, f.Ended, cl.Epoch, cl.ActiveBackendID, test)
			}
		})
	}
}

func TestG16_ClaimAndCallBelongToOneLease(t *testing.T) {
	t.Parallel()
	tests := map[string]func(l *lease){
		"it lapses":                                (*lease).lapse,
		"it lapses and is granted again":           func(l *lease) { l.lapse(); l.grant() },
		"the process slept through all of that":    (*lease).lapseSilently,
		"it lapsed twice, and was granted at last": func(l *lease) { l.lapse(); l.grant(); l.lapse(); l.grant() },
	}
	for name, during := range tests {
		bubble(t, name+" while the claim is committed", func(t *testing.T) {
			n := member(t)
			first := true
			n.loseCommands(func(cmd fsm.Command) error {
				if _, ok := cmd.(fsm.Claim); ok && first {
					first = false
					n.must(cmd) // it commits, and so much time passes
					during(n.lease)
				}
				return nil
			})
			n.on("failover", func(context.Context) error {
				if n.proposed("Claim") < 2 {
					t.Error("the driver was called under the claim of a lease that had lapsed")
				}
				return nil
			})
			n.promote(fsm.Forced)
			time.Sleep(time.Second)
			n.lease.grant()
			time.Sleep(10 * time.Second)
			synctest.Wait()
			if f := n.failover("f"); f.Phase != fsm.Switching {
				t.Errorf("with a new claim it is %s", f.Phase)
			}
		})
	}
	bubble(t, "it lapses during the call", func(t *testing.T) {
		n := member(t)
		n.on("failover", untilCancelled)
		n.promote(fsm.Forced)
		n.lease.lapse()
		synctest.Wait()
		if f := n.failover("f"); !f.Ended || !f.Unknown {
			t.Errorf("ended %v, unknown %v: the call was not cancelled", f.Ended, f.Unknown)
		}
	})
	bubble(t, "it lapses between demote and promotion", func(t *testing.T) {
		n := member(t)
		n.on("demote", func(context.Context) error { n.lease.lapseSilently(); return nil })
		n.promote(fsm.Planned)
		if calls := n.count("failover"); calls != 0 || !n.failover("f").Ended {
			t.Errorf("the driver heard %q", n.heard())
		}
	})
}

func TestG16_ReplacedExecutor(t *testing.T) {
	t.Parallel()
	bubble(t, "its call is cancelled, and its result counts for nothing", func(t *testing.T) {
		n := member(t)
		cancelled := false
		n.on("failover", func(ctx context.Context) error {
			<-ctx.Done()
			cancelled = true
			return nil // promoted all the same
		})
		n.promote(fsm.Forced)
		n.assign("f", otherHost)
		synctest.Wait()
		if f := n.failover("f"); !cancelled || f.Phase != fsm.Promoting || f.Executor != otherHost || f.Ended {
			t.Errorf("cancelled %v, failover %+v", cancelled, f)
		}
	})
	bubble(t, "a claim that commits late ends the call of the one before", func(t *testing.T) {
		n := member(t)
		n.on("failover", untilCancelled)
		n.promote(fsm.Forced)
		n.on("failover", nil)
		n.must(fsm.Claim{Failover: "f", Attempt: 1, Host: hostName})
		synctest.Wait()
		if f := n.failover("f"); f.Phase != fsm.Switching || n.count("failover") != 2 || n.proposed("Claim") != 2 {
			t.Errorf("phase %s, the driver heard %q", f.Phase, n.heard())
		}
	})
	bubble(t, "its claim is refused, and no call is made", func(t *testing.T) {
		n := member(t)
		n.loseCommands(func(cmd fsm.Command) error {
			if _, ok := cmd.(fsm.Claim); ok && n.failover("f").Executor == hostName {
				n.assign("f", otherHost)
			}
			return nil
		})
		n.promote(fsm.Forced)
		if calls := n.count("failover"); calls != 0 {
			t.Errorf("the driver heard %q", n.heard())
		}
	})
	bubble(t, "a claim whose answer is lost is made again", func(t *testing.T) {
		n := member(t)
		n.loseCommands(func(cmd fsm.Command) error {
			if _, ok := cmd.(fsm.Claim); ok && n.proposed("Claim") == 1 {
				n.must(cmd)
				return fsm.ErrNoLeader
			}
			return nil
		})
		n.promote(fsm.Forced)
		time.Sleep(time.Second)
		synctest.Wait()
		if f := n.failover("f"); f.Phase != fsm.Switching || n.count("failover") != 1 {
			t.Errorf("phase %s, the driver heard %q", f.Phase, n.heard())
		}
	})
}

func TestG3_DrainWaitsForTheCallsInFlight(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := member(t)
		let := make(chan struct{})
		n.on("create", func(ctx context.Context) error {
			<-ctx.Done()
			<-let // a driver that takes its time after it was cancelled
			return context.Cause(ctx)
		})
		n.create("v")
		n.must(fsm.RequestFailover{ID: "f", Cluster: clusterName, Target: "site-b", Mode: fsm.Forced})
		time.Sleep(time.Second)
		if n.proposed("MemberDrained") != 0 {
			t.Error("drained with a call in flight")
		}
		close(let)
		synctest.Wait()
		if n.proposed("MemberDrained") != 1 {
			t.Errorf("reported drained %d times", n.proposed("MemberDrained"))
		}
		time.Sleep(time.Minute)
		if n.count("create") != 1 {
			t.Error("a call began while the failover drains")
		}
		n.on("create", nil)
		n.must(fsm.AbortFailover{ID: "f"})
		time.Sleep(time.Minute)
		synctest.Wait()
		if v := n.volume("v"); v.Status != fsm.StatusAvailable {
			t.Errorf("after the abort the volume is %s", v.Status)
		}
	})
}
