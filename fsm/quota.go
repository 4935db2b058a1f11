package fsm

import (
	"fmt"
	"strings"
)

// Quota is what a project may have, as far as somebody has said so.
type Quota struct {
	ProjectID string  `cbor:"1,keyasint"`
	Limits    []Limit `cbor:"2,keyasint,omitempty"` // by resource
	UpdatedAt Time    `cbor:"3,keyasint,omitempty"`
}

// Limit is how much of a resource a project may have; less than zero is without
// limit.
type Limit struct {
	Resource string `cbor:"1,keyasint"`
	Max      int64  `cbor:"2,keyasint"`
}

// Limit returns the limit that was set for a resource.
func (q *Quota) Limit(resource string) (most int64, set bool) {
	for _, l := range q.Limits {
		if l.Resource == resource {
			return l.Max, true
		}
	}
	return 0, false
}

// The resources that quotas are about, as Cinder names them.
const (
	ResourceVolumes   = "volumes"
	ResourceSnapshots = "snapshots"
	ResourceGigabytes = "gigabytes"
	ResourcePerVolume = "per_volume_gigabytes"
	ResourceGroups    = "groups"

	// Nobody can have backups; clients expect to be told Cinder's limits all the same.
	ResourceBackups         = "backups"
	ResourceBackupGigabytes = "backup_gigabytes"
)

// Quota returns the quota of a project.
func (s *State) Quota(project string) (Quota, bool) { return deref(s.quotas.Get(project)) }

// SetQuota sets limits of a project, or of all with [DefaultQuota], and leaves the
// others as they are. Without any it forgets all.
type SetQuota struct {
	ProjectID string  `cbor:"1,keyasint"`
	Limits    []Limit `cbor:"2,keyasint,omitempty"`
}

func (SetQuota) kind() Kind { return kindSetQuota }

// maxLimits bounds the limits of one project.
const maxLimits = 1000

func (c SetQuota) apply(s *State, m Meta) error {
	if c.ProjectID != DefaultQuota {
		if err := checkName("project_id", c.ProjectID); err != nil {
			return err
		}
	}
	if len(c.Limits) == 0 {
		s.quotas.Delete(c.ProjectID)
		return nil
	}
	q := &Quota{ProjectID: c.ProjectID, UpdatedAt: m.At}
	if old, ok := s.quotas.Get(c.ProjectID); ok {
		q.Limits = append(q.Limits, old.Limits...)
	}
	for _, l := range c.Limits {
		q.set(l)
	}
	if len(q.Limits) > maxLimits {
		return refuseField(ErrTooLarge, "quota_set", fmt.Sprint(len(q.Limits)), fmt.Sprintf("at most %d limits are allowed", maxLimits))
	}
	s.quotas.Set(q.ProjectID, q)
	return nil
}

func (q *Quota) set(l Limit) {
	for i, old := range q.Limits {
		switch strings.Compare(old.Resource, l.Resource) {
		case 0:
			q.Limits[i] = l
			return
		case 1:
			q.Limits = append(q.Limits[:i], append([]Limit{l}, q.Limits[i:]...)...)
			return
		}
	}
	q.Limits = append(q.Limits, l)
}

// DefaultLimit is how much of a resource every project may have until somebody
// says otherwise, as in Cinder's default configuration.
func DefaultLimit(resource string) int64 {
	switch resource {
	case ResourceGigabytes, ResourceBackupGigabytes:
		return 1000
	case ResourceVolumes, ResourceSnapshots, ResourceGroups, ResourceBackups:
		return 10
	}
	return -1
}

// DefaultQuota is in place of a project: its limits hold for all projects that have
// none of their own. No project is called so.
const DefaultQuota = "/default"

// Limit returns how much of a resource a project may have; less than zero is
// without limit.
func (s *State) Limit(project, resource string) int64 {
	for _, of := range [...]string{project, DefaultQuota} {
		if q, ok := s.quotas.Get(of); ok {
			if most, set := q.Limit(resource); set {
				return most
			}
		}
	}
	return DefaultLimit(resource)
}

// Usage is what a project has.
type Usage struct {
	Volumes, Snapshots int64
	Gigabytes          int64 // of both
	Groups             int64
}

func (u Usage) plus(d Usage) Usage {
	return Usage{Volumes: u.Volumes + d.Volumes, Snapshots: u.Snapshots + d.Snapshots, Gigabytes: u.Gigabytes + d.Gigabytes, Groups: u.Groups + d.Groups}
}

func (u Usage) negative() Usage {
	return Usage{Volumes: -u.Volumes, Snapshots: -u.Snapshots, Gigabytes: -u.Gigabytes, Groups: -u.Groups}
}

// Usage returns what a project has. It is counted as it changes, so it can neither
// leak nor take long.
func (s *State) Usage(project string) Usage {
	u, _ := s.usage.Get(project)
	return u
}

// UsageOfType returns what a project has of a volume type. Snapshots are of the type
// of their volume.
func (s *State) UsageOfType(project, volumeType string) Usage {
	return s.Usage(typeKey(project, volumeType))
}

// use counts a change of what a project has, in all and of a volume type.
func (s *State) use(project, volumeType string, d Usage) {
	s.count(intern(project), d)
	s.count(typeKey(project, volumeType), d)
}

