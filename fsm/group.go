package fsm

import (
	"fmt"
	"iter"
	"slices"
)

// GroupStatus is Cinder's status of a group.
type GroupStatus string

// The statuses that a group can have.
const (
	GroupAvailable     GroupStatus = "available"
	GroupError         GroupStatus = "error"
	GroupErrorDeleting GroupStatus = "error_deleting"
	GroupInUse         GroupStatus = "in-use"
	GroupDeleting      GroupStatus = "deleting" // until the last of its volumes is gone
)

// Group is a set of volumes of one cluster. One of a replicated type can be failed
// over on its own: then it has a site of its own, until its cluster is switched and it
// follows that again.
type Group struct {
	ID          string      `cbor:"1,keyasint"`
	ProjectID   string      `cbor:"2,keyasint,omitempty"`
	UserID      string      `cbor:"3,keyasint,omitempty"`
	Name        string      `cbor:"4,keyasint,omitempty"`
	Description string      `cbor:"5,keyasint,omitempty"`
	Status      GroupStatus `cbor:"6,keyasint"`
	GroupType   string      `cbor:"7,keyasint"`  // id
	VolumeTypes []string    `cbor:"8,keyasint"`  // ids, as they were asked for
	Cluster     string      `cbor:"9,keyasint"`  // of its volumes, or the host of a service outside clusters
	Replicated  bool        `cbor:"10,keyasint"` // its type asked for replication when it was made
	CreatedAt   Time        `cbor:"11,keyasint,omitempty"`
	UpdatedAt   Time        `cbor:"12,keyasint,omitempty"`
	Index       uint64      `cbor:"13,keyasint,omitempty"` // log index of its creation

	// Switch is the last committed failover of the group alone. It counts until the
	// cluster is switched.
	Switch GroupSwitch `cbor:"14,keyasint,omitempty"`

	// ReplicationStatus is stored as what a user asked for: enabled or disabled, empty
	// before the first time; or as error, after a failover that could not be done. What
	// a reader sees follows from it and from the site.
	ReplicationStatus ReplicationStatus `cbor:"15,keyasint,omitempty"`
}

// maxGroupVolumes is how many volumes a group may have: one command deletes them all,
// and looks at each before a failover.
const maxGroupVolumes = 1000

// Group returns the group with the given id, as its cluster and a failover leave it.
func (s *State) Group(id string) (Group, bool) {
	g, ok := s.groups.Get(id)
	if !ok {
		return Group{}, false
	}
	out := *g
	out.ReplicationStatus = s.groupReplication(g)
	return out, true
}

// Groups yields the groups created before the log index before, newest first; a before
// of zero starts with the newest.
func (s *State) Groups(before uint64) iter.Seq[Group] {
	return newestFirst(&s.groupOrder, s.Group, before)
}

// GroupVolumes returns the ids of the volumes of a group, in order.
func (s *State) GroupVolumes(id string) []string {
	var ids []string
	eachUnder(&s.volumesOfGroup, id, func(key string, _ struct{}) bool {
		ids = append(ids, key[len(id)+1:])
		return true
	})
	return ids
}

func (s *State) addGroup(g *Group) {
	s.groups.Set(g.ID, g)
	s.groupOrder.Set(g.Index, g.ID)
	s.count(g.ProjectID, Usage{Groups: 1})
}

func (s *State) putGroup(g *Group, m Meta) {
	g.UpdatedAt = max(g.UpdatedAt, m.At)
	s.groups.Set(g.ID, g)
}

func (s *State) dropGroup(g *Group) {
	s.count(g.ProjectID, Usage{Groups: -1})
	s.groups.Delete(g.ID)
	s.groupOrder.Delete(g.Index)
}

// hasGroups reports whether a cluster has groups.
func (s *State) hasGroups(cluster string) bool {
	for g := range values(&s.groups) {
		if g.Cluster == cluster {
			return true
		}
	}
	return false
}

