package clustertest

import (
	"context"
	"errors"
	"hash/fnv"
	"math/rand/v2"
	"sync"
	"time"
)

// link is one direction between two nodes.
type link struct{ from, to string }

// fate is what becomes of one message.
type fate struct {
	wait  time.Duration
	lost  bool
	twice bool // it arrives once more, later
	again time.Duration
}

// Weather decides the fate of a message. It may draw from rnd, which belongs to
// the link, so that what happens on one link does not depend on the others.
type Weather func(rnd *rand.Rand) (wait time.Duration, lost, twice bool)

// network carries everything that nodes send each other: Raft's messages and
// their own questions. Gossip is not simulated: who is a member is told by the
// test, see directory. A message may be lost, late, overtaken, or come twice, and
// a link may be cut in one direction only.
type network struct {
	seed    uint64
	flying  sync.WaitGroup // couriers
	letters chan func()    // to an idle courier
	closed  chan struct{}  // no courier waits for letters any more
	stats   *Coverage
	mu      sync.Mutex
	cuts    map[link]bool
	links   map[link]*rand.Rand
	weather Weather // nil: every message arrives at once
	now     func() time.Duration
	joined  map[string]time.Duration // by node: when the last of its links was joined again
	running map[string]*process
}

func newNetwork(seed uint64, stats *Coverage, now func() time.Duration) *network {
	return &network{
		seed: seed, stats: stats, cuts: map[link]bool{}, links: map[link]*rand.Rand{}, running: map[string]*process{},
		now: now, joined: map[string]time.Duration{},
		letters: make(chan func()), closed: make(chan struct{}),
	}
}

// carry has a courier deliver a message. Couriers stay for the next one: to grow
// a new stack for each took a tenth of a run.
func (n *network) carry(letter func()) {
	select {
	case n.letters <- letter:
		return
	default: // nobody is idle
	}
	n.flying.Go(func() {
		for {
			letter()
			select {
			case letter = <-n.letters:
			case <-n.closed:
				return
			}
		}
	})
}

// end waits for all messages to be delivered. Nobody who sends is left.
func (n *network) end() {
	close(n.closed)
	n.flying.Wait()
}

var (
	errNoRoute = errors.New("no route to host")
	errLost    = errors.New("no answer")
	errKilled  = errors.New("the process is gone")
)

// fate decides what becomes of one message from one node to another.
func (n *network) fate(from, to string) fate {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := link{from, to}
	if n.cuts[l] {
		return fate{lost: true}
	}
	if n.weather == nil {
		return fate{}
	}
	rnd, ok := n.links[l]
	if !ok {
		h := fnv.New64a()
		_, _ = h.Write([]byte(from + " " + to))
		rnd = rand.New(rand.NewPCG(n.seed, h.Sum64())) //nolint:gosec // a seed names the run
		n.links[l] = rnd
	}
	var f fate
	f.wait, f.lost, f.twice = n.weather(rnd)
	if f.twice {
		f.again = f.wait + time.Duration(rnd.Int64N(int64(time.Second)))
	}
	n.stats.message(f)
	return f
}

func (n *network) process(id string) *process {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.running[id]
}

func (n *network) setProcess(p *process) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.running[p.node] = p
}

func (n *network) setWeather(w Weather) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.weather != nil && w == nil {
		for id := range n.running {
			n.joined[id] = n.now()
		}
	}
	n.weather = w
}

// cut separates from from to, in that direction.
func (n *network) cut(from, to string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cuts[link{from, to}] = true
}

// join ends what cut did.
func (n *network) join(from, to string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if l := (link{from, to}); n.cuts[l] {
		delete(n.cuts, l)
		n.joined[from], n.joined[to] = n.now(), n.now()
	}
}

func (n *network) isCut(from, to string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.cuts[link{from, to}]
}

// message is something for another node, with its answer.
type message struct {
	// handle is called at the receiver, once or twice, with a time to give up.
	handle func(to *process, late context.Context) (any, error)
	// once says that the message is a stream, which cannot come twice.
	once bool
}

type reply struct {
	answer any
	err    error
}

// answerTimeout is how long a node works on a message whose sender may be gone.
const answerTimeout = 2 * time.Second

// lostTimeout is how long the system of a node tries to get a message through. One that
// got through to a node that does not answer is waited for without end.
const lostTimeout = 4 * time.Second

// send takes a message from a process to a node, and its answer back, until ctx
// ends. What was sent may arrive after the sender has given up, or died.
func (n *network) send(ctx context.Context, from *process, to string, m message) (any, error) {
	if !from.runs() {
		return nil, errKilled
	}
	replies := make(chan reply, 2)
	there := n.fate(from.node, to)
	if there.lost {
		return n.unanswered(ctx, from)
	}
	n.carry(func() { n.deliver(from, to, m, there.wait, replies) }) //nolint:contextcheck // it outlives its sender on purpose
	if there.twice && !m.once {
		n.carry(func() { n.deliver(from, to, m, there.again, replies) }) //nolint:contextcheck // likewise
	}
	select {
	case r := <-replies:
		if !from.runs() {
			return nil, errKilled
		}
		return r.answer, r.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-from.died:
		return nil, errKilled
	}
}

// unanswered is what a sender gets for a message that was lost: at times a quick
// word from the network, else nothing.
func (n *network) unanswered(ctx context.Context, from *process) (any, error) {
	if n.quick() {
		return nil, errNoRoute
	}
	select {
	case <-ctx.Done():
		return nil, errLost
	case <-time.After(lostTimeout):
		return nil, errLost
	case <-from.died:
		return nil, errKilled
	}
}

// lose is what becomes of a message on its way.
func (n *network) lose(replies chan<- reply) {
	if n.quick() {
		replies <- reply{err: errNoRoute}
		return
	}
	time.AfterFunc(lostTimeout, func() { replies <- reply{err: errLost} })
}

// quick reports whether the network says at once that nothing can be reached. It
// does so in the runs without weather, which are faster for it.
func (n *network) quick() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.weather == nil
}

func (n *network) deliver(from *process, id string, m message, wait time.Duration, replies chan<- reply) {
	if wait > 0 {
		<-time.After(wait)
	}
	to := n.process(id)
	if to == nil || !to.runs() || n.isCut(from.node, id) {
		n.lose(replies)
		return
	}
	late, cancel := context.WithTimeout(context.Background(), answerTimeout)
	defer cancel()
	answer, err := m.handle(to, late)
	if !to.runs() {
		return
	}
	back := n.fate(id, from.node)
	if back.lost {
		n.lose(replies)
		return
	}
	if back.wait > 0 {
		<-time.After(back.wait)
	}
	replies <- reply{answer, err}
}
