package raftnode

import (
	"context"
	"errors"
	"maps"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockstep-storage/lockstep/fsm"
)

func TestPeersJoinAndVote(t *testing.T) {
	t.Parallel()
	story(t, "a fourth follows without a vote", 4, 3, func(t *testing.T, f *fleet) {
		<-time.After(10 * time.Second)
		if got := suffrage(t, f); !maps.Equal(got, map[string]bool{"a": true, "b": true, "c": true, "d": false}) {
			t.Errorf("voters %v", got)
		}
		f.propose(f.nodes[3], newcomer("x"))
		if !knows(f.nodes[3], "x") {
			t.Error("the non-voter does not show what it has committed")
		}
		if _, err := f.nodes[3].Presence(t.Context()); err != nil {
			t.Errorf("the non-voter reaches no leader: %v", err)
		}
	})
	story(t, "with a fifth both vote", 5, 3, func(t *testing.T, f *fleet) {
		f.until("five voters", func() bool {
			all := suffrage(t, f)
			return len(all) == 5 && all["a"] && all["b"] && all["c"] && all["d"] && all["e"]
		})
	})
	story(t, "one that cannot be asked gets no vote", 5, 3, func(t *testing.T, f *fleet) {
		f.losing(func(_, to, method string) error {
			if method == methodApplied && to == "e" {
				return errUnreachable
			}
			return nil
		})
		<-time.After(15 * time.Second)
		if got := suffrage(t, f); got["d"] || got["e"] {
			t.Errorf("voters %v", got)
		}
	})
}

func TestRemovePeer(t *testing.T) {
	t.Parallel()
	story(t, "not while one of its services may hold a lease", 3, 3, func(t *testing.T, f *fleet) {
		n, l := leased(t, f)
		asker := f.leader()
		if err := asker.RemovePeer(t.Context(), n.id); !errors.Is(err, fsm.ErrConflict) {
			t.Fatalf("RemovePeer = %v, want %v", err, fsm.ErrConflict)
		}
		if _, member := suffrage(t, f)[n.id]; !member || !holds(l) {
			t.Error("something has changed all the same")
		}
		f.kill(n)
		if err := asker.RemovePeer(t.Context(), n.id); !errors.Is(err, fsm.ErrConflict) {
			t.Errorf("right after it died: %v, want %v", err, fsm.ErrConflict)
		}
		<-time.After(2 * fleetLease().Grace)
		if err := asker.RemovePeer(t.Context(), n.id); err != nil {
			t.Fatal(err)
		}
		if _, member := suffrage(t, f)[n.id]; member || knows(asker, n.id) {
			t.Error("it is still there")
		}
	})
	story(t, "the leader itself, which hands over first", 3, 3, func(t *testing.T, f *fleet) {
		old := f.leader()
		other := f.follower()
		if err := other.RemovePeer(t.Context(), old.id); err != nil {
			t.Fatal(err)
		}
		if now := f.leader(); now == nil || now == old {
			t.Error("it still leads")
		}
	})
	story(t, "the leader itself, asked of itself", 3, 3, func(t *testing.T, f *fleet) {
		old := f.leader()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		if err := old.RemovePeer(ctx, old.id); err != nil {
			t.Fatal(err)
		}
		if _, member := suffrage(t, f)[old.id]; member || knows(f.leader(), old.id) {
			t.Error("it is still there")
		}
	})
	story(t, "a lost answer is no failure", 3, 3, func(t *testing.T, f *fleet) {
		leader, asker := f.leader(), f.follower()
		gone := "abc"[3-int(leader.id[0]-'a')-int(asker.id[0]-'a')]
		var lost atomic.Bool
		f.tamper(func(_, _, method string, answer []byte) ([]byte, error) {
			if method == methodRemove && lost.CompareAndSwap(false, true) {
				return nil, errUnreachable
			}
			return answer, nil
		})
		if err := asker.RemovePeer(t.Context(), string(gone)); err != nil || !lost.Load() {
			t.Errorf("RemovePeer = %v", err)
		}
	})
	story(t, "a service that was deleted after nobody waited any more comes back", 3, 3, func(t *testing.T, f *fleet) {
		leader, n := f.leader(), f.follower()
		host := f.service(n)
		f.kill(n)
		<-time.After(2 * fleetLease().Grace)
		f.unplug(leader)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		if err := leader.removePeer(ctx, n.id); !errors.Is(err, fsm.ErrNoLeader) {
			t.Fatalf("removePeer = %v, want %v", err, fsm.ErrNoLeader)
		}
		if _, err := leader.grant(t.Context(), f.question(host, n.id)); !errors.Is(err, fsm.ErrConflict) {
			t.Errorf("while it is being deleted: grant = %v, want %v", err, fsm.ErrConflict)
		}
		f.connect(leader)
		f.until("the service is deleted", func() (gone bool) {
			leader.View(func(s *fsm.State) { _, is := s.Service(host); gone = !is })
			return gone
		})
		f.start(n)
		f.service(n)
		if _, err := leader.grant(t.Context(), f.question(host, n.id)); err != nil {
			t.Errorf("once it is registered again: %v", err)
		}
	})
	story(t, "nobody of that name", 3, 3, func(t *testing.T, f *fleet) {
		if err := f.follower().RemovePeer(t.Context(), "z"); !errors.Is(err, fsm.ErrNotFound) {
			t.Errorf("RemovePeer = %v, want %v", err, fsm.ErrNotFound)
		}
	})
}

// TestPeersAreChangedOneAtATime: who is being removed would be added again.
func TestPeersAreChangedOneAtATime(t *testing.T) {
	t.Parallel()
	story(t, "the operator while the leader looks, and the leader while an operator removes", 3, 3, func(t *testing.T, f *fleet) {
		leader, n := f.leader(), f.follower()
		f.kill(n)
		<-time.After(2 * fleetLease().Grace)
		r, err := leader.leading()
		if err != nil {
			t.Fatal(err)
		}
		err = r.change(t.Context(), func() error {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			return leader.removePeer(ctx, n.id)
		})
		if _, member := suffrage(t, f)[n.id]; !errors.Is(err, fsm.ErrNoLeader) || !member {
			t.Errorf("removePeer = %v, want %v; still a peer: %v", err, fsm.ErrNoLeader, member)
		}
		if err := leader.removePeer(t.Context(), n.id); err != nil {
			t.Errorf("afterwards: %v", err)
		}
	})
}

func TestSnapshotReachesANodeThatWasAway(t *testing.T) {
	t.Parallel()
	story(t, "and it can lead from there", 3, 3, func(t *testing.T, f *fleet) {
		away := f.follower()
		host := f.service(away)
		f.kill(away)
		for _, id := range []string{"x", "y", "z"} {
			f.propose(f.leader(), newcomer(id))
		}
		for _, n := range f.nodes {
			if n == away {
				continue
			}
			if err := n.Snapshot(); err != nil {
				t.Fatal(err)
			}
		}
		f.start(away)
		f.until("it has caught up", func() bool { return knows(away, "z") })
		for f.leader() != away {
			if leader := f.leader(); leader != nil {
				_ = leader.raft.LeadershipTransfer().Error()
			}
			<-time.After(time.Second)
		}
		if _, err := away.grant(t.Context(), f.question(host, away.id)); err != nil {
			t.Errorf("it grants no lease: %v", err)
		}
		if err := away.Linearize(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
