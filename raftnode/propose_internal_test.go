package raftnode

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/lockstep-storage/lockstep/fsm"
)

func knows(n *fleetNode, id string) (known bool) {
	n.View(func(s *fsm.State) { _, known = s.Node(id) })
	return known
}

func newcomer(id string) fsm.Command { return fsm.RegisterNode{Node: fsm.Node{ID: id}} }

func TestPropose(t *testing.T) {
	t.Parallel()
	story(t, "at any node, which then shows it", 3, 3, func(t *testing.T, f *fleet) {
		for _, n := range f.nodes {
			f.propose(n, newcomer("by-"+n.id))
			if !knows(n, "by-"+n.id) {
				t.Errorf("%s does not show what it has committed", n.id)
			}
		}
	})
	story(t, "a refusal survives the wire", 3, 3, func(t *testing.T, f *fleet) {
		for _, n := range f.nodes {
			err := f.offer(n, time.Minute, "", fsm.SetFrozen{Cluster: "nowhere@aa"})
			var r *fsm.Refusal
			if !errors.Is(err, fsm.ErrNotFound) || !errors.As(err, &r) || r.Field != "cluster" || r.Value != "nowhere@aa" {
				t.Errorf("at %s: %v", n.id, err)
			}
		}
	})
	story(t, "it rides out an election", 3, 3, func(_ *testing.T, f *fleet) {
		n := f.follower()
		f.kill(f.leader())
		f.propose(n, newcomer("x"))
	})
	story(t, "it goes on when a leader is known, however long it waited", 3, 3, func(t *testing.T, f *fleet) {
		n := f.follower()
		for i := range 10 {
			f.isolate(n)
			id, done := fmt.Sprint("x", i), make(chan struct{})
			go func() {
				defer close(done)
				f.propose(n, newcomer(id))
			}()
			<-time.After(10 * time.Second) // the leader is forgotten by then, and the pauses are long
			another := n.leader.next()
			f.heal(n)
			<-another
			known := time.Now()
			f.until("the leader has it", func() bool { return knows(f.leader(), id) })
			if took := time.Since(known); took > longestPause/4 {
				t.Errorf("committed %v after a leader was known", took)
			}
			<-done
		}
	})
	story(t, "without a quorum it ends at its deadline", 3, 3, func(t *testing.T, f *fleet) {
		for _, n := range []*fleetNode{f.leader(), f.follower()} {
			f.isolate(n)
			began := time.Now()
			if err := f.offer(n, 5*time.Second, "", newcomer("x")); !errors.Is(err, fsm.ErrNoLeader) {
				t.Errorf("Propose = %v, want %v", err, fsm.ErrNoLeader)
			}
			if took := time.Since(began); took != 5*time.Second {
				t.Errorf("it took %v", took)
			}
			f.heal(n)
			f.until("a leader", func() bool { return f.leader() != nil })
		}
	})
	story(t, "a committed command that is not applied here in time is no success", 3, 3, func(t *testing.T, f *fleet) {
		n := f.follower()
		f.tamper(func(_, _, method string, answer []byte) ([]byte, error) {
			if method == methodApply {
				return answerOf(applyAnswer{Index: 1000})
			}
			return answer, nil
		})
		if err := f.offer(n, time.Second, "", newcomer("x")); !errors.Is(err, fsm.ErrNoLeader) {
			t.Errorf("Propose = %v, want %v", err, fsm.ErrNoLeader)
		}
	})
	story(t, "after a lost answer it is offered again, with one effect", 3, 3, func(t *testing.T, f *fleet) {
		n := f.follower()
		host := f.service(n)
		var lost atomic.Int64
		f.tamper(func(_, _, method string, answer []byte) ([]byte, error) {
			if method == methodApply && lost.Load() < 3 {
				lost.Add(1)
				return nil, errUnreachable
			}
			return answer, nil
		})
		create := fsm.CreateVolume{Volume: fsm.Volume{ID: "v", Size: 1, Host: host}}
		if err := f.offer(n, time.Minute, "request", create); err != nil || lost.Load() != 3 {
			t.Errorf("after %d lost answers: %v", lost.Load(), err)
		}
		if err := f.offer(n, time.Minute, "another", create); !errors.Is(err, fsm.ErrExists) {
			t.Errorf("another request: %v, want %v", err, fsm.ErrExists)
		}
	})
	story(t, "a leader that answers with faults of its own is not asked for ever", 3, 3, func(t *testing.T, f *fleet) {
		n := f.follower()
		var asked atomic.Int64
		f.losing(func(_, _, method string) error {
			if method == methodApply {
				asked.Add(1)
				return &fsm.Refusal{Code: fsm.ErrInternal, Message: "out of order"}
			}
			return nil
		})
		if err := f.offer(n, time.Minute, "", newcomer("x")); !errors.Is(err, fsm.ErrInternal) || asked.Load() != patience {
			t.Errorf("asked %d times: %v", asked.Load(), err)
		}
	})
	story(t, "retries slow down", 3, 3, func(t *testing.T, f *fleet) {
		n := f.follower()
		var asked atomic.Int64
		f.losing(func(_, _, method string) error {
			if method == methodApply {
				asked.Add(1)
				return errUnreachable
			}
			return nil
		})
		if err := f.offer(n, 10*time.Second, "", newcomer("x")); !errors.Is(err, fsm.ErrNoLeader) || asked.Load() > 150 {
			t.Errorf("asked %d times in ten seconds: %v", asked.Load(), err)
		}
	})
	story(t, "the network's errors end with it", 3, 3, func(_ *testing.T, f *fleet) {
		n := f.follower()
		f.losing(func(string, string, string) error { return errUnreachable })
		time.AfterFunc(3*time.Second, func() { f.losing(nil) })
		f.propose(n, newcomer("x"))
	})
}

