package clustertest

import (
	"strings"
	"time"

	"github.com/lockstep-storage/lockstep/fsm"
)

// lateness is since when an agent was to tell that a driver's process does not end,
// whether it could or not. The zero value is that of a process that ends in time.
type lateness struct {
	since time.Duration
	agent *process // that saw it last, or would have if it had lived
}

// toReport notes that a process has not ended in time, as an agent sees it.
func (a *Array) toReport(d *driver, agent *process) {
	if d == nil {
		return // it has ended just now
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if d.late.agent == nil {
		a.stats.Add("driver: stuck", 1)
	}
	d.late = lateness{a.leases.now(), agent}
}

// sleptPast reports whether the machine of a call was stopped for so long that the
// kernel kills its process as soon as that goes on. A request on its way at that moment
// is what nobody promises to hold back.
func (c *call) sleptPast() bool {
	agent := c.driver.agent
	return c.slept != agent.slept() && agent.clock() >= c.driver.deadline()+killAfter()
}

// mayOverlap reports whether a promotion may begin although a call is in flight. One of a
// machine that is stopped does nothing; what it does when that goes on past its kill, a
// storage with fencing tokens would refuse. a.mu is held.
func (a *Array) mayOverlap(o, promotion *call) bool {
	if o.active() {
		return a.excused(o, promotion)
	}
	o.fenced = o.fenced || o.sleptPast()
	return true
}

// excused reports whether a promotion may begin although a call is in flight: that of a
// machine that was stopped past the kill of the process, or of a process that the kernel
// does not end, whose agent was to tell that it is stuck and could not before the claim
// was committed: it was out of touch, or nobody led. That is not promised. What such a
// process does later, a storage with fencing tokens would refuse. a.mu is held.
func (a *Array) excused(o, promotion *call) bool {
	if o.sleptPast() {
		a.stats.Add("driver: of a machine that was stopped past its kill", 1)
		o.fenced = true
		return true
	}
	late := o.driver.late
	if late.agent == nil {
		return false
	}
	claim := a.moments.ofClaim(promotion.claim)
	if told, in := late.agent.couldTell(a.touch, max(late.since, claim.led)); in && claim.at-told >= reportTime {
		return false
	}
	a.stats.Add("driver: stuck, and nobody could be told", 1)
	o.fenced = true
	return true
}

// reportTime is ample for a member in touch to commit a report: for an election, for a
// question whose answer was lost, and for a lease of whoever has just started.
const reportTime = 5 * time.Second

// couldTell is since when an agent could tell what it saw, if it still can.
func (p *process) couldTell(touch func(string) (time.Duration, bool), saw time.Duration) (since time.Duration, can bool) {
	since, can = touch(p.node)
	return max(since, saw), can && p.lives()
}

// isFenced reports whether another promotion began during a call of a process that the
// kernel did not end.
func (a *Array) isFenced(c *call) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return c.fenced
}

// unreported returns a host whose driver's process cannot be ended, and whose agent has
// been able to tell for so long; empty if there is none.
func (a *Array) unreported(shown func(host string) bool) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	for host, d := range a.drivers {
		if d.late.agent == nil || shown(host) {
			continue
		}
		if since, can := d.late.agent.couldTell(a.touch, d.late.since); can && a.leases.now()-since >= reportTime {
			return host
		}
	}
	return ""
}

// stuckIsReported: a member in touch tells that its driver's process cannot be ended.
func (c *Cluster) stuckIsReported() {
	if !c.majorityInTouch() {
		return
	}
	for name, a := range c.Arrays {
		if host := a.unreported(c.oracle.showsStuck); host != "" {
			c.tb.Errorf("%s: the driver of %s cannot be ended, and after %v nobody was told", name, host, reportTime)
		}
	}
}

// majorityInTouch reports whether most of the nodes have been in touch with all for so long.
func (c *Cluster) majorityInTouch() bool {
	all, in := c.members(), 0
	for _, m := range all {
		if since, is := c.inTouch(m.ID); is && c.now()-since >= reportTime {
			in++
		}
	}
	return 2*in > len(all)
}

// showsStuck reports whether it is committed that the driver of a host cannot be ended.
func (o *oracle) showsStuck(host string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	svc, _ := o.state.Service(host)
	return svc.Stuck
}

// stuckStopsFailovers: while a member's driver cannot be ended, no attempt begins, what
// it owes stays with it, and a failover that ends for it says what to do.
func (o *oracle) stuckStopsFailovers(s *step) {
	if s.refused != nil || s.repeats {
		return
	}
	id := ""
	switch cmd := s.cmd.(type) {
	case fsm.Assign:
		id = cmd.Failover
	case fsm.Claim:
		id = cmd.Failover
	case fsm.GiveUp:
		o.givesAdvice(s, cmd)
	case fsm.MoveOperations:
		if svc, _ := s.before.Service(cmd.From); svc.Stuck {
			o.violate("stuck: entry %d gives what %s owes, whose driver cannot be ended, to %s", s.index, cmd.From, cmd.To)
		}
	}
	f, _ := s.before.Failover(id)
	if host := stuckMember(s.before, f.Cluster); host != "" {
		o.violate("stuck: entry %d (%T) begins an attempt of failover %s although the driver of %s cannot be ended", s.index, s.cmd, id, host)
	}
}

// givesAdvice holds the end of a failover for a driver that cannot be ended against
// what people need to know.
func (o *oracle) givesAdvice(s *step, cmd fsm.GiveUp) {
	f, _ := s.before.Failover(cmd.Failover)
	host := stuckMember(s.before, f.Cluster)
	if host == "" {
		return
	}
	svc, _ := s.before.Service(host)
	o.stats.Add("failover: failed for a stuck driver", 1)
	for _, said := range []string{host, "power off " + svc.Node, "peers remove " + svc.Node} {
		if !strings.Contains(cmd.Error, said) {
			o.violate("stuck: entry %d ends failover %s for the driver of %s without %q: %q", s.index, f.ID, host, said, cmd.Error)
		}
	}
}

// stuckMember is a member of a cluster whose driver cannot be ended, if there is one.
func stuckMember(s *fsm.State, cluster string) string {
	for svc := range s.Members(cluster) {
		if svc.Stuck {
			return svc.Host
		}
	}
	return ""
}
