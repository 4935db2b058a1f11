// Package bench measures a deployment of three processes through its HTTP API,
// with a driver that answers at once: what is left is Lockstep itself. Its
// benchmarks take a baseline of the same machine in the same run.
package bench
