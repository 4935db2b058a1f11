package fsm

import (
	"fmt"
	"iter"
	"slices"
	"strings"
)

// GroupSwitch is a committed failover of a group alone.
type GroupSwitch struct {
	BackendID   string `cbor:"1,keyasint,omitempty"` // the site that the group was moved to
	Epoch       uint64 `cbor:"2,keyasint,omitempty"` // of the cluster, that the failover led to; 0 if there was none
	At          Time   `cbor:"3,keyasint,omitempty"`
	FailedEpoch uint64 `cbor:"4,keyasint,omitempty"` // the site's epoch when a failover of the group failed; counts until the next switch
}

// groupSite is where the replicated volumes of a group are, and since when.
type groupSite struct {
	backend string
	epoch   uint64 // that led there
	at      Time
}

// siteOf returns where the replicated volumes of a group are: its own site if it was
// failed over after its cluster, else the cluster's. So nothing has to be written to
// groups when a cluster is switched.
func (c *Cluster) siteOf(g *Group) groupSite {
	if g != nil && g.Replicated && g.Switch.Epoch > c.SiteEpoch {
		return groupSite{g.Switch.BackendID, g.Switch.Epoch, g.Switch.At}
	}
	return groupSite{c.ActiveBackendID, c.SiteEpoch, c.SwitchedAt}
}

// replicaGroup returns the replication group whose site a volume follows, nil if there
// is none.
func (s *State) replicaGroup(v *Volume) *Group {
	if v.GroupID == "" || !v.Replicated {
		return nil
	}
	if g, ok := s.groups.Get(v.GroupID); ok && g.Replicated {
		return g
	}
	return nil
}

// settled is the replication status at a site that nothing is wrong with.
func settled(backend string) ReplicationStatus {
	if backend == DefaultBackendID {
		return ReplicationEnabled
	}
	return ReplicationFailedOver
}

// groupReplication is the replication status of a group as a reader sees it.
func (s *State) groupReplication(g *Group) ReplicationStatus {
	cl, ok := s.clusters.Get(g.Cluster)
	if !ok || !g.Replicated {
		return ReplicationDisabled
	}
	if f, ok := s.unfinished(g.Cluster); ok && f.Group == g.ID && f.Phase != Switching {
		return ReplicationFailingOver
	}
	site := cl.siteOf(g)
	switch {
	case g.Switch.FailedEpoch == site.epoch:
		return ReplicationError
	case g.ReplicationStatus != ReplicationEnabled:
		return ReplicationDisabled
	}
	return settled(site.backend)
}

// volumeReplication is the replication status of a volume that follows a group, at a
// site that it has reached. One of a group that nobody has enabled or disabled yet is
// replicated as its cluster is.
func (g *Group) volumeReplication(site groupSite) ReplicationStatus {
	switch {
	case g.Switch.FailedEpoch == site.epoch:
		return ReplicationError
	case g.ReplicationStatus == ReplicationDisabled && site.backend == DefaultBackendID:
		return ReplicationDisabled
	}
	return settled(site.backend)
}

// GroupMove is what a failover moves besides the volumes of no replication group.
type GroupMove struct {
	ID   string
	From string // the site that the group is at
}

// Moves yields the replication groups that a failover moves, by id: one, or all of the
// cluster.
func (s *State) Moves(cluster, group string) iter.Seq[GroupMove] {
	return func(yield func(GroupMove) bool) {
		cl, ok := s.clusters.Get(cluster)
		if !ok {
			return
		}
		for g := range values(&s.groups) {
			if g.Cluster != cluster || !g.Replicated || group != "" && g.ID != group {
				continue
			}
			if !yield(GroupMove{ID: g.ID, From: cl.siteOf(&g).backend}) {
				return
			}
		}
	}
}

// PromotedVolumes yields the volumes that a failover promotes, by id: those of a group,
// or all of the cluster that are replicated.
func (s *State) PromotedVolumes(cluster, group string) iter.Seq[Volume] {
	if group == "" {
		return s.ReplicatedVolumes(cluster)
	}
	return func(yield func(Volume) bool) {
		for _, id := range s.GroupVolumes(group) {
			v, ok := s.Volume(id)
			if ok && v.Replicated && !v.unmade() && !yield(v) {
				return
			}
		}
	}
}

// SetGroupReplication enables or disables the replication of a group. The storage
// replicates its volumes either way, as their type says: what a group without has not
// is the right to fail over on its own.
type SetGroupReplication struct {
	ID      string `cbor:"1,keyasint"`
	Enabled bool   `cbor:"2,keyasint,omitempty"`
}

func (SetGroupReplication) kind() Kind { return kindSetGroupReplication }

func (c SetGroupReplication) apply(s *State, m Meta) error {
	g, err := s.editGroup(c.ID)
	if err != nil {
		return err
	}
	verb, next := "enable", ReplicationEnabled
	statuses, replication := []string{"available"}, []string{"disabled", "enabled"}
	if !c.Enabled {
		verb, next = "disable", ReplicationDisabled
		statuses, replication = []string{"available", "error"}, []string{"enabled", "error"}
	}
	if err := s.checkReplicated(g, verb, statuses, replication); err != nil {
		return err
	}
	g.ReplicationStatus, g.Switch.FailedEpoch = next, 0
	s.putGroup(g, m)
	return nil
}

