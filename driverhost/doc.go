// Package driverhost runs the storage drivers of this node and makes the calls
// that the replicated state says they owe.
//
// Its part in a failover: the worker of every member looks at the state, closes
// its gate and lets running calls end (drain); the worker of the executor claims
// the attempt and has the driver promote the target; after the switch is
// committed every worker tells its driver and reports. Nobody sends a worker a
// message about a failover: it watches the state.
package driverhost
