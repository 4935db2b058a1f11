// Package fsm is the replicated state machine of a Lockstep deployment: its
// records, the commands that change them with the rules beside them, and what
// follows from the state. It reads no clock, does no I/O, starts no goroutine
// and never ranges over a map, so that every replica reaches the same state and
// every rule about a failover can be tested with plain values.
//
// Its part in a failover is to be the only memory of it. The package has three
// verbs, all pure functions of [State]:
//
//	Apply  commits one [Command]       (every node, in log order)
//	Plan   says what to commit next    (the leader)
//	Todo   says which call is owed now (each node, for each of its services)
//
// [State.Admit] is the part of the gate that follows from the state, and
// [State.Owed] lists the volume operations that a service owes.
package fsm
