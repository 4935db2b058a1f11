package file

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/lockstep-storage/lockstep/driverhost"
)

var (
	_ driverhost.Adopter = (*Driver)(nil)
	_ driverhost.Retyper = (*Driver)(nil)
)

const (
	// importDir is where an operator puts files that are to be adopted. It is a part
	// of the site, so that adopting is a rename, which copies nothing and is done or
	// not done.
	importDir = "import"

	// maxListed bounds the files that are listed.
	maxListed = 5000

	longestName = 255
)

// ManageVolume makes a file in import/ a volume: it is grown to whole GiB and moved.
func (d *Driver) ManageVolume(ctx context.Context, req driverhost.ManageVolumeRequest) (did driverhost.ManagedVolume, err error) {
	if err := checkID("volume", req.Volume.ID); err != nil {
		return did, err
	}
	e := d.entry(CallManageVolume, req.Token)
	e.Volume = req.Volume.ID
	err = d.call(ctx, req.Token, e, func(s *site) (err error) {
		did.SizeGiB, err = s.manage(req)
		did.VolumeUpdate = s.update(req.Volume)
		return err
	})
	if err != nil {
		return driverhost.ManagedVolume{}, fmt.Errorf("adopt %.300q as volume %s: %w", req.Reference, req.Volume.ID, err)
	}
	did.ProviderID = req.Reference
	return did, nil
}

// manage adopts a file, and returns its size in GiB. Each step can be made again
// after a crash: until the last one, the rename, the file is where it was.
func (s *site) manage(req driverhost.ManageVolumeRequest) (int64, error) {
	m := volumeSidecar(req.Volume)
	m.Reference = req.Reference
	place := s.place(m.Name)
	if fi, err := os.Lstat(place); err == nil {
		if old, err := s.readSidecar(m.Name); err != nil || old != m {
			return 0, errors.Join(err, fmt.Errorf("%s is there already, and is another volume", m.Name))
		}
		return gibOf(fi.Size()), nil // done by an earlier call
	}
	if err := checkReference(req.Reference); err != nil {
		return 0, err
	}
	size, err := s.growImport(req.Reference)
	if err != nil {
		return 0, err
	}
	if err := s.writeSidecar(m); err != nil {
		return 0, err
	}
	if err := os.Rename(s.file(importDir, req.Reference), place); err != nil {
		return 0, errors.Join(err, remove(s.file("meta", m.Name)))
	}
	return size, syncDir(s.file("volumes"), s.file(importDir))
}

// checkReference refuses what is no name of a file in import/.
func checkReference(ref string) error {
	switch {
	case ref == "" || len(ref) > longestName || !utf8.ValidString(ref):
		return fmt.Errorf("reference: %.300q: the name of a file in %s/ has 1 to %d bytes", ref, importDir, longestName)
	case ref == "." || ref == ".." || strings.ContainsFunc(ref, func(r rune) bool { return r == '/' || unicode.IsControl(r) }):
		return fmt.Errorf("reference: %.300q: no path is allowed, only the name of a file in %s/", ref, importDir)
	}
	return nil
}

// growImport looks at a file that is to be adopted, and grows it to whole GiB, its
// size in which it returns. It opens no link and no device.
func (s *site) growImport(name string) (sizeGiB int64, err error) {
	f, err := os.OpenFile(s.file(importDir, name), os.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("there is no %q in %s/ of site %s", name, importDir, s.id)
	}
	if err != nil {
		return 0, err
	}
	fi, err := f.Stat()
	if err == nil {
		err = unfit(f, fi)
	}
	if err != nil {
		return 0, errors.Join(err, f.Close())
	}
	sizeGiB = gibOf(fi.Size())
	if err = f.Chmod(modeVolume); err == nil && fi.Size() < sizeGiB*gib {
		err = f.Truncate(sizeGiB * gib)
	}
	return sizeGiB, closeSynced(f, err)
}

// qcow2 is how files begin that are no volumes, but hold one in pieces, and may
// refer to other files of the machine.
const qcow2 = "QFI\xfb"

// unfit says why a file must not become a volume.
func unfit(f *os.File, fi fs.FileInfo) error {
	st, ok := fi.Sys().(*syscall.Stat_t)
	switch {
	case !fi.Mode().IsRegular():
		return fmt.Errorf("it is not a regular file: %s", fi.Mode())
	case fi.Size() == 0:
		return errors.New("it is empty")
	case fi.Size() > maxSize:
		return fmt.Errorf("it has %d bytes, more than the %d of a volume", fi.Size(), int64(maxSize))
	case ok && st.Nlink > 1:
		return fmt.Errorf("it has %d names: others may write to it", st.Nlink)
	}
	head := make([]byte, len(qcow2))
	if _, err := f.ReadAt(head, 0); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if bytes.Equal(head, []byte(qcow2)) {
		return errors.New("it is a qcow2 image: convert it to a raw one first")
	}
	return nil
}

func gibOf(size int64) int64 { return (size + gib - 1) / gib }

