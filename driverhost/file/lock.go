package file

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// errLocked: another process or goroutine holds the lock.
var errLocked = errors.New("locked by another process")

// A fileLock is an exclusive flock. Every acquisition has an open file
// description of its own, so it excludes goroutines of this process as well.
// The kernel frees it when the process dies.
type fileLock struct{ f *os.File }

// tryLock takes the lock at path, which must exist, or returns errLocked.
func tryLock(path string) (fileLock, error) {
	// Write access: NFS emulates an exclusive flock by a write lock.
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return fileLock{}, err
	}
	if err := lockOpen(f, path); err != nil {
		return fileLock{}, errors.Join(err, f.Close())
	}
	return fileLock{f}, nil
}

func lockOpen(f *os.File, path string) error {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return errLocked
	}
	if err != nil {
		return fmt.Errorf("flock %s: %w", path, err)
	}
	// The directory may have been replaced since the file was opened: a lock
	// on a file that nobody else finds excludes nobody.
	mine, err := f.Stat()
	if err != nil {
		return err
	}
	now, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !os.SameFile(mine, now) {
		return errLocked
	}
	return nil
}

// waitLock is tryLock that waits until the lock is free or the context ends.
func waitLock(ctx context.Context, path string) (fileLock, error) {
	const longest = 5 * time.Millisecond
	for pause := 100 * time.Microsecond; ; pause = min(2*pause, longest) {
		if err := ctx.Err(); err != nil {
			return fileLock{}, err
		}
		l, err := tryLock(path)
		if !errors.Is(err, errLocked) {
			return l, err
		}
		if err := sleep(ctx, pause); err != nil {
			return fileLock{}, fmt.Errorf("waiting for %s: %w", path, err)
		}
	}
}

// unlock frees the lock; closing the only descriptor of it does.
func (l fileLock) unlock() error { return l.f.Close() }

// sleep waits for d or for the end of the context.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
