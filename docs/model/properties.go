package main

// property is what a state may break.
type property uint8

const (
	intact property = iota
	callInFlight
	callStarted
	wrongEpoch
	wrongSite
	twoPromotions
	replacedExecutor
	endedPromotion
	goneButServing
	openedAfterUnknown
	siteLeftClosed
	mixedResults
	independence
)

func (p property) String() string {
	return [...]string{
		intact:             "holds",
		callInFlight:       "G3: a call of an older epoch is in flight after the promotion has started",
		callStarted:        "G3: a call of an older epoch starts after the promotion has started",
		wrongEpoch:         "G10: a call is admitted under an epoch that is not the committed one",
		wrongSite:          "G10: a call is admitted while the driver works on another site",
		twoPromotions:      "G16: two promotion calls are in flight",
		replacedExecutor:   "G16: a promotion call is in flight that is not of the current attempt",
		endedPromotion:     "G9: a promotion call is in flight although the failover is failed or aborted",
		goneButServing:     "leases: a member that the leader holds for gone has a lease or a call in flight",
		openedAfterUnknown: "G9: the failover has failed with open gates although something may be promoted",
		siteLeftClosed:     "G9: the failover has failed with open gates, and the site in use refuses its members",
		mixedResults:       "G6: the switch was committed with results that are not its executor's",
		independence:       "G5: a service is refused its lease, or moved, because of another cluster's failover",
	}[p]
}

// short is the guarantee alone.
func (p property) short() string {
	text := p.String()
	for i, r := range text {
		if r == ':' {
			return text[:i]
		}
	}
	return text
}

// judgeStart says what a call breaks that starts now.
func (m *member) judgeStart(t *state, v *service, k callKind) property {
	site := &t.sites[m.c]
	switch {
	case m.token:
		return t.broken
	case v.call.epoch < site.fence:
		return callStarted
	case k == tellCall:
		return t.broken
	case v.call.epoch != m.head[m.c].epoch:
		return wrongEpoch
	case v.driver != v.call.epoch:
		return wrongSite
	}
	return t.broken
}

// check looks at a whole state.
func (x *expander) check(t *state) {
	if t.broken != intact {
		return
	}
	heads := x.headOf(t)
	for c := range x.clusters {
		promoting := 0
		for i := range x.nodes {
			promoting += x.checkCalls(t, c, i, &heads[c])
			if x.leases {
				x.checkLease(t, c, i)
			}
		}
		if promoting > 1 && !x.token {
			t.broken = twoPromotions
		}
		x.checkRecord(t, c, &heads[c])
	}
}

// awake reports whether the calls of a node go on. One that sleeps makes no
// request before it wakes.
func (n *node) awake() bool { return n.activity == running || n.activity == stopped }

// checkCalls looks at the calls of one member, and returns how many of them change
// a site.
func (x *expander) checkCalls(t *state, c, i int, head *record) (promoting int) {
	v, awake := &t.services[c][i], t.nodes[i].awake()
	fence := t.sites[c].fence
	active := v.call.kind != idle && awake
	if !x.token && (active && v.call.epoch < fence || v.orphan.epoch > 0 && v.orphan.epoch < fence) {
		t.broken = callInFlight
	}
	if v.exec.inDriver() && awake {
		promoting++
		x.checkPromotion(t, head, v.exec.failover, v.exec.attempt)
	}
	if v.orphan.promotes {
		promoting++
		x.checkPromotion(t, head, v.orphan.failover, v.orphan.attempt)
	}
	return promoting
}

// checkPromotion compares a call in flight with what is committed.
func (x *expander) checkPromotion(t *state, head *record, failover, attempt uint8) {
	switch {
	case x.token || head.phase == promoting && head.failover == failover && head.attempt == attempt:
	case head.failover == failover && (head.phase == failed || head.phase == aborted):
		t.broken = endedPromotion
	default:
		t.broken = replacedExecutor
	}
}

// checkLease compares a member with what the leader believes of it.
func (x *expander) checkLease(t *state, c, i int) {
	if t.broken != intact || t.leader == nobody || !t.nodes[t.leader].ready || t.nodes[t.leader].grants[c][i] > 0 {
		return
	}
	v, n := &t.services[c][i], &t.nodes[i]
	works := n.awake() && (v.call.kind != idle || v.exec.inDriver())
	if n.activity == running && v.lease > 0 || works || v.orphan.epoch > 0 || v.orphan.promotes {
		t.broken = goneButServing
	}
}

// checkRecord compares the committed record with what is true at the storage.
func (x *expander) checkRecord(t *state, c int, head *record) {
	site := &t.sites[c]
	open := head.phase == failed && !head.held
	switch {
	case t.broken != intact || !x.outcomes:
	case open && site.touched > 0:
		t.broken = openedAfterUnknown
	case open && (site.closed || site.token > head.epoch):
		t.broken = siteLeftClosed
	case x.results && head.phase == switching && head.staged != own:
		t.broken = mixedResults
	case c >= x.failing && head.epoch != 1:
		t.broken = independence
	}
}

// converged reports whether a state is one in which all is well again: the
// failover is over, and every member runs, has applied everything, has told its
// driver, and holds a lease.
func (m *model) converged(s *state) bool {
	records := s.base
	for _, e := range s.log[:s.length] {
		m.replay(&records, e)
	}
	for c := range m.clusters {
		r := &records[c]
		if !r.phase.over() {
			return false
		}
		for i := range m.nodes {
			if !s.services[c][i].settled(r) {
				return false
			}
		}
	}
	for i := range m.nodes {
		if n := &s.nodes[i]; n.activity != running || n.applied != s.length {
			return false
		}
	}
	return true
}

// settled reports whether a member works against the committed site, or keeps
// quiet because nobody knows which one that is.
func (v *service) settled(r *record) bool {
	if v.stuck {
		return true // and nobody but a person can help it
	}
	if v.lease == 0 || v.exec.stage != waits {
		return false
	}
	return r.held || v.told == r.epoch && v.driver == r.epoch
}
