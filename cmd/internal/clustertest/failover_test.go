package clustertest

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/lockstep-storage/lockstep/cmd/internal/history"
	"github.com/lockstep-storage/lockstep/fsm"
)

// scenario runs a story on a fresh cluster of three and one of five.
func scenario(t *testing.T, name string, story func(t *testing.T, c *Cluster)) {
	t.Helper()
	for _, size := range []int{3, 5} {
		t.Run(fmt.Sprintf("%s, %d members", name, size), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := New(t, size, hclog.NewNullLogger())
				story(t, c)
				for _, v := range c.Array.Violations() {
					t.Error(v)
				}
				if got := history.Check(c.History.Operations(), 0); got.Verdict != history.Linearizable {
					t.Errorf("G8: the history of %s is %s", got.Object, got.Verdict)
				}
			})
		})
	}
}

func TestFailover(t *testing.T) {
	t.Parallel()

	scenario(t, "a failover asked of a follower switches every member", func(t *testing.T, c *Cluster) {
		id := c.Failover(c.Follower(), "site-b", fsm.Forced)
		c.Eventually("done", c.Phase(id, fsm.Done))
		c.Eventually("all serve the new site", c.AllServe)
		if got := c.Cluster(c.Leader()); got.ActiveBackendID != "site-b" || got.ReplicationStatus != fsm.ReplicationFailedOver || !got.Disabled {
			t.Errorf("cluster = %+v", got)
		}
		if n := c.Array.Promotions(); n != 1 {
			t.Errorf("the driver was asked to promote %d times, want 1", n)
		}
	})
}

func TestD1_FailbackNamesItsTarget(t *testing.T) {
	t.Parallel()
	scenario(t, "after a failback every driver is told default", func(t *testing.T, c *Cluster) {
		id := c.Failover(c.Leader(), "site-b", fsm.Forced)
		c.Eventually("done", c.Phase(id, fsm.Done))
		id = c.Failover(c.Leader(), fsm.DefaultBackendID, fsm.Planned)
		c.Eventually("done", c.Phase(id, fsm.Done))
		c.Eventually("all serve the primary", c.AllServe)
		for _, m := range c.Members {
			if site := c.Array.site(m.Host()); site != fsm.DefaultBackendID {
				t.Errorf("%s works on %q", m.ID, site)
			}
		}
	})
}

func TestD2_UnknownTargetMovesNobody(t *testing.T) {
	t.Parallel()
	scenario(t, "a target with a typo is refused before anything changes", func(t *testing.T, c *Cluster) {
		err := c.Ask(c.Follower(), limits().Drain, fsm.RequestFailover{ID: "f", Cluster: ClusterName, Target: "site-x", Mode: fsm.Forced})
		if !errors.Is(err, fsm.ErrInvalid) {
			t.Fatalf("failover to site-x: %v, want %v", err, fsm.ErrInvalid)
		}
		if c.Array.Promotions() != 0 || !c.AllServe() || c.Cluster(c.Leader()).Epoch != 1 {
			t.Errorf("something moved: %s", c.describe())
		}
	})
}

func TestG5_LeaderKilledInEveryPhase(t *testing.T) {
	t.Parallel()
	for _, phase := range []fsm.Phase{fsm.Draining, fsm.Promoting, fsm.Switching} {
		scenario(t, fmt.Sprintf("the leader dies while %s", phase), func(t *testing.T, c *Cluster) {
			leader, other := c.Leader(), c.Follower()
			if phase != fsm.Promoting { // a call that does not end at once keeps the phase
				c.Array.Stick(other.Host(), true)
			}
			if phase == fsm.Draining {
				c.keepBusy(other)
			}
			id := c.Failover(leader, "site-b", fsm.Forced)
			c.Eventually(string(phase), c.Phase(id, phase))
			c.Kill(leader)
			c.Array.Stick(other.Host(), false)
			c.Eventually("done", c.Phase(id, fsm.Done))
			c.Eventually("the others serve the new site", c.AllServe)
			c.Restart(leader)
			c.Eventually("the old leader follows", c.Quiet)
			if site := c.Array.site(leader.Host()); site != "site-b" {
				t.Errorf("the old leader works on %q", site)
			}
		})
	}
}

func TestG5_ALeadersWallClockDelaysNoSuccessor(t *testing.T) {
	t.Parallel()
	scenario(t, "a member is slow to switch, and the leader that died was an hour ahead", func(_ *testing.T, c *Cluster) {
		leader := c.Leader()
		c.StepWallClock(leader, time.Hour)
		slow := c.Follower()
		c.Array.Stick(slow.Host(), true)
		id := c.Failover(leader, "site-b", fsm.Forced)
		c.Eventually("switching", c.Phase(id, fsm.Switching))
		c.Kill(leader)
		c.Eventually("done without the member that is slow", c.Phase(id, fsm.Done))
		c.Array.Stick(slow.Host(), false)
		c.Eventually("all others serve", c.AllServe)
	})
}

