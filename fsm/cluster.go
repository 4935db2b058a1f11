package fsm

import (
	"fmt"
	"iter"
	"slices"
)

// DefaultBackendID is the reserved id of the primary site.
const DefaultBackendID = "default"

// ReplicationStatus is where the replication of a cluster, a service or a volume
// stands, in Cinder's words.
type ReplicationStatus string

// The replication statuses.
const (
	ReplicationEnabled       ReplicationStatus = "enabled"
	ReplicationFailingOver   ReplicationStatus = "failing-over"
	ReplicationFailedOver    ReplicationStatus = "failed-over"
	ReplicationFailoverError ReplicationStatus = "failover-error"
	ReplicationNotCapable    ReplicationStatus = "not-capable"
	ReplicationDisabled      ReplicationStatus = "disabled" // of a cluster without targets, and of a group that was not asked to replicate
	ReplicationError         ReplicationStatus = "error"    // of a member whose driver refuses the committed site
)

// The reasons for which Lockstep itself disables clusters and services. What an
// operator disabled has another reason, and stays disabled.
const (
	ReasonFailedOver    = "failed-over"
	ReasonFailoverError = "failover-error"
	ReasonFrozen        = "frozen"
	ReasonDriverError   = "driver-error" // of a member whose driver refuses the committed site
)

// ownReason reports whether a reason is one of Lockstep's own.
func ownReason(reason string) bool {
	switch reason {
	case ReasonFailedOver, ReasonFailoverError, ReasonFrozen, ReasonDriverError:
		return true
	}
	return false
}

// Cluster is the set of services that serve one backend together. A service
// outside clusters has a cluster of its own, with Single set and its host as
// name, so that it fails over by the same rules.
type Cluster struct {
	Name              string            `cbor:"1,keyasint"`
	Single            bool              `cbor:"2,keyasint,omitempty"`
	Disabled          bool              `cbor:"3,keyasint,omitempty"`
	DisabledReason    string            `cbor:"4,keyasint,omitempty"`
	ReplicationStatus ReplicationStatus `cbor:"5,keyasint"`
	ActiveBackendID   string            `cbor:"6,keyasint"`           // never empty
	Epoch             uint64            `cbor:"7,keyasint"`           // 1 before the first switch
	Claim             uint64            `cbor:"8,keyasint,omitempty"` // index of the claim that led to Epoch
	Frozen            bool              `cbor:"9,keyasint,omitempty"`
	FreezeOwner       string            `cbor:"10,keyasint,omitempty"` // member that owes the driver a freeze or thaw; if it has left, the first one does
	Held              bool              `cbor:"11,keyasint,omitempty"` // gates closed: something may be promoted elsewhere
	Failover          string            `cbor:"12,keyasint,omitempty"` // the latest failover
	CreatedAt         Time              `cbor:"13,keyasint,omitempty"`
	UpdatedAt         Time              `cbor:"14,keyasint,omitempty"`
	SwitchedAt        Time              `cbor:"15,keyasint,omitempty"` // time of the last committed switch
	Index             uint64            `cbor:"16,keyasint,omitempty"` // of its last change
	SiteEpoch         uint64            `cbor:"17,keyasint,omitempty"` // epoch that led to the active site; older than Epoch if that was reopened, or a group was switched since
	HeldGroup         string            `cbor:"18,keyasint,omitempty"` // the one group that may be promoted elsewhere; empty if it may be anything
}

// Cluster returns the cluster, or the service outside clusters, of that name. One
// whose members have no replication targets is shown with its replication disabled,
// as in Cinder.
func (s *State) Cluster(name string) (Cluster, bool) {
	cl, ok := deref(s.clusters.Get(name))
	return s.asShown(cl), ok
}

// Clusters yields all clusters by name, those of single services included.
func (s *State) Clusters() iter.Seq[Cluster] {
	return func(yield func(Cluster) bool) {
		for cl := range values(&s.clusters) {
			if !yield(s.asShown(cl)) {
				return
			}
		}
	}
}

func (s *State) asShown(cl Cluster) Cluster {
	if cl.ReplicationStatus == ReplicationEnabled && !s.hasTargets(cl.Name) {
		cl.ReplicationStatus = ReplicationDisabled
	}
	return cl
}

func (s *State) hasTargets(cluster string) bool {
	for svc := range s.Members(cluster) {
		if len(svc.Targets) > 0 {
			return true
		}
	}
	return false
}