// typeKey is where a project's use of a volume type is counted: no project is called
// so.
func typeKey(project, volumeType string) string { return under(project, "\x00"+volumeType) }

func (s *State) count(key string, d Usage) {
	u, _ := s.usage.Get(key)
	if u = u.plus(d); u == (Usage{}) {
		s.usage.Delete(key)
		return
	}
	s.usage.Set(key, u)
}

// typeOf is the type of a snapshot: that of its volume.
func (s *State) typeOf(sn *Snapshot) string {
	if r, ok := s.volumes.Get(sn.VolumeID); ok {
		return r.volumeType
	}
	return ""
}

// eachUse calls fn with what a volume and each of its snapshots are of some
// project's use.
func (s *State) eachUse(v *Volume, fn func(project string, u Usage)) {
	fn(v.ProjectID, Usage{Volumes: 1, Gigabytes: v.Size})
	ids, _ := s.snapshotsIn(v.ID)
	for _, id := range ids {
		if sn, ok := s.snapshots.Get(id); ok {
			fn(sn.ProjectID, Usage{Snapshots: 1, Gigabytes: sn.Size})
		}
	}
}

// checkQuota refuses what would be more than the project of a volume may have. It
// is checked where it is counted, so two requests cannot both get the last of it.
func (s *State) checkQuota(v *Volume, more Usage) error {
	if v.ProjectID == "" {
		return nil // it is nobody's
	}
	size := more.Gigabytes
	if more.Volumes == 0 && more.Snapshots == 0 {
		size += v.Size // it grows
	}
	if limit := s.Limit(v.ProjectID, ResourcePerVolume); more.Snapshots == 0 && limit >= 0 && size > limit {
		return overQuota(ResourcePerVolume, size, fmt.Sprintf(
			"VolumeSizeExceedsLimit: Requested volume size %dG is larger than maximum allowed limit %dG.", size, limit))
	}
	limits := [...]limited{
		{ResourceGigabytes, s.Usage(v.ProjectID).Gigabytes, more.Gigabytes},
		{ResourceGigabytes + "_" + v.VolumeType, s.UsageOfType(v.ProjectID, v.VolumeType).Gigabytes, more.Gigabytes},
		{ResourceSnapshots, s.Usage(v.ProjectID).Snapshots, more.Snapshots},
		{ResourceSnapshots + "_" + v.VolumeType, s.UsageOfType(v.ProjectID, v.VolumeType).Snapshots, more.Snapshots},
		{ResourceVolumes, s.Usage(v.ProjectID).Volumes, more.Volumes},
		{ResourceVolumes + "_" + v.VolumeType, s.UsageOfType(v.ProjectID, v.VolumeType).Volumes, more.Volumes},
	}
	return s.checkLimits(v.ProjectID, limits[:])
}

// checkTypeQuota refuses a volume that is to get another type, with what its
// snapshots take.
func (s *State) checkTypeQuota(v *Volume, volumeType string) error {
	var more Usage
	s.eachUse(v, func(project string, u Usage) {
		if project == v.ProjectID {
			more = more.plus(u)
		}
	})
	has := s.UsageOfType(v.ProjectID, volumeType)
	return s.checkLimits(v.ProjectID, []limited{
		{ResourceGigabytes + "_" + volumeType, has.Gigabytes, more.Gigabytes},
		{ResourceSnapshots + "_" + volumeType, has.Snapshots, more.Snapshots},
		{ResourceVolumes + "_" + volumeType, has.Volumes, more.Volumes},
	})
}

// limited is a resource of which a project has some and wants more.
type limited struct {
	resource  string
	has, more int64
}

func (s *State) checkLimits(project string, all []limited) error {
	for _, r := range all {
		limit := s.Limit(project, r.resource)
		if limit < 0 || r.more <= 0 || r.has+r.more <= limit {
			continue
		}
		switch noun, _, _ := strings.Cut(r.resource, "_"); noun {
		case ResourceGigabytes:
			return overQuota(r.resource, r.more, fmt.Sprintf("VolumeSizeExceedsAvailableQuota: Requested volume or snapshot exceeds "+
				"allowed %s quota. Requested %dG, quota is %dG and %dG has been consumed.", r.resource, r.more, limit, r.has))
		case ResourceSnapshots:
			return overQuota(r.resource, r.more, fmt.Sprintf(
				"SnapshotLimitExceeded: Maximum number of snapshots allowed (%d) exceeded", limit))
		default:
			return overQuota(r.resource, r.more, fmt.Sprintf(
				"VolumeLimitExceeded: Maximum number of volumes allowed (%d) exceeded for quota '%s'.", limit, r.resource))
		}
	}
	return nil
}

// checkGroupQuota refuses a group more than a project may have.
func (s *State) checkGroupQuota(project string) error {
	limit := s.Limit(project, ResourceGroups)
	if project == "" || limit < 0 || s.Usage(project).Groups < limit {
		return nil
	}
	return overQuota(ResourceGroups, 1, fmt.Sprintf("GroupLimitExceeded: Maximum number of groups allowed (%d) exceeded", limit))
}

func overQuota(resource string, asked int64, message string) error {
	return refuseField(ErrOverQuota, resource, fmt.Sprint(asked), message)
}
