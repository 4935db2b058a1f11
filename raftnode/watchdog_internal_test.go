package raftnode

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"golang.org/x/sys/unix"
)

// gate is what a disk that hangs does to whoever comes by.
type gate struct {
	mu   sync.Mutex
	shut chan struct{}
}

func (g *gate) pass() {
	g.mu.Lock()
	shut := g.shut
	g.mu.Unlock()
	if shut != nil {
		<-shut
	}
}

// close lets nobody pass until open is called.
func (g *gate) close() (open func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	shut := make(chan struct{})
	g.shut = shut
	return sync.OnceFunc(func() {
		g.mu.Lock()
		g.shut = nil
		g.mu.Unlock()
		close(shut)
	})
}

// watched is a watch of a disk of which the test decides what it answers.
type watched struct {
	*diskWatch
	gate   gate
	mu     sync.Mutex
	err    error
	silent []bool
}

func newWatched() *watched {
	w := &watched{diskWatch: newDiskWatch("/data", hclog.NewNullLogger())}
	w.probe = func() (uint64, error) {
		w.gate.pass()
		w.mu.Lock()
		defer w.mu.Unlock()
		return 1 << 30, w.err
	}
	w.mute, w.unmute = func() { w.say(true) }, func() { w.say(false) }
	return w
}

func (w *watched) say(silent bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.silent = append(w.silent, silent)
}

func (w *watched) said() []bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.silent
}

func TestStalledDiskSilencesTheNode(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWatched()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go w.run(ctx)
		pause(10 * time.Second)
		if w.dead() || len(w.said()) != 0 {
			t.Fatal("a disk that answers is held for stalled")
		}
		open := w.gate.close()
		pause(silentAfter - probeEvery)
		if w.dead() {
			t.Error("a disk that is slow is held for stalled")
		}
		pause(3 * probeEvery)
		if s := w.status(); !w.dead() || s.StalledSince.IsZero() || time.Since(s.StalledSince) < silentAfter {
			t.Errorf("after %v the node is not silent: %+v", silentAfter+2*probeEvery, s)
		}
		open()
		pause(2 * probeEvery)
		if s := w.status(); w.dead() || !s.StalledSince.IsZero() || s.Free != 1<<30 {
			t.Errorf("the disk answers again, the node does not: %+v", s)
		}
		if said := w.said(); len(said) != 2 || !said[0] || said[1] {
			t.Errorf("silence was asked for: %v", said)
		}
	})
}

func TestStuckDiskEndsTheProcess(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWatched()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go w.run(ctx)
		synctest.Wait()
		defer w.gate.close()()
		pause(stuckAfter - time.Second)
		if w.failure() != nil {
			t.Fatal(w.failure())
		}
		pause(2 * time.Second)
		select {
		case <-w.failed:
		default:
			t.Fatal("the process goes on")
		}
		failed, ok := errors.AsType[*DiskError](w.failure())
		if !ok || failed.Dir != "/data" || !strings.Contains(failed.Error(), "/data") || !strings.Contains(failed.Error(), "has not answered") {
			t.Error(w.failure())
		}
	})
}

func TestAnswersOfTheDisk(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		err  error
		free uint64
		dead bool
	}{
		"it writes":             {nil, 1 << 30, false},
		"it is full":            {unix.ENOSPC, 0, false},
		"the quota is used up":  {unix.EDQUOT, 0, false},
		"it fails":              {unix.EIO, 0, true},
		"it is read-only":       {unix.EROFS, 0, true},
		"the directory is gone": {unix.ENOENT, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWatched()
			w.answered(1<<30, 0, test.err)
			if w.dead() != test.dead || !test.dead && w.status().Free != test.free {
				t.Errorf("dead %v, %+v", w.dead(), w.status())
			}
		})
	}
}

// A process that was stopped for a minute finds its probe where it was; the disk
// has had no time to answer.
func TestStoppedProcessDoesNotBlameTheDisk(t *testing.T) {
	t.Parallel()
	w := newWatched()
	w.began = time.Now()
	w.look(time.Now().Add(time.Minute), min(time.Minute, 2*watchEvery))
	if w.dead() {
		t.Error("the disk is held for stalled")
	}
}

// stallingStore is a log on a disk that hangs when it is told to.
type stallingStore struct {
	*raft.InmemStore
	gate *gate
}