// checkReplicated refuses in Cinder's words what a group does not allow as it is.
func (s *State) checkReplicated(g *Group, verb string, statuses, replication []string) error {
	if err := s.CheckGroupType(g.ID); err != nil {
		return err
	}
	refusal := func(field, is string, allowed []string) error {
		return refuseField(ErrConflict, "group_id", g.ID, fmt.Sprintf("Group %s %s must be %s, but current status is: %s. Cannot %s replication.",
			g.ID, field, pyList(allowed), is, verb))
	}
	if !slices.Contains(statuses, string(g.Status)) {
		return refusal("status", string(g.Status), statuses)
	}
	if is := string(s.groupReplication(g)); !slices.Contains(replication, is) {
		return refusal("replication status", is, replication)
	}
	return nil
}

// CheckGroupType refuses what only a group whose type and whose volumes' types are
// replicated can do.
func (s *State) CheckGroupType(id string) error {
	g, ok := s.groups.Get(id)
	if !ok {
		return noGroup(id)
	}
	if !g.Replicated {
		return refuseField(ErrConflict, "group_type", g.GroupType, fmt.Sprintf("Group %s is not a replication group type.", g.ID))
	}
	for _, id := range g.VolumeTypes {
		if t, ok := s.volumeTypes.Get(id); !ok || !t.Replicated() {
			return refuseField(ErrConflict, "volume_type", id,
				fmt.Sprintf("Volume type %s does not have 'replication_enabled' spec key set to '<is> True'.", id))
		}
	}
	return nil
}

// pyList writes a list as Cinder's messages do.
func pyList(all []string) string { return "['" + strings.Join(all, "', '") + "']" }

// checkGroup refuses the failover of a group that is not there, or not fit for it.
// What an operation announces is no obstacle: it is made again at the new site.
func (c RequestFailover) checkGroup(s *State, cl *Cluster) error {
	if c.Group == "" {
		return nil
	}
	g, ok := s.groups.Get(c.Group)
	if !ok || g.Cluster != cl.Name {
		return noGroup(c.Group)
	}
	if cl.Held && cl.HeldGroup != g.ID {
		return s.serves(cl)
	}
	replication := []string{"enabled", "failed-over"}
	if s.groupReplication(g) == ReplicationError { // as a failed failover of a cluster, it may be tried again
		replication = append(replication, "error")
	}
	if err := s.checkReplicated(g, "failover", []string{"available"}, replication); err != nil {
		return err
	}
	for _, id := range s.GroupVolumes(g.ID) {
		v, _ := s.stored(id)
		switch {
		case v.Status != StatusAvailable && v.Status != StatusInUse && !v.busy():
			return refuseField(ErrConflict, "volume_id", id, fmt.Sprintf(
				"Volume %s status must be ['available', 'in-use'], but current status is: %s. Cannot failover replication.", id, v.Status))
		case v.Status == StatusInUse && !c.Attached:
			return refuseField(ErrConflict, "volume_id", id, fmt.Sprintf(
				"Volume %s is attached but allow_attached_volume flag is False. Cannot failover replication.", id))
		}
	}
	return nil
}

// from is the site that a failover leaves.
func (c RequestFailover) from(s *State, cl *Cluster) string {
	if g, ok := s.groups.Get(c.Group); ok {
		return cl.siteOf(g).backend
	}
	return cl.ActiveBackendID
}

// switchTo commits the site that a failover has led to, of the group or of the cluster.
// Both records are copies to be edited, and the cluster's epoch is the new one.
func (s *State) switchTo(f *Failover, cl *Cluster, m Meta) {
	wasHeld := cl.Held
	cl.Held, cl.HeldGroup = false, ""
	g, err := s.editGroup(f.Group)
	if f.Group == "" || err != nil {
		cl.ActiveBackendID, cl.SiteEpoch, cl.SwitchedAt = f.Target, cl.Epoch, m.At
		s.followSite(cl, m)
		return
	}
	g.Switch = GroupSwitch{BackendID: intern(f.Target), Epoch: cl.Epoch, At: m.At}
	s.putGroup(g, m)
	cl.ReplicationStatus = f.PreviousStatus
	if wasHeld {
		s.followSite(cl, m)
	}
}

// hold closes the gates of a cluster after a failover that may have promoted something.
// Only a switch opens them; of a group alone, if nothing else is uncertain.
func (c *Cluster) hold(f *Failover) {
	switch {
	case !f.Unknown:
	case !c.Held:
		c.Held, c.HeldGroup = true, f.Group
	case c.HeldGroup != f.Group:
		c.HeldGroup = ""
	}
}

// failGroup notes that a failover of a group alone could not be done.
func (s *State) failGroup(f *Failover, cl *Cluster, m Meta) {
	if g, err := s.editGroup(f.Group); err == nil {
		g.Switch.FailedEpoch = cl.siteOf(g).epoch
		s.putGroup(g, m)
	}
}
