package raftnode

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// volume is a real file system of its own: ext4 in a file, on a loop device. Root
// can freeze it: a write then hangs in the kernel, as on a disk that has gone.
type volume struct {
	dir string
	at  *os.File // opened before the freeze
}

// newVolume mounts a file system of the given size. Where the machine does not
// allow it the test is skipped; substitute names the test that has run instead,
// with a store that was made to misbehave.
func newVolume(t *testing.T, size int64, substitute string) *volume {
	t.Helper()
	without := func(err error) {
		t.Skipf("NOT run on a real file system, which takes root and a loop device (%v): %s has run the same on a store that misbehaves", err, substitute)
	}
	if os.Geteuid() != 0 {
		without(unix.EPERM)
	}
	home := t.TempDir()
	image, dir := filepath.Join(home, "image"), filepath.Join(home, "mount")
	err := os.Mkdir(dir, 0o750)
	if err == nil {
		err = os.WriteFile(image, nil, 0o600)
	}
	if err == nil {
		err = os.Truncate(image, size)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := command(t, "mkfs.ext4", "-q", "-F", "-m", "0", image); err != nil {
		without(err)
	}
	if err := command(t, "mount", "-o", "loop", image, dir); err != nil {
		without(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	at, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = at.Close() })
	t.Logf("running on a real ext4 of %d MiB", size>>20)
	return &volume{dir: dir, at: at}
}

func command(t *testing.T, name string, args ...string) error {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, strings.TrimSpace(string(out)))
	}
	return nil
}

// freeze makes every write hang until thaw is called, or the test ends.
func (v *volume) freeze(t *testing.T) (thaw func()) {
	t.Helper()
	const fifreeze, fithaw = 0xc0045877, 0xc0045878 // linux/fs.h
	if err := unix.IoctlSetInt(int(v.at.Fd()), fifreeze, 0); err != nil {
		t.Fatalf("freeze: %v", err)
	}
	thaw = sync.OnceFunc(func() {
		if err := unix.IoctlSetInt(int(v.at.Fd()), fithaw, 0); err != nil {
			t.Errorf("thaw: %v", err)
		}
	})
	t.Cleanup(thaw)
	return thaw
}

// fill takes all the space there is but for what is left; empty gives it back.
func (v *volume) fill(t *testing.T, left uint64) (empty func()) {
	t.Helper()
	path := filepath.Join(v.dir, "ballast")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	for block := 1 << 20; block >= 4096; {
		free, err := freeSpace(v.dir)
		if err != nil {
			t.Fatal(err)
		}
		if left > 0 && free <= left {
			break
		}
		if _, err := file.Write(make([]byte, block)); err != nil {
			block /= 2
		}
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := os.Remove(path); err != nil {
			t.Error(err)
		}
	}
}
