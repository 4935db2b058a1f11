package raftnode

import (
	"errors"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/lockstep-storage/lockstep/fsm"
)

// A node that has proved who it is speaks for itself and for its services, and for
// nobody else.
func TestANodeSpeaksForItselfOnly(t *testing.T) {
	t.Parallel()
	story(t, "at the leader", 3, 3, func(t *testing.T, f *fleet) {
		owner := f.follower()
		host := f.service(owner)
		leader := f.leader()
		say := func(from string, cmd fsm.Command) error {
			entry, err := fsm.Encode(fsm.Meta{}, cmd)
			if err != nil {
				t.Fatal(err)
			}
			_, err = leader.Answer(t.Context(), from, methodApply, entry)
			return err
		}
		f.propose(leader, fsm.RequestFailover{ID: "f1", Cluster: "c@aa", Target: "site-b", Mode: fsm.Forced})
		for _, cmd := range []fsm.Command{
			fsm.RegisterNode{Node: fsm.Node{ID: owner.id}},
			fsm.RegisterService{Host: host, Node: owner.id},
			fsm.MemberDrained{Failover: "f1", Host: host},
			fsm.MemberSwitched{Host: host, Epoch: 1},
			fsm.FreezeReported{Cluster: "c@aa", Host: host},
			fsm.EndOperation{Host: host},
			fsm.Claim{Failover: "f1", Host: host},
		} {
			<-time.After(settle) // the leader's barrier after the last commit is written
			before := leader.raft.LastIndex()
			if err := say("stranger", cmd); !errors.Is(err, fsm.ErrInvalid) || leader.raft.LastIndex() != before {
				t.Errorf("%T for another node: %v, log at %d after %d", cmd, err, leader.raft.LastIndex(), before)
			}
			if err := say(owner.id, cmd); err != nil {
				t.Errorf("%T of its own: %v", cmd, err)
			}
			if err := say("", cmd); err != nil {
				t.Errorf("%T of nobody that is known: %v", cmd, err)
			}
		}
		for _, cmd := range []fsm.Command{
			fsm.Assign{},
			fsm.GiveUp{},
			fsm.FinishFailover{},
			fsm.MoveOperations{},
			fsm.SettleResults{},
			fsm.DeleteService{Host: host},
			fsm.RemoveNode{ID: "x"},
		} {
			if err := say(owner.id, cmd); !errors.Is(err, fsm.ErrInvalid) {
				t.Errorf("%T, which only a leader decides: %v", cmd, err)
			}
		}
		if err := say("stranger", fsm.RequestFailover{ID: "f2", Cluster: "c@aa", Target: "site-b", Mode: fsm.Forced}); err != nil {
			t.Errorf("what a user asked of it: %v", err)
		}
		body, err := cbor.Marshal(f.question(host, owner.id))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := leader.Answer(t.Context(), "stranger", methodLease, body); !errors.Is(err, fsm.ErrInvalid) {
			t.Errorf("a lease for another node's service: %v", err)
		}
		if _, err := leader.Answer(t.Context(), owner.id, methodLease, body); err != nil {
			t.Errorf("a lease of its own: %v", err)
		}
	})
	story(t, "and so does the executor of a promotion", 3, 3, func(t *testing.T, f *fleet) {
		owner := f.follower()
		host := f.service(owner)
		l := owner.NewLease(host)
		ctx, cancel := contextOf(t)
		defer cancel()
		ended := make(chan struct{})
		go func() { defer close(ended); l.Run(ctx) }()
		defer func() { cancel(); <-ended }()
		f.until("a lease", func() bool { return holds(l) })
		f.propose(f.leader(), fsm.RequestFailover{ID: "f1", Cluster: "c@aa", Target: "site-b", Mode: fsm.Forced})
		f.propose(owner, fsm.MemberDrained{Failover: "f1", Host: host})
		f.until("an executor", func() bool { return f.leader().executor("f1") == host })
		for _, cmd := range []fsm.Command{
			fsm.StageResults{Failover: "f1", Attempt: 1},
			fsm.FailoverCompleted{Failover: "f1", Attempt: 1},
			fsm.FailoverRefused{Failover: "f1", Attempt: 1},
			fsm.AttemptEnded{Failover: "f1", Attempt: 1},
		} {
			if err := f.leader().maySay("stranger", cmd); !errors.Is(err, fsm.ErrInvalid) {
				t.Errorf("%T of another node's attempt: %v", cmd, err)
			}
			if err := f.leader().maySay(owner.id, cmd); err != nil {
				t.Errorf("%T of its own attempt: %v", cmd, err)
			}
		}
	})
}
