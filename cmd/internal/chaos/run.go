package chaos

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/lockstep-storage/lockstep/api/client"
	"github.com/lockstep-storage/lockstep/cmd/internal/chaos/evidence"
	"github.com/lockstep-storage/lockstep/cmd/internal/chaos/lab"
	"github.com/lockstep-storage/lockstep/cmd/internal/config"
)

// Options say what to do.
type Options struct {
	Dir       string        // for everything; it must be empty
	Binary    string        // lockstep
	Nodes     int           // 3 to 9
	Duration  time.Duration // of the random part; 0: only the scenarios
	Seed      int64
	Kinds     []Kind     // of the random faults
	Scenarios []Scenario // to run first
	Verbose   bool       // say every fault
}

// Validate says what is wrong with the options.
func (o Options) Validate() error {
	switch {
	case o.Nodes < 3 || o.Nodes > 9:
		return fmt.Errorf("nodes: %d: 3 to 9 are allowed", o.Nodes)
	case o.Duration < 0:
		return fmt.Errorf("duration: %v is less than zero", o.Duration)
	}
	return nil
}

// lease is shorter than for machines of their own, so that more fits into a run.
func lease() config.Lease {
	return config.Lease{
		Duration: 1500 * time.Millisecond, Kill: 500 * time.Millisecond, Grace: 2500 * time.Millisecond, ClockError: 0.001,
	}
}

// promoteDelay makes every promotion last long enough to be broken in the middle.
const promoteDelay = 300 * time.Millisecond

// Run breaks a deployment and judges what was seen. It returns a report whatever
// was found; an error says that there is nothing to report.
func Run(ctx context.Context, o Options, out io.Writer) (*Report, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(o.Dir, "sites"), 0o750); err != nil {
		return nil, err
	}
	l, err := lab.New(ctx, lab.Options{
		Dir: o.Dir, Binary: o.Binary, Nodes: o.Nodes, Lease: lease(), PromoteDelay: promoteDelay,
	})
	if err != nil {
		return nil, err
	}
	w, err := newWorld(l, o, out)
	if err == nil {
		w.begin()
		err = w.run(ctx)
	}
	err = errors.Join(err, l.Close(ctx))
	if w == nil {
		return nil, err
	}
	if err != nil {
		w.say("%v", err)
	}
	return w.report(err)
}

// begin notes how the run came about.
func (w *world) begin() {
	kinds := make([]string, len(w.options.Kinds))
	for i, k := range w.options.Kinds {
		kinds[i] = string(k)
	}
	t := lease()
	w.seen.Run = evidence.Run{
		Seed: w.options.Seed, Duration: w.options.Duration, Nodes: w.options.Nodes, Kinds: kinds,
		Mode: w.lab.Network.Mode(), Cluster: lab.Cluster, Start: evidence.Now(), Wall: time.Now(),
		Grace: t.Grace, Wind: t.Duration + t.Kill,
	}
}

// run is the run, from the start of the nodes to the look at what is left.
func (w *world) run(ctx context.Context) (err error) {
	w.say("%d nodes in %s, seed %d, by %s", w.options.Nodes, w.options.Dir, w.options.Seed, w.seen.Run.Mode)
	if err := w.startAll(ctx); err != nil {
		return err
	}
	var hostsOf []*host
	if hostsOf, err = w.makeHosts(ctx); err != nil {
		return err
	}
	w.say("all nodes are ready, and %d hosts use %d volumes", len(hostsOf), len(hostsOf)*volumesPerHost)
	quiet := w.work(ctx, hostsOf)
	w.scenarios(ctx)
	w.random(ctx)
	quiet()
	if ctx.Err() != nil {
		return fmt.Errorf("interrupted: %w", context.Cause(ctx))
	}
	w.say("all faults are mended")
	w.finish(ctx, hostsOf)
	w.seen.Run.Ended = true
	return nil
}

// readyWithin is how long the nodes have to start a deployment.
const readyWithin = 60 * time.Second

