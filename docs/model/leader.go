package main

// lead is the coordinator's loop: what the leader decides next, and its commit.
func (x *expander) lead(i int) {
	n := &x.from.nodes[i]
	if !n.ready || i != int(x.from.leader) && !x.flaws.planForwarded {
		return
	}
	for c := range x.failing {
		if n.plans[c].kind != noCommand {
			continue
		}
		r := &x.view[i][c]
		switch {
		case r.phase == draining && x.allDrained(n, c, r), r.phase == promoting && (x.gone(n, c, r.executor) || r.ended):
			x.assign(i, c)
		case r.phase == draining && x.anyStuck(c):
			x.plan(i, c, plan{kind: gaveUp, failover: r.failover})
		case r.phase == switching && x.allSwitched(n, c, r):
			x.plan(i, c, plan{kind: finished, failover: r.failover})
		}
	}
}

// gone reports whether a leader holds a member for one that can have no lease.
func (x *expander) gone(n *node, c int, member uint8) bool { return n.grants[c][member] == 0 }

// allDrained reports whether every member has drained or is gone.
func (x *expander) allDrained(n *node, c int, r *record) bool {
	for j := range uint8(x.nodes) {
		if !has(r.drained, j) && !x.gone(n, c, j) {
			return false
		}
	}
	return true
}

// anyStuck reports whether a member has said that its driver cannot be killed.
func (x *expander) anyStuck(c int) bool {
	for i := range x.nodes {
		if x.from.services[c][i].stuck {
			return true
		}
	}
	return false
}

// allSwitched reports whether every member in touch has switched.
func (x *expander) allSwitched(n *node, c int, r *record) bool {
	for j := range uint8(x.nodes) {
		if !has(r.switched, j) && !x.gone(n, c, j) {
			return false
		}
	}
	return true
}

// assign gives a failover to any executor that may be there, or gives it up.
func (x *expander) assign(i, c int) {
	n, r := &x.from.nodes[i], &x.view[i][c]
	p := plan{kind: assigned, failover: r.failover, attempt: r.attempt, claims: r.claims}
	if r.attempt >= x.attempts {
		if p.kind = gaveUp; x.outcomes {
			x.plan(i, c, p)
		}
		return
	}
	for j := range x.nodes {
		if !x.gone(n, c, uint8(j)) || j == i {
			p.executor = uint8(j)
			x.plan(i, c, p)
		}
	}
}

func (x *expander) plan(i, c int, p plan) {
	x.branch().nodes[i].plans[c] = p
	e := event{what: decides, cluster: c, node: i, kind: p.kind, a: p.executor, b: p.attempt + 1}
	if i != int(x.from.leader) {
		e.what = decidesDeposed
	}
	x.take(e)
}

// commitPlan commits what a leader has decided. It is refused in another term,
// and never forwarded: a deposed leader's decision is lost.
func (x *expander) commitPlan(i, c int) {
	p := x.from.nodes[i].plans[c]
	if p.kind == noCommand || i != int(x.from.leader) && (!x.flaws.planForwarded || !x.leading()) {
		return
	}
	t := x.branch()
	e := event{what: planCommits, cluster: c, node: i, kind: p.kind, a: p.executor, b: p.attempt + 1}
	if !x.commit(t, p.command(c)) {
		e.what = planRefused
	}
	t.nodes[i].plans[c] = plan{}
	x.take(e)
}

func (p plan) command(c int) command {
	return command{kind: p.kind, cluster: c, member: p.executor, failover: p.failover, attempt: p.attempt, claims: p.claims}
}

// elect lets a running node win an election. What the old leader had proposed in
// its term may commit with it, or is lost.
func (x *expander) elect(i int) {
	s := x.from
	free := s.leader == nobody
	if s.nodes[i].activity != running || i == int(s.leader) || s.elections >= x.elections && !free {
		return
	}
	if old := x.pending(); old == nobody {
		x.win(x.branch(), event{what: wins, node: i})
	} else {
		t := x.branch()
		t.nodes[old].plans = [maxClusters]plan{}
		x.win(t, event{what: winsPlanLost, node: i})
		x.win(x.branchCommitted(old), event{what: winsPlanCommits, node: i})
	}
	if x.flaws.emptiedDiskVotes && x.mayLose(i) {
		t := x.branch()
		x.loseLog(t, s.nodes[i].applied)
		x.enthrone(t, i)
		x.fault(event{what: wonByEmptied, node: i})
	}
}

// pending is the node whose decisions may be in the log of a term that ends.
func (x *expander) pending() int {
	for i := range x.nodes {
		n := &x.from.nodes[i]
		if i != int(x.from.leader) && n.activity != down {
			continue
		}
		for c := range x.clusters {
			if n.plans[c].kind != noCommand {
				return i
			}
		}
	}
	return nobody
}

// branchCommitted is a branch in which what old had proposed is committed.
func (x *expander) branchCommitted(old int) *state {
	t := x.branch()
	for c, p := range t.nodes[old].plans {
		if p.kind != noCommand {
			x.commit(t, p.command(c))
		}
	}
	t.nodes[old].plans = [maxClusters]plan{}
	return t
}

func (x *expander) win(t *state, e event) {
	x.enthrone(t, e.node)
	x.add(e, x.from.leader != nobody)
}

// enthrone makes i the leader of t. It holds nobody for gone before the grants of
// earlier leaders have run out, heard of or not.
func (x *expander) enthrone(t *state, i int) {
	if old := t.leader; old != nobody {
		t.nodes[old].lag = x.lag
		x.arrived(t, old)
	}
	t.elections = min(t.elections+1, max(x.elections, x.from.elections))
	n := &t.nodes[i]
	n.believes, n.lag, n.ready = true, 0, x.flaws.noBarrier
	n.plans, n.grants = [maxClusters]plan{}, [maxClusters][maxNodes]uint8{}
	for c := range x.clusters {
		for j := range x.nodes {
			if !x.flaws.noWait {
				n.grants[c][j] = x.grace + x.extraWait
			}
		}
	}
	t.leader = uint8(i)
}

// arrived marks the questions that old may have had proven before it was deposed.
func (x *expander) arrived(t *state, old uint8) {
	for c := range x.clusters {
		for j := range x.nodes {
			if q := &t.services[c][j].ask; q.stage == asked && q.to == old {
				q.early = true
			}
		}
	}
}

// mayLose reports whether everybody that has applied more than i is down, so that
// only the logs of voters speak for what was committed after it.
func (x *expander) mayLose(i int) bool {
	at := x.from.nodes[i].applied
	if at == nothing || at >= x.from.length {
		return false
	}
	for j := range x.nodes {
		n := &x.from.nodes[j]
		if n.activity != down && n.applied != nothing && n.applied > at {
			return false
		}
	}
	return true
}

// loseLog is what follows when a voter whose disk was emptied votes: entries that
// it had confirmed are on no majority any more.
func (x *expander) loseLog(t *state, length uint8) {
	clear(t.log[length:])
	t.length = length
}