func TestD3_ExecutorDies(t *testing.T) {
	t.Parallel()
	scenario(t, "another executor goes on", func(t *testing.T, c *Cluster) {
		c.Array.Next(Hang)
		id := c.Failover(c.Follower(), "site-b", fsm.Forced)
		first := c.Executor(nil)
		c.Kill(first)
		c.Executor(first)
		c.Eventually("done", c.Phase(id, fsm.Done))
		epoch := c.Cluster(c.Leader()).Epoch
		c.Restart(first)
		c.Eventually("the first follows", c.Quiet)
		if got := c.Cluster(c.Leader()); got.Epoch != epoch || got.ActiveBackendID != "site-b" {
			t.Errorf("a restart changed the cluster: %+v", got)
		}
	})
}

func TestG16_ExecutorCutOffGoesOnRunning(t *testing.T) {
	t.Parallel()
	scenario(t, "its call has ended before another begins", func(_ *testing.T, c *Cluster) {
		c.Array.Next(Hang)
		id := c.Failover(c.Follower(), "site-b", fsm.Forced)
		first := c.Executor(nil)
		c.Cut(first)
		c.Executor(first)
		c.Eventually("done", c.Phase(id, fsm.Done))
		c.Heal(first)
		c.Eventually("all agree", c.Quiet)
	})
}

func TestG16_ResultOfAReplacedExecutorCountsForNothing(t *testing.T) {
	t.Parallel()
	scenario(t, "an executor that promotes after it was given up", func(t *testing.T, c *Cluster) {
		c.Array.Next(LateButYes)
		id := c.Failover(c.Follower(), "site-b", fsm.Forced)
		first := c.Executor(nil)
		c.Cut(first)
		c.Eventually("done", c.Phase(id, fsm.Done))
		c.Heal(first)
		c.Eventually("all agree", c.Quiet)
		if f := c.Record(c.Leader(), id); f.Attempt < 2 {
			t.Errorf("done in attempt %d by %s, whose lease had lapsed", f.Attempt, f.Executor)
		}
	})
}

func TestG10_LateMemberConvergesBeforeItServes(t *testing.T) {
	t.Parallel()
	scenario(t, "from a snapshot", func(t *testing.T, c *Cluster) {
		late := c.Follower()
		c.Kill(late)
		id := c.Failover(c.Follower(), "site-b", fsm.Forced)
		c.Eventually("done", c.Phase(id, fsm.Done))
		for _, m := range c.Live() {
			if err := m.Node.Snapshot(); err != nil {
				t.Fatal(err)
			}
		}
		c.Restart(late)
		c.Eventually("the late one serves the new site", c.Quiet)
	})
	scenario(t, "from the log", func(_ *testing.T, c *Cluster) {
		late := c.Follower()
		c.Kill(late)
		id := c.Failover(c.Follower(), "site-b", fsm.Forced)
		c.Eventually("done", c.Phase(id, fsm.Done))
		c.Restart(late)
		c.Eventually("the late one serves the new site", c.Quiet)
	})
}

func TestD4_MemberCutOffDoesNotServeTheOldSite(t *testing.T) {
	t.Parallel()
	scenario(t, "it is not listed as up, and admits nothing", func(t *testing.T, c *Cluster) {
		lost := c.Follower()
		c.Cut(lost)
		id := c.Failover(c.Leader(), "site-b", fsm.Forced)
		c.Eventually("done", c.Phase(id, fsm.Done))
		if _, serves := lost.Hosts.Serves(ClusterName); serves {
			t.Error("the member that was cut off still serves")
		}
		presence, err := c.Leader().Node.Presence(t.Context())
		if err != nil || presence[lost.Host()].Up {
			t.Errorf("presence of the lost member: %+v, %v", presence[lost.Host()], err)
		}
		c.Heal(lost)
		c.Eventually("it follows", c.Quiet)
	})
}

func TestG9_RefusedFailoverLeavesEveryMemberServing(t *testing.T) {
	t.Parallel()
	for behaviour, status := range map[Behaviour]fsm.ReplicationStatus{
		Refuse: fsm.ReplicationFailoverError, Invalid: fsm.ReplicationEnabled,
	} {
		scenario(t, fmt.Sprintf("status %s", status), func(t *testing.T, c *Cluster) {
			c.Array.Next(behaviour)
			id := c.Failover(c.Follower(), "site-b", fsm.Forced)
			c.Eventually("failed", c.Phase(id, fsm.Failed))
			c.Eventually("all serve the old site", c.AllServe)
			if got := c.Cluster(c.Leader()); got.ReplicationStatus != status || got.Held || got.Epoch != 1 {
				t.Errorf("cluster = %+v", got)
			}
			id = c.Failover(c.Follower(), "site-b", fsm.Forced)
			c.Eventually("the next one is done", c.Phase(id, fsm.Done))
		})
	}
}

