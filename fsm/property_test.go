package fsm_test

import (
	"errors"
	"flag"
	"fmt"
	"testing"

	"github.com/lockstep-storage/lockstep/fsm"
)

var (
	seedFlag  = flag.Uint64("seed", 0, "replay this one seed of the property test")
	seedsFlag = flag.Uint64("seeds", 150, "seeds of the property test")
)

// TestAnyHistory applies random histories and holds the state against what must
// always be true of it.
func TestAnyHistory(t *testing.T) {
	t.Parallel()
	if *seedFlag != 0 {
		runHistory(t, *seedFlag)
		return
	}
	for seed := uint64(1); seed <= *seedsFlag; seed++ {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			t.Parallel()
			runHistory(t, seed)
			if t.Failed() {
				t.Logf("replay with: go test ./fsm -run TestAnyHistory -seed %d", seed)
			}
		})
	}
}

const historyLength = 400

// history is one run: replicas that must not differ, and what was true before.
type history struct {
	*testing.T
	s, wire, resumed *fsm.State // applies commands; decoded ones; restored half-way from a snapshot
	clone            *fsm.State // taken half-way and left alone
	cloned           string     // its digest
	m                fsm.Meta
	before           map[string]fsm.Cluster
	volumes          map[string]fsm.Volume // before
	claims           map[string]uint64
	ended            map[string]fsm.Phase
}

func runHistory(t *testing.T, seed uint64) {
	t.Helper()
	g := newGenerator(seed)
	l := newDeployment(t)
	l.replicationGroup("g0", "v0", "v1")
	h := &history{
		T: t, s: l.s, wire: l.s.Clone(), m: fsm.Meta{Index: l.index},
		before: map[string]fsm.Cluster{}, claims: map[string]uint64{}, ended: map[string]fsm.Phase{},
	}
	half := g.rng.IntN(historyLength)
	for step := range historyLength {
		if step == half {
			h.clone, h.resumed = h.s.Clone(), restored(t, h.s)
			h.cloned = digest(t, h.clone)
		}
		cmd := g.next(h.s)
		h.m = fsm.Meta{Index: h.m.Index + 1 + uint64(g.rng.IntN(2)), Term: g.term, At: g.now}
		if g.odds(4) {
			h.m.Request = fmt.Sprint("r", h.m.Index)
		}
		if h.m.Request == "" && g.odds(16) {
			h.compare(cmd)
		}
		h.apply(cmd)
		if h.m.Request != "" && g.odds(8) {
			h.repeat(g.next(h.s))
		}
		if t.Failed() {
			t.Fatalf("step %d, index %d: %T%+v", step, h.m.Index, cmd, cmd)
		}
	}
	want := digest(t, h.s)
	equal(t, "digest of a replica", digest(t, h.wire), want)
	equal(t, "digest after a snapshot half-way", digest(t, h.resumed), want)
	equal(t, "digest after a snapshot at the end", digest(t, restored(t, h.s)), want)
	equal(t, "digest of the clone", digest(t, h.clone), h.cloned)
}

// apply applies a command everywhere, and checks what it has changed.
func (h *history) apply(cmd fsm.Command) {
	h.Helper()
	h.remember()
	err := h.s.Apply(h.m, cmd)
	h.onReplicas(cmd, err)
	h.check(cmd)
}

// compare applies a command to a clone: a refusal changes nothing there, and
// whatever it changes is not seen in the state.
func (h *history) compare(cmd fsm.Command) {
	h.Helper()
	clone, before := h.s.Clone(), digest(h, h.s)
	if err := clone.Apply(h.m, cmd); err != nil {
		h.same(clone, h.s.Clone(), "a refused command")
	}
	equal(h, "digest after a change to a clone", digest(h, h.s), before)
}

