package clustertest

import (
	"fmt"
	"math/rand/v2"
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
	SomeFail                    // promotes, but reports about half of the volumes failed
	behaviours
)

// String names a behaviour for the coverage of a run.
func (b Behaviour) String() string {
	names := [...]string{"succeed", "refuse", "invalid", "break", "hang", "late but yes", "some fail"}
	return names[b]
}

// Array is the storage that all drivers of a cluster share. It does not fence
// anybody: it is the judge, which records what should never have reached it.
type Array struct {
	leases    *leases
	moments   *moments
	stats     *Coverage
	processes sync.WaitGroup // what keeps drivers' processes going

	// touch is since when a node has been in touch with all others, if it is.
	touch func(node string) (since time.Duration, in bool)

	mu         sync.Mutex
	rnd        *rand.Rand  // of the moods; nil: volume calls take opTime and succeed
	next       []Behaviour // of the next promotions; then Succeed
	slow       time.Duration
	opTime     time.Duration
	letGo      time.Duration     // from the end of a call's context until the array lets go of it
	promoted   string            // the site that takes writes
	groups     map[string]string // the site that takes writes of a group that was promoted; else promoted
	groupCalls map[string]string // by host, the site of the last call about a volume of a group
	promoteTo  uint64            // epoch of the latest promotion that began and was not refused
	inFlight   map[*call]struct{}
	violations []string
	promotions int
	switches   map[string]uint64 // epoch that each service's running driver was told
	sites      map[string]string // site that each service's running driver uses
	drivers    map[string]*driver
	failed     map[uint64][]string // volumes that the promotion under a claim reported failed
	calls      int
	refuse     map[string]error // what FailoverCompleted answers a service
	freezes    []string         // freeze and thaw calls, in order
	stuck      map[string]bool  // hosts whose calls do not end by themselves
}

// callKind is what a call is about.
type callKind string

const (
	promoteCall callKind = "promotion" // demotion too: it changes which site takes writes
	volumeCall  callKind = "volume call"
	switchCall  callKind = "failover completed"
	freezeCall  callKind = "freeze"
)

type call struct {
	driver *driver
	host   string
	kind   callKind
	epoch  uint64
	claim  uint64
	group  string // of the volume
	site   string // that the volume of a group is said to be at
	slept  int    // how often the machine had been stopped when the call began
	fenced bool   // another has promoted meanwhile: a storage with fencing tokens would refuse it
}

// active reports whether a call may be doing something at the storage: one of a
// machine that is stopped does not.
func (c *call) active() bool { return !c.driver.agent.machineStopped() }

func newArray(l *leases, m *moments, stats *Coverage) *Array {
	return &Array{
		leases: l, moments: m, stats: stats,
		touch:    func(string) (time.Duration, bool) { return 0, true },
		promoted: fsm.DefaultBackendID, slow: 300 * time.Millisecond, opTime: 20 * time.Millisecond, letGo: 200 * time.Millisecond,
		groups: map[string]string{}, groupCalls: map[string]string{},
		inFlight: map[*call]struct{}{}, switches: map[string]uint64{}, sites: map[string]string{}, drivers: map[string]*driver{},
		failed: map[uint64][]string{}, refuse: map[string]error{}, stuck: map[string]bool{},
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

// Moody makes volume calls slow, fail, hang or succeed after their caller gave up,
// at random.
func (a *Array) Moody(rnd *rand.Rand, letGo time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.rnd, a.letGo = rnd, letGo
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

// Heal ends all that was set to go wrong.
func (a *Array) Heal() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.next, a.rnd = nil, nil
	clear(a.refuse)
	clear(a.stuck)
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
	for c := range a.inFlight {
		if c.kind == promoteCall {
			return c.host
		}
	}
	return ""
}

// Busy reports whether a volume call of host is in flight.
func (a *Array) Busy(host string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for c := range a.inFlight {
		if c.host == host && c.kind == volumeCall {
			return true
		}
	}
	return false
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

// failedUnder returns the volumes that the promotion under a claim reported
// failed, sorted.
func (a *Array) failedUnder(claim uint64) []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.failed[claim])
}

func (a *Array) violate(format string, args ...any) {
	a.violations = append(a.violations, fmt.Sprintf(format, args...))
}

// enter notes that a call starts, and what is wrong with that. The rules are
// independent of what the product believes: the leases are those that the network
// has seen granted, the sites those that the array was told to promote.
func (a *Array) enter(c *call) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.g3SingleSite(c)
	a.g4LeasedCall(c)
	a.g10ToldBeforeServing(c)
	a.g16OnePromotion(c)
	switch c.kind {
	case promoteCall:
		a.promotions++
		a.promoteTo = c.epoch
	case volumeCall:
		a.calls++
	case switchCall, freezeCall:
	}
	a.stats.Add("driver: "+string(c.kind), 1)
	a.inFlight[c] = struct{}{}
}

