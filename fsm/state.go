package fsm

import (
	"strconv"
	"strings"
	"unique"

	"github.com/tidwall/btree"
)

// State is everything a deployment agrees on. Records are immutable: a change
// replaces a record, it never edits one in place. The trees are copy-on-write,
// so that [State.Clone] takes the same short time whatever the state holds, and
// ordered, so that nothing depends on the order of a map.
type State struct {
	index uint64 // of the last command applied

	nodes         btree.Map[string, *Node]
	services      btree.Map[string, *Service] // by host
	members       btree.Map[string, string]   // cluster/host -> host
	clusters      btree.Map[string, *Cluster] // by name; a service outside clusters has one of its own
	failovers     btree.Map[string, *Failover]
	failoverOrder btree.Map[uint64, string] // request index -> id, oldest first
	staged        btree.Map[string, *stage] // by cluster

	volumeTypes     btree.Map[string, *VolumeType] // by id
	volumes         btree.Map[string, *record]
	volumeOrder     btree.Map[uint64, string] // request index -> id, oldest first
	volumesIn       btree.Map[string, uint64] // cluster -> how many
	snapshots       btree.Map[string, *Snapshot]
	snapshotOrder   btree.Map[uint64, string]
	snapshotsOf     btree.Map[string, struct{}] // volume id/snapshot id
	groupTypes      btree.Map[string, *GroupType]
	groups          btree.Map[string, *Group]
	groupOrder      btree.Map[uint64, string]
	volumesOfGroup  btree.Map[string, struct{}] // group id/volume id
	attachments     btree.Map[string, *Attachment]
	attachmentOrder btree.Map[uint64, string]
	attachmentsOf   btree.Map[string, string] // volume id/attachment id -> attachment id
	quotas          btree.Map[string, *Quota] // by project
	usage           btree.Map[string, Usage]  // by project
	operations      btree.Map[uint64, *Operation]
	owed            btree.Map[string, uint64] // host/operation -> operation
	requests        btree.Map[string, outcome]
	requestOrder    btree.Map[uint64, string]
}

// NewState returns the state of a deployment that has committed nothing.
func NewState() *State { return &State{} }

// Clone returns a copy that shares no mutable memory with s. It takes
// microseconds. Like a change, it must not run beside any other use of s.
func (s *State) Clone() *State {
	return &State{
		index:           s.index,
		nodes:           *s.nodes.Copy(),
		services:        *s.services.Copy(),
		members:         *s.members.Copy(),
		clusters:        *s.clusters.Copy(),
		failovers:       *s.failovers.Copy(),
		failoverOrder:   *s.failoverOrder.Copy(),
		staged:          cloneStages(&s.staged),
		volumeTypes:     *s.volumeTypes.Copy(),
		volumes:         *s.volumes.Copy(),
		volumeOrder:     *s.volumeOrder.Copy(),
		volumesIn:       *s.volumesIn.Copy(),
		snapshots:       *s.snapshots.Copy(),
		snapshotOrder:   *s.snapshotOrder.Copy(),
		snapshotsOf:     *s.snapshotsOf.Copy(),
		groupTypes:      *s.groupTypes.Copy(),
		groups:          *s.groups.Copy(),
		groupOrder:      *s.groupOrder.Copy(),
		volumesOfGroup:  *s.volumesOfGroup.Copy(),
		attachments:     *s.attachments.Copy(),
		attachmentOrder: *s.attachmentOrder.Copy(),
		attachmentsOf:   *s.attachmentsOf.Copy(),
		quotas:          *s.quotas.Copy(),
		usage:           *s.usage.Copy(),
		operations:      *s.operations.Copy(),
		owed:            *s.owed.Copy(),
		requests:        *s.requests.Copy(),
		requestOrder:    *s.requestOrder.Copy(),
	}
}

// Index returns the log index of the last command applied.
func (s *State) Index() uint64 { return s.index }

// KeyValue is one entry of a record's metadata.
type KeyValue struct {
	Key   string `cbor:"1,keyasint"`
	Value string `cbor:"2,keyasint"`
	Null  bool   `cbor:"3,keyasint,omitempty"` // the value is null, which Cinder takes for extra specs
}

// intern returns the one copy of a string that many records hold, such as a
// host: without it a million volumes keep a million copies.
func intern(v string) string {
	if v == "" {
		return ""
	}
	return unique.Make(v).Value()
}

// under is the key of an entry that belongs to parent; all of a parent's are
// neighbours and in order.
func under(parent, child string) string { return parent + "/" + child }

func indexKey(i uint64) string {
	digits := strconv.FormatUint(i, 16)
	return strings.Repeat("0", 16-len(digits)) + digits
}

// eachUnder calls fn for every entry of parent, in order, until fn says stop.
func eachUnder[V any](m *btree.Map[string, V], parent string, fn func(key string, value V) bool) {
	prefix := parent + "/"
	m.Ascend(prefix, func(key string, value V) bool {
		return strings.HasPrefix(key, prefix) && fn(key, value)
	})
}
