package clustertest

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lockstep-storage/lockstep/fsm"
)

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
	if !s.repeats {
		first := effect{index: s.index, by: o.now(), refusal: s.refused}
		if s.index > o.shown {
			first.from = first.by - time.Microsecond // this is the moment at which the first process shows it
		}
		o.requests[request] = first
		return
	}
	o.stats.Add("checked: requests committed twice", 1)
	if !same(s.before, s.after) {
		o.violate("G7: entry %d repeats the request of entry %d and changes the state (%T)", s.index, o.requests[request].index, s.cmd)
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
