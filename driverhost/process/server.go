package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/lockstep-storage/lockstep/driverhost"
	"github.com/lockstep-storage/lockstep/driverhost/process/driverpb"
)

// server answers the agent's calls with a driver.
type server struct {
	driverpb.UnimplementedDriverServer

	open   Open
	wall   *wall
	logger hclog.Logger
	base   context.Context //nolint:containedctx // all calls end with it: the process is to end
	end    context.CancelCauseFunc

	mu     sync.Mutex
	driver driverhost.Driver // nil until it is open
	opened bool              // Open has been called
	calls  map[uint64]context.CancelCauseFunc
}

var _ driverpb.DriverServer = (*server)(nil)

// errCancelled is why a call ends that the agent no longer wants.
var errCancelled = errors.New("the call is no longer wanted")

func newServer(ctx context.Context, open Open, w *wall, logger hclog.Logger) *server {
	s := &server{open: open, wall: w, logger: logger, calls: map[uint64]context.CancelCauseFunc{}}
	s.base, s.end = context.WithCancelCause(ctx)
	return s
}

// admit begins a call: its context ends with the lease that its deadline is of, and
// when it is cancelled. The caller calls done. A call that breaks the contract is
// answered with a status, one whose lease has ended with a failure.
func (s *server) admit(parent context.Context, call *driverpb.Call) (ctx context.Context, token driverhost.Token, done func(), err error) {
	if call.GetId() == 0 || call.GetDeadline() <= 0 {
		return nil, token, nil, violation(codes.InvalidArgument, "call: id and deadline must be greater than 0")
	}
	g, err := s.wall.extend(time.Duration(call.GetDeadline()))
	if err != nil {
		return nil, token, nil, err
	}
	ctx, cancel := context.WithCancelCause(driverhost.WithDeadline(parent, g))
	lapse := context.AfterFunc(g.ctx, func() { cancel(driverhost.ErrLeaseEnded) })
	end := context.AfterFunc(s.base, func() { cancel(context.Cause(s.base)) })
	stop := func() {
		lapse()
		end()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.calls[call.GetId()]; known {
		stop()
		cancel(errCancelled)
		return nil, token, nil, violation(codes.InvalidArgument, fmt.Sprintf("call: id %d is taken", call.GetId()))
	}
	s.calls[call.GetId()] = cancel
	return ctx, tokenOf(call.GetToken()), func() {
		stop()
		cancel(context.Canceled)
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.calls, call.GetId())
	}, nil
}

// violationError answers a request that breaks the contract. It is a type of our own
// since a driver's error may well have a gRPC status, of its storage.
type violationError struct{ status *status.Status }

// Error implements error.
func (e *violationError) Error() string { return e.status.Message() }

// GRPCStatus is what gRPC answers with.
func (e *violationError) GRPCStatus() *status.Status { return e.status }

func violation(code codes.Code, message string) error {
	return &violationError{status.New(code, message)}
}

func isViolation(err error) bool {
	_, ok := errors.AsType[*violationError](err)
	return ok
}

// driverCall is one call of a driver.
type driverCall func(context.Context, driverhost.Driver, driverhost.Token) error

// answer makes one call of the driver, and returns its failure.
func (s *server) answer(ctx context.Context, call *driverpb.Call, do driverCall) (*driverpb.Failure, error) {
	ctx, token, done, err := s.admit(ctx, call)
	if err == nil {
		defer done()
		err = driverhost.Allowed(ctx)
	}
	if err == nil {
		s.mu.Lock()
		driver := s.driver
		s.mu.Unlock()
		if driver == nil {
			return nil, violation(codes.FailedPrecondition, "the driver is not open")
		}
		err = do(ctx, driver, token)
	}
	if isViolation(err) {
		return nil, err
	}
	return failureOf(err), nil
}

