package driverhost

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/hashicorp/go-hclog"
)

// Token is the fencing token of a driver call. Tokens are ordered by Epoch and
// then by Claim; every claim of a failover produces a greater one, and a storage
// that can remember a token refuses calls that carry a lower one than it has
// seen. See Kleppmann, "How to do distributed locking", for the idea and
// section 5 of docs/design.md for the two halves.
type Token struct {
	Epoch uint64 `json:"epoch"` // epoch of the cluster under which the call is made
	Claim uint64 `json:"claim"` // log index of the claim that produced the epoch; 0 before the first failover
}

// Less reports whether t was issued before o.
func (t Token) Less(o Token) bool {
	return t.Epoch < o.Epoch || t.Epoch == o.Epoch && t.Claim < o.Claim
}

// Volume is what a driver needs to know of a volume.
type Volume struct {
	ID                    string // UUID
	Name                  string // the user's name for it; may be empty, need not be unique
	SizeGiB               int64  // at least 1
	Replicated            bool   // its type has replication_enabled
	ProviderID            string // what the driver last reported
	ProviderLocation      string // what the driver last reported
	ReplicationDriverData string // what the driver last reported

	// Group is the replication group that the volume is in, and is failed over with;
	// empty if it follows the backend. It is the same for as long as there is the volume.
	Group string
	// Site is where a volume of a group is in use; the driver was not told of it by
	// FailoverCompleted.
	Site string
}

// VolumeUpdate is what a driver reports of a volume. Empty strings leave the
// recorded value as it is.
type VolumeUpdate struct {
	ProviderID                string
	ProviderLocation          string
	ReplicationExtendedStatus string
	ReplicationDriverData     string
}

// Snapshot is what a driver needs to know of a snapshot.
type Snapshot struct {
	ID     string // UUID
	Volume Volume
}

// OpenRequest says for whom a driver is opened.
type OpenRequest struct {
	Node            string // name of this node
	Host            string // the service: node@backend
	Cluster         string // the cluster it belongs to; empty outside clusters
	ActiveBackendID string // the committed site; "default" is the primary
	Token           Token  // of the committed epoch
	Logger          hclog.Logger

	// Lease is what the driver's process lives by; a driver itself asks [Allowed].
	Lease Deadline

	// OnStuck, if not nil, is called when what works on the storage for this
	// service cannot be ended, and again when it has ended.
	OnStuck func(stuck bool)
}

// Backend is a configured driver that has not been opened.
type Backend struct {
	Open    Opener
	Targets []string // its replication targets, without the primary
}

// Opener starts a driver. A driver that is opened again knows nothing of what
// its predecessor was told. An opener must work while the primary site is gone:
// a service has to be able to start in the middle of a disaster.
type Opener func(ctx context.Context, req OpenRequest) (Driver, error)

// Driver is a storage driver of one service. Every call may come again after a
// crash or a lost answer, so each must succeed when what it asks for already
// holds. Calls about different volumes come at the same time. The context of a
// call ends when the call is no longer wanted; the driver must then return as
// soon as it can and start nothing more on the storage. Every mutating request
// carries a [Token]; a driver whose storage can refuse lower tokens makes it do
// so and returns [ErrFenced].
type Driver interface {
	// FreezeBackend tells the storage that its management is frozen;
	// ThawBackend that it no longer is. One member of a cluster is asked.
	FreezeBackend(ctx context.Context, token Token) error
	ThawBackend(ctx context.Context, token Token) error

	CreateVolume(ctx context.Context, req VolumeRequest) (VolumeUpdate, error)
	DeleteVolume(ctx context.Context, req VolumeRequest) error
	// ExtendVolume grows a volume to req.NewSizeGiB.
	ExtendVolume(ctx context.Context, req ExtendVolumeRequest) error
	CreateSnapshot(ctx context.Context, req SnapshotRequest) error
	DeleteSnapshot(ctx context.Context, req SnapshotRequest) error

	// Stats measures the backend as this service sees it now. With an error it
	// may still report the targets that it could measure.
	Stats(ctx context.Context) (Stats, error)

	// Close ends the driver and waits for all it has started.
	io.Closer
}

// Process is a driver that can end without being asked, as one in a process of its
// own does when it crashes or is killed. It then knows nothing any more of what it
// was told.
type Process interface {
	Driver

	// Lost is closed when no further call can be made. Calls in flight end with
	// [ErrDriverLost], but not before nothing is left that works on the storage
	// for them.
	Lost() <-chan struct{}
}

