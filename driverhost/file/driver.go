package file

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/hashicorp/go-hclog"

	"github.com/lockstep-storage/lockstep/driverhost"
)

var (
	_ driverhost.Driver       = (*Driver)(nil)
	_ driverhost.ActiveActive = (*Driver)(nil)
	_ driverhost.Demoter      = (*Driver)(nil)
	_ driverhost.GroupMover   = (*Driver)(nil)
)

// Driver serves one service. Any number of drivers, in any number of processes,
// work on the same sites at the same time.
type Driver struct {
	cfg   Config
	node  string
	host  string
	log   hclog.Logger
	sites map[string]*site

	mu     sync.Mutex
	inUse  string                      // backend id of the site that this driver was told to use
	groups map[string]map[string]*site // the sites of replication groups, by group and backend id

	faults *faults
	stop   context.CancelFunc
	wg     sync.WaitGroup
}

// New checks the configuration and returns an opener of drivers for it. The
// drivers are of type [*Driver].
func New(cfg Config) (driverhost.Opener, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return func(ctx context.Context, req driverhost.OpenRequest) (driverhost.Driver, error) {
		d, err := open(ctx, cfg, req)
		if err != nil {
			return nil, fmt.Errorf("open file driver: %w", err)
		}
		return d, nil
	}, nil
}

// open prepares what can be reached of the sites and starts replication. It
// changes nothing at a site that exists, and needs none but in a new backend.
func open(ctx context.Context, cfg Config, req driverhost.OpenRequest) (*Driver, error) {
	d := &Driver{
		cfg: cfg, node: req.Node, host: req.Host, log: req.Logger,
		sites: newSites(cfg), groups: map[string]map[string]*site{}, inUse: req.ActiveBackendID, faults: newFaults(),
	}
	if d.log == nil {
		d.log = hclog.NewNullLogger()
	}
	if err := d.checkSite(d.inUse); err != nil {
		return nil, err
	}
	if err := prepareSites(ctx, d.sites, cfg.siteIDs()); err != nil {
		return nil, err
	}
	// Replication outlives the call that opened the driver and ends with Close.
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	d.stop = stop
	for _, id := range cfg.siteIDs() {
		d.wg.Go(func() { d.replicateTo(run, d.sites[id]) })
	}
	return d, nil
}

// Close ends replication and waits for it.
func (d *Driver) Close() error {
	d.stop()
	d.wg.Wait()
	return nil
}

// ReplicationTargets lists the backend ids of all sites but the primary, in
// order.
func (d *Driver) ReplicationTargets() []string { return d.cfg.Targets() }

// FailoverCompleted makes this driver use the site from now on. It touches no
// site: the one in use was made so by Failover.
func (d *Driver) FailoverCompleted(_ context.Context, req driverhost.FailoverCompletedRequest) error {
	if err := d.checkSite(req.ActiveBackendID); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.inUse = req.ActiveBackendID
	return nil
}

// checkSite refuses what is no site of the backend.
func (d *Driver) checkSite(id string) error {
	if _, ok := d.sites[id]; !ok {
		return fmt.Errorf("backend_id %q is none of %q: %w", id, d.cfg.siteIDs(), driverhost.ErrInvalidReplicationTarget)
	}
	return nil
}

func (d *Driver) current() *site {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.sites[d.inUse]
}

// entry is the journal entry of a call of this driver.
func (d *Driver) entry(call string, token driverhost.Token) JournalEntry {
	return JournalEntry{Node: d.node, Host: d.host, Epoch: token.Epoch, Claim: token.Claim, Call: call}
}

// call makes one mutating call at the site in use: check of the token, effect
// and journal line are one, under the site's lock.
func (d *Driver) call(ctx context.Context, token driverhost.Token, e JournalEntry, effect func(s *site) error) error {
	return d.callAt(ctx, d.current(), token, e, effect)
}

func (d *Driver) callAt(ctx context.Context, s *site, token driverhost.Token, e JournalEntry, effect func(s *site) error) error {
	return s.exclusive(ctx, func(st siteState) error {
		err := s.enter(st, token)
		if err == nil {
			err = effect(s)
		}
		e.Outcome = outcome(err)
		if jerr := s.record(e); jerr != nil {
			return errors.Join(err, jerr)
		}
		return err
	})
}

// enter admits a call and remembers a token that is new to the site.
func (s *site) enter(st siteState, token driverhost.Token) error {
	if err := st.admit(s.id, token); err != nil {
		return err
	}
	if !st.Token.Less(token) {
		return nil
	}
	st.Token = token
	return s.writeState(st)
}

// FreezeBackend notes in the journal that the management of the backend is
// frozen. Directories have no management of their own to freeze.
func (d *Driver) FreezeBackend(ctx context.Context, token driverhost.Token) error {
	return d.call(ctx, token, d.entry(CallFreeze, token), func(*site) error { return nil })
}

// ThawBackend notes in the journal that it no longer is.
func (d *Driver) ThawBackend(ctx context.Context, token driverhost.Token) error {
	return d.call(ctx, token, d.entry(CallThaw, token), func(*site) error { return nil })
}
