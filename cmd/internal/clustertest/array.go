package clustertest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/lockstep-storage/lockstep/driverhost"
	"github.com/lockstep-storage/lockstep/fsm"
)

// Behaviour is how the array answers a promotion.
type Behaviour int

// The behaviours.
const (
	Succeed    Behaviour = iota // after the time that a promotion takes
	Refuse                      // UnableToFailOver: nothing is promoted
	Invalid                     // InvalidReplicationTarget: nothing is promoted
	Break                       // an error after the target was promoted
	Hang                        // until the call is cancelled
	LateButYes                  // promotes although its caller has given up
)

// Array is the storage that all drivers share. It does not fence anybody: it
// records what should never have reached it.
type Array struct {
	mu         sync.Mutex
	next       []Behaviour // of the next promotions; then Succeed
	slow       time.Duration
	opTime     time.Duration
	promoted   string // the site that takes writes
	promoteTo  uint64 // epoch of the latest promotion that began and was not refused
	inFlight   []call
	violations []string
	promotions int
	switches   map[string]uint64 // epoch that each service's running driver was told
	sites      map[string]string // site that each service's running driver uses
	calls      int
	refuse     map[string]error // what FailoverCompleted answers a service
	freezes    []string         // freeze and thaw calls, in order
	stuck      map[string]bool  // hosts whose calls do not end by themselves
}

type call struct {
	host    string
	epoch   uint64
	claim   uint64
	promote bool
}

func newArray() *Array {
	return &Array{
		promoted: fsm.DefaultBackendID, slow: 300 * time.Millisecond, opTime: 20 * time.Millisecond,
		switches: map[string]uint64{}, sites: map[string]string{}, refuse: map[string]error{}, stuck: map[string]bool{},
	}
}

// Violations returns what broke a guarantee, in words.
func (a *Array) Violations() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.violations)
}

// Promotions returns how often a promotion was called.
func (a *Array) Promotions() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.promotions
}

// Calls returns how many volume calls were made.
func (a *Array) Calls() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.calls
}

// Freezes returns the freeze and thaw calls, in order.
func (a *Array) Freezes() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.freezes)
}

// Next sets how the next promotions behave.
func (a *Array) Next(b ...Behaviour) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.next = b
}

// RefuseSwitch makes FailoverCompleted of a host fail; nil heals it.
func (a *Array) RefuseSwitch(host string, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.refuse[host] = err
}

// Stick makes the volume calls of a host last until they are cancelled, and its
// FailoverCompleted until stuck is false again.
func (a *Array) Stick(host string, stuck bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.stuck[host] = stuck
}

func (a *Array) isStuck(host string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.stuck[host]
}

// Promoted returns the site that takes writes.
func (a *Array) Promoted() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.promoted
}

func (a *Array) promoting() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, c := range a.inFlight {
		if c.promote {
			return c.host
		}
	}
	return ""
}

// Busy reports whether a volume call of host is in flight.
func (a *Array) Busy(host string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.ContainsFunc(a.inFlight, func(c call) bool { return c.host == host && !c.promote })
}

func (a *Array) toldEpoch(host string) uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.switches[host]
}

func (a *Array) site(host string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.sites[host]
}

func (a *Array) violate(format string, args ...any) {
	a.violations = append(a.violations, fmt.Sprintf(format, args...))
}

// enter notes that a call starts, and what is wrong with that.
func (a *Array) enter(c call) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, o := range a.inFlight {
		if c.promote && o.promote {
			a.violate("G16: %s promotes (claim %d) while %s does (claim %d)", c.host, c.claim, o.host, o.claim)
		}
		if c.promote && o.epoch < c.epoch {
			a.violate("G3: %s promotes to epoch %d while a call of %s of epoch %d is in flight", c.host, c.epoch, o.host, o.epoch)
		}
	}
	if c.promote {
		a.promotions++
		a.promoteTo = c.epoch
	} else {
		a.enterVolume(c)
	}
	a.inFlight = append(a.inFlight, c)
}

// enterVolume notes what is wrong with a volume call that starts. a.mu is held.
func (a *Array) enterVolume(c call) {
	a.calls++
	if c.epoch < a.promoteTo {
		a.violate("G3: a call of %s of epoch %d starts after the promotion to epoch %d", c.host, c.epoch, a.promoteTo)
	}
	if a.switches[c.host] != c.epoch {
		a.violate("G10: a call of %s of epoch %d, whose driver was told epoch %d", c.host, c.epoch, a.switches[c.host])
	}
	if a.sites[c.host] != a.promoted {
		a.violate("G10: a call of %s on %q while %q takes writes", c.host, a.sites[c.host], a.promoted)
	}
}

func (a *Array) leave(c call) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if i := slices.Index(a.inFlight, c); i >= 0 {
		a.inFlight = slices.Delete(a.inFlight, i, i+1)
	}
}

func (a *Array) behaviour() (Behaviour, time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	b := Succeed
	if len(a.next) > 0 {
		b, a.next = a.next[0], a.next[1:]
	}
	return b, a.slow
}