// inGroup refuses what would take a volume from its group.
func inGroup(v *Volume) error {
	return refuseField(ErrConflict, "volume_id", v.ID, fmt.Sprintf("volume %s belongs to group %s: delete that with its volumes", v.ID, v.GroupID))
}

func noGroup(id string) error {
	return refuseField(ErrNotFound, "group_id", id, fmt.Sprintf("Group %s could not be found.", id))
}

// editGroup returns a copy of a group to be changed and stored again.
func (s *State) editGroup(id string) (*Group, error) {
	g, ok := s.groups.Get(id)
	if !ok {
		return nil, noGroup(id)
	}
	return new(*g), nil
}

// CreateGroup adds a group of a cluster. The storage is told nothing of it before it
// has a volume.
type CreateGroup struct {
	Group Group `cbor:"1,keyasint"`
}

func (CreateGroup) kind() Kind { return kindCreateGroup }

// maxGroups is how many groups there may be: a failover of their cluster names them all
// to the driver.
const maxGroups = 10_000

// maxGroupTypes is how many volume types a group may have.
const maxGroupTypes = 100

func (c CreateGroup) apply(s *State, m Meta) error {
	g := c.Group
	if err := checkName("id", g.ID); err != nil {
		return err
	}
	if _, taken := s.groups.Get(g.ID); taken {
		return refuseField(ErrExists, "id", g.ID, fmt.Sprintf("group %s exists already", g.ID))
	}
	if len(g.VolumeTypes) == 0 || len(g.VolumeTypes) > maxGroupTypes {
		return refuseField(ErrInvalid, "volume_types", fmt.Sprint(len(g.VolumeTypes)),
			fmt.Sprintf("a group needs 1 to %d volume types", maxGroupTypes))
	}
	if s.groups.Len() >= maxGroups {
		return refuseField(ErrTooLarge, "id", g.ID, fmt.Sprintf("there are at most %d groups", maxGroups))
	}
	t, ok := s.groupTypes.Get(g.GroupType)
	if !ok {
		return noGroupType(g.GroupType)
	}
	cl, ok := s.clusters.Get(g.Cluster)
	if !ok {
		return notFound("cluster", "cluster or host", g.Cluster)
	}
	if err := s.serves(cl); err != nil {
		return err
	}
	if err := s.checkGroupQuota(g.ProjectID); err != nil {
		return err
	}
	g.ProjectID, g.UserID, g.Cluster = intern(g.ProjectID), intern(g.UserID), intern(g.Cluster)
	g.Status, g.Replicated, g.ReplicationStatus, g.Switch = GroupAvailable, t.Replicated(), "", GroupSwitch{}
	g.CreatedAt, g.UpdatedAt, g.Index = m.At, 0, m.Index
	s.addGroup(&g)
	return nil
}

// EditGroup changes what a group is called and described by, and which volumes it
// has. What is nil or empty stays as it is.
type EditGroup struct {
	ID          string   `cbor:"1,keyasint"`
	Name        *string  `cbor:"2,keyasint,omitempty"`
	Description *string  `cbor:"3,keyasint,omitempty"`
	Add         []string `cbor:"4,keyasint,omitempty"` // volumes
	Remove      []string `cbor:"5,keyasint,omitempty"`
}

func (EditGroup) kind() Kind { return kindEditGroup }

func (c EditGroup) apply(s *State, m Meta) error {
	g, err := s.editGroup(c.ID)
	if err != nil {
		return err
	}
	if g.Status == GroupDeleting || len(c.Add)+len(c.Remove) > 0 && g.Status != GroupAvailable {
		return groupRefusal(g, "Group status must be available.")
	}
	if c.Name != nil {
		g.Name = *c.Name
	}
	if c.Description != nil {
		g.Description = *c.Description
	}
	if err := c.checkMoves(s, g); err != nil {
		return err
	}
	for _, id := range c.Add {
		s.moveVolume(id, g.ID, m)
	}
	for _, id := range c.Remove {
		s.moveVolume(id, "", m)
	}
	s.putGroup(g, m)
	return nil
}

