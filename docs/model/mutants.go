package main

// flaws are rules that can be broken on purpose. A model that does not notice is
// no evidence.
type flaws struct {
	noClaim, leaseFromAnswer, leaseUnapplied, noWait, noDrain, toldKept   bool
	failoverIgnored, attemptIgnored, toldFirst, noDriverDeadline          bool
	clockStops, noProof, noBarrier, planForwarded, assignBlind            bool
	claimOutlives, abortAfterClaim, noRecheck, orphanIgnored              bool
	grantShortens, refusalOpens, assignForgets, reclaimForgets            bool
	claimIgnored, stagedKept, chunksOfAnyClaim, resultsUncounted          bool
	reopensSameEpoch, failsBeforeReopening, leasePerNode, timingUnchecked bool
	switchesAll, emptiedDiskVotes, stuckCountsAsGone                      bool
}

// mutant is one rule broken on purpose, in a model just large enough to show it.
type mutant struct {
	name   string
	rule   string // that is broken
	caught property
	breaks func(*model)
}

// mutants are all of them. The model of each is the standard one with guarantees
// alone, so that what is found is harm and not its cause.
func mutants() []mutant {
	return append(protocolMutants(), detailMutants()...)
}

// long reports whether a mutant takes more than a few seconds to be noticed.
func (r mutant) long() bool { return r.name == "claim-ignored" || r.name == "chunks-of-any-claim" }

// protocolMutants break the rules of claims, leases and drains.
func protocolMutants() []mutant {
	return []mutant{
		{"no-claim", "an executor claims its attempt through the log", replacedExecutor, func(m *model) { m.flaws.noClaim = true }},
		{"lease-from-answer", "a lease counts from before it was asked for", callInFlight, func(m *model) { m.flaws.leaseFromAnswer = true }},
		{"lease-unapplied", "a lease counts once what the leader had committed is applied", callStarted, func(m *model) { m.flaws.leaseUnapplied = true }},
		{"no-wait", "a new leader holds nobody for gone before earlier grants have run out", callInFlight, func(m *model) { m.elections, m.flaws.noWait = 1, true }},
		{"no-drain", "a member reports its drain when no call is in flight", callInFlight, func(m *model) { m.flaws.noDrain = true }},
		{"grace-short", "G covers L and K", callInFlight, func(m *model) { m.grace = 1 }},
		{"told-kept", "what a driver was told is forgotten when its process ends", wrongSite, func(m *model) { m.crashes, m.flaws.toldKept = 1, true }},
		{"no-failover-id", "reports name their failover", callInFlight, func(m *model) { m.failovers, m.aborts, m.flaws.failoverIgnored = 2, true, true }},
		{"no-attempt", "reports and claims name their attempt", replacedExecutor, func(m *model) { m.refusals, m.flaws.attemptIgnored = true, true }},
		{"told-first", "while a failover drains or promotes, a driver is told nothing", callInFlight, func(m *model) { m.crashes, m.flaws.toldFirst = 1, true }},
		{"gate-remembered", "the gate has no memory", callInFlight, func(m *model) { m.gate = remembered }},
		{"gate-forgetful", "a gate is as closed after a restart as before it", callStarted, func(m *model) { m.crashes, m.gate = 1, forgetful }},
		{"no-deadline-asleep", "a driver process keeps its deadline when the machine wakes", callInFlight, func(m *model) { m.pauses, m.pauseMachine, m.flaws.noDriverDeadline = 1, true, true }},
		{"no-deadline-stopped", "a driver process keeps its deadline while its agent is stopped", callInFlight, func(m *model) { m.pauses, m.pauseAgent, m.flaws.noDriverDeadline = 1, true, true }},
		{"clock-stops", "the clock of a lease runs while the machine sleeps", callInFlight, func(m *model) { m.pauses, m.pauseMachine, m.flaws.clockStops = 1, true, true }},
		{"no-proof", "a lease is granted with the word of a majority of voters", callInFlight, func(m *model) { m.elections, m.pauses, m.pauseMachine, m.flaws.noProof = 1, 1, true, true }},
		{"no-barrier", "a new leader grants nothing before its barrier is applied", callStarted, func(m *model) { m.elections, m.flaws.noBarrier = 1, true }},
		{"plan-forwarded", "a decision counts in the term in which it was made", replacedExecutor, func(m *model) { m.elections, m.flaws.planForwarded = 1, true }},
		{"assign-blind", "Assign names the claim that the leader saw", replacedExecutor, func(m *model) { m.flaws.assignBlind = true }},
		{"claim-outlives-lease", "claim and call belong to one unbroken lease", replacedExecutor, func(m *model) { m.flaws.claimOutlives = true }},
		{"abort-after-claim", "a failover that any attempt has claimed cannot be aborted", callStarted, func(m *model) { m.aborts, m.flaws.abortAfterClaim = true, true }},
		{"no-recheck", "the lease is asked again right before the call", replacedExecutor, func(m *model) { m.flaws.noRecheck, m.flaws.claimOutlives = true, true }},
		{"orphan-ignored", "an agent waits for the lock of the driver process before it", callInFlight, func(m *model) { m.crashes, m.orphans, m.flaws.orphanIgnored = 1, true, true }},
		{"drift-uncovered", "G covers the error of clocks", callInFlight, func(m *model) { m.drift = 1 }},
		{"late-answer", "a deposed leader that runs late grants nothing", callInFlight, func(m *model) { m.elections, m.lag, m.flaws.noProof = 1, 1, true }},
		{"grant-shortens", "a grant never shortens an earlier wait", callInFlight, func(m *model) {
			m.elections, m.lag, m.extraWait, m.attempts = 1, 1, 1, 1
			m.flaws.noProof, m.flaws.grantShortens = true, true
		}},
	}
}