// UnmanageVolume moves a volume to import/: to the name that it was adopted from, if
// nothing else has that by now, else to its own.
func (d *Driver) UnmanageVolume(ctx context.Context, req driverhost.VolumeRequest) error {
	if err := checkID("volume", req.Volume.ID); err != nil {
		return err
	}
	e := d.entry(CallUnmanageVolume, req.Token)
	e.Volume = req.Volume.ID
	err := d.call(ctx, req.Token, e, func(s *site) error { return s.unmanage(volumeSidecar(req.Volume)) })
	if err != nil {
		return fmt.Errorf("give up volume %s: %w", req.Volume.ID, err)
	}
	return nil
}

func (s *site) unmanage(m sidecar) error {
	here, err := exists(s.place(m.Name))
	if err != nil {
		return err
	}
	if here {
		if err := s.moveToImport(m.Name); err != nil {
			return err
		}
	}
	return s.discard(m) // of what is left: the replicas, and what is known of it
}

func (s *site) moveToImport(name string) error {
	if err := os.MkdirAll(s.file(importDir), 0o700); err != nil {
		return err
	}
	stored, err := s.readSidecar(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, as := range []string{stored.Reference, name} {
		if as == "" {
			continue
		}
		taken, err := exists(s.file(importDir, as))
		if err != nil {
			return err
		}
		if taken {
			continue
		}
		if err := os.Rename(s.place(name), s.file(importDir, as)); err != nil {
			return err
		}
		return syncDir(s.file(importDir), s.file("volumes"))
	}
	return fmt.Errorf("%s/ has a file %q already", importDir, name)
}

// ManageableVolumes lists the files in import/ of the site in use.
func (d *Driver) ManageableVolumes(ctx context.Context) ([]driverhost.Manageable, error) {
	s := d.current()
	names, err := listNames(s.file(importDir), func(name string) bool { return checkReference(name) == nil })
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // of a site that is older than the directory
	}
	if err != nil {
		return nil, fmt.Errorf("site %s: %w", s.id, err)
	}
	if len(names) > maxListed {
		return nil, fmt.Errorf("%s/ of site %s has %d files, more than the %d that are listed: move some away", importDir, s.id, len(names), maxListed)
	}
	slices.Sort(names)
	var all []driverhost.Manageable
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if m, ok := s.manageable(name); ok {
			all = append(all, m)
		}
	}
	return all, nil
}

// manageable describes a file, unless it is gone.
func (s *site) manageable(name string) (m driverhost.Manageable, ok bool) {
	m.Reference = name
	fi, err := os.Lstat(s.file(importDir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return m, false
	}
	if err == nil {
		m.SizeGiB = gibOf(fi.Size())
	}
	var f *os.File
	if err == nil && fi.Mode().IsRegular() {
		f, err = os.OpenFile(s.file(importDir, name), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	}
	if err == nil {
		err = unfit(f, fi)
	}
	if f != nil {
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		m.Unsafe = outcome(err)
	}
	return m, true
}

// RetypeVolume has a volume and its snapshots replicated from the next round on, or
// their replicas deleted.
func (d *Driver) RetypeVolume(ctx context.Context, req driverhost.RetypeVolumeRequest) error {
	names := []string{volumePrefix + req.Volume.ID}
	err := checkID("volume", req.Volume.ID)
	for _, id := range req.Snapshots {
		err = errors.Join(err, checkID("snapshot", id))
		names = append(names, snapshotPrefix+id)
	}
	if err != nil {
		return err
	}
	e := d.entry(CallRetypeVolume, req.Token)
	e.Volume = req.Volume.ID
	err = d.call(ctx, req.Token, e, func(s *site) error {
		if here, err := exists(s.place(names[0])); err != nil || !here {
			return errors.Join(err, fmt.Errorf("%s is not at site %s", names[0], s.id))
		}
		for _, name := range names {
			err := s.retype(name, func(m *sidecar) { m.Replicated = req.Replicated })
			if err == nil && !req.Replicated {
				err = s.noteDeleted(name)
			}
			if err != nil {
				return err
			}
		}
		return s.noteRetype()
	})
	if err != nil {
		return fmt.Errorf("retype volume %s: %w", req.Volume.ID, err)
	}
	return nil
}

func (s *site) retype(name string, change func(*sidecar)) error {
	m, err := s.readSidecar(name)
	if errors.Is(err, fs.ErrNotExist) && strings.HasPrefix(name, snapshotPrefix) {
		return nil // deleted meanwhile
	}
	if err != nil {
		return err
	}
	change(&m)
	return s.writeSidecar(m)
}

// noteRetype tells those who replicate from here that sidecars have changed.
func (s *site) noteRetype() error {
	return replaceFile(s.file("retyped"), []byte(rand.Text()+"\n"))
}

// retypes returns what changes with every noteRetype; nothing before the first.
func (s *site) retypes() (string, error) {
	note, err := os.ReadFile(s.file("retyped"))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return string(note), err
}
