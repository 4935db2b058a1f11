// Package raftnode runs the replicated state under Raft and is the only package
// that knows Raft and gossip: stores, transport, who is a peer, who leads, how a
// command reaches the log, what a read may promise, and who holds a lease.
//
// Its part in a failover: it commits the request; while this node leads, its
// coordinator looks at the state, lets [fsm.State.Plan] decide and commits the
// next step; it grants the leases under which members serve, and knows when one
// can no longer be held. It has no rule about failovers of its own, and no memory
// of them: a new leader resumes every failover by looking.
package raftnode
