package clustertest

import (
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// inTouch is since when a node has been able to commit what it has to say, if it can:
// its process runs, its disk answers, no link of it is cut, and no message is lost or
// late. Whether anybody leads is another question.
func (c *Cluster) inTouch(id string) (since time.Duration, in bool) {
	m := c.member(id)
	if m == nil {
		return 0, false
	}
	p := c.process(m)
	net, linked := c.net.undisturbed(id)
	disk, writes := m.disk.healthy()
	if !p.awake() || !linked || !writes {
		return 0, false
	}
	return max(net, disk, p.since()), true
}

// undisturbed is since when every message from and to a node has arrived at once.
func (n *network) undisturbed(id string) (since time.Duration, is bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.weather != nil {
		return 0, false
	}
	for l := range n.cuts {
		if l.from == id || l.to == id {
			return 0, false
		}
	}
	return n.joined[id], true
}

// healthy is since when the disk has answered, if it does.
func (d *disk) healthy() (since time.Duration, is bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.mended, d.stalled == nil && d.failing == nil
}

// since is when the process went on after it was stopped last, or was started.
func (p *process) since() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.touched
}

// moments knows when claims were committed, and since when somebody had led then.
type moments struct {
	now func() time.Duration

	mu     sync.Mutex
	term   uint64
	led    time.Duration     // when the first entry of that term was committed
	claims map[uint64]moment // by index
}

// moment is when a claim was committed, and the first entry of its term.
type moment struct{ at, led time.Duration }

func newMoments(now func() time.Duration) *moments {
	return &moments{now: now, claims: map[uint64]moment{}}
}

// committed notes an entry, in the order of the log.
func (m *moments) committed(e *raft.Log) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e.Term > m.term {
		m.term, m.led = e.Term, m.now()
	}
}

// claimed notes that the entry last noted is a claim.
func (m *moments) claimed(index uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.claims[index] = moment{m.now(), m.led}
}

// ofClaim is the moment of a claim. One that no process has shown yet is committed just
// now.
func (m *moments) ofClaim(index uint64) moment {
	m.mu.Lock()
	defer m.mu.Unlock()
	if c, seen := m.claims[index]; seen {
		return c
	}
	return moment{m.now(), m.led}
}