func TestG9_UnknownOutcomeKeepsTheGatesClosed(t *testing.T) {
	t.Parallel()
	scenario(t, "until a failover succeeds", func(t *testing.T, c *Cluster) {
		c.Array.Next(Break, Refuse)
		id := c.Failover(c.Follower(), "site-b", fsm.Forced)
		c.Eventually("failed", c.Phase(id, fsm.Failed))
		if cl := c.Cluster(c.Leader()); !cl.Held || cl.ReplicationStatus != fsm.ReplicationFailoverError {
			t.Errorf("cluster = %+v, want it held", cl)
		}
		for _, m := range c.Live() {
			if _, serves := m.Hosts.Serves(ClusterName); serves {
				t.Errorf("%s serves although something may be promoted", m.ID)
			}
		}
		id = c.Failover(c.Follower(), fsm.DefaultBackendID, fsm.Forced)
		c.Eventually("the failback is done", c.Phase(id, fsm.Done))
		c.Eventually("all serve again", c.AllServe)
	})
}

func TestPlannedSwitchoverThatIsRefusedReopensTheOldSite(t *testing.T) {
	t.Parallel()
	scenario(t, "under a new epoch", func(t *testing.T, c *Cluster) {
		c.Array.Next(Refuse)
		id := c.Failover(c.Follower(), "site-b", fsm.Planned)
		c.Eventually("failed", c.Phase(id, fsm.Failed))
		c.Eventually("all serve the old site", c.AllServe)
		if cl := c.Cluster(c.Leader()); cl.Epoch != 2 || cl.ActiveBackendID != fsm.DefaultBackendID || cl.Held {
			t.Errorf("cluster = %+v", cl)
		}
	})
}

func TestMemberWhoseDriverRefusesHealsWithoutARestart(t *testing.T) {
	t.Parallel()
	scenario(t, "and does not hold up done", func(t *testing.T, c *Cluster) {
		odd := c.Follower()
		c.Array.RefuseSwitch(odd.Host(), errors.New("no path to site-b"))
		id := c.Failover(c.Leader(), "site-b", fsm.Forced)
		c.Eventually("done", c.Phase(id, fsm.Done))
		if _, serves := odd.Hosts.Serves(ClusterName); serves {
			t.Error("it serves although its driver refuses the site")
		}
		c.Array.RefuseSwitch(odd.Host(), nil)
		c.Eventually("it heals", c.Quiet)
	})
}

func TestD5_FreezeAndThawAreSymmetric(t *testing.T) {
	t.Parallel()
	scenario(t, "one member tells the driver", func(t *testing.T, c *Cluster) {
		for _, frozen := range []bool{true, false} {
			if err := c.Ask(c.Follower(), limits().Drain, fsm.SetFrozen{Cluster: ClusterName, Frozen: frozen}); err != nil {
				t.Fatal(err)
			}
			c.Eventually("the driver was told", func() bool { return c.Cluster(c.Leader()).FreezeOwner == "" })
		}
		if got := fmt.Sprint(c.Array.Freezes()); got != "[freeze thaw]" {
			t.Errorf("the driver heard %s", got)
		}
		c.Leader().Node.View(func(s *fsm.State) {
			for svc := range s.Members(ClusterName) {
				if svc.Disabled {
					t.Errorf("%s stays disabled: %s", svc.Host, svc.DisabledReason)
				}
			}
		})
	})
}

func TestLeaderThatIsStoppedHandsOver(t *testing.T) {
	t.Parallel()
	scenario(t, "without an election timeout", func(t *testing.T, c *Cluster) {
		leader := c.Leader()
		began := time.Now()
		c.Stop(leader)
		c.Leader()
		if took := time.Since(began); took >= timing(false).Heartbeat {
			t.Errorf("another member leads after %v, as if the leader had died", took)
		}
		c.Restart(leader)
		c.Eventually("all serve", c.Quiet)
	})
}

// A leader that is stopped with a request in hand does not answer it. Whoever has asked
// asks the next one, as soon as that is known.
func TestLeaderThatStandsStillHoldsUpNoRequest(t *testing.T) {
	t.Parallel()
	scenario(t, "another leads meanwhile", func(t *testing.T, c *Cluster) {
		leader, asked := c.Leader(), c.Follower()
		c.Pause(leader, false)
		began := time.Now()
		if err := c.Ask(asked, time.Minute, fsm.SetFrozen{Cluster: ClusterName, Frozen: true}); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took > 10*timing(false).Election {
			t.Errorf("it was answered after %v", took)
		}
		c.Resume(leader)
		c.Eventually("all agree", c.Quiet)
	})
}

// A leader whose followers are heard and cannot write commits nothing, and is leader
// still. It stops all the same.
func TestLeaderThatCannotCommitStops(t *testing.T) {
	t.Parallel()
	scenario(t, "with a request under way", func(t *testing.T, c *Cluster) {
		leader := c.Leader()
		for _, m := range c.Members {
			if m != leader {
				m.disk.stall(true)
			}
		}
		_ = c.Ask(leader, time.Second, fsm.SetFrozen{Cluster: ClusterName, Frozen: true})
		began := time.Now()
		c.Stop(leader)
		if took := time.Since(began); took > 10*timing(false).Election {
			t.Errorf("it stopped after %v", took)
		}
		for _, m := range c.Members {
			m.disk.stall(false)
		}
		c.Restart(leader)
		c.Eventually("all serve", c.Quiet)
	})
}
