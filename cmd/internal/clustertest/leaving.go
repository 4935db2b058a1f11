package clustertest

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/lockstep-storage/lockstep/fsm"
)

// Remove takes a member that is off out of the deployment, as an operator does with
// lockstep peers remove: again, until it is done. Its services may have leases for a
// while yet, owe something that others have to be given, or take part in a failover.
func (c *Cluster) Remove(m *Member) (err error) {
	for end := c.now() + patience; c.now() < end; <-time.After(500 * time.Millisecond) {
		for _, at := range c.Live() {
			if err = c.askToRemove(at, m.ID); err == nil {
				c.forget(m)
				return nil
			}
		}
	}
	return fmt.Errorf("remove %s: %w", m.ID, err)
}

func (c *Cluster) askToRemove(at *Member, id string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	c.mu.Lock()
	node, p := at.Node, at.process
	c.mu.Unlock()
	if err := node.RemovePeer(ctx, id); err != nil && fsm.CodeOf(err) != fsm.ErrNotFound { // one that had only begun to join
		return err
	}
	if !p.runs() {
		return errKilled // nobody hears of it
	}
	return nil
}

// canSpare reports whether a majority of voters stays when a member leaves for good, by
// the configuration of every live node: who takes away one of two has lost them all.
func (c *Cluster) canSpare(m *Member) bool {
	live := c.Live()
	for _, at := range live {
		peers, err := at.Node.Peers()
		if err != nil {
			return false
		}
		voters, leaves := 0, 0
		for _, p := range peers {
			if p.Voter {
				voters++
			}
			if p.Voter && p.ID == m.ID {
				leaves++
			}
		}
		if 2*(voters-leaves) <= voters {
			return false
		}
	}
	return len(live) > 0
}

// forget is for a member that has left for good.
func (c *Cluster) forget(m *Member) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.Members = slices.DeleteFunc(c.Members, func(o *Member) bool { return o == m })
}

// comeBack starts a member that was removed.
func (c *Cluster) comeBack(m *Member) {
	m.expect = 0 // who joins later expects nobody
	c.mu.Lock()
	c.Members = append(c.Members, m)
	c.mu.Unlock()
	c.Restart(m)
}