// checkMoves refuses volumes that cannot be given to the group or taken from it. The
// replicated volumes of a replication group lie apart from others, and stay where they
// were made.
func (c EditGroup) checkMoves(s *State, g *Group) error {
	if len(s.GroupVolumes(g.ID))+len(c.Add) > maxGroupVolumes {
		return refuseField(ErrTooLarge, "add_volumes", fmt.Sprint(len(c.Add)), fmt.Sprintf("a group has at most %d volumes", maxGroupVolumes))
	}
	for _, id := range slices.Concat(c.Add, c.Remove) {
		v, ok := s.stored(id)
		switch adds := slices.Contains(c.Add, id); {
		case !ok:
			return noVolume(id)
		case adds && v.GroupID != "":
			return refuseField(ErrConflict, "add_volumes", id, fmt.Sprintf("volume %s is in group %s", id, v.GroupID))
		case adds && v.group() != g.Cluster:
			return refuseField(ErrConflict, "add_volumes", id, fmt.Sprintf("volume %s is not of %q", id, g.Cluster))
		case !adds && v.GroupID != g.ID:
			return refuseField(ErrConflict, "remove_volumes", id, fmt.Sprintf("volume %s is not in group %s", id, g.ID))
		case v.busy():
			return statusRefusal(v.Status, "available or in-use")
		case g.Replicated && v.Replicated:
			return refuseField(ErrConflict, "volume_id", id, fmt.Sprintf(
				"volume %s is replicated: it joins replication group %s when it is made, and leaves it when it is deleted", id, g.ID))
		}
	}
	return nil
}

// moveVolume gives a volume to a group, or to none.
func (s *State) moveVolume(id, group string, m Meta) {
	v, _, err := s.editVolume(id)
	if err != nil {
		return
	}
	if v.GroupID != "" {
		s.volumesOfGroup.Delete(under(v.GroupID, id))
	}
	v.GroupID = intern(group)
	if group != "" {
		s.volumesOfGroup.Set(under(group, id), struct{}{})
	}
	s.putVolume(v, m)
}

// joinGroup refuses a new volume that its group cannot have.
func (s *State) joinGroup(v *Volume) error {
	if v.GroupID == "" {
		return nil
	}
	g, ok := s.groups.Get(v.GroupID)
	switch {
	case !ok:
		return noGroup(v.GroupID)
	case g.Status == GroupDeleting || g.Status == GroupErrorDeleting:
		return groupRefusal(g, fmt.Sprintf("Group %s is %s.", g.ID, g.Status))
	case g.Cluster != v.group():
		return refuseField(ErrConflict, "group_id", g.ID, fmt.Sprintf("group %s is of %q, not of %q", g.ID, g.Cluster, v.group()))
	case len(s.GroupVolumes(g.ID)) >= maxGroupVolumes:
		return refuseField(ErrTooLarge, "group_id", g.ID, fmt.Sprintf("a group has at most %d volumes", maxGroupVolumes))
	}
	v.GroupID = intern(g.ID)
	return nil
}

// groupRefusal refuses with what a reader of Cinder's answers knows.
func groupRefusal(g *Group, message string) error {
	return refuseField(ErrConflict, "group_id", g.ID, message)
}

// ResetGroup sets the status of a group that is not as it says, as an administrator
// asks.
type ResetGroup struct {
	ID     string      `cbor:"1,keyasint"`
	Status GroupStatus `cbor:"2,keyasint"`
}

func (ResetGroup) kind() Kind { return kindResetGroup }

func (c ResetGroup) apply(s *State, m Meta) error {
	g, err := s.editGroup(c.ID)
	if err != nil {
		return err
	}
	if !slices.Contains([]GroupStatus{GroupAvailable, GroupError, GroupErrorDeleting, GroupInUse}, c.Status) {
		return refuseField(ErrInvalid, "status", string(c.Status), fmt.Sprintf("nothing would end the status %s", c.Status))
	}
	if g.Status == GroupDeleting {
		return groupRefusal(g, fmt.Sprintf("Group %s is being deleted.", g.ID))
	}
	g.Status = c.Status
	s.putGroup(g, m)
	return nil
}

