package driverhost

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"

	"github.com/lockstep-storage/lockstep/fsm"
)

// operate makes the driver calls of the volume operations that are owed, many at
// once, until ctx ends.
func (w *worker) operate(ctx context.Context, driver Driver) {
	var wg sync.WaitGroup
	defer wg.Wait()
	ended := make(chan uint64, w.cfg.Concurrency) // never blocks: one place per running operation
	running := map[uint64]bool{}
	for {
		ops, changed := w.owed(w.cfg.Concurrency + len(running))
		for _, op := range ops {
			if running[op.ID] || len(running) == w.cfg.Concurrency {
				continue
			}
			running[op.ID] = true
			wg.Go(func() {
				w.operation(ctx, driver, op)
				ended <- op.ID
			})
		}
		if len(running) == w.cfg.Concurrency {
			changed = nil // only an end makes room
		}
		select {
		case <-changed:
		case id := <-ended:
			delete(running, id)
		case <-ctx.Done():
			return
		}
	}
}

func (w *worker) owed(limit int) (ops []fsm.Operation, changed <-chan struct{}) {
	changed = w.cfg.State.View(func(s *fsm.State) { ops = s.Owed(w.svc.Host, limit) })
	return ops, changed
}

// operation makes one call and reports its end. A call that is not admitted, is
// cancelled, or whose driver was lost, stays owed and is made again when the state
// allows it.
func (w *worker) operation(ctx context.Context, driver Driver, op fsm.Operation) {
	pause := newBackoff(w.cfg.Retry)
	owes := func(s *fsm.State) bool { return s.Owes(w.svc.Host, op.ID) }
	for {
		w.gate.await(ctx, fsm.CallVolume, owes)
		still := false
		w.cfg.State.View(func(s *fsm.State) { still = owes(s) })
		if !still || ctx.Err() != nil {
			return
		}
		err := w.tryAlone(ctx, driver, op)
		if err == nil {
			return
		}
		w.logger.Debug("operation not ended, trying again", "operation", op.ID, "volume", op.VolumeID, "error", err)
		pause.wait(ctx)
	}
}

// maxLosses is how many driver processes may end during the calls of one operation
// before it counts as failed: it may be what ends them.
const maxLosses = 5

// tryAlone makes calls that a driver's process did not survive one at a time, so
// that the one that ends it does not take others with it again and again.
func (w *worker) tryAlone(ctx context.Context, driver Driver, op fsm.Operation) error {
	if w.losses(op.ID) == 0 {
		return w.tryOperation(ctx, driver, op)
	}
	select {
	case w.suspect <- struct{}{}:
		defer func() { <-w.suspect }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return w.tryOperation(ctx, driver, op)
}

func (w *worker) losses(operation uint64) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.lost[operation]
}

// noteLoss remembers that the driver was lost during a call, for as long as the
// operation is owed.
func (w *worker) noteLoss(operation uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lost[operation]++
	w.cfg.State.View(func(s *fsm.State) {
		maps.DeleteFunc(w.lost, func(id uint64, _ int) bool { return !s.Owes(w.svc.Host, id) })
	})
}

func (w *worker) tryOperation(ctx context.Context, driver Driver, op fsm.Operation) error {
	admitted, token, leave, err := w.gate.enter(ctx, fsm.CallVolume)
	if err != nil {
		return err
	}
	var did ManagedVolume
	failure := errPoison
	if w.losses(op.ID) < maxLosses {
		did, failure = w.callVolume(admitted, driver, op, token)
	}
	cancelled := context.Cause(admitted)
	leave()
	switch {
	case errors.Is(failure, ErrDriverLost):
		if cancelled == nil || errors.Is(cancelled, ErrDriverLost) {
			w.noteLoss(op.ID)
		}
		return failure
	case failure != nil && cancelled != nil:
		return cancelled
	case errors.Is(failure, ErrFenced):
		return failure
	}
	end := fsm.EndOperation{Operation: op.ID, Host: w.svc.Host, Epoch: token.Epoch, Update: updateOf(did.VolumeUpdate), Size: did.SizeGiB}
	if failure != nil {
		end.Error = text(failure.Error())
		w.logger.Warn("volume operation failed", "operation", op.ID, "volume", op.VolumeID, "error", failure)
	}
	err = w.report(ctx, end)
	if errors.Is(err, fsm.ErrTooLarge) { // the same call again would bring the same
		end.Error, end.Update = text("what the driver says of the volume is too large: "+err.Error()), fsm.VolumeUpdate{}
		err = w.report(ctx, end)
	}
	return err
}

