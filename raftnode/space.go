package raftnode

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/lockstep-storage/lockstep/fsm"
)

const (
	// segmentSize in bytes is what raft-wal allocates when it begins a segment,
	// which it has to do before it can take another entry.
	segmentSize = 64 << 20
	// spaceMargin in bytes is for votes, failovers and reports after that: weeks
	// of them, for a failover of a million volumes has some hundred bytes each.
	spaceMargin = 32 << 20
	// spaceEvery is how often a leader asks the voters for their space.
	spaceEvery = time.Second
	// handOverEvery is how often a leader without space tries to hand over.
	handOverEvery = 10 * time.Second
)

// reserve is the space in bytes that is kept for what is in hand: the segment of
// the log that comes next, a snapshot as large as the last, and a margin.
func (s *stores) reserve() uint64 {
	kept := uint64(segmentSize + spaceMargin)
	if snapshots, err := s.Snapshots.List(); err == nil && len(snapshots) > 0 {
		kept += uint64(snapshots[0].Size) //nolint:gosec // a size is not negative
	}
	return kept
}

// spaceAnswer is the answer to methodSpace.
type spaceAnswer struct {
	Dir  string `cbor:"1,keyasint,omitempty"`
	Free uint64 `cbor:"2,keyasint"`
	Need uint64 `cbor:"3,keyasint"`
}

func (a spaceAnswer) short() bool { return a.Free < a.Need }

func (n *Node) space() spaceAnswer {
	s := n.cfg.disk.status()
	return spaceAnswer{Dir: s.Dir, Free: s.Free, Need: s.Reserve}
}

// shortages is which voters are short of space, as this leader last heard.
type shortages struct {
	mu    sync.Mutex
	short map[string]spaceAnswer
	of    int // voters
}

// room refuses what would make the log and the state grow when this leader, or so
// many voters that the others are no majority, have no more space than is kept
// for what is in hand: failovers, reports, deletions and votes go on.
func (r *reign) room() error {
	n := r.node
	if own := n.space(); own.short() {
		return refuseSpace(n.cfg.ID, own)
	}
	r.space.mu.Lock()
	defer r.space.mu.Unlock()
	if 2*(r.space.of-len(r.space.short)) > r.space.of || r.space.of == 0 {
		return nil
	}
	for id, a := range r.space.short {
		return refuseSpace(id, a)
	}
	return nil
}

func refuseSpace(node string, a spaceAnswer) error {
	return &fsm.Refusal{
		Code: fsm.ErrNoSpace, Field: "node", Value: node,
		Message: fmt.Sprintf("node %s has %d MiB free in %s and keeps %d MiB for failovers: free space there, or enlarge it; nothing has changed",
			node, a.Free>>20, a.Dir, a.Need>>20),
	}
}

// tendSpace asks the voters for their space, and hands over to one that has some
// when this node has not.
func (r *reign) tendSpace(ctx context.Context) {
	tick := time.NewTicker(spaceEvery)
	defer tick.Stop()
	var tried time.Time
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		roomy, err := r.askForSpace(ctx)
		if err != nil || !r.node.space().short() || len(roomy) == 0 || time.Since(tried) < handOverEvery {
			continue
		}
		tried = time.Now()
		r.logger.Warn("this node has no space left and hands over", "free", r.node.space().Free, "to", roomy[0].ID)
		_, err = await(ctx, r.node, func(time.Duration) raft.Future {
			return r.node.raft.LeadershipTransferToServer(roomy[0].ID, roomy[0].Address)
		})
		if err != nil {
			r.logger.Warn("not handed over", "to", roomy[0].ID, "error", err)
		}
	}
}

// askForSpace asks all other voters at once and returns those that have some.
func (r *reign) askForSpace(ctx context.Context) (roomy []raft.Server, err error) {
	servers, err := r.node.servers()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, proofTimeout)
	defer cancel()
	short := map[string]spaceAnswer{} // without this node, which knows its own at any time
	voters := 0
	var wg sync.WaitGroup
	var mu sync.Mutex
	for _, server := range servers {
		if server.Suffrage != raft.Voter {
			continue
		}
		voters++
		if string(server.ID) == r.node.cfg.ID {
			continue
		}
		wg.Go(func() {
			a, err := ask[spaceAnswer](ctx, r.node, string(server.ID), methodSpace, struct{}{})
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err != nil: // whether it is there at all is a question for Raft
			case a.short():
				short[string(server.ID)] = a
			default:
				roomy = append(roomy, server)
			}
		})
	}
	wg.Wait()
	r.space.mu.Lock()
	defer r.space.mu.Unlock()
	r.space.short, r.space.of = short, voters
	return roomy, nil
}
