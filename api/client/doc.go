// Package client is the Go client of Lockstep's HTTP API.
//
// A [Client] knows several nodes and asks whichever answers. Every call takes a
// context; every call that changes something carries an idempotency key, so that
// repeating it after a lost answer is safe.
package client
