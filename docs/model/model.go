package main

import (
	"flag"
	"fmt"
	"strconv"
)

// model is one configuration: how large, how long, how many faults, and which
// rules are broken on purpose. Times are in ticks.
type model struct {
	nodes    int
	clusters int
	failing  int // clusters that are asked to fail over; the others must not notice

	leaseOf   [maxNodes]uint8 // L of each node
	killOf    [maxNodes]uint8 // K of each node
	grace     uint8           // G of the leader
	drift     uint8           // that a clock may lose under one lease
	lag       uint8           // for which a deposed leader that runs may still answer
	extraWait uint8           // of a new leader, beyond G
	mixed     bool            // the nodes' timings differ

	failovers uint8
	attempts  uint8
	elections uint8
	crashes   uint8
	pauses    uint8
	hangs     uint8

	pauseMachine bool
	pauseAgent   bool
	orphans      bool // a driver process outlives its agent
	refusals     bool // a driver may refuse
	outcomes     bool // unknown outcomes, and claims compared in every report
	planned      bool // demote and re-open
	results      bool // staged results
	overtaking   bool // a report may arrive after a later claim
	aborts       bool
	volumes      bool // volume calls
	deadlines    bool // members and executors that take too long are refused their lease
	eager        bool // the leader applies at once
	stuck        bool // a call that hangs cannot be killed either
	token        bool // the storage compares fencing tokens: what it refuses does no harm

	leases bool // check the lease property too, and not the guarantees alone
	live   bool // check that every state can converge

	gate  gateKind
	flaws flaws
}

// standard is the smallest safe timing without any fault.
func standard() model {
	m := model{
		nodes: 2, clusters: 1, failing: 1, grace: 2, failovers: 1, attempts: 2,
		volumes: true, eager: true, leases: true,
	}
	for i := range maxNodes {
		m.leaseOf[i], m.killOf[i] = 1, 1
	}
	return m
}

// count is a flag of a small number.
type count struct{ to *uint8 }

func (c count) String() string {
	if c.to == nil {
		return "0"
	}
	return strconv.Itoa(int(*c.to))
}

func (c count) Set(text string) error {
	n, err := strconv.ParseUint(text, 10, 4)
	if err != nil {
		return fmt.Errorf("%q must be a number from 0 to 15", text)
	}
	*c.to = uint8(n)
	return nil
}

// all is a flag of one number for every node.
type all struct{ to *[maxNodes]uint8 }

func (a all) String() string {
	if a.to == nil {
		return "1"
	}
	return strconv.Itoa(int(a.to[0]))
}

func (a all) Set(text string) error {
	for i := range a.to {
		if err := (count{&a.to[i]}).Set(text); err != nil {
			return err
		}
	}
	return nil
}

// define makes the model's parts flags of a command.
func (m *model) define(f *flag.FlagSet) {
	f.IntVar(&m.nodes, "nodes", m.nodes, "nodes, 2 or 3")
	f.Var(all{&m.leaseOf}, "lease", "L: ticks of a lease")
	f.Var(all{&m.killOf}, "kill", "K: ticks from the end of a lease until its calls are dead")
	for name, v := range map[string]struct {
		to   *uint8
		help string
	}{
		"grace":      {&m.grace, "G: ticks until a member counts as gone"},
		"drift":      {&m.drift, "ticks that a clock may lose under one lease"},
		"lag":        {&m.lag, "ticks for which a deposed leader may still answer"},
		"extra-wait": {&m.extraWait, "ticks that a new leader waits beyond G"},
		"failovers":  {&m.failovers, "failovers asked for"},
		"attempts":   {&m.attempts, "attempts of each failover"},
		"elections":  {&m.elections, "elections while there is a leader"},
		"crashes":    {&m.crashes, "crashes of agents"},
		"pauses":     {&m.pauses, "pauses of machines or agents"},
		"hangs":      {&m.hangs, "volume calls that do not end by themselves"},
	} {
		f.Var(count{v.to}, name, v.help)
	}
	for name, v := range map[string]struct {
		to   *bool
		help string
	}{
		"pause-machine": {&m.pauseMachine, "a pause stops the whole machine"},
		"pause-agent":   {&m.pauseAgent, "a pause stops the agent, and its driver goes on"},
		"orphans":       {&m.orphans, "driver processes outlive their agent"},
		"refusals":      {&m.refusals, "drivers may refuse"},
		"outcomes":      {&m.outcomes, "outcomes may be unknown"},
		"planned":       {&m.planned, "failovers are planned switchovers; wants -outcomes"},
		"results":       {&m.results, "results are staged; wants -outcomes"},
		"overtaking":    {&m.overtaking, "reports may arrive after a later claim"},
		"aborts":        {&m.aborts, "clients abort"},
		"volumes":       {&m.volumes, "members make volume calls"},
		"deadlines":     {&m.deadlines, "steps that take too long are ended"},
		"eager":         {&m.eager, "the leader applies at once"},
		"stuck":         {&m.stuck, "a call that hangs cannot be killed either"},
		"token":         {&m.token, "storages compare fencing tokens"},
		"leases":        {&m.leases, "check leases, not the guarantees alone"},
		"live":          {&m.live, "check that every state can converge"},
	} {
		f.BoolVar(v.to, name, *v.to, v.help)
	}
}

// validate refuses what the model cannot hold.
func (m *model) validate() error {
	switch {
	case m.nodes < 2 || m.nodes > maxNodes:
		return fmt.Errorf("nodes %d must be 2 or %d", m.nodes, maxNodes)
	case (m.planned || m.results) && !m.outcomes:
		return fmt.Errorf("planned and results want outcomes")
	case m.pauses > 0 && !m.pauseMachine && !m.pauseAgent:
		return fmt.Errorf("pauses want pause-machine, pause-agent or both")
	}
	for i, l := range m.leaseOf[:m.nodes] {
		if l == 0 || m.killOf[i] == 0 || m.grace == 0 {
			return fmt.Errorf("lease, kill and grace must be positive")
		}
	}
	return nil
}