// g3SingleSite: from the moment the call promoting to an epoch starts, no call of
// an older one is in flight or starts.
func (a *Array) g3SingleSite(c *call) {
	if c.kind != promoteCall {
		if c.epoch < a.promoteTo {
			a.violate("G3: a %s of %s of epoch %d starts after the promotion to epoch %d", c.kind, c.host, c.epoch, a.promoteTo)
		}
		return
	}
	for o := range a.inFlight {
		if o.epoch < c.epoch && !a.mayOverlap(o, c) {
			a.violate("G3: %s promotes to epoch %d while a %s of %s of epoch %d is in flight", c.host, c.epoch, o.kind, o.host, o.epoch)
		}
	}
}

// g4LeasedCall: no call begins when the lease of its service has ended by all that
// its node can have heard.
func (a *Array) g4LeasedCall(c *call) {
	if late := a.leases.overdue(c.driver.agent.node, c.host); late > 0 {
		a.violate("G4: a %s of %s of epoch %d starts %v after the end of the last lease that was granted", c.kind, c.host, c.epoch, late)
	}
}

// g10ToldBeforeServing: a driver serves the site that it was told, which is the
// one that takes writes, under the epoch that it was told.
func (a *Array) g10ToldBeforeServing(c *call) {
	if c.kind != volumeCall {
		return
	}
	if a.switches[c.host] != c.epoch {
		a.violate("G10: a call of %s of epoch %d, whose driver was told epoch %d", c.host, c.epoch, a.switches[c.host])
	}
	if c.group != "" {
		a.groupCalls[c.host] = c.site
		if at, ok := a.groups[c.group]; c.site != at && (ok || c.site != a.promoted) {
			a.violate("G10: a call of %s on group %s at %q, which takes writes at %q", c.host, c.group, c.site, at)
		}
		return
	}
	if a.sites[c.host] != a.promoted {
		a.violate("G10: a call of %s on %q while %q takes writes", c.host, a.sites[c.host], a.promoted)
	}
}

// g16OnePromotion: at most one promotion call is in flight, over all attempts.
func (a *Array) g16OnePromotion(c *call) {
	for o := range a.inFlight {
		if c.kind == promoteCall && o.kind == promoteCall && !a.mayOverlap(o, c) {
			a.violate("G16: %s promotes (claim %d) while %s does (claim %d)", c.host, c.claim, o.host, o.claim)
		}
	}
}

func (a *Array) leave(c *call) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.inFlight, c)
	a.g4CallsEnd(c)
}

// g4CallsEnd: K after the lease of its service has ended no call is in flight, unless
// its process cannot be ended, or its machine stood still.
func (a *Array) g4CallsEnd(c *call) {
	if c.driver.late.agent != nil || c.slept != c.driver.agent.slept() {
		return
	}
	late := a.leases.overdue(c.driver.agent.node, c.host) - time.Duration(float64(lease().Kill)/(1-lease().ClockError))
	if late > 0 {
		a.violate("G4: a %s of %s of epoch %d ends %v after K after the last lease that was granted", c.kind, c.host, c.epoch, late)
	}
}

func (a *Array) behaviour() (Behaviour, time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	b := Succeed
	if len(a.next) > 0 {
		b, a.next = a.next[0], a.next[1:]
	}
	a.stats.Add("promotion: "+b.String(), 1)
	return b, a.slow
}

// promote makes the target take writes: of one group, or of all there is.
func (a *Array) promote(req driverhost.FailoverRequest) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if req.Group == "" {
		a.promoted = req.Target
	}
	for _, m := range req.Groups {
		a.groups[m.ID] = m.Target
	}
}

// groupSite returns the site of the last call of a service about a volume of a group.
func (a *Array) groupSite(host string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.groupCalls[host]
}

// withdraw says that nothing is promoted by the call to epoch.
func (a *Array) withdraw(epoch uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.promoteTo == epoch {
		a.promoteTo = epoch - 1
	}
}

// reportFailed notes which volumes the promotion under a claim reports failed.
func (a *Array) reportFailed(claim uint64, volumes []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.failed[claim] = slices.Sorted(slices.Values(volumes))
}

// driver returns the driver of a host that runs, or nil.
func (a *Array) driver(host string) *driver {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.drivers[host]
}