// ActiveActive are the calls that a driver needs to serve in a cluster that has
// replication targets; the names are those of Cinder's specification
// "Active/Active support - Replication".
type ActiveActive interface {
	// Failover makes req.Target the site that takes writes. One member of a
	// cluster is asked at a time. It is idempotent per (failover, volume).
	// [ErrInvalidReplicationTarget] and [ErrUnableToFailOver] are promises
	// that nothing is promoted, or that all of it has been undone; after any
	// other error the outcome counts as unknown and the call is repeated,
	// perhaps by another member. A call that succeeds may report single
	// volumes as failed.
	Failover(ctx context.Context, req FailoverRequest) (FailoverResult, error)

	// FailoverCompleted tells the driver which site is in use from now on.
	// Every member is asked, also right after it started.
	FailoverCompleted(ctx context.Context, req FailoverCompletedRequest) error
}

// GroupMover is what a driver needs for failovers of replication groups on their own.
type GroupMover interface {
	// MovesGroups reports whether Failover and Demote heed the groups of their
	// requests, and volume calls the site of their volume.
	MovesGroups() bool
}

// Copier is what a driver needs for volumes that are made of others.
type Copier interface {
	// CreateVolumeFrom makes a volume with the content of another volume or of a
	// snapshot. It may be larger than that. A volume that is there already is left
	// as it is.
	CreateVolumeFrom(ctx context.Context, req CopyRequest) (VolumeUpdate, error)
}

// Adopter is what a driver needs to take over what is on the storage without having
// been made through it, and to leave volumes there when they are given up.
type Adopter interface {
	// ManageVolume makes what the reference names a volume: nothing of it is copied.
	// A reference that names nothing, or what must not be taken, is refused and
	// changes nothing. One that was taken for this volume already is success.
	ManageVolume(ctx context.Context, req ManageVolumeRequest) (ManagedVolume, error)

	// UnmanageVolume leaves a volume where it can be adopted again, and forgets it.
	// It is success for a volume that is not there.
	UnmanageVolume(ctx context.Context, req VolumeRequest) error

	// ManageableVolumes lists what could be adopted at the site in use, by
	// reference. It changes nothing.
	ManageableVolumes(ctx context.Context) ([]Manageable, error)
}

// Retyper is what a driver needs for volumes that start or stop being replicated.
type Retyper interface {
	// RetypeVolume makes a volume and its snapshots replicated or not. A snapshot
	// that is not there is left out.
	RetypeVolume(ctx context.Context, req RetypeVolumeRequest) error
}

// Demoter is what a driver needs for planned switchovers that lose nothing.
type Demoter interface {
	// Demote copies what the secondary does not have yet and makes the site
	// in use refuse writes and calls below req.Token. When the driver refuses
	// the failover after that, it is called again, with the same token, from
	// req.Target to req.From: to open the old site again.
	Demote(ctx context.Context, req DemoteRequest) error
}

// HostFailover is Cinder's failover_host: a driver that has it, but not
// [ActiveActive], can fail over as long as its service is in no cluster.
type HostFailover interface {
	FailoverHost(ctx context.Context, req FailoverRequest) (FailoverResult, error)
}

// VolumeRequest asks for something to be done to one volume.
type VolumeRequest struct {
	Token  Token
	Volume Volume
}

// CopyRequest asks for a volume to be made of another one, or of a snapshot.
type CopyRequest struct {
	Token        Token
	Volume       Volume
	SourceVolume string // id; empty if it is made of a snapshot
	Snapshot     string // id; empty if it is made of a volume
	SourceGroup  string // the replication group of either
}

// ExtendVolumeRequest asks for a volume to be grown.
type ExtendVolumeRequest struct {
	Token      Token
	Volume     Volume
	NewSizeGiB int64 // greater than Volume.SizeGiB
}

// ManageVolumeRequest asks for something to be taken over as a volume.
type ManageVolumeRequest struct {
	Token     Token
	Volume    Volume // its size is not known yet
	Reference string // what the storage calls it, as [Adopter.ManageableVolumes] does
}

// ManagedVolume is what a driver says of a volume that it has taken over.
type ManagedVolume struct {
	VolumeUpdate
	SizeGiB int64 // at least 1
}

