package clustertest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/lockstep-storage/lockstep/cmd/internal/history"
	"github.com/lockstep-storage/lockstep/fsm"
)

// Live returns the members that run and are not cut off.
func (c *Cluster) Live() []*Member {
	return slices.DeleteFunc(c.members(), func(m *Member) bool {
		_, up := c.node(m.ID)
		return !up || c.isCut(m.ID)
	})
}

// Leader waits for a member that leads a majority, and returns it.
func (c *Cluster) Leader() *Member {
	c.tb.Helper()
	return c.find("a leader", func(m *Member) bool { return m.Node.Status().Leader == m.ID })
}

// Follower returns a live member that does not lead.
func (c *Cluster) Follower() *Member {
	c.tb.Helper()
	leader := c.Leader()
	return c.find("a follower", func(m *Member) bool { return m != leader })
}

// Executor waits until a member other than not promotes, and returns it.
func (c *Cluster) Executor(not *Member) *Member {
	c.tb.Helper()
	return c.find("an executor in the driver", func(m *Member) bool { return m != not && c.Array.promoting() == m.Host() })
}

func (c *Cluster) find(what string, ok func(*Member) bool) (found *Member) {
	c.tb.Helper()
	c.Eventually(what, func() bool {
		live := c.Live()
		i := slices.IndexFunc(live, ok)
		if i >= 0 {
			found = live[i]
		}
		return i >= 0
	})
	return found
}

// Eventually waits for ok to hold. Raft pauses for up to ten seconds before it
// sends the log again to a node that was away, so it waits longer than that.
func (c *Cluster) Eventually(what string, ok func() bool) {
	c.tb.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !ok(); <-tick.C {
		if time.Now().After(end) {
			c.tb.Fatalf("gave up waiting for: %s\n%s", what, c.describe())
		}
	}
}

// Ask proposes a command at m, as its API would. What is acknowledged is checked in
// the end to be committed.
func (c *Cluster) Ask(m *Member, within time.Duration, cmd fsm.Command) error {
	return c.ask(m, within, uuid.NewString(), cmd)
}

func (c *Cluster) ask(m *Member, within time.Duration, request string, cmd fsm.Command) error {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	c.mu.Lock()
	node, p := m.Node, m.process
	c.mu.Unlock()
	index, err := node.Propose(ctx, request, cmd)
	if !p.runs() {
		return errKilled // nobody hears of it
	}
	if err == nil {
		c.oracle.promise(index, request, fmt.Sprintf("%T at %s", cmd, m.ID))
	}
	return err
}

// Failover asks m for a failover and returns its id.
func (c *Cluster) Failover(m *Member, target string, mode fsm.Mode) string {
	c.tb.Helper()
	id := uuid.NewString()
	pending := c.History.Begin(0, history.Request{Kind: history.RequestFailover, Cluster: ClusterName, ID: id, Target: target})
	if err := c.Ask(m, 20*time.Second, fsm.RequestFailover{ID: id, Cluster: ClusterName, Target: target, Mode: mode}); err != nil {
		c.tb.Fatalf("failover to %s: %v", target, err)
	}
	pending.End(history.Answer{})
	return id
}

// Cluster returns the cluster as m sees it.
func (c *Cluster) Cluster(m *Member) (cl fsm.Cluster) {
	m.Node.View(func(s *fsm.State) { cl, _ = s.Cluster(ClusterName) })
	return cl
}

// Record returns a failover as m sees it.
func (c *Cluster) Record(m *Member, id string) (f fsm.Failover) {
	m.Node.View(func(s *fsm.State) { f, _ = s.Failover(id) })
	return f
}

// Phase returns a condition: the failover is in phase, as the leader sees it.
func (c *Cluster) Phase(id string, phase fsm.Phase) func() bool {
	return func() bool {
		return slices.ContainsFunc(c.Live(), func(m *Member) bool { return c.Record(m, id).Phase == phase })
	}
}

// AllServe reports whether every live member works against the committed sites
// and would admit calls, unless a cluster is held or frozen.
func (c *Cluster) AllServe() bool {
	live := c.Live()
	return len(live) > 0 && !slices.ContainsFunc(live, func(m *Member) bool { return !c.serves(m) })
}

func (c *Cluster) serves(m *Member) bool {
	for name, array := range c.Arrays {
		var cl fsm.Cluster
		m.Node.View(func(s *fsm.State) { cl, _ = s.Cluster(name) })
		host := m.HostIn(name)
		if cl.Epoch == 0 || !cl.Held && (array.toldEpoch(host) != cl.Epoch || array.site(host) != cl.ActiveBackendID) {
			return false
		}
	}
	return m.Hosts.Ready() == nil
}

// Quiet reports whether no failover is unfinished, and all members run, agree on
// all of the state and work against its sites.
func (c *Cluster) Quiet() bool {
	live := c.Live()
	if len(live) < len(c.members()) || !c.AllServe() {
		return false
	}
	var first uint64
	for i, m := range live {
		var index uint64
		unfinished := false
		m.Node.View(func(s *fsm.State) {
			index = s.Index()
			for name := range c.Arrays {
				_, is := s.Unfinished(name)
				unfinished = unfinished || is
			}
		})
		if i == 0 {
			first = index
		}
		if unfinished || index != first {
			return false
		}
	}
	return c.agree(live)
}

// agree reports whether the states of members are equal in every record.
func (c *Cluster) agree(members []*Member) bool {
	var digest [32]byte
	for i, m := range members {
		d, err := m.Node.Clone().Digest()
		if err != nil || i > 0 && d != digest {
			return false
		}
		digest = d
	}
	return true
}

func (c *Cluster) describe() string {
	var text strings.Builder
	for _, m := range c.members() {
		if _, up := c.node(m.ID); !up {
			fmt.Fprintf(&text, "%s: down\n", m.ID)
			continue
		}
		cl := c.Cluster(m)
		f := c.Record(m, cl.Failover)
		fmt.Fprintf(&text, "%s: cut=%v leader=%s epoch=%d active=%s status=%s held=%v told=%d ready=%v\n",
			m.ID, c.isCut(m.ID), m.Node.Status().Leader, cl.Epoch, cl.ActiveBackendID, cl.ReplicationStatus, cl.Held,
			c.Array.toldEpoch(m.Host()), m.Hosts.Ready())
		fmt.Fprintf(&text, "  failover %s: %s attempt=%d executor=%s claim=%d unknown=%v error=%q members=%v\n",
			f.ID, f.Phase, f.Attempt, f.Executor, f.ClaimIndex, f.Unknown, f.Error, f.Members)
	}
	return text.String()
}

// keepBusy asks for a volume on m and waits until its driver is at work on it.
func (c *Cluster) keepBusy(m *Member) {
	c.tb.Helper()
	id := uuid.NewString()
	if err := c.Ask(m, 10*time.Second, fsm.CreateVolume{Volume: fsm.Volume{ID: id, Size: 1, Host: m.Host()}}); err != nil {
		c.tb.Fatalf("create a volume: %v", err)
	}
	c.Eventually("the driver is busy", func() bool { return c.Array.Busy(m.Host()) })
}
