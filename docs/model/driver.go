package main

// gateKind says how the gate decides. Only pure is right.
type gateKind uint8

const (
	pure         gateKind = iota // asks the applied state each time
	remembered                   // is a flag that the worker sets
	forgetful                    // asks the state, but a restart forgets that a drain is under way
	gateForgot   = 9             // value of service.gate: a restart that has not seen the drain yet
	noOrphanTime = 255
)

// network delivers reports and questions. Each may be late; the log decides
// whether a report still counts.
func (m *member) network() {
	if m.now.report.kind != noCommand && m.leading() {
		m.deliver()
	}
	if m.now.late.kind != noCommand && m.leading() {
		m.deliverLate()
	}
	if m.now.ask.stage == asked {
		m.grant()
	}
}

// deliver takes a report to the log.
func (m *member) deliver() {
	t, v := m.branchOf()
	ok := m.commit(t, m.command(v.report))
	v.report = message{}
	if m.node.activity != down {
		answerTo(&v.exec, m.now.report.kind, ok, t.length)
	}
	m.take(m.about(m.answers(ok), m.now.report))
}

// deliverLate takes a report to the log that a later one has overtaken. Nobody
// waits for the answer.
func (m *member) deliverLate() {
	t, v := m.branchOf()
	ok := m.commit(t, m.command(v.late))
	v.late = message{}
	m.take(m.about(m.answers(ok), m.now.late))
}

func (m *member) command(r message) command {
	return command{
		kind: r.kind, cluster: m.c, member: uint8(m.i), failover: r.failover, attempt: r.attempt,
		claims: r.claim, epoch: r.epoch,
	}
}

// answers says what the log has answered.
func (m *member) answers(accepted bool) event { //nolint:revive // the answer is the parameter
	if accepted {
		return m.did(commits)
	}
	return m.did(isRefused)
}

func (m *member) about(e event, r message) event {
	e.kind, e.a, e.b = r.kind, r.failover, r.attempt
	return e
}

// answerTo tells an executor what became of its report.
func answerTo(e *execution, k kind, accepted bool, length uint8) {
	switch {
	case k == claimMade && e.stage == claiming && accepted:
		e.ack = length + 1
	case k == claimMade && e.stage == claiming, k.endsAttempt() && e.stage.ended():
		*e = execution{}
	}
}

// endsAttempt reports whether k is an executor's word that its calls have ended.
func (k kind) endsAttempt() bool {
	return k == completed || k == refusedBy || k == refusedReopened || k == attemptEnded
}

// ended reports whether the driver's calls of a promotion have ended.
func (s stage) ended() bool {
	return s == succeeded || s == refused || s == lost || s == reopened || s == staging
}

// serve lets a running agent tell its driver of the committed site, admit calls,
// and report that it has drained or switched.
func (m *member) serve() {
	v, r := m.now, m.sees
	forgot := m.gate == forgetful && v.gate == gateForgot
	drains := r.phase.busy() && !forgot
	if v.lease > 0 && v.call.kind == idle && v.told < r.epoch && !r.held && (!drains || m.flaws.toldFirst) {
		m.start(tellCall, r.epoch)
	}
	if v.call.kind == tellCall {
		_, n := m.branchOf()
		n.told, n.driver, n.call = v.call.epoch, v.call.epoch, call{}
		m.take(m.did(told))
	}
	open, epoch := !drains && !r.held && v.told == r.epoch && v.told > 0, v.told
	if m.gate == remembered {
		open, epoch = v.gate > 0, v.gate
	}
	m.moveGate()
	if open && v.lease > 0 && v.call.kind == idle && m.volumes && m.c < m.failing {
		m.start(volumeCall, epoch)
	}
	m.reportProgress()
}

// reportProgress reports that the member has drained, or that it has switched.
func (m *member) reportProgress() {
	v, r := m.now, m.sees
	closed := m.gate != remembered || v.gate == 0
	if r.phase == draining && !has(r.drained, uint8(m.i)) && closed && m.maySayDrained() && m.mayReport(memberDrained, r.failover) {
		m.send(message{kind: memberDrained, failover: r.failover})
	}
	if r.phase == switching && v.told == r.epoch && !has(r.switched, uint8(m.i)) && m.mayReport(memberSwitched, 0) {
		m.send(message{kind: memberSwitched, failover: r.failover, epoch: r.epoch})
	}
}

