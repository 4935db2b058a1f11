package main

// faults are what may happen to a node and its driver processes, as often as the
// budgets allow; and what must happen to one that was broken, so that it returns.
func (x *expander) faults(i int) {
	s := x.from
	n := &s.nodes[i]
	switch n.activity {
	case running:
		x.pause(i)
	case asleep, stopped:
		x.resume(i)
	case down:
		x.restart(i)
	}
	if n.activity != down && s.crashes < x.crashes {
		x.crash(i)
	}
	for c := range x.clusters {
		x.commitPlan(i, c)
	}
	x.elect(i)
}

func (x *expander) pause(i int) {
	if x.from.pauses >= x.pauses {
		return
	}
	for _, p := range [...]struct {
		allowed  bool
		activity activity
		what     what
	}{{x.pauseMachine, asleep, fallsAsleep}, {x.pauseAgent, stopped, isStopped}} {
		if p.allowed {
			t := x.branch()
			t.pauses++
			t.nodes[i].activity = p.activity
			x.fault(event{what: p.what, node: i})
		}
	}
}

// resume wakes a node. A driver process whose deadline has passed exits before it
// makes another request.
func (x *expander) resume(i int) {
	t := x.branch()
	t.nodes[i].activity = running
	for c := range x.clusters {
		v := &t.services[c][i]
		if x.flaws.noDriverDeadline || v.lease > 0 {
			continue
		}
		if v.call.kind != idle {
			v.call = call{}
			x.kill(v)
		}
		if v.exec.inDriver() {
			v.exec = execution{}
			x.kill(v)
		}
	}
	x.take(event{what: wakes, node: i})
}

// kill ends a driver process: its successor has been told nothing.
func (x *expander) kill(v *service) {
	v.driver = 0
	if !x.flaws.toldKept {
		v.told = 0
	}
	if x.gate != forgetful {
		v.gate = 0
	}
}

// crash ends an agent. Its driver process may live on for a while.
func (x *expander) crash(i int) {
	t := x.branch()
	t.crashes++
	for c := range x.clusters {
		x.crashService(&t.services[c][i], i)
	}
	plans := t.nodes[i].plans
	t.nodes[i] = node{activity: down, applied: nothing}
	if i == int(t.leader) {
		t.leader = nobody
		t.nodes[i].plans = plans // may be in the log already
	}
	x.fault(event{what: crashes, node: i})
}

func (x *expander) crashService(v *service, i int) {
	old := *v
	*v = service{report: old.report, late: old.late, orphan: old.orphan}
	if x.orphans && x.from.nodes[i].activity != asleep { // of a machine that sleeps, all is lost
		v.orphan.inherit(&old)
		if v.orphan.epoch > 0 || v.orphan.promotes {
			v.orphan.time = x.orphanTime(&old, i)
		}
	}
	if x.flaws.toldKept {
		v.told = old.told
	}
	if x.gate == forgetful {
		v.gate = gateForgot
	}
}

func (o *orphan) inherit(v *service) {
	if v.call.kind != idle {
		o.epoch = v.call.epoch
	}
	if v.exec.inDriver() {
		o.promotes, o.failover, o.attempt = true, v.exec.failover, v.exec.attempt
	}
}

// orphanTime is how long a driver process can work on without its agent.
func (x *expander) orphanTime(v *service, i int) uint8 {
	switch {
	case x.flaws.noDriverDeadline:
		return noOrphanTime
	case v.call.kind == idle && !v.exec.inDriver():
		return v.lease
	}
	return v.lease + x.killOf[i]
}

// restart starts an agent again, once it holds the lock that the driver process
// before it has inherited.
func (x *expander) restart(i int) {
	for c := range x.clusters {
		o := &x.from.services[c][i].orphan
		if x.orphans && (o.epoch > 0 || o.promotes) && !x.flaws.orphanIgnored {
			return
		}
	}
	x.branch().nodes[i].activity = running
	x.take(event{what: restarts, node: i})
}
