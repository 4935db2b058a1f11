package clustertest

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
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

// g1OneUnfinished: a cluster has at most one unfinished failover.
func (o *oracle) g1OneUnfinished(s *step) {
	unfinished := map[string]string{}
	for f := range s.after.Failovers(0) {
		if f.Phase.Terminal() {
			continue
		}
		if other := unfinished[f.Cluster]; other != "" {
			o.violate("G1: entry %d leaves failovers %s and %s of %s unfinished", s.index, f.ID, other, f.Cluster)
		}
		unfinished[f.Cluster] = f.ID
	}
}

// g2EpochsGrow: the epoch that a process shows never goes back.
func (o *oracle) g2EpochsGrow(where string, cl fsm.Cluster) {
	if cl.Epoch < o.epochs[where] {
		o.violate("G2: %s went from epoch %d back to %d", where, o.epochs[where], cl.Epoch)
	}
	o.epochs[where] = cl.Epoch
}

// g2OneSwitchPerEpoch: an entry moves a cluster by one epoch at most, and to
// another site only with that.
func (o *oracle) g2OneSwitchPerEpoch(s *step, old, cl fsm.Cluster) {
	if cl.Epoch < old.Epoch || cl.Epoch > old.Epoch+1 {
		o.violate("G2: entry %d (%T) moves %s from epoch %d to %d", s.index, s.cmd, cl.Name, old.Epoch, cl.Epoch)
	}
	if cl.Epoch == old.Epoch && cl.ActiveBackendID != old.ActiveBackendID {
		o.violate("G2: entry %d (%T) moves %s to %q within epoch %d", s.index, s.cmd, cl.Name, cl.ActiveBackendID, cl.Epoch)
	}
}

// g3NoLateEnds: what a call of an older epoch did counts for nothing.
func (o *oracle) g3NoLateEnds(s *step) {
	end, ok := s.cmd.(fsm.EndOperation)
	if !ok || s.refused != nil {
		return
	}
	for cl := range s.before.Clusters() {
		_, backend, _ := strings.Cut(cl.Name, "@")
		if strings.HasSuffix(end.Host, "@"+backend) && cl.Epoch != end.Epoch {
			o.violate("G3: entry %d ends an operation of %s of epoch %d in epoch %d", s.index, end.Host, end.Epoch, cl.Epoch)
		}
	}
}

// g6OneCommit: the volumes that the promotion reported failed are seen in error
// with the switch, all of them and no others, and not before.
func (o *oracle) g6OneCommit(s *step, old, cl fsm.Cluster) {
	if cl.Epoch == old.Epoch || cl.ActiveBackendID == old.ActiveBackendID {
		return
	}
	want := o.arrays[cl.Name].failedUnder(cl.Claim)
	for v := range s.after.ReplicatedVolumes(cl.Name) {
		failed := v.ReplicationStatus == fsm.ReplicationFailoverError
		if _, reported := slices.BinarySearch(want, v.ID); reported != failed {
			o.violate("G6: entry %d switches %s, and volume %s is %s although the array reported failed=%v", s.index, cl.Name, v.ID, v.ReplicationStatus, reported)
		}
		if then, ok := s.before.Volume(v.ID); ok && then.FailedEpoch == cl.Epoch {
			o.violate("G6: before entry %d switches %s, volume %s shows its result", s.index, cl.Name, v.ID)
		}
	}
}

// g6NobodySeesHalf: at an index a node shows what every other one shows there.
func (o *oracle) g6NobodySeesHalf(node string, index uint64, cl fsm.Cluster) {
	versions := o.was[cl.Name]
	i := len(versions) - 1
	for i >= 0 && versions[i].Index > index {
		i--
	}
	if i < 0 || versions[i] != cl {
		o.violate("G6: %s shows at index %d of %s what nobody committed: %+v", node, index, cl.Name, cl)
	}
}

// g7OneEffect: a request that is committed again changes nothing.
func (o *oracle) g7OneEffect(request string, s *step) {
	first, again := o.requests[request]
	if !again {
		first = effect{index: s.index, by: o.now(), refusal: s.refused}
		if s.index > o.shown {
			first.from = first.by - time.Microsecond // this is the moment at which the first process shows it
		}
		o.requests[request] = first
		return
	}
	o.stats.Add("checked: requests committed twice", 1)
	if !same(s.before, s.after) {
		o.violate("G7: entry %d repeats the request of entry %d and changes the state (%T)", s.index, first.index, s.cmd)
	}
}

// same reports whether two states differ in nothing but their index.
func same(a, b *fsm.State) bool {
	x, y := summary(a), summary(b)
	return slices.Equal(x, y)
}

