package main

// run is one configuration in which every rule is kept.
type run struct {
	name  string
	shows string
	short bool // is part of the short suite
	sets  func(*model)
}

// runs are the configurations that the full suite visits completely.
func runs() []run {
	return append(protocolRuns(), detailRuns()...)
}

func protocolRuns() []run {
	return []run{
		{
			name: "base", short: true, shows: "volume calls, one attempt; from every state all can converge",
			sets: func(m *model) { m.attempts, m.live = 1, true },
		},
		{
			name: "election", short: true, shows: "a change of leader, no volume calls; all can converge",
			sets: func(m *model) { m.elections, m.attempts, m.volumes, m.live = 1, 1, false, true },
		},
		{
			name: "aborts", shows: "aborts and refusals, two attempts; all can converge",
			sets: func(m *model) { m.aborts, m.refusals, m.live = true, true, true },
		},
		{
			name: "crash", shows: "a crash of any node, whose driver lives on",
			sets: func(m *model) { m.crashes, m.attempts, m.orphans = 1, 1, true },
		},
		{
			name: "pause", shows: "a machine or an agent is paused",
			sets: func(m *model) { m.pauses, m.pauseMachine, m.pauseAgent, m.attempts = 1, true, true, 1 },
		},
		{
			name: "drift", shows: "clocks that lose a tick",
			sets: func(m *model) { m.drift, m.grace, m.attempts = 1, 3, 1 },
		},
		{
			name: "lagging", shows: "a leader that applies late",
			sets: func(m *model) { m.eager, m.attempts = false, 1 },
		},
		{
			name: "twice", shows: "two failovers, with aborts and refusals",
			sets: func(m *model) { m.failovers, m.attempts, m.aborts, m.refusals = 2, 1, true, true },
		},
		{
			name: "election-crash", shows: "a change of leader and a crash, no volume calls",
			sets: func(m *model) { m.elections, m.crashes, m.attempts, m.volumes, m.live = 1, 1, 1, false, true },
		},
		{
			name: "three-nodes", shows: "three nodes, no volume calls",
			sets: func(m *model) { m.nodes, m.attempts, m.volumes = 3, 1, false },
		},
	}
}

func detailRuns() []run {
	return []run{
		{
			name: "outcomes-once", short: true, shows: "refusals and unknown outcomes, one attempt; all can converge",
			sets: func(m *model) { m.detailed(); m.attempts, m.live = 1, true },
		},
		{
			name: "outcomes", shows: "refusals and unknown outcomes, two attempts; all can converge",
			sets: func(m *model) { m.detailed(); m.live = true },
		},
		{
			name: "outcomes-crash", shows: "the same with a crash",
			sets: func(m *model) { m.detailed(); m.crashes, m.attempts, m.overtaking = 1, 1, true },
		},
		{
			name: "results", shows: "staged results, two attempts",
			sets: func(m *model) { m.detailed(); m.results = true },
		},
		{
			name: "results-crash", shows: "staged results and a crash",
			sets: func(m *model) { m.detailed(); m.results, m.crashes, m.attempts, m.overtaking = true, 1, 1, true },
		},
		{
			name: "planned", short: true, shows: "demote, promote, re-open; one attempt; all can converge",
			sets: func(m *model) { m.detailed(); m.planned, m.attempts, m.live = true, 1, true },
		},
		{
			name: "planned-twice", shows: "the same with two attempts",
			sets: func(m *model) { m.detailed(); m.planned = true },
		},
		{
			name: "after-failure", shows: "a failover after one that has failed or was held",
			sets: func(m *model) { m.detailed(); m.failovers, m.attempts = 2, 1 },
		},
		{
			name: "two-clusters", shows: "a second cluster on the same nodes notices nothing",
			sets: func(m *model) { m.volumes, m.clusters, m.attempts, m.deadlines = false, 2, 1, true },
		},
		{
			name: "mixed-timing", short: true, shows: "a node with a longer lease, which the leader's grace covers",
			sets: func(m *model) { m.mixed, m.leaseOf[1], m.grace, m.attempts = true, 2, 3, 1; m.volumes = false },
		},
		{
			name: "mixed-uncovered", short: true, shows: "a node whose lease the leader's grace does not cover is granted none",
			sets: func(m *model) { m.mixed, m.leaseOf[1], m.attempts = true, 2, 1 },
		},
		{
			name: "stuck", short: true, shows: "a driver that cannot be killed: the failover fails with nothing promoted",
			sets: func(m *model) { m.hangs, m.stuck, m.grace, m.attempts, m.live = 1, true, 3, 1, true },
		},
	}
}
