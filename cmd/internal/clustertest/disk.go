package clustertest

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// disk is what a node keeps when its process dies: Raft's log, its vote and its
// snapshots. A write is acknowledged once it is synced. What a crash finds
// unacknowledged may be there afterwards, in part: of several entries any prefix.
type disk struct {
	name  string
	rnd   *rand.Rand
	stats *Coverage

	mu      sync.Mutex
	content *content
	pending map[*write]struct{}  // writes that nobody was told the end of
	latency time.Duration        // of each write
	wall    func() time.Duration // how far the wall clock is ahead
	stalled chan struct{}        // closed when the disk answers again; nil unless it hangs
	failing error                // what writes end with
	fatal   func(*process)       // the process ends: it does so when a write has failed
	now     func() time.Duration
	mended  time.Duration // when it answered again

	// archive is every entry that was ever in the log and was not taken out of
	// it for a conflict, for the checker.
	archive map[uint64]*raft.Log

	// liar makes the disk acknowledge entries before it has synced them: a crash
	// loses those of the last moments. No real one may do that; the checker must
	// see it.
	liar bool
}

// content is what a disk holds.
type content struct {
	logs        map[uint64]*raft.Log
	first, last uint64
	keys        map[string]string
	snapshots   []*snapshot // newest first
}

type snapshot struct {
	meta raft.SnapshotMeta
	data []byte
}

// write is one write under way. Keep makes a part of it durable, up to n of its
// units.
type write struct {
	units int
	keep  func(n int)
}

const lieFor = time.Second // how long a liar takes to sync

func newDisk(name string, rnd *rand.Rand) *disk {
	d := &disk{name: name, rnd: rnd, pending: map[*write]struct{}{}, archive: map[uint64]*raft.Log{}}
	d.wipe()
	return d
}

// wipe empties the disk.
func (d *disk) wipe() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.content = &content{logs: map[uint64]*raft.Log{}, keys: map[string]string{}}
	clear(d.archive)
}

// open opens the disk for a process. What it holds from then on is the process's
// own until it crashes.
func (d *disk) open(p *process) files {
	d.mu.Lock()
	defer d.mu.Unlock()
	return files{disk: d, process: p, content: d.content}
}

// used reports whether there is anything on the disk.
func (d *disk) used() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.content.last > 0 || len(d.content.snapshots) > 0
}

// crash decides what becomes of the writes that are under way when their process
// dies. Nothing that the process does afterwards reaches the disk.
func (d *disk) crash() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for w := range d.pending {
		w.keep(d.rnd.IntN(w.units + 1))
	}
	clear(d.pending)
	d.stalled, d.failing = nil, nil
	// The goroutines of the process that has died may go on reading what it saw.
	d.content = d.content.clone()
	for c := d.content; d.liar && c.last > 0; {
		e := c.logs[c.last]
		if e == nil || time.Since(e.AppendedAt) > lieFor {
			return
		}
		c.drop(c.last, c.last)
	}
}

func (c *content) clone() *content {
	return &content{
		logs: maps.Clone(c.logs), first: c.first, last: c.last, keys: maps.Clone(c.keys), snapshots: slices.Clone(c.snapshots),
	}
}

// stall makes the disk hang, or answer again.
func (d *disk) stall(hang bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case hang && d.stalled == nil:
		d.stalled = make(chan struct{})
	case !hang && d.stalled != nil:
		close(d.stalled)
		d.stalled, d.mended = nil, d.now()
	}
}

// fail makes every write end with an error; nil heals the disk.
func (d *disk) fail(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failing = err
	if err == nil {
		d.mended = d.now()
	}
}

func (d *disk) setLatency(latency time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.latency = latency
}

// archived returns an entry that was in the log.
func (d *disk) archived(index uint64) (*raft.Log, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	e, ok := d.archive[index]
	return e, ok
}

// describe says what the disk holds, for people.
func (d *disk) describe() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var text strings.Builder
	fmt.Fprintf(&text, "entries %d to %d, term %s", d.content.first, d.content.last, d.content.keys["CurrentTerm"])
	for _, s := range d.content.snapshots {
		fmt.Fprintf(&text, ", snapshot up to %d of term %d", s.meta.Index, s.meta.Term)
	}
	return text.String()
}

func (c *content) add(e *raft.Log) {
	if c.first == 0 {
		c.first = e.Index
	}
	c.last = max(c.last, e.Index)
	c.logs[e.Index] = e
}

func (c *content) drop(from, to uint64) {
	from, to = max(from, c.first), min(to, c.last)
	if c.last == 0 || from > to {
		return
	}
	for i := from; i <= to; i++ {
		delete(c.logs, i)
	}
	switch {
	case from == c.first && to == c.last:
		c.first, c.last = 0, 0
	case from == c.first:
		c.first = to + 1
	default: // the end: Raft takes out nothing in the middle
		c.last = from - 1
	}
}

// dropUncertain takes from the archive what a snapshot replaces. It may have come
// from a leader, and the entries below it from an earlier one whose were never
// committed. d.mu is held.
func (d *disk) dropUncertain(meta raft.SnapshotMeta) {
	if e, ok := d.archive[meta.Index]; ok && e.Term == meta.Term {
		return // this log leads to the snapshot
	}
	d.stats.Add("disk: snapshot installed", 1)
	maps.DeleteFunc(d.archive, func(i uint64, _ *raft.Log) bool { return i <= meta.Index })
}
