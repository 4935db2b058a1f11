package main

// member is the part of one service in a step.
type member struct {
	*expander
	c    int      // its cluster
	i    int      // its node
	now  *service // before the step
	node *node    // before the step
	sees *record  // its cluster's record, as its node has applied it
}

// branchOf returns a branch and the member's part of it.
func (m *member) branchOf() (*state, *service) {
	t := m.branch()
	return t, &t.services[m.c][m.i]
}

func (m *member) did(w what) event { return event{what: w, cluster: m.c, node: m.i} }

// leasing lets a member ask for a lease, and hold it once it has applied what
// the leader had committed.
func (m *member) leasing() {
	q := &m.now.ask
	if q.stage == silent && !m.now.stuck && m.now.lease < m.leaseOf[m.i] {
		for y := range m.nodes {
			if m.from.nodes[y].believes {
				_, v := m.branchOf()
				v.ask = question{stage: asked, to: uint8(y), slow: m.drift}
				e := m.did(asks)
				e.a = uint8(y)
				m.take(e)
			}
		}
	}
	if q.stage == answered && (m.flaws.leaseUnapplied || m.node.applied != nothing && m.node.applied >= q.index) {
		m.hold()
	}
}

// hold starts the lease, counted from before it was asked for.
func (m *member) hold() {
	_, v := m.branchOf()
	v.ask = question{}
	left := m.leaseOf[m.i] - m.now.ask.age
	if m.flaws.leaseFromAnswer {
		left = m.leaseOf[m.i]
	}
	if left > v.lease {
		v.lease, v.slow = left, m.now.ask.slow
		v.call.kill, v.exec.kill = m.killOf[m.i], m.killOf[m.i]
	}
	e := m.did(holds)
	e.a = v.lease
	m.take(e)
}

// grant lets the node that was asked answer. It notes the grant before it reads
// the commit index, and answers only with the word of a majority of voters, asked
// after the question arrived.
func (m *member) grant() {
	y := int(m.now.ask.to)
	q, s := &m.from.nodes[y], m.from
	ready := q.ready || m.flaws.noBarrier
	proven := y == int(s.leader) || m.now.ask.early || m.flaws.noProof
	if !q.believes || q.activity != running || !ready || !proven {
		return
	}
	if m.uncovered(m.i) && !m.flaws.timingUnchecked {
		return
	}
	t, v := m.branchOf()
	g := &t.nodes[y].grants[m.c][m.i]
	if m.flaws.grantShortens {
		*g = m.grace
	} else {
		*g = max(*g, m.grace)
	}
	v.ask.stage, v.ask.index = answered, 0
	switch {
	case y == int(s.leader) && q.ready && !m.flaws.noBarrier:
		v.ask.index = s.length
	case q.applied != nothing:
		v.ask.index = q.applied
	}
	e := m.did(grants)
	e.a, e.b = uint8(y), v.ask.index
	if y != int(s.leader) {
		e.what = grantsDeposed
	}
	m.take(e)
	m.refuseLease(&m.view[y])
}

// uncovered reports whether the leader's grace does not cover how long a member may
// serve.
func (m *model) uncovered(i int) bool {
	return m.mixed && m.grace < m.leaseOf[i]+m.killOf[i]+m.drift
}

// refuseLease ends a step that takes too long: a member that does not drain, an
// executor whose call does not answer, is refused its next lease for this service.
func (m *member) refuseLease(view *[maxClusters]record) {
	if !m.deadlines {
		return
	}
	overdue := view[m.c].owes(uint8(m.i))
	innocent := !overdue
	if m.flaws.leasePerNode {
		for c := range m.clusters {
			overdue = overdue || view[c].owes(uint8(m.i))
		}
	}
	if !overdue {
		return
	}
	t, v := m.branchOf()
	v.ask = question{}
	if innocent && t.broken == 0 {
		t.broken = independence
	}
	m.take(m.did(refuses))
}

// owes reports whether a step of the failover waits for a member.
func (r *record) owes(i uint8) bool {
	return r.phase == draining && !has(r.drained, i) || r.phase == promoting && r.executor == i && !r.ended
}
