package raftnode

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/lockstep-storage/lockstep/fsm"
)

func commandEntry(tb testing.TB, index, term uint64, cmd fsm.Command) *raft.Log {
	tb.Helper()
	data, err := fsm.Encode(fsm.Meta{}, cmd)
	if err != nil {
		tb.Fatal(err)
	}
	return &raft.Log{Index: index, Term: term, Type: raft.LogCommand, Data: data}
}

func register(tb testing.TB, index uint64, node string) *raft.Log {
	tb.Helper()
	return commandEntry(tb, index, 1, fsm.RegisterNode{Node: fsm.Node{ID: node}})
}

func TestReplicaAppliesInOrderAndAnswersEach(t *testing.T) {
	t.Parallel()
	r := newReplica(hclog.NewNullLogger())
	answers := r.ApplyBatch([]*raft.Log{
		register(t, 3, "a"),
		{Index: 4, Type: raft.LogConfiguration, Data: []byte("not a command")},
		register(t, 5, "not a name"),
		register(t, 6, "b"),
		commandEntry(t, 7, 2, fsm.DeleteService{Host: "h", Term: 2}),
	})
	for i, want := range []error{nil, nil, fsm.ErrInvalid, nil, fsm.ErrNotFound} {
		if got, _ := answers[i].(error); !errors.Is(got, want) {
			t.Errorf("answer %d: %v, want %v", i, got, want)
		}
	}
	if got := r.index(); got != 7 {
		t.Errorf("applied up to %d, want 7", got)
	}
	if refused, _ := r.Apply(commandEntry(t, 8, 9, fsm.DeleteService{Host: "h", Term: 8})).(error); !errors.Is(refused, fsm.ErrNotFound) {
		t.Errorf("Apply answers %v", refused)
	}
}

func TestReplicaRestoresWhatItHasSaved(t *testing.T) {
	t.Parallel()
	r := newReplica(hclog.NewNullLogger())
	r.Apply(register(t, 1, "a"))
	snapshot, err := r.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	r.Apply(register(t, 2, "b")) // after the snapshot, which must not show it

	store := raft.NewInmemSnapshotStore()
	sink, err := store.Create(1, 1, 1, raft.Configuration{}, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := snapshot.Persist(sink); err != nil {
		t.Fatal(err)
	}
	snapshot.Release()
	_, saved, err := store.Open(sink.ID())
	if err != nil {
		t.Fatal(err)
	}

	other := newReplica(hclog.NewNullLogger())
	changed := other.View(func(*fsm.State) {})
	if err := other.Restore(saved); err != nil {
		t.Fatal(err)
	}
	select {
	case <-changed:
	default:
		t.Error("nobody is told of a restored state")
	}
	other.View(func(s *fsm.State) {
		_, a := s.Node("a")
		_, b := s.Node("b")
		if !a || b || s.Index() != 1 {
			t.Errorf("a %v, b %v, index %d; want a alone, at 1", a, b, s.Index())
		}
	})
	other.Apply(register(t, 2, "b"))
	if _, late, err := store.Open(sink.ID()); err != nil || other.Restore(late) == nil || other.index() != 2 {
		t.Errorf("a snapshot that came too late took the state back to index %d (%v)", other.index(), err)
	}
	if err := other.Restore(io.NopCloser(bytes.NewReader([]byte("rubbish")))); err == nil || other.index() != 2 {
		t.Errorf("rubbish was restored: %v, index %d", err, other.index())
	}
}

func TestReplicaStopsAtAnEntryThatItCannotRead(t *testing.T) {
	t.Parallel()
	for name, data := range map[string][]byte{
		"empty": nil, "a newer format": {fsm.Format + 1, 1, 0xa0, 0xa0}, "an unknown kind": {fsm.Format, 255, 0xa0, 0xa0}, "rubbish": []byte("rubbish"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newReplica(hclog.NewNullLogger())
			defer func() {
				if recover() == nil {
					t.Error("the replica went on")
				}
				if r.index() != 0 { // and its lock is free
					t.Errorf("applied up to %d", r.index())
				}
			}()
			r.Apply(&raft.Log{Index: 1, Type: raft.LogCommand, Data: data})
		})
	}
}

func TestReplicaWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newReplica(hclog.NewNullLogger())
		done := make(chan error, 1)
		go func() { done <- r.Wait(t.Context(), 2) }()
		for i, name := range []string{"a", "b"} {
			synctest.Wait()
			if len(done) != 0 {
				t.Fatalf("it did not wait for index 2, at %d", r.index())
			}
			r.Apply(register(t, uint64(i+1), name))
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := r.Wait(ctx, 3); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Wait = %v after its deadline", err)
		}
	})
}