func (s *stallingStore) StoreLog(entry *raft.Log) error { return s.StoreLogs([]*raft.Log{entry}) }

func (s *stallingStore) StoreLogs(entries []*raft.Log) error {
	s.gate.pass()
	return s.InmemStore.StoreLogs(entries)
}

// The same as TestLeaderWhoseDiskHangs, with a store and a probe that hang.
func TestLeaderWhoseStoreHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		disks := map[*fleetNode]*watched{}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		f := startAdapted(t, 3, 3, func(f *fleet, n *fleetNode, cfg *Config) {
			w := newWatched()
			w.mute, w.unmute = func() { f.unplug(n) }, func() { f.connect(n) }
			disks[n], cfg.disk = w, w.diskWatch
			cfg.Storage.Logs = &stallingStore{InmemStore: n.store, gate: &w.gate}
			go w.run(ctx)
		})
		old := f.leader()
		open := disks[old].gate.close()
		hung := time.Now()
		if err := f.offer(old, time.Second, "", newcomer("lost")); err == nil {
			t.Error("acknowledged by a node that cannot write")
		}
		f.until("another leads", func() bool { n := f.leader(); return n != nil && n != old })
		f.propose(f.leader(), newcomer("while-it-hangs"))
		if took := time.Since(hung); took > silentAfter+5*time.Second {
			t.Errorf("the next commit came after %v", took)
		}
		if _, err := old.leading(); err == nil || old.Status().Leader == old.id || old.Status().Disk.StalledSince.IsZero() {
			t.Errorf("the node whose disk hangs says %+v", old.Status())
		}
		if _, err := old.Answer(t.Context(), "", methodTerm, nil); err == nil {
			t.Error("a node whose disk hangs vouches for a term")
		}
		open()
		f.propose(old, newcomer("back"))
		if _, err := old.leading(); err == nil {
			t.Error("the old leader goes on to lead")
		}
	})
}

// pause lets time pass in a bubble.
func pause(d time.Duration) { <-time.After(d) }

// The leader's disk really hangs. What it was asked for is not acknowledged,
// others lead and commit, and it comes back as a follower.
func TestLeaderWhoseDiskHangs(t *testing.T) {
	t.Parallel()
	v := newVolume(t, 256<<20, "TestLeaderWhoseStoreHangs")
	s := &site{tb: t, api: map[string]*Process{}}
	a, _ := s.run(v.dir, "a", LogStoreWAL, 1)
	commit(t, a, "first")
	b, _ := s.run(t.TempDir(), "b", LogStoreWAL, 0, a.gossip.Addr())
	c, _ := s.run(t.TempDir(), "c", LogStoreWAL, 0, a.gossip.Addr())
	waitFor(t, "three voters", func() bool {
		peers, err := a.Peers()
		voters := 0
		for _, p := range peers {
			if p.Voter {
				voters++
			}
		}
		return err == nil && voters == 3
	})
	commit(t, b, "all-vote")
	if a.Status().Leader != "a" {
		t.Fatalf("%s leads", a.Status().Leader)
	}

	thaw := v.freeze(t)
	hung := time.Now()
	asked, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	if _, err := a.Propose(asked, "", newcomer("lost")); err == nil {
		t.Error("acknowledged by a node that cannot write")
	}
	commit(t, b, "while-it-hangs")
	t.Logf("the leader's disk hung; the next commit elsewhere came after %v", time.Since(hung).Round(time.Millisecond))
	if leader := c.Status().Leader; leader == "a" || leader == "" {
		t.Errorf("%q leads", leader)
	}
	if st := a.Status(); st.Disk.StalledSince.IsZero() || st.Leader == "a" {
		t.Errorf("the node whose disk hangs says %+v", st)
	}
	if _, err := a.Answer(t.Context(), "", methodTerm, nil); err == nil {
		t.Error("a node whose disk hangs vouches for a term")
	}

	thaw()
	commit(t, a, "back")
	if st := a.Status(); !st.Disk.StalledSince.IsZero() || st.Leader == "a" {
		t.Errorf("after the disk has come back: %+v", st)
	}
}

// waitFor looks until cond holds.
func waitFor(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.After(time.Minute)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("still waiting: %s", what)
		}
	}
}
