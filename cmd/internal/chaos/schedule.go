package chaos

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// Kind is a kind of fault.
type Kind string

// The kinds of faults.
const (
	Kill       Kind = "kill"        // kill -9 of the agent, which is started again later
	Stop       Kind = "stop"        // SIGSTOP of the agent, and SIGCONT later
	Pause      Kind = "pause"       // SIGSTOP of the agent and its drivers at once, as of a paused machine
	StopDriver Kind = "stop-driver" // SIGSTOP of the driver processes only
	KillDriver Kind = "kill-driver" // kill -9 of the driver processes only
	Partition  Kind = "partition"   // the nodes and the others do not hear each other
	OneWay     Kind = "one-way"     // the others do not hear the nodes
	Deaf       Kind = "deaf"        // the nodes do not hear the others
	Delay      Kind = "delay"       // what the nodes send and get is late
	Loss       Kind = "loss"        // a part of what the nodes send and get is lost
	DiskFull   Kind = "disk-full"   // no byte is left on the disk
	DiskStall  Kind = "disk-stall"  // writes to the disk hang
	EmptyDisk  Kind = "empty-disk"  // the node starts again with an empty disk
	OldDisk    Kind = "old-disk"    // the node starts again with what its disk held earlier
	PowerLoss  Kind = "power-loss"  // the node starts again with what had reached its disk
	ClockStep  Kind = "clock-step"  // the wall clock of the agent jumps, and back later
	SiteStall  Kind = "site-stall"  // the site in use answers no driver and no host; calls wait
)

// Kinds are all kinds of faults.
func Kinds() []Kind {
	return []Kind{
		Kill, Stop, Pause, StopDriver, KillDriver, Partition, OneWay, Deaf, Delay, Loss,
		DiskFull, DiskStall, EmptyDisk, OldDisk, PowerLoss, ClockStep, SiteStall,
	}
}

// ParseKinds reads a list of kinds, separated by commas; "all" or nothing are all.
func ParseKinds(list string) ([]Kind, error) {
	if list == "" || list == "all" {
		return Kinds(), nil
	}
	var kinds []Kind
	for name := range strings.SplitSeq(list, ",") {
		kind := Kind(strings.TrimSpace(name))
		if !slices.Contains(Kinds(), kind) {
			return nil, fmt.Errorf("faults: %q is none of %v", name, Kinds())
		}
		kinds = append(kinds, kind)
	}
	return kinds, nil
}

// takesAway reports whether a node with a fault of the kind may be of no use to the
// others.
func (k Kind) takesAway() bool {
	switch k {
	case Kill, Stop, Pause, Partition, OneWay, Deaf, DiskFull, DiskStall, EmptyDisk, OldDisk, PowerLoss:
		return true
	case StopDriver, KillDriver, Delay, Loss, ClockStep, SiteStall:
	}
	return false
}

// replacesDisk reports whether a fault of the kind uses up what the deployment can
// bear: no other node may be away with it.
func (k Kind) replacesDisk() bool { return k == EmptyDisk || k == OldDisk }

// planned is a fault of a schedule.
type planned struct {
	kind   Kind
	nodes  []int // numbers, from 1
	at     time.Duration
	lasts  time.Duration
	amount float64 // of a loss, a part; of a delay or a step, seconds
}

func (p planned) end() time.Duration { return p.at + p.lasts }

func (p planned) overlaps(q planned) bool { return p.at < q.end() && q.at < p.end() }

// rest is the time without faults that follows one that takes away a quorum or a
// disk.
const rest = 6 * time.Second

// drawsAtMost is how many faults are drawn until one can be added.
const drawsAtMost = 5

