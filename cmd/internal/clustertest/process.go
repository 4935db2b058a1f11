package clustertest

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lockstep-storage/lockstep/driverhost"
	"github.com/lockstep-storage/lockstep/raftnode"
)

// process is one run of a node. Everything that reaches the world outside it goes
// through runs: messages, the disk, calls of the driver. So a process that is
// killed has no effect from that moment on, although its goroutines take a moment
// to end, and one that is stopped (SIGSTOP) has none until it goes on.
//
// What is not covered: the goroutines of a stopped process go on computing until
// they want something of the world, and its timers fire in time and not late. A
// stopped leader may therefore notice in its sleep that it has lost its followers;
// a disk that hangs (see disk) makes it miss that, as Raft's own loop then stands.
type process struct {
	node  string
	clock func() time.Duration // of its machine
	rate  float64              // of that clock
	now   func() time.Duration // on no clock
	died  chan struct{}        // closed by kill

	wire  *wire
	peer  *raftnode.Node
	raft  atomic.Pointer[raftnode.Node] // is peer, for the disk, which is used before that is set
	hosts *driverhost.Host

	mu      sync.Mutex
	dead    bool
	machine bool          // stopped together with its drivers
	sleeps  int           // how often the machine was stopped
	paused  chan struct{} // closed when the process goes on; nil while it runs
	touched time.Duration // since when the process runs without a break
}

func newProcess(m *Member) *process {
	return &process{node: m.ID, clock: m.clock, rate: m.rate, now: m.c.now, died: make(chan struct{}), touched: m.c.now()}
}

// left is how long it takes until the clock of the machine shows at.
func (p *process) left(at time.Duration) time.Duration {
	return max(time.Duration(math.Ceil(float64(at-p.clock())/p.rate)), 0)
}

// runs waits while the process is stopped, and reports whether it lives.
func (p *process) runs() bool {
	for {
		p.mu.Lock()
		dead, paused := p.dead, p.paused
		p.mu.Unlock()
		if dead {
			return false
		}
		if paused == nil {
			return true
		}
		select {
		case <-paused:
		case <-p.died:
		}
	}
}

// leads reports whether entries that are written now are the process's own.
func (p *process) leads() bool {
	node := p.raft.Load()
	return node != nil && node.Status().Leader == p.node
}

func (p *process) lives() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.dead
}

// machineStopped reports whether the whole machine stands still, with the drivers.
func (p *process) machineStopped() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.paused != nil && p.machine
}

// machineRuns waits while the whole machine stands still.
func (p *process) machineRuns() {
	p.mu.Lock()
	paused, machine := p.paused, p.machine
	p.mu.Unlock()
	if paused == nil || !machine {
		return
	}
	select {
	case <-paused:
	case <-p.died:
	}
}

// stopped returns a channel that is closed when the process goes on, nil if it is not
// stopped.
func (p *process) stopped() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.paused
}

// awake reports whether the process lives and is not stopped.
func (p *process) awake() bool { return p.lives() && p.stopped() == nil }

// slept is how often the machine was stopped so far.
func (p *process) slept() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sleeps
}

func (p *process) kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.dead {
		p.dead = true
		close(p.died)
	}
}

// pause stops the process, with its machine or alone.
func (p *process) pause(machine bool) { //nolint:revive // one of two things to stop
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.paused != nil {
		return
	}
	p.paused, p.machine = make(chan struct{}), machine
	if machine {
		p.sleeps++
	}
}

// resume lets a stopped process go on.
func (p *process) resume() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.paused != nil {
		close(p.paused)
		p.paused, p.touched = nil, p.now()
	}
}
