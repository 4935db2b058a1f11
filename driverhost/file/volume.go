package file

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/lockstep-storage/lockstep/driverhost"
)

const gib = 1 << 30

// CreateVolume makes a sparse file of the volume's size. One of that size that
// exists is left as it is.
func (d *Driver) CreateVolume(ctx context.Context, req driverhost.VolumeRequest) (driverhost.VolumeUpdate, error) {
	v := req.Volume
	if err := errors.Join(checkID("volume", v.ID), checkSize(v.SizeGiB)); err != nil {
		return driverhost.VolumeUpdate{}, err
	}
	e := d.entry(CallCreateVolume, req.Token)
	e.Volume = v.ID
	var up driverhost.VolumeUpdate
	s, err := d.siteToCreate(ctx, v, req.Token)
	if err == nil {
		err = d.callAt(ctx, s, req.Token, e, func(s *site) error {
			up = s.update(v)
			return s.createVolume(v)
		})
	}
	if err != nil {
		return driverhost.VolumeUpdate{}, fmt.Errorf("create volume %s: %w", v.ID, err)
	}
	return up, nil
}

// DeleteVolume deletes a volume, and its replicas by and by.
func (d *Driver) DeleteVolume(ctx context.Context, req driverhost.VolumeRequest) error {
	v := req.Volume
	if err := checkID("volume", v.ID); err != nil {
		return err
	}
	e := d.entry(CallDeleteVolume, req.Token)
	e.Volume = v.ID
	err := d.onVolume(ctx, v, req.Token, e, func(s *site) error { return s.discard(volumeSidecar(v)) })
	if err != nil {
		return fmt.Errorf("delete volume %s: %w", v.ID, err)
	}
	return nil
}

// ExtendVolume grows a volume; one that is as large or larger is left as it is.
func (d *Driver) ExtendVolume(ctx context.Context, req driverhost.ExtendVolumeRequest) error {
	v := req.Volume
	if err := errors.Join(checkID("volume", v.ID), checkSize(req.NewSizeGiB)); err != nil {
		return err
	}
	e := d.entry(CallExtendVolume, req.Token)
	e.Volume = v.ID
	err := d.onVolume(ctx, v, req.Token, e, func(s *site) error {
		return growFile(s.place(volumePrefix+v.ID), req.NewSizeGiB*gib)
	})
	if err != nil {
		return fmt.Errorf("extend volume %s: %w", v.ID, err)
	}
	return nil
}

func checkID(kind, id string) error {
	if !validID(id) {
		return fmt.Errorf("%s id: %.80q: 1 to 64 of 0-9 a-z A-Z - _ are allowed", kind, id)
	}
	return nil
}

func checkSize(sizeGiB int64) error {
	const most = maxSize / gib
	if sizeGiB < 1 || sizeGiB > most {
		return fmt.Errorf("size: %d GiB: 1 to %d are allowed", sizeGiB, int64(most))
	}
	return nil
}

func volumeSidecar(v driverhost.Volume) sidecar {
	return sidecar{Name: volumePrefix + v.ID, Volume: v.ID, Replicated: v.Replicated}
}

// update is what the driver reports of a volume at the site.
func (s *site) update(v driverhost.Volume) driverhost.VolumeUpdate {
	return driverhost.VolumeUpdate{ProviderLocation: s.place(volumePrefix + v.ID)}
}

func (s *site) createVolume(v driverhost.Volume) error {
	if err := s.writeSidecar(volumeSidecar(v)); err != nil {
		return err
	}
	path, size := s.place(volumePrefix+v.ID), v.SizeGiB*gib
	fi, err := os.Lstat(path)
	switch {
	case err == nil && fi.Size() == size:
		return nil
	case err == nil:
		return fmt.Errorf("%s exists with %d bytes, not %d", path, fi.Size(), size)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	f, err := createSparse(path+tmpSuffix, size)
	if err := closeCreated(f, err); err != nil {
		return errors.Join(err, remove(path+tmpSuffix))
	}
	return publish(path+tmpSuffix, path)
}

func closeCreated(f *os.File, err error) error {
	if err != nil {
		return err
	}
	return closeSynced(f, nil)
}

// publish renames a finished file to its name and makes that durable.
func publish(tmp, path string) error {
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// growFile makes a file at least size bytes long.
func growFile(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	fi, err := f.Stat()
	if err == nil && fi.Size() >= size {
		return f.Close()
	}
	if err == nil {
		err = f.Truncate(size)
	}
	return closeSynced(f, err)
}
