package clustertest

import (
	"sync"
	"time"

	"github.com/fxamacker/cbor/v2"
)

// leases knows from the messages between nodes, and from nothing that the product
// believes, until when a service can hold a lease at most: a lease counts from
// before it was asked for. Who asks another node for it asks with a message; a
// leader that asks itself needs the proof of the others, whom it asks after that.
type leases struct {
	now func() time.Duration

	mu     sync.Mutex
	asked  map[string]time.Duration // by host: when the latest lease was asked for that was granted
	proven map[string]time.Duration // by node: when the latest term was asked for that was told
}

func newLeases(now func() time.Duration) *leases {
	return &leases{now: now, asked: map[string]time.Duration{}, proven: map[string]time.Duration{}}
}

// heard notes that a node got the answer to a question which it asked at asked.
func (l *leases) heard(node, method string, body []byte, asked time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch method {
	case "lease":
		var q struct {
			Host string `cbor:"1,keyasint"`
		}
		if cbor.Unmarshal(body, &q) == nil {
			l.asked[q.Host] = max(l.asked[q.Host], asked)
		}
	case "term":
		l.proven[node] = max(l.proven[node], asked)
	}
}

// left is for how long the lease of a service can last from now on, by the slowest
// clock that a node may have.
func (l *leases) left(node, host string) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	from := max(l.asked[host], l.proven[node])
	longest := time.Duration(float64(lease().Duration) / (1 - lease().ClockError))
	return from + longest + time.Millisecond - l.now()
}

// overdue is for how long a service can have had no lease.
func (l *leases) overdue(node, host string) time.Duration { return -l.left(node, host) }