// Open implements [driverpb.DriverServer].
func (s *server) Open(ctx context.Context, req *driverpb.OpenRequest) (*driverpb.OpenResponse, error) {
	after := time.Duration(req.GetKillAfter())
	if after <= 0 {
		return nil, violation(codes.InvalidArgument, "kill_after must be greater than 0")
	}
	s.mu.Lock()
	again := s.opened
	s.opened = true
	s.mu.Unlock()
	if again {
		return nil, violation(codes.FailedPrecondition, "the driver has been opened before")
	}
	deadline := time.Duration(req.GetCall().GetDeadline())
	if _, err := s.wall.extend(deadline); err != nil {
		return &driverpb.OpenResponse{Failure: failureOf(err)}, nil
	}
	if err := s.wall.open(after); err != nil {
		return nil, violation(codes.Internal, err.Error())
	}
	ctx, token, done, err := s.admit(ctx, req.GetCall())
	if err != nil {
		if isViolation(err) {
			return nil, err
		}
		return &driverpb.OpenResponse{Failure: failureOf(err)}, nil
	}
	defer done()
	s.logger.SetLevel(hclog.LevelFromString(req.GetLogLevel()))
	// What the driver starts by itself outlives this call and this lease: it asks
	// for the deadline of the lease held then.
	ctx = driverhost.WithDeadline(ctx, s.wall)
	driver, err := s.open(ctx, driverhost.OpenRequest{
		Node: req.GetNode(), Host: req.GetHost(), Cluster: req.GetCluster(), ActiveBackendID: req.GetActiveBackendId(),
		Token: token, Logger: s.logger, Lease: s.wall,
	}, req.GetOptions())
	if err != nil {
		return &driverpb.OpenResponse{Failure: failureOf(err)}, nil
	}
	s.mu.Lock()
	s.driver = driver
	s.mu.Unlock()
	return &driverpb.OpenResponse{Capabilities: capabilitiesOf(driver)}, nil
}

func capabilitiesOf(driver driverhost.Driver) (all []driverpb.Capability) {
	if _, ok := driver.(driverhost.ActiveActive); ok {
		all = append(all, driverpb.Capability_CAPABILITY_ACTIVE_ACTIVE)
	}
	if _, ok := driver.(driverhost.Demoter); ok {
		all = append(all, driverpb.Capability_CAPABILITY_DEMOTE)
	}
	if _, ok := driver.(driverhost.HostFailover); ok {
		all = append(all, driverpb.Capability_CAPABILITY_FAILOVER_HOST)
	}
	if _, ok := driver.(driverhost.Adopter); ok {
		all = append(all, driverpb.Capability_CAPABILITY_MANAGE)
	}
	if _, ok := driver.(driverhost.Retyper); ok {
		all = append(all, driverpb.Capability_CAPABILITY_RETYPE)
	}
	if mover, ok := driver.(driverhost.GroupMover); ok && mover.MovesGroups() {
		all = append(all, driverpb.Capability_CAPABILITY_GROUPS)
	}
	return all
}

// Renew implements [driverpb.DriverServer]. A deadline that has passed on its way
// is no error: the wall knows.
func (s *server) Renew(_ context.Context, req *driverpb.RenewRequest) (*driverpb.RenewResponse, error) {
	if _, err := s.wall.extend(time.Duration(req.GetDeadline())); err != nil && !errors.Is(err, driverhost.ErrLeaseEnded) {
		return nil, violation(codes.Internal, err.Error())
	}
	if level := hclog.LevelFromString(req.GetLogLevel()); level != hclog.NoLevel {
		s.logger.SetLevel(level)
	}
	return &driverpb.RenewResponse{}, nil
}

// Cancel implements [driverpb.DriverServer].
func (s *server) Cancel(_ context.Context, req *driverpb.CancelRequest) (*driverpb.CancelResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if cancel, ok := s.calls[req.GetId()]; ok {
		cancel(errCancelled)
	}
	return &driverpb.CancelResponse{}, nil
}

// Close implements [driverpb.DriverServer].
func (s *server) Close(context.Context, *driverpb.CloseRequest) (*driverpb.CloseResponse, error) {
	s.end(errCancelled)
	s.mu.Lock()
	driver := s.driver
	s.driver = nil
	s.mu.Unlock()
	if driver == nil {
		return &driverpb.CloseResponse{}, nil
	}
	return &driverpb.CloseResponse{Failure: failureOf(driver.Close())}, nil
}

