package chaos

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/lockstep-storage/lockstep/api/client"
	"github.com/lockstep-storage/lockstep/cmd/internal/chaos/evidence"
	"github.com/lockstep-storage/lockstep/cmd/internal/chaos/lab"
	"github.com/lockstep-storage/lockstep/cmd/internal/history"
	"github.com/lockstep-storage/lockstep/fsm"
)

// world is the deployment, those who work with it, and what they see.
type world struct {
	lab     *lab.Lab
	options Options
	out     io.Writer
	nodes   []*client.Client // each asks one node, once
	all     *client.Client   // asks all of them, patiently

	mu      sync.Mutex
	seen    evidence.Evidence
	named   map[int]string // operations of which only a name is known, by index
	volumes []*known
	active  int // faults that hold now

	scenariosDone []ScenarioResult
}

// known is a volume that clients know of.
type known struct {
	id        string
	size      int64
	snapshots []string
}

// attempt is how long a client waits for one answer.
const attempt = 4 * time.Second

func newWorld(l *lab.Lab, o Options, out io.Writer) (*world, error) {
	w := &world{lab: l, options: o, out: out, named: map[int]string{}}
	var addrs []string
	for _, n := range l.Nodes {
		addr := l.Network.Client(n.ID, lab.API)
		addrs = append(addrs, addr)
		c, err := client.New([]string{addr}, client.Options{HTTP: onceOnly(), Patience: -1, Attempt: attempt})
		if err != nil {
			return nil, err
		}
		w.nodes = append(w.nodes, c)
	}
	var err error
	w.all, err = client.New(addrs, client.Options{HTTP: onceOnly(), Patience: 20 * time.Second, Attempt: attempt})
	return w, err
}

// onceOnly is an HTTP client that sends a request at most once: one that keeps
// connections open repeats a request when it finds one closed, and then nobody
// knows what the answer is about.
func onceOnly() *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
}

// since is a time as operations have it.
func (w *world) since(at int64) time.Duration { return time.Duration(at - w.seen.Run.Start) }

// record keeps an operation that has ended. If the object of it is not known, name
// is what it will be found by.
func (w *world) record(op history.Operation, begin int64, name string) {
	op.Begin, op.End = w.since(begin), w.since(evidence.Now())
	w.mu.Lock()
	defer w.mu.Unlock()
	if nameless := op.Request.Cluster == "" || op.Request.Kind == history.RequestFailover; nameless && op.Request.ID == "" {
		if op.Answer.Unknown {
			w.named[len(w.seen.Operations)] = name
		}
		op.Request.ID = name // that of a request that was refused is nobody's
	}
	w.seen.Operations = append(w.seen.Operations, op)
}

// answer is what a client knows from an error. Only a refusal tells that nothing
// has happened, and will not.
func answer(err error) history.Answer {
	if err == nil {
		return history.Answer{}
	}
	refused, ok := errors.AsType[*client.Error](err)
	if !ok || refused.Status >= http.StatusInternalServerError || refused.Code == "" {
		return history.Answer{Unknown: true}
	}
	if refused.Code == client.CodeInvalid {
		// Cinder's 400 says that the volume is in the wrong state, too.
		return history.Answer{Code: fsm.ErrConflict}
	}
	return history.Answer{Code: fsm.Code(refused.Code)}
}

// assert keeps a violation that was found on the spot.
func (w *world) assert(check, where, format string, args ...any) {
	v := evidence.Violation{Check: check, Where: where, Says: fmt.Sprintf(format, args...)}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen.Asserted = append(w.seen.Asserted, v)
	fmt.Fprintf(w.out, "VIOLATION %s: %s (%s)\n", v.Check, v.Says, v.Where)
}

// say prints a line with the time.
func (w *world) say(format string, args ...any) {
	at := time.Duration(evidence.Now() - w.seen.Run.Start).Seconds()
	fmt.Fprintf(w.out, "%7.1fs  %s\n", at, fmt.Sprintf(format, args...))
}

// wait waits, or returns false if the context ends before.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// await looks until a condition holds. Its last reason why it does not is the error.
func await(ctx context.Context, within time.Duration, check func(context.Context) error) error {
	return awaitEvery(ctx, 50*time.Millisecond, within, check)
}

func awaitEvery(ctx context.Context, pause, within time.Duration, check func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	err := errors.New("nobody looked")
	for ctx.Err() == nil {
		if err = check(ctx); err == nil {
			return nil
		}
		wait(ctx, pause)
	}
	return err
}

// between returns a random duration.
func between(rnd *rand.Rand, least, most time.Duration) time.Duration {
	return least + time.Duration(rnd.Int64N(int64(most-least)))
}

// newRand returns the numbers of one actor of a run, independent of all others.
func newRand(seed int64, actor uint64) *rand.Rand {
	return rand.New(rand.NewPCG(uint64(seed), actor)) //nolint:gosec // a seed must replay
}
