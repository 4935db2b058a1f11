// Package file is a storage driver whose sites are directories, on a local disk
// or on NFS. It is the default of a new deployment and a complete one: volumes
// are sparse raw files, replication copies changed blocks to every other site,
// promotion makes the replicas of a site its volumes, and a durable token at
// each site refuses calls of an epoch that is over.
//
// A site is laid out like this:
//
//	lock            every mutating call holds it
//	token           the fencing token and the role of the site
//	journal         one JSON line per mutating call, in the order of effects
//	volumes/        volume-<id>, writable at the site in use
//	snapshots/      snapshot-<id>, complete copies
//	meta/           one sidecar per volume and snapshot
//	import/         what can be adopted, and what was given up
//	retyped         written anew when volumes start or stop being replicated
//	deleted/<site>/ what that site still has to delete
//	replicas/       what replication brought, complete and unused
//	maps/           the block checksums of each replica
//	staging/        copies under way and deltas not yet applied
//	replication     lock: one process at a time brings replicas here
//	synced          when the last complete round of replication started
//
// Snapshots of replicated volumes are replicated like the volumes; a snapshot
// shares no blocks with its volume, neither on disk nor on the way.
//
// Replication reads files that others may be writing: a replica is a
// block-by-block copy of a running volume, not a snapshot of one instant. See
// DESIGN.md for what follows from it.
//
// The package needs Linux.
package file