// Targets returns the replication targets that at least one member of a cluster
// is configured with, sorted, without the primary.
func (s *State) Targets(cluster string) []string {
	var all []string
	for svc := range s.Members(cluster) {
		all = append(all, svc.Targets...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// settledStatus is the replication status of a cluster with no failover under
// way and none failed.
func (c *Cluster) settledStatus() ReplicationStatus {
	return settled(c.ActiveBackendID)
}

func (s *State) putCluster(c *Cluster, m Meta) {
	c.UpdatedAt, c.Index = max(c.UpdatedAt, m.At), m.Index
	s.clusters.Set(c.Name, c)
}

// SetClusterDisabled enables or disables a cluster, as an operator asks.
// Enabling also enables the members that a failover had disabled.
type SetClusterDisabled struct {
	Cluster  string `cbor:"1,keyasint"`
	Disabled bool   `cbor:"2,keyasint,omitempty"`
	Reason   string `cbor:"3,keyasint,omitempty"`
}

func (SetClusterDisabled) kind() Kind { return kindSetClusterDisabled }

func (c SetClusterDisabled) apply(s *State, m Meta) error {
	old, ok := s.clusters.Get(c.Cluster)
	if !ok {
		return notFound("cluster", "cluster", c.Cluster)
	}
	cl := new(*old)
	cl.Disabled, cl.DisabledReason = c.Disabled, ""
	if c.Disabled {
		cl.DisabledReason = c.Reason
	}
	s.putCluster(cl, m)
	if !c.Disabled {
		s.enableMembers(cl, m)
	}
	return nil
}

// enableMembers enables what a failover had disabled, except for what a freeze
// keeps disabled.
func (s *State) enableMembers(cl *Cluster, m Meta) {
	s.setMembers(cl.Name, m, func(v *Service) {
		if !v.Disabled || v.DisabledReason != ReasonFailedOver && v.DisabledReason != ReasonFailoverError {
			return
		}
		v.Disabled, v.DisabledReason = cl.disablesMembers()
	})
}

// disablesMembers is how a member of c is disabled that neither an operator nor
// its own driver has disabled.
func (c *Cluster) disablesMembers() (disabled bool, reason string) {
	switch {
	case c.Disabled && ownReason(c.DisabledReason):
		return true, c.DisabledReason
	case c.Frozen:
		return true, ReasonFrozen
	}
	return false, ""
}

// disable disables a cluster and its members for a reason of Lockstep's own. What
// an operator has disabled keeps the operator's reason.
func (s *State) disable(cl *Cluster, reason string, m Meta) {
	if !cl.Disabled || ownReason(cl.DisabledReason) {
		cl.Disabled, cl.DisabledReason = true, reason
	}
	s.setMembers(cl.Name, m, func(v *Service) {
		if !v.Disabled || ownReason(v.DisabledReason) {
			v.Disabled, v.DisabledReason = true, reason
		}
	})
}

// enable enables what a failover had disabled.
func (s *State) enable(cl *Cluster, m Meta) {
	if ownReason(cl.DisabledReason) {
		cl.Disabled, cl.DisabledReason = false, ""
	}
	s.enableMembers(cl, m)
}

// followSite gives a cluster and its members the status and the availability that
// go with its active site.
func (s *State) followSite(cl *Cluster, m Meta) {
	cl.ReplicationStatus = cl.settledStatus()
	if cl.ActiveBackendID == DefaultBackendID {
		s.enable(cl, m)
		return
	}
	s.disable(cl, ReasonFailedOver, m)
}

// SetFrozen freezes or thaws a cluster and all its members in one change (D5,
// G12). Owner is the member that is to tell the driver; if it is empty or no
// member, the first one does. It is refused for a cluster that no member is left
// of.
type SetFrozen struct {
	Cluster string `cbor:"1,keyasint"`
	Frozen  bool   `cbor:"2,keyasint,omitempty"`
	Owner   string `cbor:"3,keyasint,omitempty"`
}

func (SetFrozen) kind() Kind { return kindSetFrozen }

func (c SetFrozen) apply(s *State, m Meta) error {
	old, ok := s.clusters.Get(c.Cluster)
	if !ok {
		return notFound("cluster", "cluster", c.Cluster)
	}
	if old.Frozen == c.Frozen {
		return nil
	}
	owner := s.memberOr(c.Cluster, c.Owner)
	if owner == "" {
		return refuseField(ErrConflict, "cluster", c.Cluster, fmt.Sprintf("no service of %q is left", c.Cluster))
	}
	cl := new(*old)
	cl.Frozen, cl.FreezeOwner = c.Frozen, owner
	s.putCluster(cl, m)
	if c.Frozen {
		s.setMembers(cl.Name, m, func(v *Service) {
			if !v.Disabled {
				v.Disabled, v.DisabledReason = true, ReasonFrozen
			}
		})
		return nil
	}
	s.setMembers(cl.Name, m, func(v *Service) {
		if v.DisabledReason == ReasonFrozen {
			v.Disabled, v.DisabledReason = false, ""
		}
	})
	return nil
}

// FreezeReported says that the driver has been told of a freeze or thaw.
type FreezeReported struct {
	Cluster string `cbor:"1,keyasint"`
	Host    string `cbor:"2,keyasint"`
	Frozen  bool   `cbor:"3,keyasint,omitempty"`
}

func (FreezeReported) kind() Kind { return kindFreezeReported }

func (c FreezeReported) apply(s *State, m Meta) error {
	old, ok := s.clusters.Get(c.Cluster)
	if !ok || !s.owesFreeze(old, c.Host) || old.Frozen != c.Frozen {
		return refuse(ErrStale, fmt.Sprintf("%q no longer owes this to the driver", c.Host))
	}
	cl := new(*old)
	cl.FreezeOwner = ""
	s.putCluster(cl, m)
	return nil
}

// owesFreeze reports whether host is the member that is to tell the driver of a
// freeze or thaw.
func (s *State) owesFreeze(cl *Cluster, host string) bool {
	return cl.FreezeOwner != "" && s.memberOr(cl.Name, cl.FreezeOwner) == host
}

// memberOr returns host if it is a member of cluster, else the first member.
func (s *State) memberOr(cluster, host string) string {
	first := ""
	for svc := range s.Members(cluster) {
		if svc.Host == host {
			return host
		}
		if first == "" {
			first = svc.Host
		}
	}
	return first
}
