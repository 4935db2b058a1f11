package process

import (
	"context"

	"google.golang.org/grpc/codes"

	"github.com/lockstep-storage/lockstep/driverhost"
	"github.com/lockstep-storage/lockstep/driverhost/process/driverpb"
)

// FreezeBackend implements [driverpb.DriverServer].
func (s *server) FreezeBackend(ctx context.Context, req *driverpb.FreezeBackendRequest) (*driverpb.FreezeBackendResponse, error) {
	failed, err := s.answer(ctx, req.GetCall(), func(ctx context.Context, d driverhost.Driver, token driverhost.Token) error {
		return d.FreezeBackend(ctx, token)
	})
	return &driverpb.FreezeBackendResponse{Failure: failed}, err
}

// ThawBackend implements [driverpb.DriverServer].
func (s *server) ThawBackend(ctx context.Context, req *driverpb.ThawBackendRequest) (*driverpb.ThawBackendResponse, error) {
	failed, err := s.answer(ctx, req.GetCall(), func(ctx context.Context, d driverhost.Driver, token driverhost.Token) error {
		return d.ThawBackend(ctx, token)
	})
	return &driverpb.ThawBackendResponse{Failure: failed}, err
}

// CreateVolume implements [driverpb.DriverServer].
func (s *server) CreateVolume(ctx context.Context, req *driverpb.CreateVolumeRequest) (*driverpb.CreateVolumeResponse, error) {
	var update *driverpb.VolumeUpdate
	failed, err := s.answer(ctx, req.GetCall(), func(ctx context.Context, d driverhost.Driver, token driverhost.Token) error {
		u, err := createVolume(ctx, d, token, req)
		if err == nil {
			update, err = updateToWire(u)
		}
		return err
	})
	return &driverpb.CreateVolumeResponse{Failure: failed, Update: update}, err
}

// createVolume makes an empty volume, or one with the content of another.
func createVolume(ctx context.Context, d driverhost.Driver, token driverhost.Token, req *driverpb.CreateVolumeRequest) (driverhost.VolumeUpdate, error) {
	if req.GetSourceVolumeId() == "" && req.GetSourceSnapshotId() == "" {
		return d.CreateVolume(ctx, driverhost.VolumeRequest{Token: token, Volume: volumeOf(req.GetVolume())})
	}
	copier, ok := d.(driverhost.Copier)
	if !ok {
		return driverhost.VolumeUpdate{}, driverhost.ErrNoCopies
	}
	return copier.CreateVolumeFrom(ctx, driverhost.CopyRequest{
		Token: token, Volume: volumeOf(req.GetVolume()), SourceVolume: req.GetSourceVolumeId(), Snapshot: req.GetSourceSnapshotId(), SourceGroup: req.GetSourceGroup(),
	})
}

// DeleteVolume implements [driverpb.DriverServer].
func (s *server) DeleteVolume(ctx context.Context, req *driverpb.DeleteVolumeRequest) (*driverpb.DeleteVolumeResponse, error) {
	failed, err := s.answer(ctx, req.GetCall(), func(ctx context.Context, d driverhost.Driver, token driverhost.Token) error {
		return d.DeleteVolume(ctx, driverhost.VolumeRequest{Token: token, Volume: volumeOf(req.GetVolume())})
	})
	return &driverpb.DeleteVolumeResponse{Failure: failed}, err
}

// ExtendVolume implements [driverpb.DriverServer].
func (s *server) ExtendVolume(ctx context.Context, req *driverpb.ExtendVolumeRequest) (*driverpb.ExtendVolumeResponse, error) {
	failed, err := s.answer(ctx, req.GetCall(), func(ctx context.Context, d driverhost.Driver, token driverhost.Token) error {
		return d.ExtendVolume(ctx, driverhost.ExtendVolumeRequest{
			Token: token, Volume: volumeOf(req.GetVolume()), NewSizeGiB: req.GetNewSizeGib(),
		})
	})
	return &driverpb.ExtendVolumeResponse{Failure: failed}, err
}

// CreateSnapshot implements [driverpb.DriverServer].
func (s *server) CreateSnapshot(ctx context.Context, req *driverpb.CreateSnapshotRequest) (*driverpb.CreateSnapshotResponse, error) {
	failed, err := s.answer(ctx, req.GetCall(), func(ctx context.Context, d driverhost.Driver, token driverhost.Token) error {
		return d.CreateSnapshot(ctx, driverhost.SnapshotRequest{
			Token: token, Snapshot: driverhost.Snapshot{ID: req.GetSnapshotId(), Volume: volumeOf(req.GetVolume())},
		})
	})
	return &driverpb.CreateSnapshotResponse{Failure: failed}, err
}

// DeleteSnapshot implements [driverpb.DriverServer].
func (s *server) DeleteSnapshot(ctx context.Context, req *driverpb.DeleteSnapshotRequest) (*driverpb.DeleteSnapshotResponse, error) {
	failed, err := s.answer(ctx, req.GetCall(), func(ctx context.Context, d driverhost.Driver, token driverhost.Token) error {
		return d.DeleteSnapshot(ctx, driverhost.SnapshotRequest{
			Token: token, Snapshot: driverhost.Snapshot{ID: req.GetSnapshotId(), Volume: volumeOf(req.GetVolume())},
		})
	})
	return &driverpb.DeleteSnapshotResponse{Failure: failed}, err
}

// Stats implements [driverpb.DriverServer].
func (s *server) Stats(ctx context.Context, req *driverpb.StatsRequest) (*driverpb.StatsResponse, error) {
	var measured driverhost.Stats
	var problem error
	failed, err := s.answer(ctx, req.GetCall(), func(ctx context.Context, d driverhost.Driver, _ driverhost.Token) error {
		measured, problem = d.Stats(ctx)
		return nil
	})
	if err != nil || failed != nil {
		return &driverpb.StatsResponse{Failure: failed}, err
	}
	return statsToWire(measured, problem), nil
}

// FailoverCompleted implements [driverpb.DriverServer].
func (s *server) FailoverCompleted(ctx context.Context, req *driverpb.FailoverCompletedRequest) (*driverpb.FailoverCompletedResponse, error) {
	failed, err := s.answer(ctx, req.GetCall(), func(ctx context.Context, d driverhost.Driver, token driverhost.Token) error {
		aa, ok := d.(driverhost.ActiveActive)
		if !ok {
			return violation(codes.Unimplemented, "the driver lacks this call")
		}
		return aa.FailoverCompleted(ctx, driverhost.FailoverCompletedRequest{Token: token, ActiveBackendID: req.GetActiveBackendId()})
	})
	return &driverpb.FailoverCompletedResponse{Failure: failed}, err
}