func (h *history) onReplicas(cmd fsm.Command, want error) {
	h.Helper()
	entry, err := fsm.Encode(h.m, cmd)
	if err != nil {
		h.Fatal(err)
	}
	m, decoded, err := fsm.Decode(entry)
	if err != nil {
		h.Fatal(err)
	}
	m.Index, m.Term = h.m.Index, h.m.Term
	for _, replica := range []*fsm.State{h.wire, h.resumed} {
		if replica == nil {
			continue
		}
		if got := replica.Apply(m, decoded); fmt.Sprint(got) != fmt.Sprint(want) {
			h.Errorf("a replica answers %v, not %v", got, want)
		}
	}
}

// repeat applies another command under the request id of the last one.
func (h *history) repeat(cmd fsm.Command) {
	h.Helper()
	untouched := h.s.Clone()
	h.m.Index++
	err := h.s.Apply(h.m, cmd)
	h.onReplicas(cmd, err)
	h.same(h.s, untouched, "a repeated request")
}

// same checks that a state differs in nothing but its index from a clone.
func (h *history) same(s, untouched *fsm.State, after string) {
	h.Helper()
	if err := untouched.Apply(fsm.Meta{Index: h.m.Index}, fsm.AbortFailover{}); !errors.Is(err, fsm.ErrNotFound) {
		h.Fatal(err)
	}
	equal(h, "digest after "+after, digest(h, s), digest(h, untouched))
}

func (h *history) remember() {
	clear(h.before)
	for cl := range h.s.Clusters() {
		h.before[cl.Name] = cl
	}
	h.volumes = map[string]fsm.Volume{}
	for v := range h.s.Volumes(0) {
		h.volumes[v.ID] = v
	}
}

func (h *history) check(cmd fsm.Command) {
	h.Helper()
	_, completed := cmd.(fsm.FailoverCompleted)
	refused, _ := cmd.(fsm.FailoverRefused)
	for cl := range h.s.Clusters() {
		old, known := h.before[cl.Name]
		if !known {
			continue
		}
		if cl.Epoch != old.Epoch && (cl.Epoch != old.Epoch+1 || !completed && !refused.Reopened) {
			h.Errorf("epoch of %s from %d to %d", cl.Name, old.Epoch, cl.Epoch)
		}
		if cl.ActiveBackendID != old.ActiveBackendID && (!completed || cl.Epoch == old.Epoch) {
			h.Errorf("site of %s from %q to %q", cl.Name, old.ActiveBackendID, cl.ActiveBackendID)
		}
		if cl.Claim < old.Claim || cl.Epoch != old.Epoch && cl.Claim == old.Claim {
			h.Errorf("token of %s from (%d, %d) to (%d, %d)", cl.Name, old.Epoch, old.Claim, cl.Epoch, cl.Claim)
		}
		if old.Held && !cl.Held && !completed {
			h.Errorf("gates of %s opened without a switch", cl.Name)
		}
	}
	h.checkFailovers()
	h.checkOperations()
	h.checkUsage()
	h.checkGroups(cmd)
}

// checkGroups checks that volumes change their site with a committed switch alone, all
// of those that it is about and no others; and that groups and volumes agree on who is
// in which.
func (h *history) checkGroups(cmd fsm.Command) {
	h.Helper()
	var f fsm.Failover
	if c, ok := cmd.(fsm.FailoverCompleted); ok {
		f, _ = h.s.Failover(c.Failover)
	}
	members := map[string]int{}
	for v := range h.s.Volumes(0) {
		members[v.GroupID]++
		old, known := h.volumes[v.ID]
		cluster := v.Cluster
		if cluster == "" {
			cluster = v.Host
		}
		about := f.Cluster == cluster && (f.Group == "" || f.Group == v.GroupID)
		switch {
		case !known || old.Index != v.Index:
		case v.Site != old.Site && (!v.Replicated && v.BackendID == old.BackendID && old.BackendID != "" || !about && v.Replicated):
			h.Errorf("site of %s from %q to %q", v.ID, old.Site, v.Site)
		case f.Epoch == h.epoch(f.Cluster) && f.Epoch > h.before[f.Cluster].Epoch && about && v.Replicated && v.Site != f.Target:
			h.Errorf("%s is at %q after the switch to %q", v.ID, v.Site, f.Target)
		case !about && v.Replicated && f.ID != "" && v.Status != old.Status:
			h.Errorf("%s was %s and is %s after a switch that is not about it", v.ID, old.Status, v.Status)
		}
	}
	for g := range h.s.Groups(0) {
		if got := len(h.s.GroupVolumes(g.ID)); got != members[g.ID] {
			h.Errorf("group %s has %d volumes, and %d say so", g.ID, got, members[g.ID])
		}
		if g.Status == fsm.GroupDeleting && members[g.ID] == 0 {
			h.Errorf("group %s is deleting, and has nothing to be deleted", g.ID)
		}
		delete(members, g.ID)
	}
	delete(members, "")
	if len(members) > 0 {
		h.Errorf("volumes of groups that there are none of: %v", members)
	}
}

