package driverhost

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-storage/lockstep/fsm"
)

// gateWorld is the state and the lease that a gate asks.
type gateWorld struct {
	tb testing.TB

	mu      sync.Mutex
	state   *fsm.State
	changed chan struct{}
	index   uint64
	held    context.Context
	end     context.CancelFunc
	leased  chan struct{}
}

func (w *gateWorld) View(fn func(*fsm.State)) <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	fn(w.state)
	return w.changed
}

func (w *gateWorld) Clone() *fsm.State {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.state.Clone()
}

func (w *gateWorld) Run(ctx context.Context) { <-ctx.Done() }

func (w *gateWorld) Deadline() (time.Duration, <-chan struct{}) { return 0, nil }

func (w *gateWorld) Current() (context.Context, <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.held, w.leased
}

func (w *gateWorld) apply(cmds ...fsm.Command) {
	w.tb.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, cmd := range cmds {
		w.index++
		if err := w.state.Apply(fsm.Meta{Index: w.index, Term: 1}, cmd); err != nil {
			w.tb.Fatalf("%T: %v", cmd, err)
		}
	}
	close(w.changed)
	w.changed = make(chan struct{})
}

func (w *gateWorld) lapse() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.end()
	w.held = nil
	close(w.leased)
	w.leased = make(chan struct{})
}

// gateAt returns a gate of a member whose cluster is in a state, with a lease.
func gateAt(tb testing.TB, cmds ...fsm.Command) (*gate, *gateWorld) {
	tb.Helper()
	w := &gateWorld{tb: tb, state: fsm.NewState(), changed: make(chan struct{}), leased: make(chan struct{})}
	w.held, w.end = context.WithCancel(context.Background())
	tb.Cleanup(w.end)
	w.apply(cmds...)
	return newGate("n1@aa", w, w), w
}

// history is what has been committed, up to a state that a gate may find.
func history(upTo string) []fsm.Command {
	const id = "f"
	here := fsm.RegisterService{Host: "n1@aa", Node: "n1", Cluster: "c@aa", Targets: []string{"b"}}
	asked := []fsm.Command{here, fsm.RequestFailover{ID: id, Cluster: "c@aa", Target: "b", Mode: fsm.Forced}}
	promoting := append(asked, fsm.Assign{Failover: id, Executor: "n1@aa", Term: 1}, fsm.Claim{Failover: id, Attempt: 1, Host: "n1@aa"})
	switching := append(promoting, fsm.FailoverCompleted{Failover: id, Attempt: 1, ClaimIndex: 4})
	switch upTo {
	case "unregistered":
		return nil
	case "serving":
		return []fsm.Command{here}
	case "frozen":
		return []fsm.Command{here, fsm.SetFrozen{Cluster: "c@aa", Frozen: true}}
	case "disabled":
		return []fsm.Command{here, fsm.SetClusterDisabled{Cluster: "c@aa", Disabled: true}}
	case "draining":
		return asked
	case "promoting":
		return promoting
	case "aborted":
		return append(asked, fsm.AbortFailover{ID: id})
	case "refused":
		return append(promoting, fsm.FailoverRefused{Failover: id, Attempt: 1, ClaimIndex: 4, Refusal: fsm.UnableToFailOver})
	case "held":
		return append(promoting, fsm.GiveUp{Failover: id, Attempt: 1, ClaimIndex: 4, Term: 1})
	case "switching":
		return switching
	case "done":
		return append(switching, fsm.FinishFailover{Failover: id, Attempt: 1, Term: 1})
	}
	panic("no history leads to " + upTo)
}

// TestG3_Admission is the whole table: the state, what the running driver was told,
// and the kind of call. Without a lease nothing is admitted in any of them.
func TestG3_Admission(t *testing.T) {
	t.Parallel()
	const told1, told2 = 1, 2 // 0: the driver has just started
	tests := map[string]struct {
		admits map[uint64][]fsm.Call // by what the driver was told
		why    error                 // of every other call; nil: ErrBehind
	}{
		"unregistered": {why: fsm.ErrNotFound},
		"serving":      {admits: map[uint64][]fsm.Call{told1: {fsm.CallVolume, fsm.CallFreeze}}},
		"disabled":     {admits: map[uint64][]fsm.Call{told1: {fsm.CallVolume, fsm.CallFreeze}}}, // no new work is accepted; what was is done
		"frozen":       {admits: map[uint64][]fsm.Call{told1: {fsm.CallFreeze}}},
		"draining":     {why: fsm.ErrFailingOver},
		"promoting":    {why: fsm.ErrFailingOver},
		"aborted":      {admits: map[uint64][]fsm.Call{told1: {fsm.CallVolume, fsm.CallFreeze}}},
		"refused":      {admits: map[uint64][]fsm.Call{told1: {fsm.CallVolume, fsm.CallFreeze}}},
		"held":         {why: fsm.ErrHeld},
		"switching":    {admits: map[uint64][]fsm.Call{told2: {fsm.CallVolume, fsm.CallFreeze}}},
		"done":         {admits: map[uint64][]fsm.Call{told2: {fsm.CallVolume, fsm.CallFreeze}}},
	}
	for state, test := range tests {
		for told := range uint64(3) {
			for _, call := range []fsm.Call{fsm.CallVolume, fsm.CallFreeze} {
				t.Run(fmt.Sprintf("%s, told %d, call %d", state, told, call), func(t *testing.T) {
					t.Parallel()
					g, w := gateAt(t, history(state)...)
					g.tell(told)
					want := test.why
					admitted := false
					for _, c := range test.admits[told] {
						admitted = admitted || c == call
					}
					switch {
					case admitted:
						want = nil
					case state == "frozen" && told == told1:
						want = fsm.ErrFrozen
					case want == nil:
						want = fsm.ErrBehind
					}
					checkEntry(t, g, call, want)
					w.lapse()
					checkEntry(t, g, call, errNoLease)
				})
			}
		}
	}
}

