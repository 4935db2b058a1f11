package evidence

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/lockstep-storage/lockstep/api/client"
)

// primary is the site that every cluster begins with.
const primary = "default"

// cell is one slot of one volume.
type cell struct {
	volume string
	slot   int
}

// step is one thing that happens to a cell: an access, or a switch of the site.
type step struct {
	at       int64
	access   *Access
	failover *client.Failover
	since    int64 // of a forced switch: writes from then on may be lost
}

// checkData judges what hosts found in their volumes. A planned switchover loses
// nothing that was acknowledged. A forced one may lose what was written since the
// start of the last but one complete round of replication: the round that the
// target then had is at least as new as that. Nothing is ever found that was not
// written, and what a host has once read stays until it writes again.
func (e *Evidence) checkData() []Violation {
	switches := e.switches()
	cells := map[cell][]step{}
	for i := range e.Data {
		a := &e.Data[i]
		c := cell{a.Volume, a.Slot}
		if len(cells[c]) == 0 {
			cells[c] = slices.Clone(switches)
		}
		cells[c] = append(cells[c], step{at: a.End, access: a})
	}
	var found []Violation
	keys := slices.SortedFunc(maps.Keys(cells), func(a, b cell) int {
		return cmp.Or(strings.Compare(a.volume, b.volume), cmp.Compare(a.slot, b.slot))
	})
	for _, c := range keys {
		steps := cells[c]
		slices.SortStableFunc(steps, func(a, b step) int { return cmp.Compare(a.at, b.at) })
		found = append(found, follow(c, steps)...)
	}
	return found
}

// switches are the committed switches of the site, in order.
func (e *Evidence) switches() []step {
	ends := map[string]int64{}
	starts := map[string]int64{}
	for _, l := range e.lines() {
		switch {
		case l.starts() && starts[l.Failover] == 0:
			starts[l.Failover] = l.MonoNS
		case l.ends() && l.ok():
			ends[l.Failover] = l.MonoNS
		}
	}
	var all []step
	for i := range e.Final.Failovers {
		f := &e.Final.Failovers[i]
		if f.Epoch == 0 || f.From == f.Target || ends[f.ID] == 0 {
			continue
		}
		s := step{at: ends[f.ID], failover: f}
		if f.Mode == client.Forced {
			s.since = e.bound(f, starts[f.ID])
		}
		all = append(all, s)
	}
	return all
}

// bound is a time before the start of the last complete round of replication to
// the target of a forced failover before its promotion began: no earlier than the
// end of the round before that one. Without two such rounds there is no bound.
func (e *Evidence) bound(f *client.Failover, start int64) int64 {
	var rounds []Round
	for _, r := range e.Rounds {
		switch {
		case r.Site != f.Target || r.By > start:
		case r.Source != f.From:
			rounds = nil
		default:
			rounds = append(rounds, r)
		}
	}
	if len(rounds) < 2 {
		return 0
	}
	return rounds[len(rounds)-2].After
}

// seen is what a cell may have held from a time on.
type seen struct {
	from int64
	seqs map[int64]bool
}

// follow goes through what happened to one cell.
func follow(c cell, steps []step) []Violation {
	past := []seen{{seqs: map[int64]bool{0: true}}}
	site := primary
	var found []Violation
	now := func() map[int64]bool { return past[len(past)-1].seqs }
	for _, s := range steps {
		switch a := s.access; {
		case a == nil:
			past = append(past, seen{s.at, s.survivors(past)})
			site = s.failover.Target
		case a.Site != site:
			// A forced failover does not ask the old site, and hosts that are still
			// attached to it work on something that is lost.
		case a.Write:
			next := map[int64]bool{a.Seq: true}
			if a.Failed != "" {
				maps.Copy(next, now())
			}
			past = append(past, seen{a.Begin, next})
		case !now()[a.Seq]:
			found = append(found, Violation{
				Check: "data", Where: fmt.Sprintf("data.json: volume %s slot %d at %d", c.volume, c.slot, a.End),
				Says: fmt.Sprintf("a host found write %d at %s under epoch %d, which must hold one of %v", a.Seq, a.Site, a.Epoch,
					slices.Sorted(maps.Keys(now()))),
			})
			past = append(past, seen{a.Begin, map[int64]bool{a.Seq: true}})
		default:
			past = append(past, seen{a.Begin, map[int64]bool{a.Seq: true}})
		}
	}
	return found
}

// survivors are the contents that may be at the target after a switch.
func (s step) survivors(past []seen) map[int64]bool {
	if s.failover.Mode != client.Forced {
		return past[len(past)-1].seqs
	}
	all := map[int64]bool{}
	for i, p := range past {
		if over := i+1 < len(past) && past[i+1].from < s.since; !over {
			maps.Copy(all, p.seqs)
		}
	}
	return all
}
