package clustertest

import (
	"context"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/lockstep-storage/lockstep/fsm"
)

// oracle watches what is committed. It applies every committed entry to a state of
// its own, one at a time, and checks before and after each; it compares what every
// node shows at every moment with what that state was at the same index; and it
// remembers what clients were promised.
type oracle struct {
	arrays  map[string]*Array
	moments *moments
	stats   *Coverage
	now     func() time.Duration

	mu         sync.Mutex
	state      *fsm.State
	log        []*raft.Log              // from index 1 on
	shown      uint64                   // the greatest index that a process has shown
	requests   map[string]effect        // of each request id
	was        map[string][]fsm.Cluster // by cluster: every version, by index
	epochs     map[string]uint64        // by process and cluster: the greatest seen
	promised   []promise                // what clients were told is committed
	ended      map[string]fsm.Phase     // failovers that have ended
	violations []string
}

// effect is what has become of a request.
type effect struct {
	index   uint64        // of its first entry
	from    time.Duration // when nobody had shown it yet
	by      time.Duration // when it was committed, at the latest
	refusal error
}

// promise is an index that a client was told its request is committed at.
type promise struct {
	index   uint64
	request string
	what    string
}

func newOracle(arrays map[string]*Array, m *moments, stats *Coverage, now func() time.Duration) *oracle {
	return &oracle{
		arrays: arrays, moments: m, stats: stats, now: now, state: fsm.NewState(), requests: map[string]effect{},
		was: map[string][]fsm.Cluster{}, epochs: map[string]uint64{}, ended: map[string]fsm.Phase{},
	}
}

func (o *oracle) violate(format string, args ...any) {
	if len(o.violations) < 20 { // one mistake makes many
		o.violations = append(o.violations, fmt.Sprintf(format, args...))
	}
}

// Violations returns what broke a guarantee, in words.
func (o *oracle) Violations() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.violations)
}

// watch looks at everything that a process shows, until ctx ends.
func (o *oracle) watch(ctx context.Context, m *Member, p *process) {
	name := fmt.Sprintf("%s.%p", m.ID, p)
	for {
		var index uint64
		shown := map[string]fsm.Cluster{}
		changed := p.peer.View(func(s *fsm.State) {
			index = s.Index()
			for cl := range s.Clusters() {
				shown[cl.Name] = cl
			}
		})
		if p.lives() {
			o.look(m, name, index, shown)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// look takes in what m has applied up to index, and what it shows.
func (o *oracle) look(m *Member, process string, index uint64, shown map[string]fsm.Cluster) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.learn(m, index)
	o.shown = max(o.shown, index)
	for name, cl := range shown {
		o.g2EpochsGrow(process+" "+name, cl)
		if uint64(len(o.log)) >= index {
			o.g6NobodySeesHalf(m.ID, index, cl)
		}
	}
}

// learn takes the entries up to index from the log of a node that has applied them.
func (o *oracle) learn(m *Member, index uint64) {
	for i := uint64(len(o.log)) + 1; i <= index; i++ {
		e, ok := m.disk.archived(i)
		if !ok {
			return // it came with a snapshot; another node has it
		}
		o.log = append(o.log, e)
		o.moments.committed(e)
		if e.Type == raft.LogCommand {
			o.commit(e)
		}
	}
}

// finish takes in what is left, and compares every log with what was committed.
func (o *oracle) finish(members []*Member, index uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for range members {
		for _, m := range members {
			o.learn(m, index)
		}
	}
	if uint64(len(o.log)) < index {
		o.violate("G13: entry %d was applied and is in no log", len(o.log)+1)
	}
	o.g13Durable(members)
	o.stats.Add("checked: entries", len(o.log))
	o.stats.Add("checked: promises", len(o.promised))
}

// effectOf returns what has become of a request, if it was ever committed.
func (o *oracle) effectOf(request string) (e effect, committed bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	e, committed = o.requests[request]
	return e, committed
}

// promise notes that a client was told that its request is committed at index.
func (o *oracle) promise(index uint64, request, what string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.promised = append(o.promised, promise{index, request, what})
}

// commit applies an entry and checks what it does. o.mu is held.
func (o *oracle) commit(e *raft.Log) {
	meta, cmd, err := fsm.Decode(e.Data)
	if err != nil {
		o.violate("entry %d cannot be read: %v", e.Index, err)
		return
	}
	meta.Index, meta.Term = e.Index, e.Term
	if !e.AppendedAt.IsZero() {
		meta.At = fsm.TimeOf(e.AppendedAt)
	}
	before := o.state.Clone()
	refused := o.state.Apply(meta, cmd)
	step := step{index: e.Index, cmd: cmd, before: before, after: o.state, refused: refused}
	_, step.repeats = o.requests[meta.Request]
	if meta.Request != "" {
		o.g7OneEffect(meta.Request, &step)
	}
	if _, claims := cmd.(fsm.Claim); claims {
		o.moments.claimed(e.Index)
	}
	for cl := range o.state.Clusters() {
		old, existed := before.Cluster(cl.Name)
		if existed && old == cl {
			continue
		}
		o.was[cl.Name] = append(o.was[cl.Name], cl)
		if existed {
			o.g2OneSwitchPerEpoch(&step, old, cl)
		}
		o.g6OneCommit(&step, old, cl)
		o.g12FreezeIsSymmetric(&step, cl)
	}
	o.g1OneUnfinished(&step)
	o.g3NoLateEnds(&step)
	o.g9NothingLostNothingMoved(&step)
	o.g11StartUpWritesNothing(&step)
	o.g14RefusalsChangeNothing(&step)
	o.stuckStopsFailovers(&step)
	o.count(&step)
}

// step is one committed entry, with the states around it.
type step struct {
	index         uint64
	cmd           fsm.Command
	before, after *fsm.State
	refused       error
	repeats       bool // a request that was committed before
}

// count notes what happened, for the coverage of a run.
func (o *oracle) count(s *step) {
	if s.refused != nil {
		o.stats.Add(fmt.Sprintf("refused: %T", s.cmd), 1)
		return
	}
	o.stats.Add(fmt.Sprintf("committed: %T", s.cmd), 1)
	for f := range s.after.Failovers(0) {
		if f.Phase.Terminal() && o.ended[f.ID] == "" {
			o.ended[f.ID] = f.Phase
			cl, _ := s.after.Cluster(f.Cluster)
			outcome := string(f.Phase)
			if f.Phase == fsm.Failed && cl.Held {
				outcome = "failed with the gates closed"
			}
			o.stats.Add("failover: "+outcome, 1)
			if f.Attempt > 1 {
				o.stats.Add("failover: needed more than one attempt", 1)
			}
			o.stats.Add(fmt.Sprintf("failover: %s mode", f.Mode), 1)
		}
		if f.RequestedIn+200 < s.index {
			break
		}
	}
}

// write lists what was committed, for people.
func (o *oracle) write(w io.Writer) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, e := range o.log {
		if e.Type != raft.LogCommand {
			fmt.Fprintf(w, "%6d term %d %v\n", e.Index, e.Term, e.Type)
			continue
		}
		meta, cmd, err := fsm.Decode(e.Data)
		fmt.Fprintf(w, "%6d term %d %s %T%+v %v\n", e.Index, e.Term, meta.Request, cmd, cmd, err)
	}
}
