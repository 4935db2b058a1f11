package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"google.golang.org/grpc"

	"github.com/lockstep-storage/lockstep/driverhost"
	"github.com/lockstep-storage/lockstep/driverhost/process/driverpb"
)

// open opens the driver, and returns it with the optional interfaces that it has.
func (r *remote) open(ctx context.Context, req driverhost.OpenRequest) (driverhost.Driver, error) {
	var all []driverpb.Capability
	err := r.call(ctx, req.Token, func(ctx context.Context, call *driverpb.Call) (*driverpb.Failure, error) {
		answer, err := r.driver.Open(ctx, &driverpb.OpenRequest{
			Call: call, Node: req.Node, Host: req.Host, Cluster: req.Cluster, ActiveBackendId: req.ActiveBackendID,
			Options: r.cfg.Options, KillAfter: int64(r.cfg.killAfter()), LogLevel: r.logger.GetLevel().String(),
		})
		all = answer.GetCapabilities()
		return answer.GetFailure(), err
	})
	if err != nil {
		return nil, err
	}
	r.adopts = slices.Contains(all, driverpb.Capability_CAPABILITY_MANAGE)
	r.retypes = slices.Contains(all, driverpb.Capability_CAPABILITY_RETYPE)
	r.groups = slices.Contains(all, driverpb.Capability_CAPABILITY_GROUPS)
	return r.with(
		slices.Contains(all, driverpb.Capability_CAPABILITY_ACTIVE_ACTIVE),
		slices.Contains(all, driverpb.Capability_CAPABILITY_DEMOTE),
		slices.Contains(all, driverpb.Capability_CAPABILITY_FAILOVER_HOST),
	), nil
}

// MovesGroups implements [driverhost.GroupMover].
func (r *remote) MovesGroups() bool { return r.groups }

// The optional interfaces, each to be put beside the others.
type (
	activeActive struct{ r *remote }
	demoter      struct{ r *remote }
	hostFailover struct{ r *remote }
)

var (
	_ driverhost.ActiveActive = activeActive{}
	_ driverhost.Demoter      = demoter{}
	_ driverhost.HostFailover = hostFailover{}
)

// with returns the driver with just the optional interfaces that it has, so that
// whoever asks for one by its type gets the truth.
func (r *remote) with(failsOver, demotes, failsOverHost bool) driverhost.Process {
	aa, d, h := activeActive{r}, demoter{r}, hostFailover{r}
	switch {
	case failsOver && demotes && failsOverHost:
		return struct {
			*remote
			activeActive
			demoter
			hostFailover
		}{r, aa, d, h}
	case failsOver && demotes:
		return struct {
			*remote
			activeActive
			demoter
		}{r, aa, d}
	case failsOver && failsOverHost:
		return struct {
			*remote
			activeActive
			hostFailover
		}{r, aa, h}
	case failsOver:
		return struct {
			*remote
			activeActive
		}{r, aa}
	case demotes && failsOverHost:
		return struct {
			*remote
			demoter
			hostFailover
		}{r, d, h}
	case demotes:
		return struct {
			*remote
			demoter
		}{r, d}
	case failsOverHost:
		return struct {
			*remote
			hostFailover
		}{r, h}
	}
	return r
}

// answer is what all unary answers have.
type answer interface{ GetFailure() *driverpb.Failure }

// unary makes a call whose answer is only whether it failed.
func unary[A answer](a A, err error) (*driverpb.Failure, error) { return a.GetFailure(), err }

// FreezeBackend implements [driverhost.Driver].
func (r *remote) FreezeBackend(ctx context.Context, token driverhost.Token) error {
	return r.call(ctx, token, func(ctx context.Context, call *driverpb.Call) (*driverpb.Failure, error) {
		return unary(r.driver.FreezeBackend(ctx, &driverpb.FreezeBackendRequest{Call: call}))
	})
}

// ThawBackend implements [driverhost.Driver].
func (r *remote) ThawBackend(ctx context.Context, token driverhost.Token) error {
	return r.call(ctx, token, func(ctx context.Context, call *driverpb.Call) (*driverpb.Failure, error) {
		return unary(r.driver.ThawBackend(ctx, &driverpb.ThawBackendRequest{Call: call}))
	})
}