func (h *history) epoch(cluster string) uint64 {
	cl, _ := h.s.Cluster(cluster)
	return cl.Epoch
}

func (h *history) checkFailovers() {
	h.Helper()
	open := map[string]bool{}
	for f := range h.s.Failovers(0) {
		if phase, over := h.ended[f.ID]; over && phase != f.Phase {
			h.Errorf("failover %s was %s and is %s", f.ID, phase, f.Phase)
		}
		if f.Phase.Terminal() {
			h.ended[f.ID] = f.Phase
			continue
		}
		if open[f.Cluster] {
			h.Errorf("two unfinished failovers of %s", f.Cluster)
		}
		open[f.Cluster] = true
		if f.ClaimIndex != 0 && f.ClaimIndex < h.claims[f.ID] {
			h.Errorf("claim of %s from %d to %d", f.ID, h.claims[f.ID], f.ClaimIndex)
		}
		h.claims[f.ID] = max(h.claims[f.ID], f.ClaimIndex)
		cl, _ := h.s.Cluster(f.Cluster)
		before := f.Phase == fsm.Draining || f.Phase == fsm.Promoting
		if before != (cl.ReplicationStatus == fsm.ReplicationFailingOver) {
			h.Errorf("%s is %s in phase %s", cl.Name, cl.ReplicationStatus, f.Phase)
		}
		for svc := range h.s.Members(cl.Name) {
			if err := h.s.Admit(svc.Host, cl.Epoch, fsm.CallVolume); before && !errors.Is(err, fsm.ErrFailingOver) {
				h.Errorf("the gate of %s answers %v in phase %s", svc.Host, err, f.Phase)
			}
		}
	}
	for cl := range h.s.Clusters() {
		if !open[cl.Name] && cl.ReplicationStatus == fsm.ReplicationFailingOver {
			h.Errorf("%s is failing over without a failover", cl.Name)
		}
		if cl.Held && !open[cl.Name] && cl.ReplicationStatus != fsm.ReplicationFailoverError {
			h.Errorf("%s is held closed and %s", cl.Name, cl.ReplicationStatus)
		}
	}
}

// checkOperations checks that what is owed is announced, once, and the reverse.
func (h *history) checkOperations() {
	h.Helper()
	owed := map[string]int{}
	for svc := range h.s.Services() {
		for _, op := range h.s.Owed(svc.Host, 1000) {
			if op.Host != svc.Host || op.Cluster != svc.Group() || !h.s.Owes(svc.Host, op.ID) {
				h.Errorf("%s owes %+v", svc.Host, op)
			}
			for _, id := range op.Snapshots {
				if op.Kind == fsm.OpDeleteVolume {
					owed["snapshot "+id]++
				}
			}
			if op.SnapshotID != "" {
				owed["snapshot "+op.SnapshotID]++
			} else {
				owed["volume "+op.VolumeID]++
			}
		}
	}
	for v := range h.s.Volumes(0) {
		if n := owed["volume "+v.ID]; (n == 1) != busy(v.Status, v.Nominal) || n > 1 {
			h.Errorf("volume %s is %s, and %d operations are owed", v.ID, v.Status, n)
		}
		delete(owed, "volume "+v.ID)
	}
	for sn := range h.s.Snapshots(0) {
		if n := owed["snapshot "+sn.ID]; (n == 1) != busy(sn.Status, sn.Nominal) || n > 1 {
			h.Errorf("snapshot %s is %s, and %d operations are owed", sn.ID, sn.Status, n)
		}
		delete(owed, "snapshot "+sn.ID)
	}
	if len(owed) > 0 {
		h.Errorf("operations on what is not there: %v", owed)
	}
}