// detailed is a model without volume calls, with unknown outcomes.
func (m *model) detailed() {
	m.volumes, m.outcomes, m.refusals = false, true, true
}

// detailMutants break the rules of outcomes, results, planned switchovers, and of
// what nodes and clusters have in common.
func detailMutants() []mutant {
	return []mutant{
		{"refusal-opens", "a refusal after an unknown outcome keeps the gates closed", openedAfterUnknown, func(m *model) { m.detailed(); m.flaws.refusalOpens = true }},
		{"assign-forgets", "an attempt that had claimed and is replaced is an unknown outcome", openedAfterUnknown, func(m *model) { m.detailed(); m.flaws.assignForgets = true }},
		{"reclaim-forgets", "a claim after a claim is an unknown outcome", openedAfterUnknown, func(m *model) { m.detailed(); m.attempts, m.flaws.reclaimForgets = 1, true }},
		{"claim-ignored", "reports name their claim", replacedExecutor, func(m *model) {
			m.detailed()
			m.crashes, m.attempts, m.overtaking, m.flaws.claimIgnored = 1, 1, true, true
		}},
		{"staged-kept", "a claim drops what an earlier one has staged", mixedResults, func(m *model) { m.detailed(); m.results, m.flaws.stagedKept = true, true }},
		{"chunks-of-any-claim", "staged results name their claim", mixedResults, func(m *model) {
			m.detailed()
			m.results, m.crashes, m.attempts, m.overtaking, m.flaws.chunksOfAnyClaim = true, 1, 1, true, true
		}},
		{"results-uncounted", "the switch names how many results it wants staged", mixedResults, func(m *model) { m.detailed(); m.results, m.flaws.resultsUncounted = true, true }},
		{"reopened-same-epoch", "a site that was demoted and opened again gets a new epoch", siteLeftClosed, func(m *model) { m.detailed(); m.planned, m.flaws.reopensSameEpoch = true, true }},
		{"failed-before-reopening", "a planned failover fails after the old site is open again", siteLeftClosed, func(m *model) { m.detailed(); m.planned, m.flaws.failsBeforeReopening = true, true }},
		{"reopening-unclaimed", "opening the old site again is a call under the claim", replacedExecutor, func(m *model) { m.detailed(); m.planned, m.flaws.claimOutlives, m.flaws.noRecheck = true, true, true }},
		{"lease-per-node", "leases are per service", independence, func(m *model) { m.volumes, m.clusters, m.deadlines, m.flaws.leasePerNode = false, 2, true, true }},
		{"switches-all", "a switch is of one cluster", independence, func(m *model) { m.detailed(); m.clusters, m.flaws.switchesAll = 2, true }},
		{"timing-unchecked", "the leader's G covers the L and K of every member", callInFlight, func(m *model) { m.mixed, m.leaseOf[1], m.flaws.timingUnchecked = true, 2, true }},
		{"emptied-disk-votes", "a voter whose disk was emptied does not vote", callStarted, func(m *model) { m.crashes, m.flaws.emptiedDiskVotes = 1, true }},
		{"stuck-counts-as-gone", "a member whose driver cannot be killed is not gone", callInFlight, func(m *model) { m.hangs, m.stuck, m.grace, m.flaws.stuckCountsAsGone = 1, true, 3, true }},
	}
}
