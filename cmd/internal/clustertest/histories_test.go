package clustertest

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/lockstep-storage/lockstep/cmd/internal/history"
)

var (
	seeds    = flag.Int("seeds", 12, "how many random histories to run")
	first    = flag.Int64("first", 1, "seed of the first history")
	seed     = flag.Int64("seed", -1, "run only the history of this seed, again and again with -seeds")
	lasting  = flag.Duration("for", 0, "run as many histories as fit into this time, instead of -seeds")
	events   = flag.Int("events", 60, "faults and requests in a history")
	verbose  = flag.Bool("history", false, "print every event of a history, and the log of the nodes")
	evidence = flag.String("evidence", "", "directory for what is known of a history that failed; default: that of temporary files")
)

// TestHistories breaks a deployment at random while clients ask for failovers and
// volumes, mends it, and checks that no guarantee was ever broken. A seed names a
// history; what it leaves to chance is said in docs/robustness.md.
func TestHistories(t *testing.T) {
	t.Parallel()
	r := &runner{t: t, stats: NewCoverage(), began: time.Now()}
	if *seed >= 0 {
		for range max(1, min(*seeds, 1000)) {
			r.one(*seed)
			if t.Failed() || !flagSet("seeds") {
				break
			}
		}
	} else {
		r.many()
	}
	r.report()
}

func flagSet(name string) (set bool) {
	flag.Visit(func(f *flag.Flag) { set = set || f.Name == name })
	return set
}

// runner runs histories, some at a time.
type runner struct {
	t     *testing.T
	stats *Coverage
	began time.Time
	next  atomic.Int64
	done  atomic.Int64
	bad   atomic.Int64
}

func (r *runner) many() {
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // a third of the time went into collecting a few megabytes
	progress := time.NewTicker(10 * time.Second)
	defer progress.Stop()
	stop := make(chan struct{})
	var workers, talker sync.WaitGroup
	if *lasting > 0 {
		talker.Go(func() {
			for {
				select {
				case <-progress.C:
					r.progress()
				case <-stop:
					return
				}
			}
		})
	}
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for n := r.next.Add(1) - 1; r.wanted(n); n = r.next.Add(1) - 1 {
				r.one(*first + n)
			}
		})
	}
	workers.Wait()
	close(stop)
	talker.Wait()
}

func (r *runner) wanted(n int64) bool {
	if r.bad.Load() >= 5 {
		return false
	}
	if *lasting > 0 {
		return time.Since(r.began) < *lasting
	}
	return n < int64(*seeds)
}

func (r *runner) progress() {
	took := time.Since(r.began)
	fmt.Fprintf(os.Stderr, "%5.0fs %d histories, %.0f a minute, %d failed\n", took.Seconds(), r.done.Load(), float64(r.done.Load())/took.Minutes(), r.bad.Load())
}

// one runs the history of a seed.
func (r *runner) one(seed int64) {
	r.t.Run(fmt.Sprint(seed), func(t *testing.T) {
		var running atomic.Pointer[story]
		hung := time.AfterFunc(realTime, func() { giveUp(seed, running.Load()) })
		defer hung.Stop()
		defer func() { r.judge(t, seed, running.Load()) }() // also if the history was given up
		synctest.Test(t, func(t *testing.T) {
			s := newStory(t, seed, r.stats, func(*Options) {})
			running.Store(s)
			s.run()
		})
	})
}

// realTime is more than the slowest history needs, a hundred times over.
const realTime = 2 * time.Minute

// giveUp ends a run in which a history does not end: something goes round in it
// without ever waiting, so that its time stands still.
func giveUp(seed int64, s *story) {
	fmt.Fprintf(os.Stderr, "the history of seed %d stands still: after %v it has not ended\n", seed, realTime)
	if s != nil {
		fmt.Fprintln(os.Stderr, s.text())
	}
	_ = pprof.Lookup("goroutine").WriteTo(os.Stderr, 1)
	os.Exit(1)
}

