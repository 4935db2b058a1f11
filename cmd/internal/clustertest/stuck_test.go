package clustertest

import (
	"strings"
	"testing"

	"github.com/lockstep-storage/lockstep/cmd/internal/history"
	"github.com/lockstep-storage/lockstep/fsm"
)

// stick has the kernel hold the drivers of a member, one at a time: their calls do not
// end, and they cannot be killed.
func (s *story) stick(m *Member) {
	if s.stuck != nil || !s.c.Hold(m) {
		return
	}
	s.note("the kernel holds the drivers of %s", m.ID)
	s.stats.Add("fault: the kernel holds a driver", 1)
	s.stuck = m
}

// unstick ends what stick did.
func (s *story) unstick(m *Member) {
	if m == nil || s.stuck != m {
		return
	}
	s.note("the kernel lets go of the drivers of %s", m.ID)
	s.c.Release(m)
	s.stuck = nil
}

// withoutTheStuck asks for a failover while all is well but the drivers that the kernel
// holds. It ends (G5). Then the kernel lets go of them, or somebody turns the machine
// off and on again.
func (s *story) withoutTheStuck() {
	m := s.stuck
	if m == nil {
		return
	}
	for _, name := range s.c.opts.Clusters {
		target := []string{"site-b", "site-c"}[s.rnd.IntN(2)]
		id := s.name("f")
		s.note("forced failover %s of %s to %s while the drivers of %s are stuck", id, name, target, m.ID)
		s.do(s.c.Leader(), history.Request{Kind: history.RequestFailover, Cluster: name, ID: id, Target: target},
			fsm.RequestFailover{ID: id, Cluster: name, Target: target, Mode: fsm.Forced}, func() { s.asked = append(s.asked, asked{id, name}) })
	}
	s.clients.Wait()
	s.c.Eventually("G5: every failover ends although a driver cannot be ended", s.c.noneUnfinished)
	s.check()
	if s.rnd.IntN(2) == 0 {
		s.c.PowerOff(m)
		s.c.Restart(m)
	}
	s.unstick(m)
}

// noneUnfinished reports whether a node shows that no failover is unfinished.
func (c *Cluster) noneUnfinished() bool {
	state := c.Leader().Node.Clone()
	for name := range c.Arrays {
		if _, unfinished := state.Unfinished(name); unfinished {
			return false
		}
	}
	return true
}

func TestDriverThatCannotBeEnded(t *testing.T) {
	t.Parallel()
	scenario(t, "no attempt begins until its node is off", func(t *testing.T, c *Cluster) {
		odd := c.Follower()
		c.Hold(odd)
		c.keepBusy(odd)
		id := c.Failover(c.Leader(), "site-b", fsm.Forced)
		c.Eventually("failed", c.Phase(id, fsm.Failed))
		if f := c.Record(c.Leader(), id); f.Attempt != 0 || !strings.Contains(f.Error, "power off "+odd.ID) {
			t.Errorf("failed in attempt %d: %q", f.Attempt, f.Error)
		}
		if cl := c.Cluster(c.Leader()); cl.Epoch != 1 || cl.Held || c.Array.Promotions() != 0 {
			t.Errorf("cluster = %+v after %d promotions", cl, c.Array.Promotions())
		}
		c.PowerOff(odd)
		if err := c.Remove(odd); err != nil {
			t.Fatal(err)
		}
		id = c.Failover(c.Leader(), "site-b", fsm.Forced)
		c.Eventually("the next one is done", c.Phase(id, fsm.Done))
		c.Eventually("all others serve the new site", c.Quiet)
	})
}