func TestG8_Linearize(t *testing.T) {
	t.Parallel()
	story(t, "a read after it shows what was committed anywhere before", 3, 3, func(t *testing.T, f *fleet) {
		for i := range 20 {
			writer, reader := f.nodes[i%3], f.nodes[(i+1)%3]
			id := string(rune('k' + i))
			f.propose(writer, newcomer(id))
			if err := reader.Linearize(t.Context()); err != nil || !knows(reader, id) {
				t.Errorf("read %d: shows it %v, %v", i, knows(reader, id), err)
			}
		}
	})
	story(t, "an old leader does not answer for a new one", 3, 3, func(t *testing.T, f *fleet) {
		old := f.leader()
		f.isolate(old)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond) // it still believes that it leads
		defer cancel()
		if err := old.Linearize(ctx); !errors.Is(err, fsm.ErrNoLeader) {
			t.Errorf("Linearize = %v, want %v", err, fsm.ErrNoLeader)
		}
		f.until("another leader", func() bool { return f.leader() != nil })
		f.propose(f.leader(), newcomer("x"))
		f.heal(old)
		if err := old.Linearize(t.Context()); err != nil || !knows(old, "x") {
			t.Errorf("after it is back: shows it %v, %v", knows(old, "x"), err)
		}
	})
	story(t, "a release that does not know the question says so at once", 3, 3, func(t *testing.T, f *fleet) {
		n := f.follower()
		f.losing(func(_, _, method string) error {
			_, err := f.leader().Answer(t.Context(), n.id, "new-"+method, nil)
			return &fsm.Refusal{Code: fsm.CodeOf(err), Message: err.Error()}
		})
		if err := n.Linearize(t.Context()); !errors.Is(err, fsm.ErrInvalid) {
			t.Errorf("Linearize = %v, want %v", err, fsm.ErrInvalid)
		}
	})
}

func TestAnswerRefusesWhatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	story(t, "without harm", 1, 1, func(t *testing.T, f *fleet) {
		n := f.nodes[0]
		before := n.raft.LastIndex()
		for method, body := range map[string][]byte{
			"":           nil,
			"unknown":    {1, 2, 3},
			methodApply:  []byte("no entry"),
			methodLease:  []byte("\xff"),
			methodRemove: {0x9f},
		} {
			if _, err := n.Answer(t.Context(), "", method, body); !errors.Is(err, fsm.ErrInvalid) {
				t.Errorf("%q: %v, want %v", method, err, fsm.ErrInvalid)
			}
		}
		if after := n.raft.LastIndex(); after != before {
			t.Errorf("the log has grown from %d to %d", before, after)
		}
	})
}

// FuzzAnswer offers any bytes to every method of a leader, which must go on.
func FuzzAnswer(f *testing.F) {
	entry, err := fsm.Encode(fsm.Meta{}, newcomer("x"))
	if err != nil {
		f.Fatal(err)
	}
	lease, err := cbor.Marshal(leaseQuestion{Host: "a@aa", Node: "a"})
	if err != nil {
		f.Fatal(err)
	}
	peer, err := cbor.Marshal(peerQuestion{Node: "a", Directory: "d"})
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range [][]byte{nil, entry, entry[:len(entry)-1], append(bytes.Clone(entry), 0), lease, peer, {0xff}, []byte("\x63abc")} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		synctest.Test(t, func(t *testing.T) {
			n := startFleet(t, 1, 1).nodes[0]
			for _, method := range []string{methodApply, methodLease, methodTerm, methodRead, methodPresence, methodApplied, methodSpace, methodPeer, methodRemove, string(body)} {
				if answer, err := n.Answer(t.Context(), "", method, body); err == nil && len(answer) == 0 {
					t.Errorf("%q: no answer and no error", method)
				}
			}
			if err := n.Linearize(t.Context()); err != nil {
				t.Error(err)
			}
		})
	})
}