// Failover implements [driverpb.DriverServer].
func (s *server) Failover(stream grpc.BidiStreamingServer[driverpb.FailoverRequest, driverpb.FailoverResponse]) error {
	return s.promote(stream, func(d driverhost.Driver) (promotion, bool) {
		aa, ok := d.(driverhost.ActiveActive)
		if !ok {
			return nil, false
		}
		return aa.Failover, true
	})
}

// FailoverHost implements [driverpb.DriverServer].
func (s *server) FailoverHost(stream grpc.BidiStreamingServer[driverpb.FailoverRequest, driverpb.FailoverResponse]) error {
	return s.promote(stream, func(d driverhost.Driver) (promotion, bool) {
		hf, ok := d.(driverhost.HostFailover)
		if !ok {
			return nil, false
		}
		return hf.FailoverHost, true
	})
}

type promotion func(context.Context, driverhost.FailoverRequest) (driverhost.FailoverResult, error)

func (s *server) promote(stream grpc.BidiStreamingServer[driverpb.FailoverRequest, driverpb.FailoverResponse],
	of func(driverhost.Driver) (promotion, bool),
) error {
	first, volumes, err := receive(stream.Recv, (*driverpb.FailoverRequest).GetVolumes)
	if err != nil {
		return err
	}
	var results []*driverpb.VolumeResult
	failed, err := s.answer(stream.Context(), first.GetCall(), func(ctx context.Context, d driverhost.Driver, token driverhost.Token) error {
		call, ok := of(d)
		if !ok {
			return violation(codes.Unimplemented, "the driver lacks this call")
		}
		result, err := call(ctx, driverhost.FailoverRequest{
			Token: token, ID: first.GetId(), From: first.GetFrom(), Target: first.GetTarget(), Planned: first.GetPlanned(), Volumes: volumes,
			Group: first.GetGroup(), Groups: movesOf(first.GetGroups()),
		})
		if err != nil {
			return err
		}
		for _, r := range result.Volumes {
			wire, err := resultToWire(r)
			if err != nil {
				return err
			}
			results = append(results, wire)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if failed != nil || len(results) == 0 {
		return stream.Send(&driverpb.FailoverResponse{Failure: failed})
	}
	return inParts(results, func(part []*driverpb.VolumeResult) error {
		return stream.Send(&driverpb.FailoverResponse{Volumes: part})
	})
}

// receive reads a stream of requests: the first, and the volumes of all.
func receive[T any](next func() (*T, error), volumesIn func(*T) []*driverpb.Volume) (first *T, volumes []driverhost.Volume, err error) {
	for {
		req, err := next()
		if errors.Is(err, io.EOF) && first != nil {
			return first, volumes, nil
		}
		if err != nil {
			return nil, nil, fmt.Errorf("receive: %w", err)
		}
		if first == nil {
			first = req
		}
		volumes = append(volumes, volumesOf(volumesIn(req))...)
	}
}

// Demote implements [driverpb.DriverServer].
func (s *server) Demote(stream grpc.ClientStreamingServer[driverpb.DemoteRequest, driverpb.DemoteResponse]) error {
	first, volumes, err := receive(stream.Recv, (*driverpb.DemoteRequest).GetVolumes)
	if err != nil {
		return err
	}
	failed, err := s.answer(stream.Context(), first.GetCall(), func(ctx context.Context, d driverhost.Driver, token driverhost.Token) error {
		demoter, ok := d.(driverhost.Demoter)
		if !ok {
			return violation(codes.Unimplemented, "the driver lacks this call")
		}
		return demoter.Demote(ctx, driverhost.DemoteRequest{
			Token: token, ID: first.GetId(), From: first.GetFrom(), Target: first.GetTarget(), Volumes: volumes,
			Group: first.GetGroup(), Groups: movesOf(first.GetGroups()),
		})
	})
	if err != nil {
		return err
	}
	return stream.SendAndClose(&driverpb.DemoteResponse{Failure: failed})
}