// schedule plans faults for a duration. The same numbers give the same faults. One
// of ten takes away a quorum, or the memory of a voter; it waits until the others
// are over.
func schedule(rnd *rand.Rand, kinds []Kind, nodes int, duration time.Duration) []planned {
	var all []planned
	var over time.Duration // when all faults so far have ended
	add := func(p planned) {
		all = append(all, p)
		over = max(over, p.end())
	}
	for at := time.Second; at < duration && len(kinds) > 0; at += between(rnd, 300*time.Millisecond, 3500*time.Millisecond) {
		if p := draw(rnd, kinds, nodes, at); rnd.IntN(10) == 0 && p.widen(rnd, nodes) {
			if p.at = max(at, over+rest); p.at < duration {
				add(p)
				at = p.end() + rest
			}
			continue
		}
		for range drawsAtMost {
			if p := draw(rnd, kinds, nodes, at); !p.alone(nodes) && fits(p, all, nodes) {
				add(p)
				break
			}
		}
	}
	slices.SortStableFunc(all, func(a, b planned) int { return cmp.Compare(a.at, b.at) })
	return all
}

// draw draws a fault.
func draw(rnd *rand.Rand, kinds []Kind, nodes int, at time.Duration) planned {
	p := planned{kind: kinds[rnd.IntN(len(kinds))], at: at, lasts: between(rnd, time.Second, 9*time.Second), amount: rnd.Float64()}
	many := 1
	switch p.kind {
	case Kill, Stop, Pause, Partition, PowerLoss:
		many += rnd.IntN(2)
	case Delay, Loss:
		many += rnd.IntN(nodes)
	case EmptyDisk, OldDisk:
		p.lasts = 2*time.Second + p.lasts/4
	case SiteStall:
		p.lasts /= 2
		many = 0
	case StopDriver, KillDriver, OneWay, Deaf, DiskFull, DiskStall, ClockStep:
	}
	p.choose(rnd, nodes, many)
	return p
}

// choose chooses the nodes of a fault.
func (p *planned) choose(rnd *rand.Rand, nodes, many int) {
	p.nodes = nil
	for _, i := range rnd.Perm(nodes)[:min(many, nodes)] {
		p.nodes = append(p.nodes, i+1)
	}
	slices.Sort(p.nodes)
}

// widen makes a fault one that has to be alone, if its kind can be.
func (p *planned) widen(rnd *rand.Rand, nodes int) bool {
	switch p.kind { //nolint:exhaustive // the others cannot
	case Kill, Stop, Pause, Partition, DiskFull:
		p.choose(rnd, nodes, nodes/2+1)
	case PowerLoss:
		p.choose(rnd, nodes, nodes)
	}
	return p.alone(nodes)
}

// alone reports whether nothing else may be away with this fault: it takes away a
// quorum, or the memory of a voter.
func (p planned) alone(nodes int) bool {
	return p.kind.replacesDisk() || p.kind.takesAway() && len(p.nodes) > nodes/2
}

// near reports whether two faults hold at once or, if one of them has to be alone,
// shortly after one another.
func (p planned) near(q planned, nodes int) bool {
	if p.alone(nodes) || q.alone(nodes) {
		p.at, p.lasts = p.at-rest, p.lasts+2*rest
	}
	return p.overlaps(q)
}

// fits reports whether a fault can be added to others: one at a time on each node,
// and a majority of the nodes is left, unless one fault alone takes it away.
func fits(p planned, others []planned, nodes int) bool {
	away := map[int]bool{}
	for _, n := range p.nodes {
		away[n] = true
	}
	alone := p.alone(nodes)
	for _, q := range others {
		if !q.near(p, nodes) {
			continue
		}
		if slices.ContainsFunc(p.nodes, func(n int) bool { return slices.Contains(q.nodes, n) }) {
			return false
		}
		if !q.kind.takesAway() || !p.kind.takesAway() {
			continue
		}
		if alone || q.alone(nodes) {
			return false
		}
		for _, n := range q.nodes {
			away[n] = true
		}
	}
	return !p.kind.takesAway() || alone || len(away) <= (nodes-1)/2
}
