package file

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/lockstep-storage/lockstep/driverhost"
)

// snapshotBlock is the unit in which snapshots are copied, in bytes.
const snapshotBlock = 1 << 20

// CreateSnapshot copies a volume. The copy is made without the site's lock, so
// that it holds up no other call, and becomes visible under it.
func (d *Driver) CreateSnapshot(ctx context.Context, req driverhost.SnapshotRequest) error {
	if err := d.createSnapshot(ctx, req); err != nil {
		return fmt.Errorf("create snapshot %s: %w", req.Snapshot.ID, err)
	}
	return nil
}

func (d *Driver) createSnapshot(ctx context.Context, req driverhost.SnapshotRequest) error {
	if err := checkSnapshot(req); err != nil {
		return err
	}
	name := snapshotPrefix + req.Snapshot.ID
	s, err := d.siteFor(req.Snapshot.Volume)
	if err != nil {
		return err
	}
	tmp, failed := s.stageCopy(ctx, req.Token, name, s.place(volumePrefix+req.Snapshot.Volume.ID), modeReadOnly)
	defer func() { _ = remove(tmp) }() // it is there only if it was not published
	e := d.entry(CallCreateSnapshot, req.Token)
	e.Volume, e.Snapshot = req.Snapshot.Volume.ID, req.Snapshot.ID
	return d.callAt(ctx, s, req.Token, e, func(s *site) error {
		if failed != nil {
			return failed
		}
		if err := s.writeSidecar(snapshotSidecar(req.Snapshot)); err != nil || tmp == "" {
			return err
		}
		return publish(tmp, s.place(name))
	})
}

// DeleteSnapshot deletes a snapshot, and its replicas by and by.
func (d *Driver) DeleteSnapshot(ctx context.Context, req driverhost.SnapshotRequest) error {
	if err := checkSnapshot(req); err != nil {
		return err
	}
	e := d.entry(CallDeleteSnapshot, req.Token)
	e.Volume, e.Snapshot = req.Snapshot.Volume.ID, req.Snapshot.ID
	err := d.onVolume(ctx, req.Snapshot.Volume, req.Token, e, func(s *site) error { return s.discard(snapshotSidecar(req.Snapshot)) })
	if err != nil {
		return fmt.Errorf("delete snapshot %s: %w", req.Snapshot.ID, err)
	}
	return nil
}

func checkSnapshot(req driverhost.SnapshotRequest) error {
	return errors.Join(checkID("snapshot", req.Snapshot.ID), checkID("volume", req.Snapshot.Volume.ID))
}

func snapshotSidecar(sn driverhost.Snapshot) sidecar {
	return sidecar{Name: snapshotPrefix + sn.ID, Volume: sn.Volume.ID, Replicated: sn.Volume.Replicated}
}

// stageCopy copies the file at a path to a temporary one beside the place of name, or returns no
// name if that is there already.
func (s *site) stageCopy(ctx context.Context, token driverhost.Token, name, source string, mode os.FileMode) (tmp string, err error) {
	done := false
	err = s.exclusive(ctx, func(st siteState) error {
		if err := s.enter(st, token); err != nil {
			return err
		}
		done, err = exists(s.place(name))
		return errors.Join(err, s.dropStaged(name))
	})
	if err != nil || done {
		return "", err
	}
	return s.copyFile(ctx, name, source, mode)
}

// dropStaged removes what earlier tries left. One that still runs, in another
// process, cannot publish what was removed.
func (s *site) dropStaged(name string) error {
	left, err := filepath.Glob(s.place(name) + ".*" + tmpSuffix)
	if err != nil {
		return err
	}
	return remove(left...)
}

// copyFile copies the file at a path to a temporary file beside the place of name.
func (s *site) copyFile(ctx context.Context, name, source string, mode os.FileMode) (tmp string, err error) {
	src, err := os.Open(source)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	fi, err := src.Stat()
	if err != nil {
		return "", err
	}
	dst, err := os.CreateTemp(filepath.Dir(s.place(name)), name+".*"+tmpSuffix)
	if err != nil {
		return "", err
	}
	err = dst.Truncate(fi.Size())
	if err == nil {
		err = eachBlock(ctx, src, fi.Size(), snapshotBlock, func(index int64, data []byte) error {
			_, err := dst.WriteAt(data, index*snapshotBlock)
			return err
		})
	}
	if err == nil {
		err = dst.Chmod(mode)
	}
	return dst.Name(), closeSynced(dst, err)
}
