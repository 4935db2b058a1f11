// Package lab is where the nodes of a deployment run to be broken: each is a real
// process with a disk, a network link and a wall clock of its own, and all of these
// can be taken away and given back.
package lab
