package fsm

import (
	"fmt"
	"iter"
	"slices"
	"strings"
)

// Binary is the binary of every service, as Cinder names it.
const Binary = "cinder-volume"

// Service is one volume service: a storage driver on a node.
type Service struct {
	Host           string   `cbor:"1,keyasint"` // node@backend
	Node           string   `cbor:"2,keyasint"`
	Cluster        string   `cbor:"3,keyasint,omitempty"` // name@backend; empty outside clusters
	Targets        []string `cbor:"4,keyasint,omitempty"` // the replication targets it is configured with
	Disabled       bool     `cbor:"5,keyasint,omitempty"`
	DisabledReason string   `cbor:"6,keyasint,omitempty"`
	Reported       Report   `cbor:"7,keyasint,omitempty"` // what its driver was last told
	CreatedAt      Time     `cbor:"8,keyasint,omitempty"`
	UpdatedAt      Time     `cbor:"9,keyasint,omitempty"`
	Index          uint64   `cbor:"10,keyasint,omitempty"` // of its last change
	Stuck          bool     `cbor:"11,keyasint,omitempty"` // processes of its driver cannot be ended, see ReportStuck
}

// Report is a member's word on which site its driver works against.
type Report struct {
	Epoch           uint64 `cbor:"1,keyasint,omitempty"`
	ActiveBackendID string `cbor:"2,keyasint,omitempty"`
	Error           string `cbor:"3,keyasint,omitempty"` // why its driver refuses Epoch
	At              Time   `cbor:"4,keyasint,omitempty"`
}

// Group returns the name of the cluster whose state the service follows: its
// own host when it is outside clusters.
func (v *Service) Group() string { return groupOf(v.Cluster, v.Host) }

func groupOf(cluster, host string) string {
	if cluster == "" {
		return host
	}
	return cluster
}

// Service returns the service of a host.
func (s *State) Service(host string) (Service, bool) { return deref(s.services.Get(host)) }

// Services yields all services by host.
func (s *State) Services() iter.Seq[Service] { return values(&s.services) }

// Members yields the services of a cluster by host. For the name of a service
// outside clusters it yields that one.
func (s *State) Members(cluster string) iter.Seq[Service] {
	return func(yield func(Service) bool) {
		eachUnder(&s.members, cluster, func(_, host string) bool {
			v, ok := s.services.Get(host)
			return !ok || yield(*v)
		})
	}
}

// RegisterService says that a node hosts a service. It changes nothing about the
// cluster but that member's presence (G11); only the first member creates the
// cluster, and a new member is disabled if a failover or a freeze has disabled
// the others. Repeating it is harmless.
type RegisterService struct {
	Host    string   `cbor:"1,keyasint"`
	Node    string   `cbor:"2,keyasint"`
	Cluster string   `cbor:"3,keyasint,omitempty"`
	Targets []string `cbor:"4,keyasint,omitempty"`
}

func (RegisterService) kind() Kind { return kindRegisterService }

func (c RegisterService) apply(s *State, m Meta) error {
	if err := c.check(s); err != nil {
		return err
	}
	svc := &Service{Host: intern(c.Host), Cluster: intern(c.Cluster), CreatedAt: m.At}
	cl, ok := s.clusters.Get(svc.Group())
	if !ok {
		cl = &Cluster{
			Name: svc.Group(), Single: c.Cluster == "", Epoch: 1, SiteEpoch: 1,
			ActiveBackendID: DefaultBackendID, ReplicationStatus: ReplicationEnabled, CreatedAt: m.At,
		}
		s.putCluster(cl, m)
	}
	if old, ok := s.services.Get(c.Host); ok {
		svc = new(*old)
	} else {
		svc.Disabled, svc.DisabledReason = cl.disablesMembers()
	}
	svc.Node = intern(c.Node)
	svc.Targets = slices.Compact(slices.Sorted(slices.Values(c.Targets)))
	s.putService(svc, m)
	return nil
}

func (c RegisterService) check(s *State) error {
	for _, f := range [...][2]string{{"host", c.Host}, {"node", c.Node}} {
		if err := checkName(f[0], f[1]); err != nil {
			return err
		}
	}
	if !strings.Contains(c.Host, "@") {
		return refuseField(ErrInvalid, "host", c.Host, fmt.Sprintf("host %q must be of the form node@backend", c.Host))
	}
	if c.Cluster != "" {
		if err := checkName("cluster", c.Cluster); err != nil {
			return err
		}
	}
	if slices.Contains(c.Targets, DefaultBackendID) {
		return refuseField(ErrInvalid, "targets", DefaultBackendID, "\"default\" is the primary and cannot be a replication target")
	}
	if old, ok := s.services.Get(c.Host); ok && old.Cluster != c.Cluster {
		return refuseField(ErrConflict, "cluster", c.Cluster, fmt.Sprintf(
			"service %q belongs to cluster %q: delete the service before it joins %q", c.Host, old.Cluster, c.Cluster))
	}
	group := groupOf(c.Cluster, c.Host)
	if cl, ok := s.clusters.Get(group); ok && cl.Single != (c.Cluster == "") {
		return refuseField(ErrConflict, "cluster", group, fmt.Sprintf("%q is taken: a cluster and a service outside clusters cannot share a name", group))
	}
	return nil
}

