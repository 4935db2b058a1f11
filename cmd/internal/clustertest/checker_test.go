package clustertest

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
)

// TestTheCheckerSees runs histories in worlds that break what every guarantee rests
// on. A checker that finds nothing there would find nothing anywhere.
func TestTheCheckerSees(t *testing.T) {
	t.Parallel()
	for _, world := range []struct {
		name   string
		change func(*Options)
		says   []string // one of these
	}{
		{"disks that acknowledge what they have not synced", func(o *Options) { o.Liars = true }, []string{"G13", "G2", "G6", "G8"}},
		{"clocks that are off by more than the margin", func(o *Options) { o.Drift = 0.6 }, []string{"G4", "G3"}},
	} {
		t.Run(world.name, func(t *testing.T) {
			t.Parallel()
			for seed := range int64(200) {
				heard := hear(t, seed, world.change)
				if heard == "" {
					continue
				}
				for _, says := range world.says {
					if strings.Contains(heard, says+":") {
						t.Logf("seed %d: %s", seed, heard)
						return
					}
				}
			}
			t.Error("the checker has seen nothing")
		})
	}
}

// hear returns what is said of one history.
func hear(t *testing.T, seed int64, change func(*Options)) (said string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		listener := &listener{TB: t}
		var story sync.WaitGroup
		story.Go(func() { newStory(listener, seed, nil, change).run() }) // a goroutine of its own: it may be given up
		story.Wait()
		said = listener.text()
	})
	return said
}

// listener takes what is said of a test instead of failing it.
type listener struct {
	testing.TB
	mu   sync.Mutex
	said []string
}

func (l *listener) hear(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.said = append(l.said, text)
}

func (l *listener) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.said, "; ")
}

// Error implements [testing.TB].
func (l *listener) Error(args ...any) { l.hear(fmt.Sprint(args...)) }

// Errorf implements [testing.TB].
func (l *listener) Errorf(format string, args ...any) { l.hear(fmt.Sprintf(format, args...)) }

// Fatal implements [testing.TB].
func (l *listener) Fatal(args ...any) {
	l.Error(args...)
	l.FailNow()
}

// Fatalf implements [testing.TB].
func (l *listener) Fatalf(format string, args ...any) {
	l.Errorf(format, args...)
	l.FailNow()
}

// Failed implements [testing.TB].
func (l *listener) Failed() bool { return l.text() != "" }

// FailNow implements [testing.TB]: it ends the goroutine, and not the test.
func (l *listener) FailNow() { runtime.Goexit() }
