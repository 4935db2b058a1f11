// Package api is the HTTP face of a node. Any node takes any request: it parses,
// validates and builds a command, which the node commits wherever the leader is,
// and answers from its own state once that shows the command.
//
// Its part in a failover: it turns a request of Cinder's API or of /v1 into one
// [fsm.RequestFailover], answers 202 with the failover's id, and lets clients
// watch the record.
package api
