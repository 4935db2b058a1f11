package process

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/lockstep-storage/lockstep/driverhost"
	"github.com/lockstep-storage/lockstep/driverhost/process/driverpb"
)

var (
	_ driverhost.Adopter = (*remote)(nil)
	_ driverhost.Retyper = (*remote)(nil)
)

// ManageVolume implements [driverhost.Adopter]. A driver that is none is not asked,
// since it might not survive that.
func (r *remote) ManageVolume(ctx context.Context, req driverhost.ManageVolumeRequest) (did driverhost.ManagedVolume, err error) {
	if !r.adopts {
		return did, driverhost.ErrNoAdoption
	}
	err = r.call(ctx, req.Token, func(ctx context.Context, call *driverpb.Call) (*driverpb.Failure, error) {
		a, err := r.driver.ManageVolume(ctx, &driverpb.ManageVolumeRequest{Call: call, Volume: volumeToWire(req.Volume), Reference: req.Reference})
		did = driverhost.ManagedVolume{VolumeUpdate: updateOf(a.GetUpdate()), SizeGiB: a.GetSizeGib()}
		return a.GetFailure(), err
	})
	return did, err
}

// UnmanageVolume implements [driverhost.Adopter].
func (r *remote) UnmanageVolume(ctx context.Context, req driverhost.VolumeRequest) error {
	if !r.adopts {
		return driverhost.ErrNoAdoption
	}
	return r.call(ctx, req.Token, func(ctx context.Context, call *driverpb.Call) (*driverpb.Failure, error) {
		return unary(r.driver.UnmanageVolume(ctx, &driverpb.UnmanageVolumeRequest{Call: call, Volume: volumeToWire(req.Volume)}))
	})
}

// ManageableVolumes implements [driverhost.Adopter].
func (r *remote) ManageableVolumes(ctx context.Context) (all []driverhost.Manageable, err error) {
	if !r.adopts {
		return nil, driverhost.ErrNoAdoption
	}
	err = r.call(ctx, driverhost.Token{}, func(ctx context.Context, call *driverpb.Call) (*driverpb.Failure, error) {
		stream, err := r.driver.ManageableVolumes(ctx, &driverpb.ManageableVolumesRequest{Call: call})
		if err != nil {
			return nil, err
		}
		var failed *driverpb.Failure
		all, failed, err = received(stream.Recv, manageableOf)
		return failed, err
	})
	return all, err
}

func manageableOf(m *driverpb.ManageableVolume) driverhost.Manageable {
	return driverhost.Manageable{Reference: m.GetReference(), SizeGiB: m.GetSizeGib(), Unsafe: m.GetUnsafe()}
}

// RetypeVolume implements [driverhost.Retyper].
func (r *remote) RetypeVolume(ctx context.Context, req driverhost.RetypeVolumeRequest) error {
	if !r.retypes {
		return driverhost.ErrNoRetype
	}
	return r.call(ctx, req.Token, func(ctx context.Context, call *driverpb.Call) (*driverpb.Failure, error) {
		return unary(r.driver.RetypeVolume(ctx, &driverpb.RetypeVolumeRequest{
			Call: call, Volume: volumeToWire(req.Volume), Replicated: req.Replicated, SnapshotIds: req.Snapshots,
		}))
	})
}

// errLacks answers a call that the driver has not said to be capable of.
func errLacks() error { return violation(codes.Unimplemented, "the driver lacks this call") }

// ManageVolume implements [driverpb.DriverServer].
func (s *server) ManageVolume(ctx context.Context, req *driverpb.ManageVolumeRequest) (*driverpb.ManageVolumeResponse, error) {
	out := &driverpb.ManageVolumeResponse{}
	failed, err := s.answer(ctx, req.GetCall(), func(ctx context.Context, d driverhost.Driver, token driverhost.Token) error {
		adopter, ok := d.(driverhost.Adopter)
		if !ok {
			return errLacks()
		}
		did, err := adopter.ManageVolume(ctx, driverhost.ManageVolumeRequest{Token: token, Volume: volumeOf(req.GetVolume()), Reference: req.GetReference()})
		if err == nil {
			out.SizeGib = did.SizeGiB
			out.Update, err = updateToWire(did.VolumeUpdate)
		}
		return err
	})
	out.Failure = failed
	return out, err
}

// UnmanageVolume implements [driverpb.DriverServer].
func (s *server) UnmanageVolume(ctx context.Context, req *driverpb.UnmanageVolumeRequest) (*driverpb.UnmanageVolumeResponse, error) {
	failed, err := s.answer(ctx, req.GetCall(), func(ctx context.Context, d driverhost.Driver, token driverhost.Token) error {
		adopter, ok := d.(driverhost.Adopter)
		if !ok {
			return errLacks()
		}
		return adopter.UnmanageVolume(ctx, driverhost.VolumeRequest{Token: token, Volume: volumeOf(req.GetVolume())})
	})
	return &driverpb.UnmanageVolumeResponse{Failure: failed}, err
}

// ManageableVolumes implements [driverpb.DriverServer].
func (s *server) ManageableVolumes(req *driverpb.ManageableVolumesRequest, stream grpc.ServerStreamingServer[driverpb.ManageableVolumesResponse]) error {
	var all []*driverpb.ManageableVolume
	failed, err := s.answer(stream.Context(), req.GetCall(), func(ctx context.Context, d driverhost.Driver, _ driverhost.Token) error {
		adopter, ok := d.(driverhost.Adopter)
		if !ok {
			return errLacks()
		}
		list, err := adopter.ManageableVolumes(ctx)
		for _, m := range list {
			all = append(all, &driverpb.ManageableVolume{Reference: utf8Of(m.Reference), SizeGib: m.SizeGiB, Unsafe: utf8Of(m.Unsafe)})
		}
		return err
	})
	if err != nil {
		return err
	}
	if failed != nil || len(all) == 0 {
		return stream.Send(&driverpb.ManageableVolumesResponse{Failure: failed})
	}
	return inParts(all, func(part []*driverpb.ManageableVolume) error {
		return stream.Send(&driverpb.ManageableVolumesResponse{Volumes: part})
	})
}

// RetypeVolume implements [driverpb.DriverServer].
func (s *server) RetypeVolume(ctx context.Context, req *driverpb.RetypeVolumeRequest) (*driverpb.RetypeVolumeResponse, error) {
	failed, err := s.answer(ctx, req.GetCall(), func(ctx context.Context, d driverhost.Driver, token driverhost.Token) error {
		retyper, ok := d.(driverhost.Retyper)
		if !ok {
			return errLacks()
		}
		return retyper.RetypeVolume(ctx, driverhost.RetypeVolumeRequest{
			Token: token, Volume: volumeOf(req.GetVolume()), Replicated: req.GetReplicated(), Snapshots: req.GetSnapshotIds(),
		})
	})
	return &driverpb.RetypeVolumeResponse{Failure: failed}, err
}