// DeleteService forgets a service. It is refused while a failover of its cluster
// is unfinished, and while it owes volume operations that another member can be
// given; what the last member owes ends with an error. Only the leader knows
// whether its grant has run out: it proposes the command after that, with the
// term in which it looked. With its last member a cluster goes too, unless it has
// volumes or groups or has switched: then it keeps its site and its epoch for the members
// to come (G2).
type DeleteService struct {
	Host string `cbor:"1,keyasint"`
	Term uint64 `cbor:"2,keyasint"`
}

func (DeleteService) kind() Kind { return kindDeleteService }

func (c DeleteService) apply(s *State, m Meta) error {
	svc, ok := s.services.Get(c.Host)
	if !ok {
		return notFound("host", "service", c.Host)
	}
	if c.Term != m.Term {
		return refuse(ErrStale, "the leader has changed")
	}
	group := svc.Group()
	if f, ok := s.unfinished(group); ok {
		return failingOver(f)
	}
	if s.owesAny(c.Host) {
		if s.hasOther(group, c.Host) {
			return refuseField(ErrConflict, "host", c.Host, fmt.Sprintf("service %q still owes volume operations", c.Host))
		}
		s.abandon(c.Host, m)
	}
	s.services.Delete(c.Host)
	s.members.Delete(under(group, c.Host))
	cl, ok := s.clusters.Get(group)
	if _, used := s.volumesIn.Get(group); ok && !used && !s.hasGroups(group) && cl.Epoch == 1 && !cl.Held && s.memberOr(group, "") == "" {
		s.clusters.Delete(group)
	}
	return nil
}

// hasOther reports whether a cluster has a member besides host.
func (s *State) hasOther(cluster, host string) bool {
	for svc := range s.Members(cluster) {
		if svc.Host != host {
			return true
		}
	}
	return false
}

// SetServiceDisabled enables or disables one service, as an operator asks. A
// service outside clusters is its own cluster, and is enabled or disabled as such.
type SetServiceDisabled struct {
	Host     string `cbor:"1,keyasint"`
	Disabled bool   `cbor:"2,keyasint,omitempty"`
	Reason   string `cbor:"3,keyasint,omitempty"`
}

func (SetServiceDisabled) kind() Kind { return kindSetServiceDisabled }

func (c SetServiceDisabled) apply(s *State, m Meta) error {
	old, ok := s.services.Get(c.Host)
	if !ok {
		return notFound("host", "service", c.Host)
	}
	svc := new(*old)
	svc.Disabled = c.Disabled
	switch {
	case c.Disabled:
		svc.DisabledReason = c.Reason
	case ownReason(svc.DisabledReason): // an operator's own stays to be read, as in Cinder
		svc.DisabledReason = ""
	}
	s.putService(svc, m)
	if cl, ok := s.clusters.Get(svc.Group()); ok && cl.Single {
		next := new(*cl)
		next.Disabled, next.DisabledReason = svc.Disabled, svc.DisabledReason
		s.putCluster(next, m)
	}
	return nil
}

func (s *State) putService(v *Service, m Meta) {
	v.UpdatedAt, v.Index = max(v.UpdatedAt, m.At), m.Index
	s.restoreService(v)
}

func (s *State) restoreService(v *Service) {
	s.services.Set(v.Host, v)
	s.members.Set(under(v.Group(), v.Host), v.Host)
}

// setMembers lets change edit a copy of every member of a cluster, and keeps
// the copies whose availability has changed.
func (s *State) setMembers(cluster string, m Meta, change func(*Service)) {
	var hosts []string
	for v := range s.Members(cluster) {
		hosts = append(hosts, v.Host)
	}
	for _, host := range hosts {
		old, _ := s.services.Get(host)
		svc := new(*old)
		change(svc)
		if svc.Disabled != old.Disabled || svc.DisabledReason != old.DisabledReason {
			s.putService(svc, m)
		}
	}
}

func notFound(field, noun, name string) error {
	return refuseField(ErrNotFound, field, name, fmt.Sprintf("%s %q could not be found", noun, name))
}
