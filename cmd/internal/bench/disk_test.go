package bench_test

import (
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// disk is the baseline of the disk that the deployment writes to.
type disk struct {
	mu    sync.Mutex
	worst time.Duration
	began time.Time // of the fsync that is under way; zero if none is
}

// watchDisk writes to a file and syncs it twenty times a second, until the test ends.
func (d *deployment) watchDisk(t *testing.T) *disk {
	t.Helper()
	f, err := os.Create(filepath.Join(d.dir, "watched"))
	if err != nil {
		t.Fatal(err)
	}
	k := &disk{}
	var wg sync.WaitGroup
	wg.Go(func() {
		defer func() { _ = f.Close() }()
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-t.Context().Done():
				return
			}
			if err := k.sync(f); err != nil {
				t.Error(err)
				return
			}
		}
	})
	t.Cleanup(wg.Wait)
	return k
}

func (k *disk) sync(f *os.File) error {
	k.mu.Lock()
	k.began = time.Now()
	k.mu.Unlock()
	_, err := f.WriteAt(make([]byte, 4096), 0)
	if err == nil {
		err = f.Sync()
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.worst = max(k.worst, time.Since(k.began))
	k.began = time.Time{}
	return err
}

// slowest returns the slowest fsync since it was last asked, one under way included.
func (k *disk) slowest() time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	worst := k.worst
	if !k.began.IsZero() {
		worst = max(worst, time.Since(k.began))
	}
	k.worst = 0
	return worst
}
