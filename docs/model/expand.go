package main

// expander computes the successors of one state after the other. It keeps its
// memory, so that a step of the search allocates nothing.
type expander struct {
	*model
	from *state
	head [maxClusters]record           // what is committed
	view [maxNodes][maxClusters]record // what each node has applied
	out  []successor
	n    int // successors so far
}

// successor is a state that one event leads to.
type successor struct {
	to    state
	event event
	fault bool // nothing obliges the event to happen, or to stop happening
}

func newExpander(m *model) *expander {
	return &expander{model: m, out: make([]successor, 256)}
}

// expand returns all successors of s. They are valid until the next call.
func (x *expander) expand(s *state) []successor {
	x.from, x.n = s, 0
	x.look()
	for c := range x.clusters {
		x.clients(c)
	}
	for i := range x.nodes {
		x.raft(i)
		for c := range x.clusters {
			m := &member{expander: x, c: c, i: i, now: &s.services[c][i], node: &s.nodes[i], sees: &x.view[i][c]}
			m.network()
			if m.node.activity == running {
				m.leasing()
				m.serve()
				m.execute()
			}
			m.driverProcess()
		}
		if s.nodes[i].activity == running && s.nodes[i].believes {
			x.lead(i)
		}
		x.faults(i)
	}
	x.ticks()
	return x.out[:x.n]
}

// look replays the log, once for all nodes.
func (x *expander) look() {
	s, at := x.from, x.from.base
	for i := range x.nodes {
		if s.nodes[i].applied == nothing {
			x.view[i] = x.fresh()
		}
	}
	for index := uint8(0); ; index++ {
		for i := range x.nodes {
			if s.nodes[i].applied == index {
				x.view[i] = at
			}
		}
		if index == s.length {
			break
		}
		x.replay(&at, s.log[index])
	}
	x.head = at
}

// fresh is what a node knows that has just started.
func (m *model) fresh() (records [maxClusters]record) {
	for c := range m.clusters {
		records[c] = record{epoch: 1}
	}
	return records
}

// headOf is what is committed in t, a branch of the state that is expanded.
func (x *expander) headOf(t *state) [maxClusters]record {
	at := x.head
	if t.length < x.from.length { // a log that has lost its end
		at = t.base
		for _, e := range t.log[:t.length] {
			x.replay(&at, e)
		}
		return at
	}
	for _, e := range t.log[x.from.length:t.length] {
		x.replay(&at, e)
	}
	return at
}

// branch returns a copy of the state that is expanded, to be edited and then
// given to take, or left.
func (x *expander) branch() *state {
	if x.n == len(x.out) {
		x.out = append(x.out, make([]successor, len(x.out))...)
	}
	t := &x.out[x.n].to
	*t = *x.from
	return t
}

// take adds the branch as a successor: something that happens by itself.
func (x *expander) take(e event) { x.add(e, false) }

// fault adds the branch as something that need not happen.
func (x *expander) fault(e event) { x.add(e, true) }

func (x *expander) add(e event, fault bool) {
	v := &x.out[x.n]
	v.event, v.fault = e, fault
	x.check(&v.to)
	x.compact(&v.to)
	x.n++
}

// leading reports whether the true leader can commit.
func (x *expander) leading() bool {
	l := x.from.leader
	return l != nobody && x.from.nodes[l].activity == running && x.from.nodes[l].ready
}

// clients asks for failovers, and aborts them.
func (x *expander) clients(c int) {
	if !x.leading() || c >= x.failing {
		return
	}
	k := requested
	if x.planned {
		k = requestedPlanned
	}
	if t := x.branch(); x.commit(t, command{kind: k, cluster: c}) {
		x.fault(event{what: clientAsks, cluster: c, a: x.head[c].failover + 1})
	}
	if !x.aborts {
		return
	}
	if t := x.branch(); x.commit(t, command{kind: abortedBy, cluster: c}) {
		x.fault(event{what: clientAborts, cluster: c})
	}
}

// raft lets a node apply what is committed, win an election, and pass its barrier.
func (x *expander) raft(i int) {
	n := &x.from.nodes[i]
	if n.activity != running {
		return
	}
	switch {
	case n.applied == nothing:
		x.branch().nodes[i].applied = 0
		x.take(event{what: installs, node: i})
	case n.applied < x.from.length:
		x.branch().nodes[i].applied++
		x.take(event{what: applies, node: i, kind: x.from.log[n.applied].kind()})
	}
	if n.believes && i == int(x.from.leader) && !n.ready && n.applied == x.from.length {
		x.branch().nodes[i].ready = true
		x.take(event{what: leads, node: i})
	}
}
