package main

import (
	"errors"
	"slices"
	"time"
	"unsafe"
)

// search visits every state that can be reached, in breadth first order, so that
// the first bad one found has the shortest trace. It keeps 64 bits of each state:
// two states of a run of a hundred million share them with a probability of one in
// four thousand, and would then be taken for one.
type search struct {
	*expander
	limit    limits
	progress func(verdict)

	seen    table
	parents []uint32 // of each state, in the order in which they were found
	choices []uint16 // which successor of its parent it is
	now     []state  // of the depth that is expanded
	nowIDs  []uint32
	next    []state
	nextIDs []uint32
	graph   *graph // of the steps that need no fault; for convergence
	verdict verdict
	began   time.Time
	said    time.Time
}

// limits end a search early.
type limits struct {
	memory int // bytes
	states int
	time   time.Duration
}

// verdict is the outcome of a search.
type verdict struct {
	states      int
	transitions int
	depth       int
	frontier    int
	complete    bool
	broken      property
	dead        bool // a state cannot converge
	trace       []event
	last        state
	seconds     float64
}

var errLimits = errors.New("the state space does not fit the limits")

func newSearch(m *model, l limits) *search {
	s := &search{expander: newExpander(m), limit: l, seen: newTable(), began: time.Now()}
	s.said = s.began
	if m.live {
		s.graph = &graph{}
	}
	return s
}

// run searches until everything is visited, something is broken, or a limit is
// reached.
func (s *search) run() verdict {
	first := s.initial()
	s.seen.insert(hash(&first), 0)
	s.record(&first, 0, 0)
	s.now, s.nowIDs = s.next, s.nextIDs
	s.next, s.nextIDs = nil, nil
	for len(s.now) > 0 {
		if bad, found := s.level(); found {
			return s.end(bad)
		}
		if s.exhausted() {
			return s.end(0)
		}
		s.now, s.next = s.next, s.now[:0]
		s.nowIDs, s.nextIDs = s.nextIDs, s.nowIDs[:0]
		s.verdict.depth++
	}
	s.verdict.complete = true
	if s.graph != nil {
		if bad, found := s.graph.cannotConverge(len(s.parents)); found {
			s.verdict.dead = true
			return s.end(bad)
		}
	}
	return s.end(0)
}

// level expands every state of one depth.
func (s *search) level() (bad uint32, found bool) {
	for at := range s.now {
		successors := s.expand(&s.now[at])
		s.verdict.transitions += len(successors)
		for i := range successors {
			if id := s.visit(&successors[i], s.nowIDs[at], i); id != 0 {
				return id, true
			}
		}
		if at%4096 == 0 && s.exhausted() {
			break
		}
	}
	return 0, false
}

// visit notes a successor. It returns its number if it is new and bad.
func (s *search) visit(v *successor, parent uint32, choice int) (bad uint32) {
	id, isNew := s.seen.insert(hash(&v.to), uint32(len(s.parents)))
	if s.graph != nil && !v.fault {
		s.graph.add(parent, id)
	}
	if !isNew {
		return 0
	}
	s.record(&v.to, parent, choice)
	if v.to.broken == intact {
		return 0
	}
	s.verdict.broken = v.to.broken
	return id
}

func (s *search) record(t *state, parent uint32, choice int) {
	id := uint32(len(s.parents))
	s.parents = append(s.parents, parent)
	s.choices = append(s.choices, uint16(choice))
	s.next = append(s.next, *t)
	s.nextIDs = append(s.nextIDs, id)
	if s.graph != nil {
		s.graph.goal(s.converged(t) || s.excused(t))
	}
}

// excused reports whether a state cannot be blamed for not converging: without
// GiveUp in the model, nothing follows the last attempt.
func (s *search) excused(t *state) bool {
	if s.outcomes {
		return false
	}
	records := t.base
	for _, e := range t.log[:t.length] {
		s.replay(&records, e)
	}
	return records[0].attempt >= s.attempts
}

// exhausted reports whether a limit is reached, and reports progress now and then.
func (s *search) exhausted() bool {
	now := time.Now()
	if s.progress != nil && now.Sub(s.said) >= 5*time.Second {
		s.said = now
		s.progress(s.measured())
	}
	l := s.limit
	return s.memory() > l.memory || len(s.parents) > l.states || now.Sub(s.began) > l.time
}

// memory is roughly how many bytes the search takes, with garbage.
func (s *search) memory() int {
	frontier := (cap(s.now) + cap(s.next)) * (int(unsafe.Sizeof(state{})) + 4)
	return (s.seen.bytes() + cap(s.parents)*6 + frontier + s.graph.bytes()) * (100 + gcPercent) / 100
}

// gcPercent keeps garbage small beside what a search keeps: large arrays without
// pointers, which cost the collector nothing.
const gcPercent = 25

func (s *search) measured() verdict {
	v := s.verdict
	v.states, v.frontier, v.seconds = len(s.parents), len(s.now)+len(s.next), time.Since(s.began).Seconds()
	return v
}

// end returns the verdict, with the events that lead to a bad state.
func (s *search) end(bad uint32) verdict {
	v := s.measured()
	if v.broken == intact && !v.dead {
		return v
	}
	var path []uint16
	for id := bad; id != 0; id = s.parents[id] {
		path = append(path, s.choices[id])
	}
	at := s.initial()
	for _, choice := range slices.Backward(path) {
		step := s.expand(&at)[choice]
		v.trace = append(v.trace, step.event)
		at = step.to
	}
	v.last = at
	return v
}

// err is nil if everything was visited and nothing is broken.
func (v verdict) err() error {
	switch {
	case v.broken != intact:
		return errors.New(v.broken.String())
	case v.dead:
		return errors.New("G5: a state from which nothing but another fault leads to the end of the failover")
	case !v.complete:
		return errLimits
	}
	return nil
}

// hash mixes all bytes of a state into 64 bits.
func hash(s *state) uint64 {
	const words = int(unsafe.Sizeof(state{}) / 8)
	block := (*[words]uint64)(unsafe.Pointer(s)) // a state is bytes without padding: see TestStateIsBytes
	a, b := uint64(0x9e3779b97f4a7c15), uint64(0xc2b2ae3d27d4eb4f)
	for _, w := range block {
		a = (a ^ w) * 0xff51afd7ed558ccd
		a ^= a >> 32
		b = (b + w) * 0xc4ceb9fe1a85ec53
		b ^= b >> 29
	}
	a = (a ^ b*0x9e3779b97f4a7c15) * 0xff51afd7ed558ccd
	return max(a^a>>33, 1)
}