func checkEntry(t *testing.T, g *gate, call fsm.Call, want error) {
	t.Helper()
	if err := g.admits(call); !errors.Is(err, want) {
		t.Errorf("admits: %v, want %v", err, want)
	}
	_, token, leave, err := g.enter(t.Context(), call)
	if !errors.Is(err, want) {
		t.Errorf("enter: %v, want %v", err, want)
	}
	if err == nil {
		leave()
		if token.Epoch != g.lastTold() {
			t.Errorf("the token is of epoch %d, the driver was told %d", token.Epoch, g.lastTold())
		}
	}
}

func TestG3_CallInFlightIsCancelled(t *testing.T) {
	t.Parallel()
	freeze := fsm.SetFrozen{Cluster: "c@aa", Frozen: true}
	tests := map[string]struct {
		end    func(w *gateWorld)
		cancel bool
		cause  error
	}{
		"when the lease ends":           {end: (*gateWorld).lapse, cancel: true},
		"when a failover begins":        {end: func(w *gateWorld) { w.apply(history("draining")[1:]...) }, cancel: true, cause: fsm.ErrFailingOver},
		"when the epoch is another":     {end: func(w *gateWorld) { w.apply(history("done")[1:]...) }, cancel: true, cause: fsm.ErrBehind},
		"when the cluster is frozen":    {end: func(w *gateWorld) { w.apply(freeze) }, cancel: true, cause: fsm.ErrFrozen},
		"but not by any other change":   {end: func(w *gateWorld) { w.apply(fsm.RegisterNode{Node: fsm.Node{ID: "n"}}) }},
		"nor when its service is named": {end: func(w *gateWorld) { w.apply(history("serving")...) }},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				g, w := gateAt(t, history("serving")...)
				g.tell(1)
				go g.watch(t.Context())
				ctx, _, leave, err := g.enter(t.Context(), fsm.CallVolume)
				if err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				test.end(w)
				synctest.Wait()
				if (ctx.Err() != nil) != test.cancel || test.cause != nil && !errors.Is(context.Cause(ctx), test.cause) {
					t.Errorf("cancelled %v, because of %v; want %v, %v", ctx.Err() != nil, context.Cause(ctx), test.cancel, test.cause)
				}
				leave()
			})
		})
	}
}

func TestDrainEndsWhenTheLastCallHasLeft(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g, _ := gateAt(t, history("serving")...)
		g.tell(1)
		var leaves []func()
		for range 3 {
			_, _, leave, err := g.enter(t.Context(), fsm.CallVolume)
			if err != nil {
				t.Fatal(err)
			}
			leaves = append(leaves, leave)
		}
		idle := false
		go func() { idle = g.idle(t.Context()) == nil }()
		for i, leave := range leaves {
			synctest.Wait()
			if idle {
				t.Fatalf("idle with %d calls in flight", len(leaves)-i)
			}
			leave()
		}
		synctest.Wait()
		if !idle {
			t.Error("not idle without a call in flight")
		}

		_, _, leave, err := g.enter(t.Context(), fsm.CallVolume)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := g.idle(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("idle = %v after its context ended", err)
		}
		leave()
	})
}

// TestGateUnderLoad is for the race detector: no call is in flight in a state that
// does not admit it once idle has returned.
func TestGateUnderLoad(t *testing.T) {
	t.Parallel()
	g, w := gateAt(t, history("serving")...)
	g.tell(1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() { g.watch(ctx) })
	for range 8 {
		wg.Go(func() {
			for {
				admitted, _, leave, err := g.enter(ctx, fsm.CallVolume)
				if err != nil {
					return
				}
				select {
				case <-admitted.Done():
				default:
				}
				leave()
			}
		})
	}
	w.apply(history("draining")[1:]...)
	g.cancelUnwanted()
	if err := g.idle(t.Context()); err != nil {
		t.Fatal(err)
	}
	g.mu.Lock()
	left := len(g.running)
	g.mu.Unlock()
	if left != 0 {
		t.Errorf("%d calls in flight after the drain", left)
	}
	cancel()
	wg.Wait()
}

func TestTokensAreOrderedByEpochAndThenByClaim(t *testing.T) {
	t.Parallel()
	order := []Token{{}, {Epoch: 1}, {Epoch: 1, Claim: 9}, {Epoch: 2}, {Epoch: 2, Claim: 3}, {Epoch: 2, Claim: 10}}
	for i, a := range order {
		for j, b := range order {
			if a.Less(b) != (i < j) {
				t.Errorf("%v < %v is %v", a, b, a.Less(b))
			}
		}
	}
}
