package raftnode

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-storage/lockstep/fsm"
)

// rounds records the rounds of a prover and lets each take a second.
type rounds struct {
	mu    sync.Mutex
	terms []uint64
	err   error
}

func (r *rounds) confirm(ctx context.Context, term uint64) error {
	r.mu.Lock()
	r.terms = append(r.terms, term)
	r.mu.Unlock()
	select {
	case <-time.After(time.Second):
		return r.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func TestProver(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		asked map[time.Duration][]uint64 // the terms that are to be proven, by when
		err   error
		want  []uint64 // rounds
		last  time.Duration
	}{
		"one round serves all who wait": {
			asked: map[time.Duration][]uint64{0: {5, 5, 5, 5}}, want: []uint64{5}, last: time.Second,
		},
		"a request that arrives during a round gets a later one": {
			asked: map[time.Duration][]uint64{0: {5}, 500 * time.Millisecond: {5, 5}}, want: []uint64{5, 5}, last: 2 * time.Second,
		},
		"terms are proven one by one": {
			asked: map[time.Duration][]uint64{0: {5, 6, 5}}, want: []uint64{5, 6}, last: 2 * time.Second,
		},
		"what is denied is denied to all": {
			asked: map[time.Duration][]uint64{0: {5, 5}}, err: fsm.ErrNotLeader, want: []uint64{5}, last: time.Second,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := &rounds{err: test.err}
				p := newProver(r.confirm)
				ctx, cancel := context.WithCancel(t.Context())
				var run, asked sync.WaitGroup
				for when, terms := range test.asked {
					for _, term := range terms {
						asked.Go(func() {
							<-time.After(when)
							if err := p.prove(ctx, term); !errors.Is(err, test.err) {
								t.Errorf("prove = %v, want %v", err, test.err)
							}
						})
					}
				}
				synctest.Wait()
				began := time.Now()
				run.Go(func() { p.run(ctx) })
				asked.Wait()
				slices.Sort(r.terms)
				if took := time.Since(began); !slices.Equal(r.terms, test.want) || took != test.last {
					t.Errorf("rounds %v in %v, want %v in %v", r.terms, took, test.want, test.last)
				}
				cancel()
				run.Wait()
			})
		})
	}
	t.Run("nobody waits for one that has stopped", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			p := newProver((&rounds{}).confirm)
			over, cancel := context.WithCancel(t.Context())
			early := make(chan error, 1)
			go func() { early <- p.prove(t.Context(), 1) }()
			synctest.Wait()
			cancel()
			p.run(over)
			for _, err := range []error{<-early, p.prove(t.Context(), 1)} {
				if err == nil {
					t.Error("proven by nobody")
				}
			}
		})
	})
}

func TestProofCountsVotersOnly(t *testing.T) {
	t.Parallel()
	story(t, "two of three voters are silent, two non-voters answer", 5, 3, func(t *testing.T, f *fleet) {
		f.until("d and e are peers", func() bool { return len(suffrage(t, f)) == 5 })
		leader := f.leader()
		term := leader.raft.CurrentTerm()
		if err := leader.confirmTerm(t.Context(), term); err != nil {
			t.Fatalf("with all voters: %v", err)
		}
		lost := func(silent int) func(from, to, method string) error {
			return func(_, to, method string) error {
				others := slices.DeleteFunc([]string{"a", "b", "c"}, func(id string) bool { return id == leader.id })
				if method == methodTerm && slices.Contains(others[:silent], to) {
					return errUnreachable
				}
				return nil
			}
		}
		f.losing(lost(1))
		if err := leader.confirmTerm(t.Context(), term); err != nil {
			t.Errorf("with two of three voters: %v", err)
		}
		f.losing(lost(2))
		if err := leader.confirmTerm(t.Context(), term); !errors.Is(err, fsm.ErrNotLeader) {
			t.Errorf("with itself and the non-voters: %v, want %v", err, fsm.ErrNotLeader)
		}
		f.losing(nil)
		if err := leader.confirmTerm(t.Context(), term-1); !errors.Is(err, fsm.ErrNotLeader) {
			t.Errorf("of a term that is over: %v, want %v", err, fsm.ErrNotLeader)
		}
	})
}

// suffrage returns who votes, by node, as the leader's configuration says.
func suffrage(t *testing.T, f *fleet) map[string]bool {
	t.Helper()
	all := map[string]bool{}
	leader := f.leader()
	if leader == nil {
		return all
	}
	peers, err := leader.Peers()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range peers {
		all[p.ID] = p.Voter
	}
	return all
}
