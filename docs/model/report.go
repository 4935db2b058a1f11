package main

import (
	"fmt"
	"io"
)

// word is the verdict in one word.
func (v verdict) word() string {
	switch {
	case v.broken != intact:
		return v.broken.short()
	case v.dead:
		return "G5"
	case !v.complete:
		return "BOUNDED"
	}
	return "holds"
}

// summary is the size of a search in one line.
func (v verdict) summary() string {
	return fmt.Sprintf("%9d states %10d transitions, depth %3d, %6.1f s, %4.0f k/s",
		v.states, v.transitions, v.depth, v.seconds, float64(v.transitions)/1000/max(v.seconds, 0.001))
}

// printTrace writes what leads to the bad state, and what that is.
func (v verdict) printTrace(w io.Writer) {
	for i, e := range v.trace {
		fmt.Fprintf(w, "  %3d. %s\n", i+1, e)
	}
	if len(v.trace) == 0 {
		return
	}
	for i := range v.last.nodes {
		n := &v.last.nodes[i]
		fmt.Fprintf(w, "       node %d: activity %d, applied %d of %d", i, n.activity, n.applied, v.last.length)
		for c := range v.last.services {
			s := &v.last.services[c][i]
			if s.told+s.driver+s.lease == 0 {
				continue
			}
			fmt.Fprintf(w, "; told %d, driver at %d, lease %d, call %d@%d, executor stage %d of attempt %d",
				s.told, s.driver, s.lease, s.call.kind, s.call.epoch, s.exec.stage, s.exec.attempt)
		}
		fmt.Fprintln(w)
	}
}
