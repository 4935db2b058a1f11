package fsm

import (
	"fmt"

	"github.com/tidwall/btree"
)

// VolumeResult is what a failover did to one volume. Only volumes that differ
// from the rest have one.
type VolumeResult struct {
	VolumeID string `cbor:"1,keyasint"`
	Failed   bool   `cbor:"2,keyasint,omitempty"` // its update said error or failover-error
	VolumeUpdate
}

// VolumeUpdate is what a driver reports of a volume; what is empty stays as it
// was.
type VolumeUpdate struct {
	ProviderID                string `cbor:"11,keyasint,omitempty"`
	ProviderLocation          string `cbor:"12,keyasint,omitempty"`
	ReplicationExtendedStatus string `cbor:"13,keyasint,omitempty"`
	ReplicationDriverData     string `cbor:"14,keyasint,omitempty"`
}

// stage holds the results of a failover: invisible until its switch is committed,
// then part of what a reader sees of a volume, and in the end settled into the
// records of the volumes, a bounded number at a time. So the commit of the switch
// takes the same short time for one volume and for a million.
type stage struct {
	Failover string `cbor:"1,keyasint"`
	Cluster  string `cbor:"2,keyasint"`
	Epoch    uint64 `cbor:"3,keyasint,omitempty"` // of the committed switch; 0 before it
	Failed   uint64 `cbor:"4,keyasint,omitempty"` // results that say so
	At       Time   `cbor:"5,keyasint,omitempty"`
	Group    string `cbor:"6,keyasint,omitempty"` // results of other volumes count for nothing; empty for all
	results  btree.Map[string, VolumeResult]
}

// clone returns a copy of st that may be changed.
func (st *stage) clone() *stage {
	next := new(*st)
	next.results = *st.results.Copy()
	return next
}

func cloneStages(from *btree.Map[string, *stage]) btree.Map[string, *stage] {
	var to btree.Map[string, *stage]
	from.Scan(func(key string, st *stage) bool {
		to.Set(key, st.clone())
		return true
	})
	return to
}

// dropStaged drops what is staged for a cluster and not committed.
func (s *State) dropStaged(cluster string) {
	if st, ok := s.staged.Get(cluster); ok && st.Epoch == 0 {
		s.staged.Delete(cluster)
	}
}

// MaxStagedResults is how many results one [StageResults] may carry, and one
// [SettleResults] settles: applying either takes tens of milliseconds at most.
const MaxStagedResults = 2000

// StageResults records results of a promotion before the switch is committed, in
// chunks, since no log entry may be over [MaxEntry].
type StageResults struct {
	Failover   string         `cbor:"1,keyasint"`
	Attempt    uint64         `cbor:"2,keyasint"`
	ClaimIndex uint64         `cbor:"3,keyasint"`
	Results    []VolumeResult `cbor:"4,keyasint"`
}

func (StageResults) kind() Kind { return kindStageResults }

func (c StageResults) apply(s *State, m Meta) error {
	f, err := s.claimed(c.Failover, c.Attempt, c.ClaimIndex)
	if err != nil {
		return err
	}
	if len(c.Results) > MaxStagedResults {
		return refuseField(ErrTooLarge, "results", fmt.Sprint(len(c.Results)),
			fmt.Sprintf("at most %d results can be staged at once", MaxStagedResults))
	}
	st, ok := s.staged.Get(f.Cluster)
	if !ok {
		st = &stage{Failover: f.ID, Cluster: f.Cluster, Group: f.Group}
		s.staged.Set(f.Cluster, st)
	}
	st.At = m.At
	for _, r := range c.Results {
		old, _ := st.results.Set(r.VolumeID, r)
		if old.Failed {
			st.Failed--
		}
		if r.Failed {
			st.Failed++
		}
	}
	return nil
}

// SettleResults moves committed results into the records of their volumes.
// Readers notice no difference.
type SettleResults struct {
	Cluster string `cbor:"1,keyasint"`
	Epoch   uint64 `cbor:"2,keyasint"`
	Term    uint64 `cbor:"3,keyasint"`
}

func (SettleResults) kind() Kind { return kindSettleResults }

func (c SettleResults) apply(s *State, m Meta) error {
	st, ok := s.staged.Get(c.Cluster)
	if !ok || st.Epoch != c.Epoch || st.Epoch == 0 || c.Term != m.Term {
		return errOvertaken
	}
	for range MaxStagedResults {
		id, _, ok := st.results.Min()
		if !ok {
			break
		}
		// A driver may speak of volumes that are gone, or not the cluster's.
		if v, ok := s.stored(id); ok && v.group() == c.Cluster {
			s.volumes.Set(id, pack(new(s.merged(&v))))
		}
		st.results.Delete(id)
	}
	if st.results.Len() == 0 {
		s.staged.Delete(c.Cluster)
	}
	return nil
}

// merged returns the record of a volume with the result of a committed switch that
// is not settled yet. A volume that is still to be created was promoted by nobody.
func (s *State) merged(v *Volume) Volume {
	out := *v
	st, ok := s.staged.Get(v.group())
	if !ok || st.Epoch == 0 || v.unmade() || st.Group != "" && st.Group != v.GroupID {
		return out
	}
	if r, ok := st.results.Get(v.ID); ok {
		out.update(r.VolumeUpdate)
		if r.Failed {
			out.FailedEpoch = st.Epoch
		}
		out.UpdatedAt = max(out.UpdatedAt, st.At)
	}
	return out
}

// dropResult drops the committed result of a volume whose record has it.
func (s *State) dropResult(v *Volume) {
	if st, ok := s.staged.Get(v.group()); ok && st.Epoch != 0 {
		st.results.Delete(v.ID)
	}
}
