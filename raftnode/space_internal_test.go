package raftnode

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
	"golang.org/x/sys/unix"

	"github.com/lockstep-storage/lockstep/fsm"
)

// newType is a command that grows.
func newType(name string) fsm.Command {
	return fsm.CreateVolumeType{Type: fsm.VolumeType{ID: name, Name: name}}
}

func offered(t *testing.T, n *Node, cmd fsm.Command) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_, err := n.Propose(ctx, "", cmd)
	return err
}

// On a real file system: what is new is refused below the reserve, all else goes
// on, and everything does once there is space again.
func TestSpaceRunsLow(t *testing.T) {
	t.Parallel()
	v := newVolume(t, 256<<20, "TestWhoHasSpaceLeads")
	s := &site{tb: t, api: map[string]*Process{}}
	a, _ := s.run(v.dir, "a", LogStoreWAL, 1)
	commit(t, a, "first")
	if err := offered(t, a.Node, newType("before")); err != nil {
		t.Fatal(err)
	}

	empty := v.fill(t, 8<<20)
	waitFor(t, "the shortage", func() bool { return a.space().short() })
	err := offered(t, a.Node, newType("refused"))
	if fsm.CodeOf(err) != fsm.ErrNoSpace || !strings.Contains(err.Error(), v.dir) || !strings.Contains(err.Error(), "MiB free") {
		t.Errorf("without space: %v", err)
	}
	commit(t, a, "from-the-reserve")

	empty()
	waitFor(t, "space", func() bool { return !a.space().short() })
	if err := offered(t, a.Node, newType("after")); err != nil {
		t.Errorf("with space again: %v", err)
	}
	a.View(func(st *fsm.State) {
		for name, want := range map[string]bool{"before": true, "refused": false, "after": true} {
			if _, ok := st.VolumeType(name); ok != want {
				t.Errorf("volume type %s: %v", name, ok)
			}
		}
	})
}

// On a real file system that runs full: the node ends with a message instead
// of a panic, does not start without space, and has all that it has acknowledged
// when it starts with some.
func TestDiskIsFull(t *testing.T) {
	t.Parallel()
	for _, store := range []string{LogStoreWAL, LogStoreBoltDB} {
		t.Run(store, func(t *testing.T) {
			t.Parallel()
			v := newVolume(t, 256<<20, "TestWhatCannotBeWrittenEndsTheProcess")
			s := &site{tb: t, api: map[string]*Process{}}
			dir := filepath.Join(v.dir, "data")
			a, err := s.open(dir, "a", store, "east", 1)
			if err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- a.Run(context.Background()) }()
			commit(t, a, "first")
			empty := v.fill(t, 24<<20)
			acknowledged := fillLog(t, a)
			select {
			case err := <-ended:
				if failed, ok := errors.AsType[*DiskError](err); !ok || !errors.Is(failed, unix.ENOSPC) && !strings.Contains(failed.Error(), "log") {
					t.Errorf("the process ended with %v", err)
				}
			case <-time.After(time.Minute):
				t.Fatal("the process goes on without space")
			}
			abandon(t, a)

			empty()
			again, stop := s.run(dir, "a", store, 1)
			commit(t, again, "after")
			again.View(func(st *fsm.State) {
				for _, id := range acknowledged {
					if n, ok := st.Node(id); !ok || len(n.Release) != bulk {
						t.Errorf("%s was acknowledged and is lost", id)
					}
				}
			})
			t.Logf("%d commands of %d KiB acknowledged before the end, all there after the restart", len(acknowledged), bulk>>10)
			stop()
		})
	}
}

const bulk = 512 << 10

// fillLog commits until the node has no space, and returns what it acknowledged.
func fillLog(t *testing.T, p *Process) (acknowledged []string) {
	t.Helper()
	for i := range 1000 {
		id := fmt.Sprintf("n%d", i)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		_, err := p.Propose(ctx, "", fsm.RegisterNode{Node: fsm.Node{ID: id, Release: string(bytes.Repeat([]byte{'x'}, bulk))}})
		cancel()
		if err != nil {
			return acknowledged
		}
		acknowledged = append(acknowledged, id)
	}
	t.Fatal("the disk takes all")
	return nil
}

// abandon lets go of the files of a process that has ended with a [*DiskError],
// as the kernel would.
func abandon(t *testing.T, p *Process) {
	t.Helper()
	if err := errors.Join(p.gossip.close(), p.layer.Close(), p.stores.close(), p.identity.Close()); err != nil {
		t.Log(err)
	}
}

// Voters that are short are known to the leader. One that is short itself hands
// over; without a majority that has space nothing new is taken.
func TestWhoHasSpaceLeads(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		disks := map[string]*diskWatch{}
		f := startAdapted(t, 3, 3, func(_ *fleet, n *fleetNode, cfg *Config) {
			cfg.disk = newWatched().diskWatch
			disks[n.id] = cfg.disk
		})
		old := f.leader()
		follower := f.follower()
		disks[follower.id].answered(1, 2, nil)
		pause(2 * spaceEvery)
		if err := offered(t, old.Node, newType("one-is-short")); err != nil {
			t.Errorf("two of three have space: %v", err)
		}
		disks[old.id].answered(1, 2, nil)
		f.until("another leads", func() bool { n := f.leader(); return n != nil && n != old && n != follower })
		pause(2 * spaceEvery)
		err := offered(t, f.leader().Node, newType("two-are-short"))
		if fsm.CodeOf(err) != fsm.ErrNoSpace {
			t.Errorf("one of three has space: %v", err)
		}
		f.propose(old, newcomer("goes-on"))
		disks[old.id].answered(2, 2, nil)
		pause(2 * spaceEvery)
		if err := offered(t, f.leader().Node, newType("space-again")); err != nil {
			t.Error(err)
		}
	})
}

// What cannot be written ends the process, whatever the store.
func TestWhatCannotBeWrittenEndsTheProcess(t *testing.T) {
	t.Parallel()
	w := newWatched()
	log := &guardedLog{LogStore: failingStore{}, path: "/data/wal", failed: w.fail, mark: new(tailMark)}
	if err := log.StoreLog(new(raft.Log)); !errors.Is(err, unix.ENOSPC) {
		t.Error(err)
	}
	if err := w.failure(); !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), "/data/wal") {
		t.Error(err)
	}
	w = newWatched()
	stable := &guardedStable{StableStore: failingStore{}, path: "/data/stable.db", failed: w.fail}
	returned := make(chan struct{})
	go func() {
		defer close(returned)
		_ = stable.SetUint64([]byte("CurrentTerm"), 7)
	}()
	select {
	case <-w.failed:
	case <-returned:
		t.Error("Raft is told, and panics")
	}
	if err := w.failure(); !strings.Contains(err.Error(), "CurrentTerm") {
		t.Error(err)
	}
}

// failingStore has no space.
type failingStore struct{ *raft.InmemStore }

func (failingStore) StoreLogs([]*raft.Log) error    { return unix.ENOSPC }
func (failingStore) SetUint64([]byte, uint64) error { return unix.ENOSPC }
