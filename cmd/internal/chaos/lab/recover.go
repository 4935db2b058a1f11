package lab

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// runningName is a file that a run keeps locked for as long as it lives.
const runningName = "running"

// hold marks the directory of a run as in use until the file is closed, or this
// process has ended.
func hold(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, runningName), os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// recoverDisks lets the disks go on that a run left stalled of which all processes
// were killed at once: a stall outlives them, and with it its processes and their
// mounts. It does its best; what it cannot mend disturbs nobody.
func recoverDisks(ctx context.Context, dir string) {
	files, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		return
	}
	at := filepath.Join(dir, "recover")
	if err := os.Mkdir(at, 0o700); err != nil {
		return
	}
	defer func() { _ = os.Remove(at) }() // it is empty
	for _, f := range files {
		image, err := os.ReadFile(f)
		if err != nil || !abandoned(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(string(image)), "(deleted)"))) {
			continue
		}
		device := "/dev/" + filepath.Base(filepath.Dir(filepath.Dir(f)))
		if run(ctx, "mount", device, at) != nil {
			continue
		}
		_ = freeze(at, ioctlThaw) // most are not frozen
		_ = unix.Unmount(at, unix.MNT_DETACH)
	}
}

// abandoned reports whether an image is the disk of a node of a run that has ended.
func abandoned(image string) bool {
	node := filepath.Dir(image)
	if filepath.Base(image) != imageName || filepath.Base(filepath.Dir(node)) != nodesName {
		return false
	}
	f, err := hold(filepath.Dir(filepath.Dir(node)))
	if err != nil {
		// A directory that was removed is nobody's.
		return errors.Is(err, os.ErrNotExist)
	}
	return f.Close() == nil
}