// checkUsage holds what the state counts for projects against what they have.
func (h *history) checkUsage() {
	h.Helper()
	all, ofType := map[string]fsm.Usage{}, map[[2]string]fsm.Usage{}
	types := map[string]string{}
	count := func(u, d fsm.Usage) fsm.Usage {
		return fsm.Usage{Volumes: u.Volumes + d.Volumes, Snapshots: u.Snapshots + d.Snapshots, Gigabytes: u.Gigabytes + d.Gigabytes, Groups: u.Groups + d.Groups}
	}
	for g := range h.s.Groups(0) {
		all[g.ProjectID] = count(all[g.ProjectID], fsm.Usage{Groups: 1})
	}
	for v := range h.s.Volumes(0) {
		types[v.ID] = v.VolumeType
		d := fsm.Usage{Volumes: 1, Gigabytes: v.Size}
		all[v.ProjectID] = count(all[v.ProjectID], d)
		ofType[[2]string{v.ProjectID, v.VolumeType}] = count(ofType[[2]string{v.ProjectID, v.VolumeType}], d)
	}
	for sn := range h.s.Snapshots(0) {
		d, t := fsm.Usage{Snapshots: 1, Gigabytes: sn.Size}, types[sn.VolumeID]
		all[sn.ProjectID] = count(all[sn.ProjectID], d)
		ofType[[2]string{sn.ProjectID, t}] = count(ofType[[2]string{sn.ProjectID, t}], d)
	}
	for _, project := range []string{"p", "q"} {
		if got := h.s.Usage(project); got != all[project] {
			h.Errorf("%s is said to have %+v, and has %+v", project, got, all[project])
		}
		for _, t := range []string{"n0", "n1", "n2", fsm.DefaultTypeName} {
			if got := h.s.UsageOfType(project, t); got != ofType[[2]string{project, t}] {
				h.Errorf("%s is said to have %+v of type %s, and has %+v", project, got, t, ofType[[2]string{project, t}])
			}
		}
	}
}

// TestHistoriesReachEverything keeps the generator honest: its histories have to
// get as far as the property test pretends.
func TestHistoriesReachEverything(t *testing.T) {
	t.Parallel()
	reached := map[string]bool{}
	for seed := range uint64(40) {
		g, l := newGenerator(seed+1000), newDeployment(t)
		l.replicationGroup("g0", "v0", "v1")
		for range historyLength {
			cmd := g.next(l.s)
			l.index++
			if l.s.Apply(fsm.Meta{Index: l.index, Term: g.term, At: g.now}, cmd) == nil {
				reached[fmt.Sprintf("%T", cmd)] = true
			}
			if f, ok := l.s.Unfinished(dev); ok {
				reached[string(f.Phase)] = true
			}
			cl, _ := l.s.Cluster(dev)
			reached[fmt.Sprint("held ", cl.Held)] = true
			for g := range l.s.Groups(0) {
				reached["group with a site of its own"] = reached["group with a site of its own"] || g.Switch.Epoch > cl.SiteEpoch
				reached["group "+string(g.ReplicationStatus)] = true
			}
			reached[fmt.Sprint("epoch ", min(cl.Epoch, 3))] = true
		}
	}
	for _, want := range append(kinds(), "draining", "promoting", "switching", "held true", "epoch 3",
		"group with a site of its own", "group enabled", "group failed-over", "group failing-over", "group error") {
		if !reached[want] {
			t.Errorf("no history reaches %s", want)
		}
	}
}
