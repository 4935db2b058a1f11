package lab

import (
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Rule is one fault of the network between nodes, from each of From to each of To.
// Nodes are numbered from 1. Several rules may hold at once.
type Rule struct {
	From, To []int
	Cut      bool          // nothing gets through
	Delay    time.Duration // everything takes that much longer, and up to twice as much
	Loss     float64       // fraction of the packets that are lost
}

// link is what the rules make of one direction between two nodes.
type link struct {
	cut   bool
	delay time.Duration
	loss  float64
}

// rules are the rules that hold now. It is safe for concurrent use.
type rules struct {
	mu    sync.Mutex
	all   []*Rule
	links atomic.Pointer[map[[2]int]link]
}

func newRules() *rules {
	r := &rules{}
	r.links.Store(&map[[2]int]link{})
	return r
}

// add makes a rule hold until remove is called.
func (r *rules) add(rule Rule) (remove func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	held := &rule
	r.all = append(r.all, held)
	r.settle()
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.all = slices.DeleteFunc(r.all, func(other *Rule) bool { return other == held })
		r.settle()
	}
}

func (r *rules) settle() {
	links := map[[2]int]link{}
	for _, rule := range r.all {
		for _, from := range rule.From {
			for _, to := range rule.To {
				l := links[[2]int{from, to}]
				l.cut = l.cut || rule.Cut
				l.delay, l.loss = max(l.delay, rule.Delay), max(l.loss, rule.Loss)
				links[[2]int{from, to}] = l
			}
		}
	}
	r.links.Store(&links)
}

func (r *rules) between(from, to int) link { return (*r.links.Load())[[2]int{from, to}] }

// fate decides on one packet.
func (l link) fate() (lost bool, late time.Duration) {
	if l.cut || l.loss > 0 && rand.Float64() < l.loss { //nolint:gosec // a network needs no secrets
		return true, 0
	}
	if l.delay > 0 {
		late = l.delay + rand.N(l.delay) //nolint:gosec // a network needs no secrets
	}
	return false, late
}