// Manageable is something on the storage that could be adopted.
type Manageable struct {
	Reference string `json:"reference"`
	SizeGiB   int64  `json:"size_gib"`         // that it would have as a volume
	Unsafe    string `json:"unsafe,omitempty"` // why it must not be adopted, for people; empty if it may be
}

// RetypeVolumeRequest asks for a volume to be replicated or not.
type RetypeVolumeRequest struct {
	Token      Token
	Volume     Volume   // as it is
	Replicated bool     // as it is to be
	Snapshots  []string // ids of its snapshots
}

// SnapshotRequest asks for something to be done to one snapshot.
type SnapshotRequest struct {
	Token    Token
	Snapshot Snapshot
}

// FailoverRequest asks a driver to promote a site.
type FailoverRequest struct {
	Token   Token    // of the epoch that the failover leads to
	ID      string   // the failover
	From    string   // the site in use so far
	Target  string   // the site to promote; "default" is the primary
	Planned bool     // nothing may be lost: refuse if something would be
	Volumes []Volume // the replicated volumes of the backend, or of the group

	// Group is the replication group that is failed over alone: nothing else may
	// change its site. If it is empty, the whole backend is.
	Group string
	// Groups are the replication groups to be moved, each from where it is: Group alone,
	// or all of the backend. They are promoted with the backend or not at all.
	Groups []GroupMove
}

// GroupMove is what a failover does to a replication group.
type GroupMove struct {
	ID     string
	From   string // the site that it is at
	Target string // may be the same
}

// FailoverResult is what a failover did.
type FailoverResult struct {
	Volumes []VolumeResult // volumes that need no change may be left out
}

// VolumeResult is what a failover did to one volume.
type VolumeResult struct {
	VolumeID string
	Failed   bool   // this volume could not be promoted
	Error    string // why, for people
	VolumeUpdate
}

// FailoverCompletedRequest tells a driver which site is in use.
type FailoverCompletedRequest struct {
	Token           Token
	ActiveBackendID string // never empty: "default" after a failback
}

// DemoteRequest asks for the site in use to be closed for writes.
type DemoteRequest struct {
	Token   Token
	ID      string // the failover
	From    string // the site in use
	Target  string // the site that is to follow it
	Volumes []Volume
	Group   string      // as in [FailoverRequest]
	Groups  []GroupMove // as in [FailoverRequest]
}

// Stats is a measurement of a backend.
type Stats struct {
	At               time.Time // when it was taken
	TotalCapacityGiB float64
	FreeCapacityGiB  float64
	Targets          []TargetStats // one per replication target
}

// TargetStats says how well one replication target follows the site in use.
type TargetStats struct {
	BackendID string
	Healthy   bool
	LastSync  time.Time     // when the target last held all that the source had; zero if never
	Lag       time.Duration // age of the oldest write that the target may lack; negative if unknown
	Error     string        // why it is not healthy, for people
}

// The errors that a driver's answer may wrap. Anything else is a failure whose
// outcome is unknown.
var (
	// ErrInvalidReplicationTarget: the target is not one of the backend's, or
	// cannot be failed over to from here. Nothing is promoted.
	ErrInvalidReplicationTarget = errors.New("invalid replication target")

	// ErrUnableToFailOver: the storage refuses, and nothing is promoted or
	// all of it has been undone.
	ErrUnableToFailOver = errors.New("unable to fail over")

	// ErrTargetUnreachable: this member cannot reach the target; another one
	// may. The outcome is unknown.
	ErrTargetUnreachable = errors.New("replication target cannot be reached")

	// ErrFenced: the storage has seen a greater token, so the caller acts on
	// what is no longer true.
	ErrFenced = errors.New("fenced: the storage has seen a later epoch")

	// ErrNoCopies: the driver is no [Copier].
	ErrNoCopies = errors.New("the driver makes no volumes of others")

	// ErrNoAdoption: the driver is no [Adopter].
	ErrNoAdoption = errors.New("the driver adopts nothing")

	// ErrNoRetype: the driver is no [Retyper].
	ErrNoRetype = errors.New("the driver cannot change whether a volume is replicated")

	// ErrBusy: the volume is in use in a way that forbids the call.
	ErrBusy = errors.New("volume is busy")

	// ErrDriverLost: the driver's process ended before it answered. It is never a
	// driver's own word. The outcome is unknown.
	ErrDriverLost = errors.New("the driver's process has ended")
)