// moveGate moves the flag of a gate that has one.
func (m *member) moveGate() {
	v, r := m.now, m.sees
	to := v.gate
	switch {
	case m.gate == forgetful && v.gate == gateForgot && !r.phase.busy(), m.gate == remembered && r.phase.busy():
		to = 0
	case m.gate == remembered && v.told == r.epoch:
		to = r.epoch
	}
	if to != v.gate {
		_, n := m.branchOf()
		n.gate = to
		m.take(m.did(gateMoves))
	}
}

// start begins a driver call, and judges it.
func (m *member) start(k callKind, epoch uint8) {
	t, v := m.branchOf()
	v.call = call{kind: k, epoch: epoch, kill: m.killOf[m.i]}
	t.broken = m.judgeStart(t, v, k)
	e := m.did(startsVolumeCall)
	e.a = epoch
	if k == tellCall {
		e.what = startsTelling
	}
	m.take(e)
	if k == volumeCall && m.from.hangs < m.hangs {
		t, v := m.branchOf()
		v.call = call{kind: k, epoch: epoch, kill: m.killOf[m.i], hangs: true}
		t.hangs++
		e.what = startsHangingCall
		m.fault(e)
	}
}

// maySayDrained reports whether no call of the old epoch is in flight.
func (m *member) maySayDrained() bool { return m.now.call.kind == idle || m.flaws.noDrain }

// mayReport reports whether a report may be sent. A new one may take the place of
// one that is under way, which is then lost; the same is not sent twice.
func (m *member) mayReport(k kind, failover uint8) bool {
	r := &m.now.report
	return r.kind != k || k == memberDrained && r.failover != failover
}

func (m *member) send(r message) {
	_, v := m.branchOf()
	v.report = r
	m.take(m.sends(r))
}

func (m *member) sends(r message) event {
	return m.about(m.did(sends), r)
}

// driverProcess goes on without its agent.
func (m *member) driverProcess() {
	if a := m.node.activity; a == running || a == stopped {
		m.callsEnd()
	}
	o := &m.now.orphan
	if o.epoch > 0 {
		_, v := m.branchOf()
		v.orphan.epoch = 0
		v.orphan.tidy()
		m.take(m.did(orphanCallEnds))
	}
	if o.promotes {
		_, v := m.branchOf()
		v.orphan.promotes, v.orphan.failover, v.orphan.attempt = false, 0, 0
		v.orphan.tidy()
		m.take(m.did(orphanPromotionEnds))
	}
}

func (o *orphan) tidy() {
	if o.epoch == 0 && !o.promotes {
		o.time = 0
	}
}

// callsEnd ends the calls in flight in one of the ways in which they may end.
func (m *member) callsEnd() {
	if m.now.call.kind == volumeCall && !m.now.call.hangs {
		_, v := m.branchOf()
		v.call = call{}
		m.take(m.did(callEnds))
	}
	at := m.now.exec.stage
	if at == promotes {
		m.promotionEnds()
	}
	if at == demotes {
		m.stageEnds(demoted, endsDemoting, m.take)
	}
	if at == demotes && m.refusals {
		m.stageEnds(denied, refusesDemoting, m.fault)
	}
	if at == reopens {
		t, v := m.branchOf()
		v.exec.stage = reopened
		t.sites[m.c].closed = false
		m.take(m.did(endsReopening))
		m.stageEnds(lost, losesCall, m.fault)
	}
}

func (m *member) stageEnds(to stage, w what, add func(event)) {
	_, v := m.branchOf()
	v.exec.stage = to
	add(m.did(w))
}

func (m *member) promotionEnds() {
	m.stageEnds(succeeded, endsPromoting, m.take)
	if !m.refusals {
		return
	}
	t, v := m.branchOf()
	v.exec.stage = refused
	if m.planned && !m.flaws.failsBeforeReopening {
		v.exec.stage = denied
	}
	// The driver's word: this call has promoted nothing, or undone it.
	t.sites[m.c].touched -= min(1, t.sites[m.c].touched)
	m.fault(m.did(refusesPromoting))
	if m.outcomes {
		m.stageEnds(lost, losesCall, m.fault)
	}
}