// DeleteGroup asks for a group to be deleted, with its volumes if Volumes says so.
// Host is the member that should delete them.
type DeleteGroup struct {
	ID      string `cbor:"1,keyasint"`
	Volumes bool   `cbor:"2,keyasint,omitempty"`
	Host    string `cbor:"3,keyasint,omitempty"`
}

func (DeleteGroup) kind() Kind { return kindDeleteGroup }

func (c DeleteGroup) apply(s *State, m Meta) error {
	g, err := s.editGroup(c.ID)
	if err != nil {
		return err
	}
	volumes := s.GroupVolumes(g.ID)
	if err := c.check(s, g, volumes); err != nil {
		return err
	}
	if len(volumes) == 0 {
		s.dropGroup(g)
		return nil
	}
	for i, id := range volumes {
		v, _, err := s.editVolume(id)
		if err != nil || v.busy() { // it is being deleted already
			continue
		}
		v.PreviousStatus, v.Status, v.Nominal = v.Status, StatusDeleting, false
		s.putVolume(v, m)
		s.oweNth(&Operation{Kind: OpDeleteVolume, VolumeID: id, Host: s.ownerFor(v, c.Host), Cluster: g.Cluster}, i, m)
	}
	g.Status = GroupDeleting
	s.putGroup(g, m)
	return nil
}

func (c DeleteGroup) check(s *State, g *Group, volumes []string) error {
	cl, ok := s.clusters.Get(g.Cluster)
	if !ok || len(volumes) > 0 && s.memberOr(g.Cluster, "") == "" {
		return refuseField(ErrConflict, "group_id", g.ID, fmt.Sprintf("no service of %q is left", g.Cluster))
	}
	if err := s.serves(cl); err != nil {
		return err
	}
	switch {
	case g.Status == GroupDeleting:
		return groupRefusal(g, fmt.Sprintf("Group %s is being deleted.", g.ID))
	case !c.Volumes && g.Status != GroupAvailable && g.Status != GroupError:
		return groupRefusal(g, fmt.Sprintf("Group status must be available or error, but current status is: %s", g.Status))
	case !c.Volumes && len(volumes) > 0:
		return groupRefusal(g, fmt.Sprintf("Group %s still contains volumes. The delete-volumes flag is required to delete it.", g.ID))
	}
	for _, id := range volumes {
		v, _ := s.Volume(id)
		snapshots := false
		eachUnder(&s.snapshotsOf, id, func(string, struct{}) bool { snapshots = true; return false })
		switch {
		case s.attached(id) || v.Status == StatusInUse:
			return groupRefusal(g, fmt.Sprintf("Volume in group %s is attached. Need to detach first.", g.ID))
		case snapshots:
			return groupRefusal(g, "Volume in group still has dependent snapshots.")
		case v.busy() && v.Status != StatusDeleting:
			return groupRefusal(g, fmt.Sprintf("Volume %s in group %s is %s.", id, g.ID, v.Status))
		}
	}
	return nil
}

// volumeGone drops a volume from its group, and the group with its last volume if that
// was asked for.
func (s *State) volumeGone(v *Volume) {
	if v.GroupID == "" {
		return
	}
	s.volumesOfGroup.Delete(under(v.GroupID, v.ID))
	g, ok := s.groups.Get(v.GroupID)
	if ok && g.Status == GroupDeleting && len(s.GroupVolumes(g.ID)) == 0 {
		s.dropGroup(g)
	}
}

// volumeStays ends the deletion of a group of which a volume could not be deleted.
func (s *State) volumeStays(v *Volume, m Meta) {
	if g, err := s.editGroup(v.GroupID); err == nil && g.Status == GroupDeleting {
		g.Status = GroupErrorDeleting
		s.putGroup(g, m)
	}
}
