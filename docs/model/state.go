package main

// The model is kept in bytes, so that a state is compared, copied and hashed as
// one block of memory.
const (
	maxNodes    = 3
	maxClusters = 2
	maxLog      = 26  // as many bytes as make a state whole words
	nobody      = 255 // as a node: there is none
	nothing     = 255 // as an index: not even the snapshot is installed
)

// record is the replicated record of a cluster and of its failover.
type record struct {
	epoch    uint8
	failover uint8 // how many were asked for
	phase    phase
	attempt  uint8
	executor uint8
	claims   uint8 // of this attempt; stands for the index of the latest one
	drained  uint8 // set of members
	switched uint8 // set of members
	claimed  bool  // an executor of any attempt has claimed
	planned  bool
	ended    bool   // the attempt has ended and nobody knows what it promoted
	unknown  bool   // any attempt may have promoted something
	held     bool   // gates closed until a switch
	staged   staged // results that wait for the switch
}

type phase uint8

const (
	quiet phase = iota // nothing was asked for yet
	draining
	promoting
	switching
	done
	failed
	aborted
)

// busy reports whether the phase keeps every gate closed.
func (p phase) busy() bool { return p == draining || p == promoting }

func (p phase) over() bool { return p == quiet || p >= done }

// staged says whose results wait for the switch.
type staged uint8

const (
	unstaged staged = iota
	own             // of the claim that counts
	foreign         // of a claim that counts no longer
)

// activity says what of a node runs.
type activity uint8

const (
	running activity = iota
	asleep           // the whole machine is paused
	stopped          // the agent is stopped, its driver processes go on
	down             // crashed
)

// node is one agent with its part in Raft.
type node struct {
	activity activity
	applied  uint8 // entries of the log, or nothing
	believes bool  // that it leads
	lag      uint8 // ticks for which a deposed leader still believes it
	ready    bool  // its barrier is applied
	plans    [maxClusters]plan
	grants   [maxClusters][maxNodes]uint8 // ticks until it holds a member for gone
}

// plan is what a leader has decided and not committed yet.
type plan struct {
	kind     kind
	executor uint8
	failover uint8
	attempt  uint8
	claims   uint8
}

// service is one member: its lease, its gate, its driver process and, if it is
// the executor, its part of the promotion.
type service struct {
	told   uint8 // epoch that the agent remembers having told the driver
	driver uint8 // epoch of the site that the driver process works at
	gate   uint8 // read by flawed gates only: the epoch at which it stands open
	lease  uint8 // ticks left
	slow   uint8 // ticks that its clock may still lose under this lease
	ask    question
	call   call
	exec   execution
	report message // on its way to the log
	late   message // the same, overtaken by a claim
	orphan orphan
	stuck  bool // a kill was tried and the driver process lives on
}

// question is a request for a lease, or the answer to one.
type question struct {
	stage asking
	to    uint8
	age   uint8 // ticks since it was sent, by the member's clock
	index uint8 // of the answer: to be applied before the lease counts
	early bool  // it arrived before its receiver was deposed, and so may be proven
	slow  uint8
}

type asking uint8

const (
	silent asking = iota
	asked
	answered
)

// call is a driver call that passes the gate.
type call struct {
	kind  callKind
	epoch uint8
	kill  uint8 // ticks from the end of the lease until the process is dead
	hangs bool  // it does not end by itself
}

type callKind uint8

const (
	idle       callKind = iota
	volumeCall          // creates or deletes something at the site
	tellCall            // driver.FailoverCompleted
)

// execution is an executor's part of one attempt.
type execution struct {
	stage    stage
	failover uint8
	attempt  uint8
	epoch    uint8
	claim    uint8 // the number of the claim under which the call is made
	kill     uint8
	ack      uint8 // one more than the length of the log that has the claim
}

type stage uint8

const (
	waits     stage = iota
	claiming        // the claim is under way
	claimed         // and committed, as the executor knows
	promotes        // driver.Failover is in flight
	succeeded       // it has promoted everything
	refused         // it has promoted nothing, or undone it
	lost            // it has ended, and nobody knows
	demotes         // driver.Demote is in flight
	demoted
	denied  // the driver refuses, and the old site is still closed
	reopens // the call that opens it again is in flight
	reopened
	staging // the results have been sent to the log
)

// message is what a member reports.
type message struct {
	kind     kind
	failover uint8
	attempt  uint8
	claim    uint8
	epoch    uint8
}

// orphan is what a driver process does whose agent has crashed.
type orphan struct {
	epoch    uint8 // of its call; 0 if it makes none
	promotes bool
	failover uint8
	attempt  uint8
	time     uint8 // ticks until it ends itself, or nothing for never
}

// site is what is true at the storage, whatever the records say.
type site struct {
	fence   uint8 // greatest epoch to which something may be promoted
	touched uint8 // promotion calls that were started and not known to be undone
	token   uint8 // of the site in use, as demote has raised it
	closed  bool  // demote has closed the site in use
}

// state is one state of the whole system.
type state struct {
	base      [maxClusters]record // what every node has applied
	log       [maxLog]entry       // what came after it
	length    uint8
	leader    uint8
	elections uint8 // faults so far
	crashes   uint8
	pauses    uint8
	hangs     uint8
	broken    property
	sites     [maxClusters]site
	nodes     [maxNodes]node
	services  [maxClusters][maxNodes]service
}

// initial is a deployment at rest: node 0 leads, all members serve.
func (m *model) initial() state {
	s := state{}
	for c := range m.clusters {
		s.base[c] = record{epoch: 1}
		s.sites[c] = site{fence: 1, token: 1}
		for i := range m.nodes {
			v := &s.services[c][i]
			v.told, v.driver, v.slow = 1, 1, m.drift
			if !m.uncovered(i) {
				v.lease = m.leaseOf[i]
			}
			if m.gate != pure {
				v.gate = 1
			}
			s.nodes[0].grants[c][i] = m.grace
		}
	}
	s.nodes[0].believes, s.nodes[0].ready = true, true
	return s
}

// compact drops the part of the log that every node has applied, and timers that
// nothing runs under, so that states which differ in nothing else are the same.
func (m *model) compact(s *state) {
	least := s.length
	for i := range m.nodes {
		if applied := s.nodes[i].applied; applied != nothing {
			least = min(least, applied)
		}
	}
	if least > 0 {
		m.dropLog(s, least)
	}
	for c := range m.clusters {
		for i := range m.nodes {
			v := &s.services[c][i]
			if v.call.kind == idle {
				v.call.kill = 0
			}
			if !v.exec.inDriver() {
				v.exec.kill = 0
			}
		}
	}
}

func (m *model) dropLog(s *state, n uint8) {
	for _, e := range s.log[:n] {
		m.replay(&s.base, e)
	}
	copy(s.log[:], s.log[n:])
	clear(s.log[s.length-n : s.length])
	s.length -= n
	for i := range m.nodes {
		if s.nodes[i].applied != nothing {
			s.nodes[i].applied -= n
		}
		for c := range m.clusters {
			v := &s.services[c][i]
			if v.ask.stage == answered {
				v.ask.index -= min(n, v.ask.index)
			}
			if v.exec.ack > 0 {
				v.exec.ack = max(v.exec.ack, n+1) - n
			}
		}
	}
}

// inDriver reports whether a call is in flight that changes a site.
func (e *execution) inDriver() bool {
	return e.stage == promotes || e.stage == demotes || e.stage == reopens
}