// summary is what clients can see of a state.
func summary(s *fsm.State) []string {
	var all []string
	for cl := range s.Clusters() {
		all = append(all, fmt.Sprint(cl))
	}
	for svc := range s.Services() {
		all = append(all, fmt.Sprint(svc))
	}
	for f := range s.Failovers(0) {
		all = append(all, fmt.Sprint(f))
	}
	for v := range s.Volumes(0) {
		all = append(all, fmt.Sprint(v))
	}
	for sn := range s.Snapshots(0) {
		all = append(all, fmt.Sprint(sn))
	}
	return all
}

// g9NothingLostNothingMoved: a failover that is aborted, or failed with nothing
// promoted, leaves its cluster at its site with the gates as they were; one that
// may have promoted something closes them.
func (o *oracle) g9NothingLostNothingMoved(s *step) {
	for old := range s.before.Clusters() {
		f, ok := s.before.Unfinished(old.Name)
		if !ok {
			continue
		}
		now, _ := s.after.Failover(f.ID)
		cl, _ := s.after.Cluster(old.Name)
		if now.Phase != fsm.Failed && now.Phase != fsm.Aborted {
			continue
		}
		switch {
		case cl.ActiveBackendID != old.ActiveBackendID:
			o.violate("G9: entry %d: failover %s is %s and the cluster moves to %q", s.index, f.ID, now.Phase, cl.ActiveBackendID)
		case now.Phase == fsm.Aborted && (cl.Held != old.Held || cl.Epoch != old.Epoch || f.Claimed):
			o.violate("G9: entry %d aborts failover %s after a claim, or not without a trace", s.index, f.ID)
		case now.Phase == fsm.Failed && !cl.Held && o.arrays[cl.Name].Promoted() != cl.ActiveBackendID:
			o.violate("G9: entry %d: failover %s failed with the gates open at %q, and %q is promoted",
				s.index, f.ID, cl.ActiveBackendID, o.arrays[cl.Name].Promoted())
		}
	}
}

// g11StartUpWritesNothing: what a member commits when it starts changes nothing
// about a cluster that is there.
func (o *oracle) g11StartUpWritesNothing(s *step) {
	switch s.cmd.(type) {
	case fsm.RegisterNode, fsm.RegisterService:
	default:
		return
	}
	for old := range s.before.Clusters() {
		if cl, ok := s.after.Cluster(old.Name); !ok || cl != old {
			o.violate("G11: entry %d (%T) changes %s from %+v to %+v", s.index, s.cmd, old.Name, old, cl)
		}
	}
}

// g12FreezeIsSymmetric: of a frozen cluster every member is disabled, and no member
// is disabled for a freeze of a cluster that is not frozen.
func (o *oracle) g12FreezeIsSymmetric(s *step, cl fsm.Cluster) {
	if _, freezes := s.cmd.(fsm.SetFrozen); !freezes || s.refused != nil {
		return
	}
	for svc := range s.after.Members(cl.Name) {
		if cl.Frozen && !svc.Disabled || !cl.Frozen && svc.DisabledReason == fsm.ReasonFrozen {
			o.violate("G12: entry %d: %s frozen=%v, its member %s disabled=%v (%s)", s.index, cl.Name, cl.Frozen, svc.Host, svc.Disabled, svc.DisabledReason)
		}
	}
}

// g13Durable: every request that was acknowledged is committed, where its client
// was told; and no log says anything else.
func (o *oracle) g13Durable(members []*Member) {
	for _, p := range o.promised {
		if at := o.requests[p.request].index; at == 0 || at > p.index {
			o.violate("G13: %s was acknowledged at index %d, and is committed at %d", p.what, p.index, at)
		}
	}
	for _, m := range members {
		for i, e := range o.log {
			if is, ok := m.disk.archived(uint64(i) + 1); ok && (is.Term != e.Term || !slices.Equal(is.Data, e.Data)) {
				o.violate("G13: entry %d was committed in term %d, and is of term %d in the log of %s", e.Index, e.Term, is.Term, m.ID)
			}
		}
	}
}

// g14RefusalsChangeNothing: a refused command changes no cluster.
func (o *oracle) g14RefusalsChangeNothing(s *step) {
	if s.refused == nil {
		return
	}
	for old := range s.before.Clusters() {
		if cl, ok := s.after.Cluster(old.Name); !ok || cl != old {
			o.violate("G14: entry %d (%T) is refused and changes %s", s.index, s.cmd, old.Name)
		}
	}
}

// patience is how long a failover may take once all faults are mended (G5): every
// step has its deadline, and the last of them is a new leader's wait.
const patience = 2 * time.Minute

// g13Same: what a node holds in the end is what all committed entries make.
func (o *oracle) g13Same(node string, is *fsm.State) {
	o.mu.Lock()
	defer o.mu.Unlock()
	want, err := o.state.Digest()
	got, err2 := is.Digest()
	if err != nil || err2 != nil || got != want {
		o.violate("G13: the state of %s at index %d is not that of the committed entries up to %d", node, is.Index(), o.state.Index())
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
