package chaos

import (
	"context"
	"fmt"
	"time"

	"github.com/lockstep-storage/lockstep/api/client"
	"github.com/lockstep-storage/lockstep/cmd/internal/chaos/evidence"
	"github.com/lockstep-storage/lockstep/cmd/internal/chaos/lab"
)

// stallLeader makes the leader's disk hang. Others take over, and the deployment
// takes writes while the disk still hangs.
func stallLeader(ctx context.Context, w *world) error {
	victim, err := leader(ctx, w)
	if err != nil {
		return err
	}
	if !w.node(victim).Disk.Breakable() {
		return fmt.Errorf("disks cannot be stalled: %w", errNotHere)
	}
	mend := w.breakIt(ctx, planned{kind: DiskStall, nodes: []int{victim}}, "disk-stall-of-leader")
	defer mend()
	const takeOver = 20 * time.Second
	err = await(ctx, takeOver, func(ctx context.Context) error {
		status, err := w.nodes[victim%len(w.nodes)].Status(ctx)
		if err != nil {
			return err
		}
		if status.Leader == "" || status.Leader == w.node(victim).Name {
			return fmt.Errorf("leader: got %q while its disk hangs, want another", status.Leader)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return await(ctx, takeOver, func(ctx context.Context) error {
		return w.nodes[victim%len(w.nodes)].EnableCluster(ctx, lab.Cluster)
	})
}

// fillDisks leaves no byte free on a majority of the disks. Nothing that is
// acknowledged is lost, and all goes on when there is space again.
func fillDisks(ctx context.Context, w *world) error {
	var nodes []int
	for _, n := range w.lab.Nodes[:len(w.lab.Nodes)/2+1] {
		if !n.Disk.Breakable() {
			return fmt.Errorf("disks cannot be filled: %w", errNotHere)
		}
		nodes = append(nodes, n.ID)
	}
	const full = 8 * time.Second
	mend := w.breakIt(ctx, planned{kind: DiskFull, nodes: nodes, lasts: full}, "disk-full")
	wait(ctx, full)
	mend()
	return await(ctx, convergeWithin, w.settled)
}

// replaceDisk starts a node on another disk, while all others are there.
func replaceDisk(kind Kind) func(context.Context, *world) error {
	return func(ctx context.Context, w *world) error {
		victim, err := member(ctx, w)
		if err != nil {
			return err
		}
		const lasts = 3 * time.Second
		mend := w.breakIt(ctx, planned{kind: kind, nodes: []int{victim}, lasts: lasts}, string(kind))
		mend()
		return await(ctx, convergeWithin, w.settled)
	}
}

// losePowerOfAll takes the power of all nodes away at once, while a failover promotes.
// It ends all the same, and nothing that was acknowledged is lost (G5, G13).
func losePowerOfAll(ctx context.Context, w *world) error {
	site, err := w.target(ctx)
	if err != nil {
		return err
	}
	var nodes []int
	for _, n := range w.lab.Nodes {
		if !n.Disk.Breakable() {
			return fmt.Errorf("power cannot be lost: %w", errNotHere)
		}
		nodes = append(nodes, n.ID)
	}
	f, err := w.requestFailover(ctx, client.FailoverRequest{
		Cluster: lab.Cluster, BackendID: site, Mode: client.Forced, Reason: "chaos power loss",
	})
	if err != nil {
		return err
	}
	err = await(ctx, doneWithin, func(context.Context) error {
		_, err := w.promoting(site, f.ID)
		return err
	})
	if err != nil {
		return err
	}
	mend := w.breakIt(ctx, planned{kind: PowerLoss, nodes: nodes}, string(PowerLoss))
	mend()
	f, err = w.awaitFailover(ctx, f.ID, doneWithin)
	if err != nil {
		return err
	}
	if f.Phase != client.PhaseDone {
		return fmt.Errorf("failover %s has %s: %s", f.ID, f.Phase, f.Error)
	}
	return await(ctx, convergeWithin, w.settled)
}

// slack is for what is slow on a busy machine: a timer, a line of a journal.
const slack = 500 * time.Millisecond

// loseQuorum kills a majority. No member serves past its lease (G15), and all goes
// on when the majority is back.
func loseQuorum(ctx context.Context, w *world) error {
	var nodes []int
	for _, n := range w.lab.Nodes[:len(w.lab.Nodes)/2+1] {
		nodes = append(nodes, n.ID)
	}
	const gone = 6 * time.Second
	mend := w.breakIt(ctx, planned{kind: Kill, nodes: nodes, lasts: gone}, "quorum-lost")
	from := evidence.Now() + int64(w.seen.Run.Wind+slack)
	wait(ctx, gone)
	to := evidence.Now()
	mend()
	e := evidence.Evidence{}
	if err := e.LoadJournals(w.options.Dir); err != nil {
		return err
	}
	for site, entries := range e.Journals {
		for i, entry := range entries {
			if !entry.Torn && entry.MonoNS > from && entry.MonoNS < to {
				return fmt.Errorf("%s by %s without a quorum, past its lease: sites/%s/journal:%d", entry.Call, entry.Host, site, i+1)
			}
		}
	}
	return await(ctx, convergeWithin, w.settled)
}
