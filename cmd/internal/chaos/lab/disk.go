package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// diskBytes is the size of a node's disk: some segments of the log, and snapshots.
const diskBytes = 768 << 20

// imageName is the name of the image of a node's disk.
const imageName = "disk.img"

// Disk is the file system that holds the data directory of one node.
type Disk struct {
	Dir    string // where it is mounted
	image  string
	frozen bool
}

// newDisk makes a file system in an image and mounts it, if this process may; else
// the data directory is an ordinary one, and [Disk.Breakable] is false.
func newDisk(ctx context.Context, dir string) (*Disk, error) {
	d := &Disk{Dir: filepath.Join(dir, "disk")}
	if err := os.MkdirAll(d.Dir, 0o750); err != nil {
		return nil, err
	}
	if !Sandboxed() || os.Geteuid() != 0 {
		return d, nil
	}
	image := filepath.Join(dir, imageName)
	if err := makeImage(ctx, image); err != nil {
		return d, nil //nolint:nilerr // no tools to make one: the disk is not breakable
	}
	d.image = image
	if err := d.mount(ctx); err != nil {
		d.image = "" // no loop devices: the disk is not breakable
	}
	return d, nil
}

func makeImage(ctx context.Context, path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Truncate(diskBytes), f.Close()); err != nil {
		return err
	}
	return run(ctx, "mkfs.ext4", "-q", "-F", "-m", "0", path)
}

func run(ctx context.Context, name string, args ...string) error {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, out)
	}
	return nil
}

// Breakable reports whether the disk can be filled and stalled.
func (d *Disk) Breakable() bool { return d.image != "" }

// Data is the data directory of the node.
func (d *Disk) Data() string { return filepath.Join(d.Dir, "data") }

func (d *Disk) ballast() string { return filepath.Join(d.Dir, "ballast") }

// Fill leaves no byte free.
func (d *Disk) Fill() (err error) {
	f, err := os.OpenFile(d.ballast(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	for size := int64(64 << 20); size >= 4096; {
		fi, err := f.Stat()
		if err != nil {
			return err
		}
		if unix.Fallocate(int(f.Fd()), 0, fi.Size(), size) != nil {
			size /= 2
		}
	}
	return nil
}

// Free gives back what Fill has taken.
func (d *Disk) Free() error {
	if err := os.Remove(d.ballast()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// Stall makes every write to the disk hang, as a controller that does not answer
// would.
func (d *Disk) Stall() error {
	if err := freeze(d.Dir, ioctlFreeze); err != nil {
		return fmt.Errorf("stall %s: %w", d.Dir, err)
	}
	d.frozen = true
	return nil
}

// Go lets the disk go on after a Stall.
func (d *Disk) Go() error {
	if !d.frozen {
		return nil
	}
	if err := freeze(d.Dir, ioctlThaw); err != nil {
		return fmt.Errorf("end the stall of %s: %w", d.Dir, err)
	}
	d.frozen = false
	return nil
}

// From <linux/fs.h>.
const (
	ioctlFreeze = 0xc0045877 // FIFREEZE
	ioctlThaw   = 0xc0045878 // FITHAW
)

func freeze(dir string, request uint) (err error) {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return unix.IoctlSetInt(int(f.Fd()), request, 0)
}

// Empty deletes everything on the disk. The node must not run.
func (d *Disk) Empty() error { return os.RemoveAll(d.Data()) }

// Copy copies the data directory aside. The node must not run.
func (d *Disk) Copy(ctx context.Context) error {
	if err := os.RemoveAll(d.old()); err != nil {
		return err
	}
	return run(ctx, "cp", "-a", "--sparse=always", d.Data(), d.old())
}

// Restore puts what is aside in the place of the data directory. The node must not
// run.
func (d *Disk) Restore() error {
	if err := d.Empty(); err != nil {
		return err
	}
	return os.Rename(d.old(), d.Data())
}

// Exchange exchanges the data directory and what is aside. The node must not run.
func (d *Disk) Exchange() error {
	err := unix.Renameat2(unix.AT_FDCWD, d.Data(), unix.AT_FDCWD, d.old(), unix.RENAME_EXCHANGE)
	if err != nil {
		return fmt.Errorf("exchange %s and %s: %w", d.Data(), d.old(), err)
	}
	return nil
}

func (d *Disk) old() string { return filepath.Join(d.Dir, "old") }

// close unmounts the disk; the image stays.
func (d *Disk) close() error {
	err := d.Go()
	if d.image == "" {
		return err
	}
	return errors.Join(err, unix.Unmount(d.Dir, unix.MNT_DETACH))
}

// thawAll ends the stalls of all disks of the sandbox, which outlive the processes
// that began them.
func thawAll() {
	f, err := os.Open("/proc/self/mounts")
	if err != nil {
		return
	}
	defer func() { _ = f.Close() }() // it was only read
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) > 1 && strings.HasPrefix(fields[0], "/dev/loop") && filepath.Base(fields[1]) == "disk" {
			_ = freeze(fields[1], ioctlThaw) // most are not frozen
		}
	}
}
