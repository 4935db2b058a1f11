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
)

// Quota returns the quota of a project.
func (s *State) Quota(project string) (Quota, bool) { return deref(s.quotas.Get(project)) }

// SetQuota sets limits of a project, and leaves its others as they are. Without
// any it forgets all.
type SetQuota struct {
	ProjectID string  `cbor:"1,keyasint"`
	Limits    []Limit `cbor:"2,keyasint,omitempty"`
}

func (SetQuota) kind() Kind { return kindSetQuota }

// maxLimits bounds the limits of one project.
const maxLimits = 1000

func (c SetQuota) apply(s *State, m Meta) error {
	if err := checkName("project_id", c.ProjectID); err != nil {
		return err
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

// Usage is what a project has.
type Usage struct {
	Volumes, Snapshots int64
	Gigabytes          int64 // of both
}

// Usage returns what a project has. It is counted as it changes, so it can neither
// leak nor take long.
func (s *State) Usage(project string) Usage {
	u, _ := s.usage.Get(project)
	return u
}

// use counts a change of what a project has.
func (s *State) use(project string, d Usage) {
	u, _ := s.usage.Get(project)
	u.Volumes, u.Snapshots, u.Gigabytes = u.Volumes+d.Volumes, u.Snapshots+d.Snapshots, u.Gigabytes+d.Gigabytes
	if u == (Usage{}) {
		s.usage.Delete(project)
		return
	}
	s.usage.Set(intern(project), u)
}

// checkQuota refuses what would go over a limit that was set for a project.
func (s *State) checkQuota(project string, d Usage) error {
	q, ok := s.quotas.Get(project)
	if !ok {
		return nil
	}
	has := s.Usage(project)
	over := func(resource string, has, more int64) (limit int64, over bool) {
		limit, set := q.Limit(resource)
		return limit, set && limit >= 0 && more > 0 && has+more > limit
	}
	if limit, is := over(ResourcePerVolume, 0, d.Gigabytes); is && d.Volumes > 0 {
		return overQuota(ResourcePerVolume, d.Gigabytes, fmt.Sprintf(
			"VolumeSizeExceedsLimit: Requested volume size %dG is larger than maximum allowed limit %dG.", d.Gigabytes, limit))
	}
	if limit, is := over(ResourceGigabytes, has.Gigabytes, d.Gigabytes); is {
		return overQuota(ResourceGigabytes, d.Gigabytes, fmt.Sprintf("VolumeSizeExceedsAvailableQuota: Requested volume or snapshot exceeds "+
			"allowed gigabytes quota. Requested %dG, quota is %dG and %dG has been consumed.", d.Gigabytes, limit, has.Gigabytes))
	}
	if limit, is := over(ResourceVolumes, has.Volumes, d.Volumes); is {
		return overQuota(ResourceVolumes, d.Volumes, fmt.Sprintf(
			"VolumeLimitExceeded: Maximum number of volumes allowed (%d) exceeded for quota 'volumes'.", limit))
	}
	if limit, is := over(ResourceSnapshots, has.Snapshots, d.Snapshots); is {
		return overQuota(ResourceSnapshots, d.Snapshots, fmt.Sprintf(
			"SnapshotLimitExceeded: Maximum number of snapshots allowed (%d) exceeded", limit))
	}
	return nil
}

func overQuota(resource string, asked int64, message string) error {
	return refuseField(ErrOverQuota, resource, fmt.Sprint(asked), message)
}
