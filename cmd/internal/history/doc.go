// Package history records what clients asked of a deployment and what they were
// answered, and checks that it is linearizable (G8): that every operation can be
// given one moment between its call and its answer, such that all answers are
// those of a single cluster doing one thing at a time.
//
// The model knows a cluster with its site, epoch and freeze, the failovers of the
// cluster, and volumes and snapshots. What a deployment does by itself (a volume
// that is created becomes available, a failover goes on) may happen at any moment.
// Whoever does not know what became of a request says so, and the request may then
// have taken effect at any moment after it was made, or never.
package history