// CreateVolume implements [driverhost.Driver].
func (r *remote) CreateVolume(ctx context.Context, req driverhost.VolumeRequest) (update driverhost.VolumeUpdate, err error) {
	err = r.call(ctx, req.Token, func(ctx context.Context, call *driverpb.Call) (*driverpb.Failure, error) {
		a, err := r.driver.CreateVolume(ctx, &driverpb.CreateVolumeRequest{Call: call, Volume: volumeToWire(req.Volume)})
		update = updateOf(a.GetUpdate())
		return a.GetFailure(), err
	})
	return update, err
}

// CreateVolumeFrom implements [driverhost.Copier]. A driver that is none says so.
func (r *remote) CreateVolumeFrom(ctx context.Context, req driverhost.CopyRequest) (update driverhost.VolumeUpdate, err error) {
	err = r.call(ctx, req.Token, func(ctx context.Context, call *driverpb.Call) (*driverpb.Failure, error) {
		a, err := r.driver.CreateVolume(ctx, &driverpb.CreateVolumeRequest{
			Call: call, Volume: volumeToWire(req.Volume), SourceVolumeId: req.SourceVolume, SourceSnapshotId: req.Snapshot,
			SourceGroup: req.SourceGroup,
		})
		update = updateOf(a.GetUpdate())
		return a.GetFailure(), err
	})
	return update, err
}

// DeleteVolume implements [driverhost.Driver].
func (r *remote) DeleteVolume(ctx context.Context, req driverhost.VolumeRequest) error {
	return r.call(ctx, req.Token, func(ctx context.Context, call *driverpb.Call) (*driverpb.Failure, error) {
		return unary(r.driver.DeleteVolume(ctx, &driverpb.DeleteVolumeRequest{Call: call, Volume: volumeToWire(req.Volume)}))
	})
}

// ExtendVolume implements [driverhost.Driver].
func (r *remote) ExtendVolume(ctx context.Context, req driverhost.ExtendVolumeRequest) error {
	return r.call(ctx, req.Token, func(ctx context.Context, call *driverpb.Call) (*driverpb.Failure, error) {
		return unary(r.driver.ExtendVolume(ctx, &driverpb.ExtendVolumeRequest{
			Call: call, Volume: volumeToWire(req.Volume), NewSizeGib: req.NewSizeGiB,
		}))
	})
}

// CreateSnapshot implements [driverhost.Driver].
func (r *remote) CreateSnapshot(ctx context.Context, req driverhost.SnapshotRequest) error {
	return r.call(ctx, req.Token, func(ctx context.Context, call *driverpb.Call) (*driverpb.Failure, error) {
		return unary(r.driver.CreateSnapshot(ctx, &driverpb.CreateSnapshotRequest{
			Call: call, SnapshotId: req.Snapshot.ID, Volume: volumeToWire(req.Snapshot.Volume),
		}))
	})
}

// DeleteSnapshot implements [driverhost.Driver].
func (r *remote) DeleteSnapshot(ctx context.Context, req driverhost.SnapshotRequest) error {
	return r.call(ctx, req.Token, func(ctx context.Context, call *driverpb.Call) (*driverpb.Failure, error) {
		return unary(r.driver.DeleteSnapshot(ctx, &driverpb.DeleteSnapshotRequest{
			Call: call, SnapshotId: req.Snapshot.ID, Volume: volumeToWire(req.Snapshot.Volume),
		}))
	})
}

// Stats implements [driverhost.Driver].
func (r *remote) Stats(ctx context.Context) (stats driverhost.Stats, err error) {
	err = r.call(ctx, driverhost.Token{}, func(ctx context.Context, call *driverpb.Call) (*driverpb.Failure, error) {
		a, err := r.driver.Stats(ctx, &driverpb.StatsRequest{Call: call})
		stats = statsOf(a)
		return a.GetFailure(), err
	})
	return stats, err
}

// Failover implements [driverhost.ActiveActive].
func (a activeActive) Failover(ctx context.Context, req driverhost.FailoverRequest) (driverhost.FailoverResult, error) {
	return a.r.promote(ctx, req, a.r.driver.Failover)
}

