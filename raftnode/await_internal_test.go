package raftnode

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"github.com/lockstep-storage/lockstep/fsm"
)

// TestStop leaves a goroutine behind, which its bubble reports, if anybody who asks
// a node that stops is not answered. How long stopping takes is checked by the fleet.
func TestStop(t *testing.T) {
	t.Parallel()
	entry, err := fsm.Encode(fsm.Meta{}, newcomer("x"))
	if err != nil {
		t.Fatal(err)
	}
	questions := map[string][]byte{methodApply: entry, methodRead: nil, methodPresence: nil, methodRemove: {0x61, 'z'}}
	for name, before := range map[string]func(*fleet, *fleetNode){
		"while it leads":         func(*fleet, *fleetNode) {},
		"after it was cut off":   (*fleet).isolate,
		"while others stop, too": func(f *fleet, _ *fleetNode) { f.kill(f.follower()) },
	} {
		story(t, name, 3, 3, func(t *testing.T, f *fleet) {
			leader := f.leader()
			before(f, leader)
			var askers sync.WaitGroup
			ctx, cancel := contextOf(t)
			for range 20 {
				for method, body := range questions {
					askers.Go(func() {
						for ctx.Err() == nil {
							_, _ = leader.Answer(ctx, "", method, body) // it has to come back; with what is another matter
							synctestPause()
						}
					})
				}
			}
			<-time.After(15 * time.Millisecond)
			leader.stop()
			if _, err := leader.Answer(t.Context(), "", methodApply, entry); !errors.Is(err, fsm.ErrNotLeader) {
				t.Errorf("a node that has stopped answers %v", err)
			}
			cancel()
			askers.Wait()
		})
	}
}

// stuck is an answer of Raft that does not come before let is closed.
type stuck struct{ let chan struct{} }

func (s stuck) Error() error { <-s.let; return nil }

func TestAwaitGivesUpWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := &Node{}
		let := make(chan struct{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := await(ctx, n, func(time.Duration) raft.Future { return stuck{let} })
		if !errors.Is(err, fsm.ErrNoLeader) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("await = %v", err)
		}
		closed := make(chan struct{})
		n.asked.close(time.Second) // it stops waiting for a question that Raft does not answer
		go func() { n.asked.close(time.Hour); close(closed) }()
		synctest.Wait()
		select {
		case <-closed:
			t.Error("closed with a question open")
		default:
		}
		close(let)
		<-closed
		if _, err := await(t.Context(), n, func(time.Duration) raft.Future { return stuck{let} }); !errors.Is(err, fsm.ErrNotLeader) {
			t.Errorf("after that: %v", err)
		}
	})
}