// promote makes target take writes.
func (a *Array) promote(target string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.promoted = target
}

// withdraw says that nothing is promoted by the call to epoch.
func (a *Array) withdraw(epoch uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.promoteTo == epoch {
		a.promoteTo = epoch - 1
	}
}

func (a *Array) opener() driverhost.Opener {
	return func(_ context.Context, req driverhost.OpenRequest) (driverhost.Driver, error) {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.switches[req.Host], a.sites[req.Host] = 0, req.ActiveBackendID
		return &driver{array: a, host: req.Host}, nil
	}
}

// driver is one running driver process of the array.
type driver struct {
	array *Array
	host  string
}

var (
	_ driverhost.ActiveActive = (*driver)(nil)
	_ driverhost.Demoter      = (*driver)(nil)

	errBroken = errors.New("connection to the array lost")
)

func (d *driver) Failover(ctx context.Context, req driverhost.FailoverRequest) (driverhost.FailoverResult, error) {
	if err := context.Cause(ctx); err != nil {
		return driverhost.FailoverResult{}, err
	}
	c := call{host: d.host, epoch: req.Token.Epoch, claim: req.Token.Claim, promote: true}
	d.array.enter(c)
	defer d.array.leave(c)
	b, slow := d.array.behaviour()
	err := pause(ctx, slow)
	switch {
	case b == Hang:
		return driverhost.FailoverResult{}, pause(ctx, time.Hour)
	case b == LateButYes && err != nil:
		d.array.promote(req.Target)
		return driverhost.FailoverResult{}, nil
	case err != nil:
		return driverhost.FailoverResult{}, err
	case b == Refuse:
		d.array.withdraw(req.Token.Epoch)
		return driverhost.FailoverResult{}, driverhost.ErrUnableToFailOver
	case b == Invalid:
		d.array.withdraw(req.Token.Epoch)
		return driverhost.FailoverResult{}, driverhost.ErrInvalidReplicationTarget
	}
	d.array.promote(req.Target)
	if b == Break {
		return driverhost.FailoverResult{}, errBroken
	}
	return driverhost.FailoverResult{}, nil
}

func (d *driver) Demote(ctx context.Context, _ driverhost.DemoteRequest) error {
	return pause(ctx, d.array.opTime)
}

func (d *driver) FailoverCompleted(ctx context.Context, req driverhost.FailoverCompletedRequest) error {
	for {
		if err := pause(ctx, time.Millisecond); err != nil {
			return err
		}
		if !d.array.isStuck(d.host) {
			break
		}
	}
	d.array.mu.Lock()
	defer d.array.mu.Unlock()
	if err := d.array.refuse[d.host]; err != nil {
		return err
	}
	d.array.switches[d.host], d.array.sites[d.host] = req.Token.Epoch, req.ActiveBackendID
	return nil
}

// volume makes an ordinary call.
func (d *driver) volume(ctx context.Context, token driverhost.Token) error {
	c := call{host: d.host, epoch: token.Epoch, claim: token.Claim}
	d.array.enter(c)
	defer d.array.leave(c)
	wait := d.array.opTime
	if d.array.isStuck(d.host) {
		wait = time.Hour
	}
	return pause(ctx, wait)
}

func (d *driver) FreezeBackend(_ context.Context, _ driverhost.Token) error {
	return d.freeze("freeze")
}

func (d *driver) ThawBackend(_ context.Context, _ driverhost.Token) error { return d.freeze("thaw") }

func (d *driver) freeze(what string) error {
	d.array.mu.Lock()
	defer d.array.mu.Unlock()
	d.array.freezes = append(d.array.freezes, what)
	return nil
}

func (d *driver) CreateVolume(ctx context.Context, req driverhost.VolumeRequest) (driverhost.VolumeUpdate, error) {
	return driverhost.VolumeUpdate{ProviderID: d.host}, d.volume(ctx, req.Token)
}

func (d *driver) DeleteVolume(ctx context.Context, req driverhost.VolumeRequest) error {
	return d.volume(ctx, req.Token)
}

func (d *driver) ExtendVolume(ctx context.Context, req driverhost.ExtendVolumeRequest) error {
	return d.volume(ctx, req.Token)
}

func (d *driver) CreateSnapshot(ctx context.Context, req driverhost.SnapshotRequest) error {
	return d.volume(ctx, req.Token)
}

func (d *driver) DeleteSnapshot(ctx context.Context, req driverhost.SnapshotRequest) error {
	return d.volume(ctx, req.Token)
}

func (d *driver) Stats(context.Context) (driverhost.Stats, error) { return driverhost.Stats{}, nil }

func (d *driver) Close() error { return nil }

// cancelTime is how long the array takes to let go of a call that was cancelled:
// less than the kill time of the leases under test.
const cancelTime = 200 * time.Millisecond

func pause(ctx context.Context, wait time.Duration) error {
	select {
	case <-time.After(wait):
		return nil
	case <-ctx.Done():
		<-time.After(cancelTime)
		return context.Cause(ctx)
	}
}
