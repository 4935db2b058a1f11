package raftnode

import (
	"context"
	"maps"
	"time"

	"github.com/lockstep-storage/lockstep/fsm"
)

// Presence is what the leader knows of a service's lease.
type Presence struct {
	Up       bool     `cbor:"1,keyasint"` // its lease is current
	LastSeen fsm.Time `cbor:"2,keyasint"` // when it last asked for one that was granted; zero if not known
}

// Presence says which services hold a lease, by host, as the leader sees it. It
// rides out elections until ctx ends, and then answers [fsm.ErrNoLeader].
func (n *Node) Presence(ctx context.Context) (seen map[string]Presence, err error) {
	err = n.persist(ctx, func() error {
		seen, err = askLeader[map[string]Presence](ctx, n, methodPresence, struct{}{})
		return err
	})
	return seen, err
}

// settle is how long a new leader waits for services to ask for their leases before
// it says that they are down. They ask at once, so who does not has no lease, or
// does not reach the leader.
const settle = 300 * time.Millisecond

// presence is the leader's answer.
func (n *Node) presence(ctx context.Context) (map[string]Presence, error) {
	r, err := n.leading()
	if err != nil {
		return nil, err
	}
	if err := r.settled(ctx); err != nil {
		return nil, err
	}
	all := n.remembered()
	now := n.cfg.Clock()
	for host, g := range r.noted() {
		p := Presence{Up: now < g.current, LastSeen: g.seen}
		if p.LastSeen == 0 {
			p.LastSeen = all[host].LastSeen
		}
		all[host] = p
	}
	return all, nil
}

// settled waits until every service has its lease from this leader, or has had the
// time to ask for it.
func (r *reign) settled(ctx context.Context) error {
	late := time.NewTimer(r.node.cfg.left(r.led() + settle))
	defer late.Stop()
	for {
		granted := r.nextGrant()
		missing := false
		r.node.View(func(s *fsm.State) {
			for svc := range s.Services() {
				missing = missing || !r.heardOf(svc.Host)
			}
		})
		if !missing {
			return nil
		}
		select {
		case <-granted:
		case <-late.C:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// follow remembers when services were last seen, so that it is known although the
// leader changes. Nothing but what people are shown depends on it.
func (n *Node) follow(ctx context.Context) {
	tick := time.NewTicker(n.cfg.Lease.Duration)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		attempt, cancel := context.WithTimeout(ctx, n.cfg.Lease.Duration)
		seen, err := askLeader[map[string]Presence](attempt, n, methodPresence, struct{}{})
		cancel()
		if err != nil {
			continue // nobody is seen without a leader
		}
		n.mu.Lock()
		n.seen = seen
		n.mu.Unlock()
	}
}

// remembered returns when services were last seen, with none of them up.
func (n *Node) remembered() map[string]Presence {
	n.mu.Lock()
	defer n.mu.Unlock()
	all := maps.Clone(n.seen)
	if all == nil {
		all = map[string]Presence{}
	}
	for host, p := range all {
		p.Up = false
		all[host] = p
	}
	return all
}