// judge checks what the clients of a history were answered, and keeps what is known
// of one that failed.
func (r *runner) judge(t *testing.T, seed int64, s *story) {
	r.done.Add(1)
	var result history.Result
	if s != nil {
		operations := s.c.History.Operations()
		r.stats.Add("checked: client operations", len(operations))
		result = history.Check(operations, 20*time.Second)
		if result.Verdict != history.Linearizable {
			t.Errorf("G8: the history of %s is %s", result.Object, result.Verdict)
		}
	}
	if !t.Failed() {
		return
	}
	r.bad.Add(1)
	if s != nil {
		r.keep(t, seed, s, result)
	}
}

// keep saves what is known of a history that failed.
func (r *runner) keep(t *testing.T, seed int64, s *story, result history.Result) {
	dir := *evidence
	if dir == "" {
		dir = os.TempDir()
	}
	path := filepath.Join(dir, fmt.Sprintf("history-%d", seed))
	t.Logf("replay until it fails: go test ./cmd/internal/clustertest -run Histories -seed %d -seeds 500 -events %d -history", seed, *events)
	if err := os.WriteFile(path+".txt", []byte(s.text()), 0o600); err != nil {
		t.Logf("evidence not kept: %v", err)
		return
	}
	t.Logf("evidence: %s.txt", path)
	if result.Verdict != history.Violated {
		return
	}
	page, err := os.Create(path + ".html") //nolint:gosec // where the caller wants it
	if err != nil {
		t.Logf("evidence not kept: %v", err)
		return
	}
	defer page.Close()
	if err := result.Visualize(page); err != nil {
		t.Logf("evidence not kept: %v", err)
	}
}

// report says what the run has exercised, and fails if it has not exercised what
// any run of its length does.
func (r *runner) report() {
	took := time.Since(r.began)
	text := fmt.Sprintf("%d histories of %d events from seed %d in %.0f s, %.0f a minute\n%s",
		r.done.Load(), *events, *first, took.Seconds(), float64(r.done.Load())/took.Minutes(), r.stats)
	if *lasting > 0 {
		fmt.Fprint(os.Stderr, text)
	} else {
		r.t.Log(text)
	}
	if r.done.Load() < 300 || r.t.Failed() || *events < 60 || *seed >= 0 {
		return
	}
	for _, what := range needed {
		if r.stats.Count(what) == 0 {
			r.t.Errorf("%d histories never saw: %s", r.done.Load(), what)
		}
	}
}

// needed is what every run of some length must have seen.
var needed = []string{
	"failover: done", "failover: failed", "failover: aborted", "failover: failed with the gates closed",
	"failover: needed more than one attempt", "failover: planned mode", "failover: forced mode",
	"fault: cut", "fault: cut one way", "fault: split", "fault: kill", "fault: kill the agent, not the driver", "fault: stop the process",
	"fault: stop the machine", "fault: the disk hangs", "fault: the disk fails", "fault: blackout", "fault: power cut", "fault: wall clock stepped", "disk: a failed write ends the process", "fault: hand over",
	"message: lost", "message: late", "message: twice",
	"promotion: refuse", "promotion: break", "promotion: hang", "promotion: late but yes", "promotion: some fail", "promotion: volumes failed",
	"member: joins", "member: removed", "member: comes back with its old disk", "member: comes back with an empty disk",
	"fault: the kernel holds a driver", "driver: stuck", "failover: failed for a stuck driver",
	"driver: volume call fails", "driver: volume call hangs", "driver: waits for an orphan",
	"checked: requests committed twice", "disk: snapshot installed",
}

func nodeLog(t testing.TB) hclog.Logger {
	if !*verbose {
		return hclog.NewNullLogger()
	}
	return hclog.New(&hclog.LoggerOptions{Level: hclog.Debug, Output: testWriter{t}})
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Logf("%s", p)
	return len(p), nil
}
