package file

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/lockstep-storage/lockstep/driverhost"
)

var _ driverhost.Copier = (*Driver)(nil)

// modeVolume is the mode of the file of a volume.
const modeVolume = 0o600

// CreateVolumeFrom makes a volume of the bytes of another one, or of a snapshot, at
// the site in use. Like a snapshot it is copied without the site's lock and becomes
// visible under it.
func (d *Driver) CreateVolumeFrom(ctx context.Context, req driverhost.CopyRequest) (driverhost.VolumeUpdate, error) {
	v := req.Volume
	source, err := sourceName(req)
	if err := errors.Join(err, checkID("volume", v.ID), checkSize(v.SizeGiB)); err != nil {
		return driverhost.VolumeUpdate{}, err
	}
	name := volumePrefix + v.ID
	s, from, err := d.copySites(ctx, req)
	if err != nil {
		return driverhost.VolumeUpdate{}, fmt.Errorf("create volume %s of %s: %w", v.ID, source, err)
	}
	tmp, failed := s.stageCopy(ctx, req.Token, name, from.place(source), modeVolume)
	defer func() { _ = remove(tmp) }() // it is there only if it was not published
	e := d.entry(CallCreateVolume, req.Token)
	e.Volume = v.ID
	err = d.callAt(ctx, s, req.Token, e, func(s *site) error {
		if failed == nil && tmp != "" {
			failed = fitCopy(tmp, v.SizeGiB*gib)
		}
		if failed != nil {
			return failed
		}
		if err := s.writeSidecar(volumeSidecar(v)); err != nil || tmp == "" {
			return err
		}
		return publish(tmp, s.place(name))
	})
	if err != nil {
		return driverhost.VolumeUpdate{}, fmt.Errorf("create volume %s of %s: %w", v.ID, source, err)
	}
	return s.update(v), nil
}

// copySites returns the site that a copy is made at, and the one at the same place that
// its source is in.
func (d *Driver) copySites(ctx context.Context, req driverhost.CopyRequest) (to, from *site, err error) {
	if to, err = d.siteToCreate(ctx, req.Volume, req.Token); err != nil {
		return nil, nil, err
	}
	sites, err := d.sitesOf(req.SourceGroup)
	if err != nil {
		return nil, nil, err
	}
	return to, sites[to.id], nil
}

func sourceName(req driverhost.CopyRequest) (string, error) {
	if req.Snapshot != "" {
		return snapshotPrefix + req.Snapshot, checkID("snapshot", req.Snapshot)
	}
	return volumePrefix + req.SourceVolume, checkID("source volume", req.SourceVolume)
}

// fitCopy grows a copy to the size of its volume, and refuses one that is larger.
func fitCopy(path string, size int64) error {
	fi, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if fi.Size() > size {
		return fmt.Errorf("the source has %d bytes, more than the %d of the volume", fi.Size(), size)
	}
	return growFile(path, size)
}