// FailoverCompleted implements [driverhost.ActiveActive].
func (a activeActive) FailoverCompleted(ctx context.Context, req driverhost.FailoverCompletedRequest) error {
	return a.r.call(ctx, req.Token, func(ctx context.Context, call *driverpb.Call) (*driverpb.Failure, error) {
		return unary(a.r.driver.FailoverCompleted(ctx, &driverpb.FailoverCompletedRequest{Call: call, ActiveBackendId: req.ActiveBackendID}))
	})
}

// FailoverHost implements [driverhost.HostFailover].
func (h hostFailover) FailoverHost(ctx context.Context, req driverhost.FailoverRequest) (driverhost.FailoverResult, error) {
	return h.r.promote(ctx, req, h.r.driver.FailoverHost)
}

// Demote implements [driverhost.Demoter].
func (d demoter) Demote(ctx context.Context, req driverhost.DemoteRequest) error {
	return d.r.call(ctx, req.Token, func(ctx context.Context, call *driverpb.Call) (*driverpb.Failure, error) {
		stream, err := d.r.driver.Demote(ctx)
		if err != nil {
			return nil, err
		}
		first := &driverpb.DemoteRequest{Call: call, Id: req.ID, From: req.From, Target: req.Target, Group: req.Group, Groups: movesToWire(req.Groups)}
		err = send(stream.Send, first, req.Volumes, func(part []*driverpb.Volume) *driverpb.DemoteRequest {
			return &driverpb.DemoteRequest{Volumes: part}
		})
		if err != nil && !errors.Is(err, io.EOF) { // EOF: there is an answer already
			return nil, err
		}
		return unary(stream.CloseAndRecv())
	})
}

type (
	failoverStream = grpc.BidiStreamingClient[driverpb.FailoverRequest, driverpb.FailoverResponse]
	failoverCall   = func(context.Context, ...grpc.CallOption) (failoverStream, error)
)

func (r *remote) promote(ctx context.Context, req driverhost.FailoverRequest, begin failoverCall) (result driverhost.FailoverResult, err error) {
	err = r.call(ctx, req.Token, func(ctx context.Context, call *driverpb.Call) (*driverpb.Failure, error) {
		stream, err := begin(ctx)
		if err != nil {
			return nil, err
		}
		first := &driverpb.FailoverRequest{
			Call: call, Id: req.ID, From: req.From, Target: req.Target, Planned: req.Planned, Group: req.Group, Groups: movesToWire(req.Groups),
		}
		err = send(stream.Send, first, req.Volumes, func(part []*driverpb.Volume) *driverpb.FailoverRequest {
			return &driverpb.FailoverRequest{Volumes: part}
		})
		if err == nil {
			err = stream.CloseSend()
		}
		if err != nil && !errors.Is(err, io.EOF) { // EOF: there is an answer already
			return nil, err
		}
		var failed *driverpb.Failure
		result.Volumes, failed, err = received(stream.Recv, resultOf)
		return failed, err
	})
	if err != nil {
		return driverhost.FailoverResult{}, err
	}
	return result, nil
}

// send sends a request as a stream: everything but the volumes, then those.
func send[T any](out func(*T) error, first *T, volumes []driverhost.Volume, with func([]*driverpb.Volume) *T) error {
	if err := out(first); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	const atOnce = 10_000 // volumes that are held twice
	for part := range slices.Chunk(volumes, atOnce) {
		wire := make([]*driverpb.Volume, len(part))
		for i, v := range part {
			wire[i] = volumeToWire(v)
		}
		if err := inParts(wire, func(part []*driverpb.Volume) error { return out(with(part)) }); err != nil {
			return fmt.Errorf("send: %w", err)
		}
	}
	return nil
}

// part is a message of an answer that comes as a stream.
type part[W any] interface {
	GetFailure() *driverpb.Failure
	GetVolumes() []W
}

// received reads an answer that comes as a stream. One that ends before its first
// message is no answer.
func received[P part[W], W, V any](next func() (P, error), of func(W) V) (all []V, failed *driverpb.Failure, err error) {
	for n := 0; ; n++ {
		p, err := next()
		if errors.Is(err, io.EOF) && n > 0 {
			return all, failed, nil
		}
		if err != nil {
			return nil, nil, fmt.Errorf("answer: %w", err)
		}
		if p.GetFailure() != nil {
			failed = p.GetFailure()
		}
		for _, v := range p.GetVolumes() {
			all = append(all, of(v))
		}
	}
}
