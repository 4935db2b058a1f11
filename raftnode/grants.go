package raftnode

import (
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/lockstep-storage/lockstep/fsm"
)

// grant is what a leader remembers of a service that has asked for its lease.
// Times are of the node's clock, but for the one that people see.
type grant struct {
	current time.Duration // until when the last lease that was granted is current
	seen    fsm.Time      // when that was asked for
	expiry  time.Duration // until when calls may run under any that was, or may have been, granted
}

// note records a grant, before it is made: a grant never shortens an earlier wait.
// It reports whether one may be made.
func (r *reign) note(host string, now time.Duration) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.retired[host] > 0 {
		return false
	}
	g := r.grants[host]
	g.expiry = max(g.expiry, now+r.node.cfg.Lease.Grace)
	r.grants[host] = g
	return true
}

// granted records that a lease was granted that is current until then.
func (r *reign) granted(host string, until time.Duration, seen fsm.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	g := r.grants[host]
	if until > g.current {
		g.current, g.seen = until, seen
	}
	r.grants[host] = g
	r.leased = wake(r.leased)
}

// nextGrant returns a channel that is closed when the next lease is granted.
func (r *reign) nextGrant() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.leased
}

// heardOf reports whether this leader has granted a service a lease.
func (r *reign) heardOf(host string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.grants[host].current != 0
}

// retire refuses a service every lease from now on, if it can hold none any more.
// Without that, one could be granted between this look and the commit of what
// rests on it. Each call needs a readmit of its own.
func (r *reign) retire(host string, span, now time.Duration) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now < r.wait(host, span) {
		return false
	}
	r.retired[host]++
	return true
}

// readmit takes one retire back.
func (r *reign) readmit(host string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.retired[host]--; r.retired[host] == 0 {
		delete(r.retired, host)
	}
}

// live reports whether a service holds a lease that is current, as far as this
// leader knows.
func (r *reign) live(host string, now time.Duration) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return now < r.grants[host].current
}

// gone reports whether no call of a service, whose node's leases have the given
// span, can run under a lease any more.
func (r *reign) gone(host string, span, now time.Duration) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return now >= r.wait(host, span)
}

// wait is until when calls of a service may run under a lease. An earlier leader
// may have granted one up to this one's election, so nobody is gone before that
// has run out, heard of or not. That leader's grace may have been longer than this
// one's; the span says how long it really takes. r.mu is held.
func (r *reign) wait(host string, span time.Duration) time.Duration {
	lease := r.node.cfg.Lease
	return max(r.elected+max(lease.Grace, lease.LeastGrace(span)), r.grants[host].expiry)
}

// noted returns what is known of each service.
func (r *reign) noted() map[string]grant {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.grants)
}

// spanOf is the span of the leases of a node's services, zero if none can have any.
func spanOf(s *fsm.State, node string) time.Duration {
	registered, _ := s.Node(node)
	return registered.LeaseSpan
}

// running is for how long, at least, this run of the node has lasted: no earlier
// one has asked for a lease since.
func (n *Node) running() time.Duration {
	t := n.cfg.Lease
	return max(time.Duration(float64(n.cfg.Clock()-n.began)*(1-t.ClockError))-t.Lateness, 0)
}

// grant answers a service that asks for a lease: with the index that it must have
// applied before the lease counts.
func (n *Node) grant(ctx context.Context, q leaseQuestion) (uint64, error) {
	r, err := n.leading()
	if err != nil {
		return 0, err
	}
	now, seen := n.cfg.Clock(), fsm.TimeOf(time.Now())
	if err := n.mayLease(q, r); err != nil {
		return 0, err
	}
	// The order is the proof: the grant is noted before the commit index is
	// read, so a plan made without it is committed behind that index.
	if !r.note(q.Host, now) {
		return 0, refuseLease("host", q.Host, "the service is being deleted")
	}
	index, err := n.provenIndex(ctx, r)
	if err != nil {
		return 0, err
	}
	r.granted(q.Host, now+q.Duration, seen)
	return index, nil
}

// mayLease refuses who is to have no lease, and leases whose end this leader, or
// the next one, could not tell.
func (n *Node) mayLease(q leaseQuestion, r *reign) error {
	if q.Duration <= 0 || q.Kill < 0 || !(q.ClockError >= 0 && q.ClockError <= maxClockError) {
		return &fsm.Refusal{
			Code: fsm.ErrInvalid, Field: "lease", Value: fmt.Sprintf("%v, %v, %v", q.Duration, q.Kill, q.ClockError),
			Message: fmt.Sprintf("a lease of %v, with kill %v and clock_error %v, is none", q.Duration, q.Kill, q.ClockError),
		}
	}
	var known, overdue bool
	var span time.Duration
	n.View(func(s *fsm.State) {
		svc, ok := s.Service(q.Host)
		known = ok && svc.Node == q.Node
		overdue = s.Overdue(q.Host, r.pace(s, n.cfg.Clock(), svc.Group()))
		span = spanOf(s, q.Node)
	})
	least := n.cfg.Lease.LeastGrace(q.span())
	switch {
	case !known:
		return &fsm.Refusal{Code: fsm.ErrNotFound, Message: "the service is not registered", Field: "host", Value: q.Host}
	case overdue:
		return refuseLease("host", q.Host, "the service has had its time in a failover")
	case n.cfg.Lease.Grace < least:
		return refuseLease("lease.grace", n.cfg.Lease.Grace.String(), fmt.Sprintf(
			"lease.grace of the leader, node %q, is %v: at least %v is needed for lease.duration %v, lease.kill %v and lease.clock_error %v of node %q",
			n.cfg.ID, n.cfg.Lease.Grace, least, q.Duration, q.Kill, q.ClockError, q.Node), "at least "+least.String())
	case span < q.span():
		return &fsm.Refusal{
			Code: fsm.ErrNotFound, Field: "node", Value: q.Node,
			Message: fmt.Sprintf("node %q is not registered yet with leases that span %v", q.Node, q.span()),
		}
	}
	return nil
}

func refuseLease(field, value, message string, allowed ...string) error {
	return &fsm.Refusal{Code: fsm.ErrConflict, Field: field, Value: value, Message: message, Allowed: allowed}
}
