package clustertest

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/lockstep-storage/lockstep/fsm"
)

// replicationGroup makes an enabled replication group with one volume.
func (c *Cluster) replicationGroup(id, volume string) {
	c.tb.Helper()
	m := c.Leader()
	spec := func(key string) []fsm.KeyValue { return []fsm.KeyValue{{Key: key, Value: "<is> True"}} }
	for _, cmd := range []fsm.Command{
		fsm.CreateVolumeType{Type: fsm.VolumeType{ID: "t", Name: "mirrored", ExtraSpecs: spec("replication_enabled")}},
		fsm.CreateGroupType{Type: fsm.GroupType{ID: "gt", Name: "replicating", Specs: spec("group_replication_enabled")}},
		fsm.CreateGroup{Group: fsm.Group{ID: id, GroupType: "gt", VolumeTypes: []string{"t"}, Cluster: ClusterName}},
		fsm.CreateVolume{Volume: fsm.Volume{ID: volume, Size: 1, Host: m.Host(), Replicated: true, VolumeType: "mirrored", GroupID: id}},
		fsm.SetGroupReplication{ID: id, Enabled: true},
	} {
		if err := c.Ask(m, 10*time.Second, cmd); err != nil {
			c.tb.Fatalf("%T: %v", cmd, err)
		}
	}
	c.Eventually("the group's volume is there", func() bool { return c.volume(m, volume).Status == fsm.StatusAvailable })
}

func (c *Cluster) volume(m *Member, id string) (v fsm.Volume) {
	m.Node.View(func(s *fsm.State) { v, _ = s.Volume(id) })
	return v
}

// eachExtends has every live member make a call on the volume in turn, and checks the
// site that the call goes to.
func (c *Cluster) eachExtends(t *testing.T, volume, site string) {
	t.Helper()
	for _, m := range c.Live() {
		var size int64
		c.Eventually("a call is accepted", func() bool {
			size = c.volume(m, volume).Size + 1 // it may not have applied the last one yet
			return c.Ask(m, 10*time.Second, fsm.ExtendVolume{ID: volume, Size: size, Host: m.Host()}) == nil
		})
		c.Eventually("the call has ended", func() bool { v := c.volume(m, volume); return v.Status == fsm.StatusAvailable && v.Size == size })
		if at := c.Array.groupSite(m.Host()); at != site {
			t.Errorf("%s works on the group at %q, not at %q", m.ID, at, site)
		}
	}
}

// A failover of a group moves all members or none, whoever dies in whichever phase; the
// rest of the backend goes on where it was, and the next failover of all takes it along.
func TestGroupFailoverIsAllOrNone(t *testing.T) {
	t.Parallel()
	for _, phase := range []fsm.Phase{fsm.Draining, fsm.Promoting, fsm.Switching} {
		scenario(t, fmt.Sprintf("the leader dies while %s", phase), func(t *testing.T, c *Cluster) {
			c.replicationGroup("g", "gv")
			c.eachExtends(t, "gv", fsm.DefaultBackendID)
			leader, other := c.Leader(), c.Follower()
			if phase != fsm.Promoting { // a call that does not end at once keeps the phase
				c.Array.Stick(other.Host(), true)
			}
			if phase == fsm.Draining {
				c.keepBusy(other)
			}
			ask := fsm.RequestFailover{ID: "f", Cluster: ClusterName, Group: "g", Target: "site-b", Mode: fsm.Forced}
			if err := c.Ask(leader, 20*time.Second, ask); err != nil {
				t.Fatal(err)
			}
			c.Eventually(string(phase), c.Phase("f", phase))
			c.Kill(leader)
			c.Array.Stick(other.Host(), false)
			c.Eventually("done", c.Phase("f", fsm.Done))
			c.Eventually("the others serve", c.AllServe)
			c.Restart(leader)
			c.Eventually("the old leader follows", c.Quiet)
			c.eachExtends(t, "gv", "site-b")
			if cl := c.Cluster(c.Leader()); cl.ActiveBackendID != fsm.DefaultBackendID || cl.Epoch != 2 || cl.ReplicationStatus != fsm.ReplicationEnabled {
				t.Errorf("cluster = %+v", cl)
			}
			id := c.Failover(c.Leader(), "site-c", fsm.Forced)
			c.Eventually("done", c.Phase(id, fsm.Done))
			c.Eventually("all serve the new site", c.AllServe)
			if v := c.volume(c.Leader(), "gv"); v.Site != "site-c" {
				t.Errorf("the group's volume is at %q", v.Site)
			}
		})
	}
}

// A group whose failover is refused stays where it was, with all members.
func TestRefusedGroupFailoverMovesNobody(t *testing.T) {
	t.Parallel()
	scenario(t, "the driver refuses, and then a target is unknown", func(t *testing.T, c *Cluster) {
		c.replicationGroup("g", "gv")
		c.Array.Next(Refuse)
		ask := fsm.RequestFailover{ID: "f", Cluster: ClusterName, Group: "g", Target: "site-b", Mode: fsm.Forced}
		if err := c.Ask(c.Follower(), 20*time.Second, ask); err != nil {
			t.Fatal(err)
		}
		c.Eventually("failed", c.Phase("f", fsm.Failed))
		c.Eventually("all serve", c.AllServe)
		c.eachExtends(t, "gv", fsm.DefaultBackendID)
		ask.ID, ask.Target = "g", "site-x"
		if err := c.Ask(c.Follower(), 20*time.Second, ask); !errors.Is(err, fsm.ErrInvalid) {
			t.Errorf("failover to site-x: %v", err)
		}
	})
}
