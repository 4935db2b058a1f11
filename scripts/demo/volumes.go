package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/lockstep-storage/lockstep/api/client"
	"github.com/lockstep-storage/lockstep/scripts/devcluster"
)

const (
	replicatedVolumes = 4
	ordinaryVolumes   = 2
	extentBytes       = 2 << 20
	extents           = 3 // per volume
	gib               = 1 << 30
)

// volume is one of the story's.
type volume struct {
	id         string
	name       string
	replicated bool
	sum        string // of its bytes, as they were written
}

func (v *volume) at(site string) string { return filepath.Join(site, "volumes", "volume-"+v.id) }

func (v *volume) replica(site string) string { return filepath.Join(site, "replicas", "volume-"+v.id) }

func (d *demo) createVolumes(ctx context.Context) (string, error) {
	for i := range replicatedVolumes + ordinaryVolumes {
		if _, err := d.createVolume(ctx, fmt.Sprintf("volume-%d", i+1), i < replicatedVolumes); err != nil {
			return "", err
		}
	}
	for _, v := range d.volumes {
		if err := v.write(d.cluster.Sites[primary], 0); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("Created %d replicated and %d ordinary volumes through the API, and wrote %d MiB of random data to each.",
		replicatedVolumes, ordinaryVolumes, extents*extentBytes>>20), nil
}

// createVolume asks for a volume and waits until it can be used.
func (d *demo) createVolume(ctx context.Context, name string, replicated bool) (*volume, error) { //nolint:revive // it is what the volume is
	r := client.VolumeRequest{Name: name, Size: 1}
	if replicated {
		r.VolumeType = "replicated"
	}
	created, err := d.api.CreateVolume(ctx, r)
	if err != nil {
		return nil, err
	}
	v := &volume{id: created.ID, name: name, replicated: replicated}
	d.volumes = append(d.volumes, v)
	return v, devcluster.Await(ctx, name+" is available", func() error {
		seen, err := d.api.Volume(ctx, v.id)
		if err != nil {
			return err
		}
		return same("status of "+name, seen.Status, "available")
	})
}

// write fills parts of the volume with random data; each round has parts of its own.
func (v *volume) write(site string, round int64) (err error) {
	f, err := os.OpenFile(v.at(site), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	data := make([]byte, extentBytes)
	for i := range int64(extents) {
		if _, err := rand.Read(data); err != nil {
			return err
		}
		if _, err := f.WriteAt(data, i*(gib/extents)+round*2*extentBytes); err != nil {
			return err
		}
	}
	if err := f.Sync(); err != nil {
		return err
	}
	v.sum, err = digest(v.at(site))
	return err
}

// digestBlock is the unit in which zeros are left out of a digest.
const digestBlock = 64 << 10

// digest is the SHA-256 of a file: its size, and the place and content of every
// block that is not all zeros. So a hole and written zeros count the same, and a
// file of a GiB is read in the time that its data takes.
func digest(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }() // it was only read
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	hash := sha256.New()
	number := func(n int64) { _ = binary.Write(hash, binary.BigEndian, n) } // a hash takes everything
	number(info.Size())
	block, zeros := make([]byte, digestBlock), make([]byte, digestBlock)
	for at := int64(0); at < info.Size(); at += digestBlock {
		data, err := unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			break // only a hole is left
		}
		if err == nil {
			at = data / digestBlock * digestBlock
		}
		n, err := f.ReadAt(block, at)
		if err != nil && !errors.Is(err, io.EOF) {
			return "", err
		}
		if string(block[:n]) != string(zeros[:n]) {
			number(at)
			hash.Write(block[:n])
		}
	}
	return fmt.Sprintf("%x", hash.Sum(nil)), nil
}

func compare(path, want string) error {
	got, err := digest(path)
	if err != nil {
		return err
	}
	return same("sha256 of "+path, got, want)
}

// awaitReplicas waits until the copies are complete.
func (d *demo) awaitReplicas(ctx context.Context) (string, error) {
	for _, v := range d.volumes {
		for _, site := range []string{second, "site-c"} {
			if !v.replicated {
				continue
			}
			err := devcluster.Await(ctx, v.name+" has arrived at "+site, func() error { return compare(v.replica(d.cluster.Sites[site]), v.sum) })
			if err != nil {
				return "", err
			}
		}
	}
	return "Replication has copied every byte of the replicated volumes to site-b and site-c.", nil
}

// compareAt checks every byte of the replicated volumes at the site in use, and of
// the others where they live.
func (d *demo) compareAt(site string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) {
		compared := 0
		for _, v := range d.volumes {
			if !v.replicated && site != primary {
				continue
			}
			if err := compare(v.at(d.cluster.Sites[site]), v.sum); err != nil {
				return "", err
			}
			compared++
		}
		return fmt.Sprintf("Every byte is at %s: the sha256 of all %d volumes is what was written.", site, compared), nil
	}
}

// expect compares what the API says of every volume.
func (d *demo) expect(ctx context.Context, replicated, ordinary string) error {
	for _, v := range d.volumes {
		want := ordinary
		if v.replicated {
			want = replicated
		}
		seen, err := d.api.Volume(ctx, v.id)
		if err != nil {
			return err
		}
		if err := same("status and replication status of "+v.name, seen.Status+", "+seen.ReplicationStatus, want); err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) lookAtVolumes(ctx context.Context) (string, error) {
	if err := d.expect(ctx, "available, failed-over", "error, not-capable"); err != nil {
		return "", err
	}
	return "The replicated volumes are available; the ordinary ones, lost with the primary site, are in error.", nil
}

func (d *demo) lookAtVolumesAgain(ctx context.Context) (string, error) {
	if err := d.expect(ctx, "available, enabled", "available, not-capable"); err != nil {
		return "", err
	}
	return "All volumes are available again, the ordinary ones too.", nil
}

// workAtSecond shows that the new site is a full one.
func (d *demo) workAtSecond(ctx context.Context) (string, error) {
	if err := d.api.EnableCluster(ctx, d.cluster.Name); err != nil {
		return "", err
	}
	born, err := d.createVolume(ctx, "born-at-"+second, true)
	if err != nil {
		return "", err
	}
	for _, v := range []*volume{born, d.volumes[0]} {
		if err := v.write(d.cluster.Sites[second], 1); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("Enabled the cluster and worked at %s: created a volume, and wrote new data to it and to an old one.", second), nil
}
