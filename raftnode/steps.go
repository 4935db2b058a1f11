package raftnode

import (
	"maps"
	"time"

	"github.com/lockstep-storage/lockstep/fsm"
)

// step is one step of a failover, as this leader knows it. The time that the log has
// for its beginning is of the wall clock of whoever led then, and says nothing beside
// the clock of this node: were they compared, a leader whose clock was an hour ahead
// would have its successor wait for an hour (G5).
type step struct {
	phase   fsm.Phase
	attempt uint64
	at      fsm.Time
	seen    fsm.Time // on this node's clock, not before this leader had caught up
}

// pace returns the times by which the steps of some clusters' failovers are judged: a
// step's deadline counts from when this leader first saw it, so a new leader gives it
// its time once more.
func (r *reign) pace(s *fsm.State, now time.Duration, clusters ...string) fsm.Observation {
	r.mu.Lock()
	defer r.mu.Unlock()
	o := fsm.Observation{Now: fsm.Time(now.Microseconds()), Limits: r.node.cfg.Limits, Seen: map[string]fsm.Time{}}
	for _, cluster := range clusters {
		f, ok := s.Unfinished(cluster)
		if !ok {
			continue
		}
		is, known := r.steps[f.ID]
		if !known || is.phase != f.Phase || is.attempt != f.Attempt || is.at != f.StepAt {
			is = step{f.Phase, f.Attempt, f.StepAt, o.Now}
			r.steps[f.ID] = is
		}
		o.Seen[f.ID] = is.seen
	}
	return o
}

// paceAll is pace for all clusters. What is over is forgotten.
func (r *reign) paceAll(s *fsm.State, now time.Duration) fsm.Observation {
	var clusters []string
	for cl := range s.Clusters() {
		clusters = append(clusters, cl.Name)
	}
	o := r.pace(s, now, clusters...)
	r.mu.Lock()
	defer r.mu.Unlock()
	maps.DeleteFunc(r.steps, func(id string, _ step) bool { _, unfinished := o.Seen[id]; return !unfinished })
	return o
}
