package main

// execute is the executor's part: claim, call, report. The claim and the call
// belong to one unbroken lease.
func (m *member) execute() {
	v, r := m.now, m.sees
	if r.phase == promoting && r.executor == uint8(m.i) && v.exec.stage == waits && v.lease > 0 && !r.ended {
		m.claim()
	}
	switch v.exec.stage {
	case claiming:
		m.awaitClaim()
	case claimed:
		if m.planned {
			m.next(demotes, startsDemoting)
		} else {
			m.next(promotes, startsPromoting)
		}
	case demoted:
		m.next(promotes, startsPromoting)
	case denied:
		m.next(reopens, startsReopening)
	case succeeded, refused, lost, reopened, staging:
		m.reportEnd()
	case waits, promotes, demotes, reopens:
	}
}

func (m *member) claim() {
	r := m.sees
	exec := execution{stage: claiming, failover: r.failover, attempt: r.attempt, epoch: r.epoch + 1}
	if m.flaws.noClaim {
		_, v := m.branchOf()
		v.exec = exec
		v.exec.stage = claimed
		m.take(m.did(thinksItExecutes))
		return
	}
	if r.claims >= 2 {
		return
	}
	_, v := m.branchOf()
	v.exec = exec
	if m.overtaking && v.late.kind == noCommand {
		v.late = v.report
	}
	v.report = message{kind: claimMade, failover: r.failover, attempt: r.attempt}
	m.take(m.sends(v.report))
}

// awaitClaim learns what became of the claim.
func (m *member) awaitClaim() {
	e := &m.now.exec
	if m.node.applied == nothing {
		return
	}
	if e.ack > 0 && m.node.applied >= e.ack-1 {
		_, v := m.branchOf()
		v.exec.stage, v.exec.ack = claimed, 0
		if m.outcomes {
			v.exec.claim = m.sees.claims
		}
		m.take(m.did(learnsOfClaim))
	}
	if e.ack == 0 && !m.mine() {
		m.giveUp(stopsWaiting)
	}
}

// mine reports whether the attempt is still this executor's, as its node knows.
func (m *member) mine() bool {
	r, e := m.sees, &m.now.exec
	return r.phase == promoting && r.executor == uint8(m.i) && r.failover == e.failover && r.attempt == e.attempt &&
		(e.claim == 0 || e.claim == r.claims || m.flaws.claimIgnored)
}

func (m *member) giveUp(w what) {
	_, v := m.branchOf()
	v.exec = execution{}
	m.take(m.did(w))
}

// next makes the next call of a promotion, if the claim still holds: lease, clock
// and record are asked right before it.
func (m *member) next(to stage, w what) {
	leased := m.now.lease > 0
	if (leased || m.flaws.noRecheck) && m.mine() {
		t, v := m.branchOf()
		v.exec.stage, v.exec.kill = to, m.killOf[m.i]
		t.sites[m.c].touchedBy(v, m.model)
		e := m.did(w)
		e.a, e.b = v.exec.epoch, v.exec.attempt
		m.take(e)
	}
	if !leased || !m.mine() {
		m.giveUp(givesUpClaim)
	}
}

// touchedBy is what a call does to the sites at its start, which is the earliest
// moment at which anybody may notice.
func (s *site) touchedBy(v *service, m *model) {
	e := &v.exec
	if e.stage == demotes {
		s.closed, s.token = true, max(s.token, e.epoch)
	}
	if e.stage != promotes {
		return
	}
	s.fence = max(s.fence, e.epoch)
	if m.outcomes {
		s.touched = min(s.touched+1, 4)
	}
}

// says is the report with which each stage ends.
func (s stage) says() kind {
	said := [...]kind{refused: refusedBy, reopened: refusedReopened, lost: attemptEnded}
	if int(s) < len(said) && said[s] != noCommand {
		return said[s]
	}
	return completed
}

// reportEnd takes the end of the calls to the log, after the results.
func (m *member) reportEnd() {
	e, underWay := &m.now.exec, m.now.report.kind
	switch {
	case m.results && e.stage == succeeded:
		if underWay != stagedResults {
			_, v := m.branchOf()
			v.exec.stage = staging
			v.report = message{kind: stagedResults, failover: e.failover, attempt: e.attempt, claim: e.claim}
			m.take(m.sends(v.report))
		}
	// This executor is worse than the code's: it goes on although it does not
	// know what became of its results.
	case !underWay.endsAttempt():
		m.send(message{kind: e.stage.says(), failover: e.failover, attempt: e.attempt, claim: e.claim})
	}
}