func (w *world) startAll(ctx context.Context) error {
	for _, n := range w.lab.Nodes {
		if err := n.Start(ctx); err != nil {
			return err
		}
	}
	for i, c := range w.nodes {
		if err := await(ctx, readyWithin, c.Ready); err != nil {
			return fmt.Errorf("%s is not ready: %w", w.lab.Nodes[i].Name, err)
		}
	}
	// What the clients make is bounded by mostVolumes, and not by Cinder's defaults.
	if err := w.all.SetDefaultQuota(ctx, map[string]int64{"volumes": -1, "snapshots": -1, "gigabytes": -1}); err != nil {
		return err
	}
	return w.all.EnsureVolumeType(ctx, replicatedType, map[string]string{"replication_enabled": "<is> True"})
}

// makeHosts makes the hosts and their volumes, and waits until every site has a
// copy of each.
func (w *world) makeHosts(ctx context.Context) (all []*host, err error) {
	for id := range hosts {
		h := &host{w: w, id: id}
		for range volumesPerHost {
			v, err := w.all.CreateVolume(ctx, client.VolumeRequest{
				Name: fmt.Sprintf("data-%d-%d", id, len(h.volumes)), Size: 1, VolumeType: replicatedType,
			})
			if err != nil {
				return nil, err
			}
			h.volumes = append(h.volumes, v.ID)
		}
		all = append(all, h)
	}
	for _, h := range all {
		for _, v := range h.volumes {
			if err := w.awaitCopies(ctx, v); err != nil {
				return nil, err
			}
		}
	}
	return all, nil
}

// awaitCopies waits until every site has a copy of a volume.
func (w *world) awaitCopies(ctx context.Context, volume string) error {
	for _, site := range lab.Sites()[1:] {
		copied := filepath.Join(w.lab.SiteDir(site), "replicas", "volume-"+volume)
		err := await(ctx, readyWithin, func(context.Context) error {
			_, err := os.Stat(copied)
			return err
		})
		if err != nil {
			return fmt.Errorf("first copy: %w", err)
		}
	}
	return nil
}

// work has clients and hosts work until quiet is called, which waits for them.
func (w *world) work(ctx context.Context, all []*host) (quiet func()) {
	ctx, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	for id := range clientsPerNode * len(w.nodes) {
		wg.Go(func() { w.newUser(id).run(ctx) })
	}
	for _, h := range all {
		wg.Go(func() { h.run(ctx) })
	}
	wg.Go(func() { w.watchRounds(ctx) })
	wg.Go(func() { w.progress(ctx) })
	return func() {
		stop()
		wg.Wait()
	}
}

func (w *world) scenarios(ctx context.Context) {
	for _, s := range w.options.Scenarios {
		if ctx.Err() != nil {
			return
		}
		w.runScenario(ctx, s)
	}
}

// random injects the faults of the schedule while the operator fails over.
func (w *world) random(ctx context.Context) {
	if w.options.Duration == 0 || ctx.Err() != nil {
		return
	}
	faults := schedule(newRand(w.options.Seed, 1), w.options.Kinds, w.options.Nodes, w.options.Duration)
	w.say("%d random faults in %v", len(faults), w.options.Duration)
	ctx, stop := context.WithTimeout(ctx, w.options.Duration)
	defer stop()
	var wg sync.WaitGroup
	wg.Go(func() { w.newOperator().run(ctx) })
	w.perform(ctx, faults)
	wait(ctx, w.options.Duration)
	wg.Wait()
}

// progressEvery is how often a line says how far the run is.
const progressEvery = 5 * time.Second

func (w *world) progress(ctx context.Context) {
	for wait(ctx, progressEvery) {
		w.mu.Lock()
		operations, accesses, faults, active := len(w.seen.Operations), len(w.seen.Data), len(w.seen.Faults), w.active
		found := len(w.seen.Asserted)
		w.mu.Unlock()
		w.say("%5d operations, %5d reads and writes of data, %3d faults, %d now, %d violations so far",
			operations, accesses, faults+active, active, found)
	}
}
