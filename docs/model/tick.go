package main

// ticks lets time pass: once for every choice of clocks that are slow in this
// tick.
func (x *expander) ticks() {
	for slow := range uint8(1) << x.nodes {
		if !x.mayBeSlow(slow) {
			continue
		}
		t := x.branch()
		for i := range x.nodes {
			x.tick(t, i, has(slow, uint8(i)))
		}
		if *t == *x.from {
			continue
		}
		e := event{what: passes}
		if slow != 0 {
			e.what = passesSlowly
		}
		x.take(e)
	}
}

// mayBeSlow reports whether the clocks of these nodes may lose a tick: each may
// lose so many under one lease.
func (x *expander) mayBeSlow(slow uint8) bool {
	if slow == 0 {
		return true
	}
	for i := range x.nodes {
		if !has(slow, uint8(i)) {
			continue
		}
		if x.from.nodes[i].activity == down {
			return false
		}
		for c := range x.clusters {
			if !x.from.services[c][i].mayBeSlow() {
				return false
			}
		}
	}
	return true
}

func (v *service) mayBeSlow() bool {
	serves, asks := v.serving(), v.ask.stage != silent
	return (serves || asks) && (!serves || v.slow > 0) && (!asks || v.ask.slow > 0)
}

// serving reports whether a lease or a call makes the member's clock matter.
func (v *service) serving() bool {
	return v.lease > 0 || v.call.kind != idle || v.exec.inDriver()
}

func (x *expander) tick(t *state, i int, slow bool) { //nolint:revive // a clock is slow or it is not
	n := &t.nodes[i]
	for c := range x.clusters {
		v := &t.services[c][i]
		if slow {
			v.slow -= min(1, v.slow)
			v.ask.slow -= min(1, v.ask.slow)
		}
		counts := !slow && (n.activity != asleep || !x.flaws.clockStops)
		if counts && v.ask.stage != silent {
			x.tickQuestion(&v.ask, i)
		}
		if counts && n.activity != down {
			x.tickLease(v, n.activity)
		}
		if !x.flaws.claimOutlives && n.activity != down && v.lease == 0 && v.exec.needsLease() && !x.flaws.noClaim {
			v.exec = execution{}
		}
		v.orphan.tick()
	}
	x.tickGrants(t, n)
	x.tickBelief(t, i)
}

// tickGrants counts down until members are gone. One whose driver cannot be killed
// says so, and is waited for.
func (x *expander) tickGrants(t *state, n *node) {
	for c := range x.clusters {
		for j := range x.nodes {
			if !t.services[c][j].stuck || x.flaws.stuckCountsAsGone {
				n.grants[c][j] -= min(1, n.grants[c][j])
			}
		}
	}
}

// needsLease reports whether the executor is between its claim and the end of its
// calls: a lease that lapses there ends the claim.
func (e *execution) needsLease() bool {
	return e.stage == claiming || e.stage == claimed || e.stage == demoted || e.stage == denied
}

func (x *expander) tickQuestion(q *question, i int) {
	q.age = min(q.age+1, x.leaseOf[i])
	if q.age == x.leaseOf[i] && !x.flaws.leaseFromAnswer {
		*q = question{}
	}
}

// tickLease counts a lease down, and then the time until what runs under it is
// dead.
func (x *expander) tickLease(v *service, a activity) {
	switch {
	case v.lease > 0:
		v.lease--
	case a == running || a == stopped && !x.flaws.noDriverDeadline:
		x.tickKill(v)
	default:
		return
	}
	if v.lease == 0 && v.call.kind == idle && !v.exec.inDriver() {
		v.slow = 0
	}
}

func (x *expander) tickKill(v *service) {
	if v.call.kind != idle && countDown(&v.call.kill) {
		if v.call.hangs && x.stuck {
			v.stuck = true
		} else {
			v.call = call{}
			x.kill(v)
		}
	}
	if v.exec.inDriver() && countDown(&v.exec.kill) {
		v.exec = execution{}
		x.kill(v)
	}
}

// countDown reports whether time has just run out.
func countDown(time *uint8) bool {
	if *time == 0 {
		return false
	}
	*time--
	return *time == 0
}

func (o *orphan) tick() {
	if o.epoch == 0 && !o.promotes || o.time == noOrphanTime {
		return
	}
	o.time -= min(1, o.time)
	if o.time == 0 {
		*o = orphan{}
	}
}

// tickBelief lets a deposed leader notice, unless its machine does not run.
func (x *expander) tickBelief(t *state, i int) {
	n := &t.nodes[i]
	if !n.believes || i == int(t.leader) || n.activity != running {
		return
	}
	if n.lag > 0 {
		n.lag--
		return
	}
	n.believes, n.ready = false, false
	n.plans, n.grants = [maxClusters]plan{}, [maxClusters][maxNodes]uint8{}
}