// errPoison ends an operation that no driver process survives.
var errPoison = fmt.Errorf("the driver's process ended %d times during this call", maxLosses)

// callVolume makes the driver's call of an operation. A size is known only of what
// was adopted.
func (w *worker) callVolume(ctx context.Context, driver Driver, op fsm.Operation, token Token) (did ManagedVolume, err error) {
	var v fsm.Volume
	w.cfg.State.View(func(s *fsm.State) { v, _ = s.Volume(op.VolumeID) })
	volume := VolumeRequest{Token: token, Volume: volumeOf(v)}
	snapshot := SnapshotRequest{Token: token, Snapshot: Snapshot{ID: op.SnapshotID, Volume: volume.Volume}}
	switch op.Kind {
	case fsm.OpCreateVolume:
		did.VolumeUpdate, err = w.createVolume(ctx, driver, &v, volume)
		return did, err
	case fsm.OpDeleteVolume:
		return did, deleteVolume(ctx, driver, op.Snapshots, volume)
	case fsm.OpExtendVolume:
		return did, driver.ExtendVolume(ctx, ExtendVolumeRequest{Token: token, Volume: volume.Volume, NewSizeGiB: op.Size})
	case fsm.OpCreateSnapshot:
		return did, driver.CreateSnapshot(ctx, snapshot)
	case fsm.OpDeleteSnapshot:
		return did, driver.DeleteSnapshot(ctx, snapshot)
	case fsm.OpManageVolume, fsm.OpUnmanageVolume:
		return adopt(ctx, driver, op.Kind, &v, volume)
	case fsm.OpRetypeVolume:
		return did, retypeVolume(ctx, driver, op, volume)
	}
	return did, fmt.Errorf("operation of kind %d: %w", op.Kind, fsm.ErrInvalid)
}

// createVolume makes a volume, empty or of what it is to be made of.
func (w *worker) createVolume(ctx context.Context, driver Driver, v *fsm.Volume, req VolumeRequest) (VolumeUpdate, error) {
	if v.SnapshotID == "" && v.SourceVolumeID == "" {
		return driver.CreateVolume(ctx, req)
	}
	copier, ok := driver.(Copier)
	if !ok {
		return VolumeUpdate{}, ErrNoCopies
	}
	from := CopyRequest{Token: req.Token, Volume: req.Volume, SourceVolume: v.SourceVolumeID}
	if v.SnapshotID != "" {
		from.SourceVolume, from.Snapshot = "", v.SnapshotID
	}
	w.cfg.State.View(func(s *fsm.State) {
		sn, _ := s.Snapshot(v.SnapshotID)
		source, _ := s.Volume(cmp.Or(sn.VolumeID, v.SourceVolumeID))
		from.SourceGroup = source.ReplicaGroup
	})
	return copier.CreateVolumeFrom(ctx, from)
}

// adopt takes a volume over, or leaves it to others.
func adopt(ctx context.Context, driver Driver, kind fsm.OperationKind, v *fsm.Volume, req VolumeRequest) (did ManagedVolume, err error) {
	adopter, ok := driver.(Adopter)
	switch {
	case !ok:
		err = ErrNoAdoption
	case kind == fsm.OpUnmanageVolume:
		err = adopter.UnmanageVolume(ctx, req)
	default:
		return adopter.ManageVolume(ctx, ManageVolumeRequest{Token: req.Token, Volume: req.Volume, Reference: v.Reference})
	}
	if errors.Is(err, ErrNoAdoption) && kind == fsm.OpUnmanageVolume && v.Size == 0 {
		err = nil // it never could be taken
	}
	return did, err
}

// retypeVolume asks the driver for what the new type means for the storage: nothing,
// unless it changes whether the volume is replicated.
func retypeVolume(ctx context.Context, driver Driver, op fsm.Operation, req VolumeRequest) error {
	if op.Replicated == req.Volume.Replicated {
		return nil
	}
	retyper, ok := driver.(Retyper)
	if !ok {
		return ErrNoRetype
	}
	return retyper.RetypeVolume(ctx, RetypeVolumeRequest{Token: req.Token, Volume: req.Volume, Replicated: op.Replicated, Snapshots: op.Snapshots})
}

// deleteVolume deletes a volume after its snapshots.
func deleteVolume(ctx context.Context, driver Driver, snapshots []string, req VolumeRequest) error {
	for _, id := range snapshots {
		if err := driver.DeleteSnapshot(ctx, SnapshotRequest{Token: req.Token, Snapshot: Snapshot{ID: id, Volume: req.Volume}}); err != nil {
			return err
		}
	}
	return driver.DeleteVolume(ctx, req)
}
