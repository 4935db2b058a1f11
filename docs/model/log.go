package main

// kind is what an entry of the log says.
type kind uint8

const (
	noCommand kind = iota
	requested
	requestedPlanned
	memberDrained
	assigned
	claimMade
	completed
	refusedBy
	refusedReopened
	attemptEnded
	stagedResults
	stagedForeign // the same, of a claim that counts no longer
	gaveUp
	abortedBy
	memberSwitched
	finished
)

// entry is one accepted command. A command that is refused changes nothing and
// is not kept; so an entry needs none of what it was compared with.
type entry uint8

func newEntry(k kind, cluster int, member uint8) entry {
	return entry(uint8(k)<<3 | uint8(cluster)<<2 | member) //nolint:gosec // a cluster is 0 or 1
}

func (e entry) kind() kind    { return kind(e >> 3) }
func (e entry) cluster() int  { return int(e >> 2 & 1) }
func (e entry) member() uint8 { return uint8(e & 3) }

// command is what somebody wants committed, with what it is compared with.
type command struct {
	kind     kind
	cluster  int
	member   uint8
	failover uint8
	attempt  uint8
	claims   uint8
	epoch    uint8
}

// commit appends c to the log if the state it would meet there accepts it.
func (x *expander) commit(t *state, c command) bool {
	records := x.headOf(t)
	r := &records[c.cluster]
	if c.kind == stagedResults && c.claims != r.claims {
		c.kind = stagedForeign
	}
	if !x.accepts(r, c) {
		return false
	}
	e := newEntry(c.kind, c.cluster, c.member)
	t.log[t.length] = e
	t.length++
	before := *r
	x.replay(&records, e)
	x.settle(&t.sites[c.cluster], &before, &records[c.cluster])
	if x.eager && t.leader != nobody {
		l := &t.nodes[t.leader]
		if l.activity == running && l.ready && l.applied == t.length-1 {
			l.applied = t.length
		}
	}
	return true
}

// settle keeps what is true at the storage in step with what was committed.
func (x *expander) settle(v *site, before, after *record) {
	switch {
	case after.phase == failed && before.phase != failed && (v.touched == 0 || !x.outcomes):
		v.fence = after.epoch
	case after.phase == switching && before.phase != switching:
		v.touched, v.closed, v.token = 0, false, after.epoch
	}
}

// accepts reports whether the state machine accepts c. Every report and every
// command of a plan is a compare-and-set on failover, attempt and phase.
func (m *model) accepts(r *record, c command) bool {
	switch c.kind {
	case requested, requestedPlanned:
		return r.phase.over() && r.failover < m.failovers
	case memberDrained:
		return r.phase == draining && m.sameFailover(r, c) && !has(r.drained, c.member)
	case assigned, gaveUp:
		return m.acceptsPlan(r, c)
	case claimMade, completed, refusedBy, refusedReopened, attemptEnded, stagedResults, stagedForeign:
		return m.acceptsExecutor(r, c)
	case abortedBy:
		return r.phase == draining || r.phase == promoting && r.claims == 0 && (!r.claimed || m.flaws.abortAfterClaim)
	case memberSwitched:
		return r.phase == switching && c.epoch == r.epoch && !has(r.switched, c.member)
	case finished:
		return r.phase == switching && c.failover == r.failover
	case noCommand:
	}
	return false
}

func (m *model) sameFailover(r *record, c command) bool {
	return c.failover == r.failover || m.flaws.failoverIgnored
}

// acceptsExecutor is about the claim of an executor, and what it says afterwards.
func (m *model) acceptsExecutor(r *record, c command) bool {
	if r.phase != promoting || !m.sameFailover(r, c) || c.attempt != r.attempt && !m.flaws.attemptIgnored {
		return false
	}
	if c.kind == claimMade {
		return !r.ended && r.executor == c.member && r.claims < 2
	}
	if c.kind == stagedForeign {
		return m.flaws.chunksOfAnyClaim
	}
	counted := c.kind != completed || !m.results || r.staged != unstaged || m.flaws.resultsUncounted
	return counted && m.claimCounts(r, c)
}

// acceptsPlan is the compare-and-set of a decision that an executor is gone: it
// loses against a claim that the leader had not seen.
func (m *model) acceptsPlan(r *record, c command) bool {
	if !r.phase.busy() || c.failover != r.failover || c.attempt != r.attempt {
		return false
	}
	if c.claims != r.claims && !m.flaws.assignBlind {
		return false
	}
	return c.kind == gaveUp || r.attempt < m.attempts
}

// claimCounts reports whether what c says was done under the claim that counts.
func (m *model) claimCounts(r *record, c command) bool {
	return !m.outcomes || m.flaws.claimIgnored || !r.ended && c.claims == r.claims
}

// replay applies an accepted entry.
func (m *model) replay(records *[maxClusters]record, e entry) {
	r := &records[e.cluster()]
	m.change(r, e)
	if e.kind() == completed && m.flaws.switchesAll {
		for c := range m.clusters {
			records[c].epoch = max(records[c].epoch, r.epoch)
		}
	}
}

func (m *model) change(r *record, e entry) {
	switch e.kind() {
	case requested, requestedPlanned:
		*r = record{epoch: r.epoch, failover: r.failover + 1, phase: draining, planned: e.kind() == requestedPlanned, held: r.held}
	case memberDrained:
		r.drained |= set(e.member())
	case assigned:
		r.unknown = m.outcomes && (r.unknown || r.claims > 0 && !m.flaws.assignForgets)
		r.phase, r.attempt, r.executor, r.claims, r.ended = promoting, r.attempt+1, e.member(), 0, false
		m.dropStaged(r)
	case claimMade:
		r.unknown = r.unknown || m.outcomes && r.claims > 0 && !m.flaws.reclaimForgets
		r.claims, r.claimed = r.claims+1, true
		m.dropStaged(r)
	case stagedResults:
		r.staged = own
	case stagedForeign:
		r.staged = foreign
	case attemptEnded:
		r.ended, r.unknown = true, true
	case completed:
		*r = record{epoch: r.epoch + 1, failover: r.failover, phase: switching, attempt: r.attempt, executor: r.executor, staged: r.staged}
	case refusedBy, refusedReopened, gaveUp:
		m.fail(r, e.kind())
	case abortedBy:
		r.phase, r.drained = aborted, 0
	case memberSwitched:
		r.switched |= set(e.member())
	case finished:
		*r = record{epoch: r.epoch, failover: r.failover, phase: done}
	case noCommand:
	}
}

// fail ends a failover that did not switch. If something may be promoted, the
// gates stay closed.
func (m *model) fail(r *record, k kind) {
	if k == refusedReopened && !m.flaws.reopensSameEpoch {
		r.epoch++
	}
	if k == gaveUp {
		r.unknown = r.unknown || r.claims > 0
	}
	if m.outcomes {
		r.held = r.held || r.unknown && !m.flaws.refusalOpens
	}
	r.phase, r.drained, r.claims, r.claimed, r.staged = failed, 0, 0, false, unstaged
	r.ended, r.unknown = false, false
}

// dropStaged drops what an earlier claim has staged.
func (m *model) dropStaged(r *record) {
	if r.staged != unstaged {
		r.staged = unstaged
		if m.flaws.stagedKept {
			r.staged = foreign
		}
	}
}

func set(member uint8) uint8 { return 1 << member }

func has(members, member uint8) bool { return members>>member&1 == 1 }
