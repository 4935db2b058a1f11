package reload_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/lockstep-storage/lockstep/cmd/internal/reload"
)

// loads counts how often something was loaded.
type loads chan struct{}

func (l loads) expect(t *testing.T, what string) {
	t.Helper()
	select {
	case <-l:
	case <-time.After(20 * time.Second):
		t.Fatalf("not read again after %s", what)
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestFilesAreReadAgainWhenTheyChange(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	write(t, a, "1")
	write(t, b, "1")
	first, second := make(loads, 9), make(loads, 9)
	w := reload.New(5*time.Millisecond, hclog.NewNullLogger(),
		reload.Source{Name: "first", Files: []string{a, b}, Load: func() error { first <- struct{}{}; return errors.New("unreadable") }},
		reload.Source{Name: "second", Files: []string{b}, Load: func() error { second <- struct{}{}; return nil }},
	)
	ask := make(chan os.Signal, 1)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx, ask) }()
	write(t, a, "22")
	first.expect(t, "a change")
	if err := os.Remove(b); err != nil {
		t.Fatal(err)
	}
	first.expect(t, "a removal")
	second.expect(t, "a removal")
	write(t, filepath.Join(dir, "new"), "1")
	if err := os.Rename(filepath.Join(dir, "new"), b); err != nil {
		t.Fatal(err)
	}
	first.expect(t, "a replacement")
	second.expect(t, "a replacement")
	ask <- syscall.SIGHUP
	first.expect(t, "a signal")
	second.expect(t, "a signal")
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if len(first)+len(second) > 0 {
		t.Errorf("read again without a reason: %d, %d times", len(first), len(second))
	}
}
