package driverhost

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/lockstep-storage/lockstep/fsm"
)

// State is the replicated state as this package watches it.
type State interface {
	// View calls fn with the state, which fn must neither keep nor change;
	// changed is closed at the first change after the one fn sees.
	View(fn func(*fsm.State)) (changed <-chan struct{})

	// Clone returns a copy to go through many records of without holding up
	// commits.
	Clone() *fsm.State
}

// Proposer commits commands, wherever the leader is.
type Proposer interface {
	// Propose commits cmd and returns its log index once the state here shows
	// it. It rides out elections until ctx ends. A request id makes it safe to
	// repeat a command that is not a compare-and-set.
	Propose(ctx context.Context, request string, cmd fsm.Command) (index uint64, err error)
}

// Lease is the right of one service to serve.
type Lease interface {
	// Run asks for the lease until ctx ends.
	Run(ctx context.Context)

	// Current returns a context that ends when the lease lapses, or nil if
	// there is none now; changed is closed when that changes. Two calls return
	// the same context only if the lease has not lapsed in between.
	Current() (held context.Context, changed <-chan struct{})

	Deadline
}

// Service is one service that this node hosts.
type Service struct {
	Host    string   // node@backend
	Node    string   // this node
	Cluster string   // empty outside clusters
	Targets []string // the replication targets that its driver is configured with
	Open    Opener
	Lease   Lease
}

// Config says what a host runs. Fields without a default are required.
type Config struct {
	State       State
	Proposer    Proposer
	Services    []Service
	Concurrency int           // volume operations of one service at a time; default 16
	Retry       time.Duration // first pause after a failure, doubling up to 32 times; default 100ms
	StatsEvery  time.Duration // between two measurements of a backend; default 2s
	Logger      hclog.Logger
}

// Host runs one worker per hosted service.
type Host struct {
	workers []*worker
}

// New returns a host of services. It starts nothing: see [Host.Run].
func New(cfg Config) (*Host, error) {
	if cfg.State == nil || cfg.Proposer == nil || cfg.Logger == nil {
		return nil, errors.New("state, proposer and logger are required")
	}
	if cfg.Concurrency == 0 {
		cfg.Concurrency = 16
	}
	if cfg.Retry == 0 {
		cfg.Retry = 100 * time.Millisecond
	}
	if cfg.StatsEvery == 0 {
		cfg.StatsEvery = 2 * time.Second
	}
	h := &Host{}
	for _, svc := range cfg.Services {
		if svc.Host == "" || svc.Open == nil || svc.Lease == nil {
			return nil, fmt.Errorf("service %q: host, open and lease are required", svc.Host)
		}
		if slices.ContainsFunc(h.workers, func(w *worker) bool { return w.svc.Host == svc.Host }) {
			return nil, fmt.Errorf("service %q is configured twice", svc.Host)
		}
		h.workers = append(h.workers, newWorker(cfg, svc))
	}
	return h, nil
}

// Run works until ctx ends and every driver is closed. It ends early with the
// error of a service that must not be started as it is configured.
func (h *Host) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make([]error, len(h.workers))
	var wg sync.WaitGroup
	wg.Go(func() { <-ctx.Done() }) // a node may have no services
	for i, w := range h.workers {
		wg.Go(func() {
			if errs[i] = w.run(ctx); errs[i] != nil {
				cancel()
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Ready says why not all services of this node work against the committed site, by
// their own committed word; nil means that they do. A service whose gate a failover
// keeps closed counts as ready: there is nothing that it could do first.
func (h *Host) Ready() error {
	for _, w := range h.workers {
		if err := w.ready(); err != nil {
			return fmt.Errorf("service %s: %w", w.svc.Host, err)
		}
	}
	return nil
}

// Serves returns the service of this node in a cluster, if it would admit a
// volume operation now.
func (h *Host) Serves(cluster string) (host string, ok bool) {
	for _, w := range h.workers {
		svc := fsm.Service{Host: w.svc.Host, Cluster: w.svc.Cluster}
		if svc.Group() == cluster && w.gate.admits(fsm.CallVolume) == nil {
			return w.svc.Host, true
		}
	}
	return "", false
}

// Drivers returns how the driver of each service fares, by host.
func (h *Host) Drivers() map[string]DriverHealth {
	all := map[string]DriverHealth{}
	for _, w := range h.workers {
		all[w.svc.Host] = w.health()
	}
	return all
}

// Stats returns the last measurement of each service's backend, by host.
func (h *Host) Stats() map[string]Stats {
	all := map[string]Stats{}
	for _, w := range h.workers {
		if s, ok := w.lastStats(); ok {
			all[w.svc.Host] = s
		}
	}
	return all
}
