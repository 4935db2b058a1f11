package raftnode

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"

	"github.com/lockstep-storage/lockstep/fsm"
)

// Place says where a node keeps its data and on which addresses it is reached.
type Place struct {
	Dir       string // of its own: log, votes, snapshots
	LogStore  string // LogStoreWAL or LogStoreBoltDB
	Raft      string // host:port to listen on
	RaftAddr  string // host:port that others dial; default: where it listens
	Gossip    string // host:port to listen on, TCP and UDP
	GossipAdv string // ip:port that others use; default: where it listens
	API       string // host:port at which others reach its API
	Seeds     []string
	// GossipKeys encrypt gossip, the first of them what this node says; 16, 24
	// or 32 bytes each. None: gossip is plain. See [Process.SetGossipKeys].
	GossipKeys [][]byte

	// Certificates are how nodes prove who they are to Raft. Nil: plain TCP.
	Certificates Certificates
}

// Process is a [Node] with the files, sockets and gossip that it opened.
type Process struct {
	*Node
	identity *identity
	stores   *stores
	gossip   *gossip
	layer    *streamLayer
	disk     *diskWatch
	known    directories
	logger   hclog.Logger
}

// Open claims the data directory, opens what is in it, listens, and starts a
// node. Of cfg, Storage, Transport, Discovery and Meta are filled in. An error
// leaves nothing open. [Process.Run] must be called.
func Open(ctx context.Context, place Place, cfg Config) (p *Process, err error) {
	p = &Process{logger: cfg.Logger}
	var undo []func() error
	defer func() {
		for i := len(undo) - 1; err != nil && i >= 0; i-- {
			err = errors.Join(err, undo[i]())
		}
	}()
	if p.identity, err = openIdentity(place.Dir, cfg.Deployment, cfg.ID); err != nil {
		return nil, &DataError{Dir: place.Dir, Err: err}
	}
	undo = append(undo, p.identity.Close)
	p.disk = newDiskWatch(place.Dir, cfg.Logger)
	cfg.disk = p.disk
	p.stores, err = openStores(StoreConfig{Dir: place.Dir, LogStore: place.LogStore, Failed: p.disk.fail, Logger: cfg.Logger})
	if errors.Is(err, unix.ENOSPC) {
		return nil, &DiskError{Dir: place.Dir, Err: err}
	}
	if err != nil {
		return nil, &DataError{Dir: place.Dir, Err: err}
	}
	undo = append(undo, p.stores.close)
	p.disk.reserve, p.disk.probe = p.stores.reserve, prober(p.stores.mark)
	cfg.Storage = Storage{Logs: p.stores.Logs, Stable: p.stores.Stable, Snapshots: p.stores.Snapshots}
	if p.known.logged, err = p.stores.loggedDirectories(); err != nil {
		return nil, &DataError{Dir: place.Dir, Err: fmt.Errorf("the log cannot be read: %w: %s", err, cure)}
	}
	transport, err := newTransport(ctx, TransportConfig{
		Bind: place.Raft, Advertise: place.RaftAddr, Deployment: cfg.Deployment, Node: cfg.ID, Directory: p.identity.directory, Known: p.known.check, Peers: place.Certificates, Logger: cfg.Logger,
	})
	if err != nil {
		return nil, err
	}
	undo = append(undo, transport.Close)
	cfg.Transport, p.layer = transport, transport.layer
	p.disk.mute, p.disk.unmute = transport.layer.mute, transport.layer.unmute
	hasState, err := cfg.Storage.hasState()
	if err != nil {
		return nil, err
	}
	cfg.Meta = Meta{
		Deployment: cfg.Deployment, Raft: string(transport.LocalAddr()), API: place.API, Format: int(fsm.Format),
		Version: cfg.Release, Expect: cfg.Expect, HasState: hasState, Directory: p.identity.directory.ID,
	}
	cfg.directory = p.identity.directory
	if p.gossip, err = p.openGossip(place, cfg); err != nil {
		return nil, err
	}
	undo = append(undo, p.gossip.close)
	cfg.Discovery = p.gossip
	if p.Node, err = New(cfg); err != nil {
		return nil, err
	}
	p.known.node.Store(p.Node)
	return p, nil
}

func (p *Process) openGossip(place Place, cfg Config) (*gossip, error) {
	return newGossip(GossipConfig{
		Bind: place.Gossip, Advertise: place.GossipAdv, Node: cfg.ID, Meta: cfg.Meta, Seeds: place.Seeds,
		Known: p.knownGossip, Keys: place.GossipKeys, Logger: cfg.Logger,
	})
}

// SetGossipKeys changes the keys of gossip without a restart: the first encrypts
// what this node says, each of them decrypts what it hears. To replace a key, add
// the new one behind the old on all nodes, then put it first on all, then take
// the old one away. An error leaves the keys as they were.
func (p *Process) SetGossipKeys(keys [][]byte) error { return p.gossip.setKeys(keys) }

// knownGossip returns the gossip addresses in the replicated state, so that a
// node finds the others again although gossip has forgotten them.
func (p *Process) knownGossip() []string {
	if p.Node == nil {
		return nil
	}
	var all []string
	p.View(func(s *fsm.State) {
		for node := range s.Nodes() {
			if node.Gossip != "" {
				all = append(all, node.Gossip)
			}
		}
	})
	return all
}

// Run takes part until ctx ends, then leaves and closes all that Open opened. A
// [*DiskError] comes at once and leaves everything as it is, since closing what is
// on a disk that hangs would hang too: the process has to end.
func (p *Process) Run(ctx context.Context) error {
	watching, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	go p.disk.run(watching)
	ended := make(chan error, 1)
	go func() { ended <- p.takePart(ctx) }()
	select {
	case err := <-ended:
		return err
	case <-p.disk.failed:
		return p.disk.failure()
	}
}

// Failed is closed once the process has to end without waiting for anything:
// [Process.Failure] says why.
func (p *Process) Failed() <-chan struct{} { return p.disk.failed }

// Failure returns a [*DiskError] once Failed is closed.
func (p *Process) Failure() error { return p.disk.failure() }

func (p *Process) takePart(ctx context.Context) error {
	gossiping, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- p.gossip.Run(gossiping) }()
	var watch sync.WaitGroup
	watch.Go(func() { p.layer.watchCertificates(gossiping) })
	err := p.Node.Run(ctx)
	stop()
	watch.Wait()
	return errors.Join(err, <-done, p.stores.close(), p.identity.Close())
}

// Close closes a process that is not to be run.
func (p *Process) Close() error {
	return errors.Join(p.raft.Shutdown().Error(), p.gossip.close(), p.stores.close(), p.identity.Close())
}
