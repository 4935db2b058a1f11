package raftnode

import (
	"fmt"

	"github.com/lockstep-storage/lockstep/fsm"
)

// speaksFor refuses a node that speaks for another. From is empty when nothing
// proves who speaks.
func speaksFor(from, node string) error {
	if from == "" || from == node {
		return nil
	}
	return &fsm.Refusal{
		Code: fsm.ErrInvalid, Field: "node", Value: node, Allowed: []string{from},
		Message: fmt.Sprintf("node %q may not speak for node %q", from, node),
	}
}

// maySay refuses a command by which a node would speak for another, or for the
// leader. What users ask of any node it may pass on.
func (n *Node) maySay(from string, cmd fsm.Command) error {
	if from == "" || from == n.cfg.ID {
		return nil
	}
	node, host := "", ""
	switch c := cmd.(type) {
	case fsm.RegisterNode:
		if node = c.Node.ID; c.Replaces != "" {
			return leadersOnly(from, c)
		}
	case fsm.RegisterService:
		node = c.Node
	case fsm.MemberDrained:
		host = c.Host
	case fsm.MemberSwitched:
		host = c.Host
	case fsm.FreezeReported:
		host = c.Host
	case fsm.EndOperation:
		host = c.Host
	case fsm.Claim:
		host = c.Host
	case fsm.ReportStuck:
		host = c.Host
	case fsm.StageResults:
		host = n.executor(c.Failover)
	case fsm.FailoverCompleted:
		host = n.executor(c.Failover)
	case fsm.FailoverRefused:
		host = n.executor(c.Failover)
	case fsm.AttemptEnded:
		host = n.executor(c.Failover)
	case fsm.Assign, fsm.GiveUp, fsm.FinishFailover, fsm.MoveOperations, fsm.SettleResults, fsm.DeleteService, fsm.RemoveNode:
		return leadersOnly(from, c)
	}
	if host != "" {
		// Only one who has caught up knows whose service and whose claim it is.
		if _, err := n.leading(); err != nil {
			return err
		}
		n.View(func(s *fsm.State) {
			if svc, ok := s.Service(host); ok {
				node = svc.Node
			}
		})
	}
	if node == "" {
		return nil // for no node, or for one that the state machine will refuse
	}
	return speaksFor(from, node)
}

func leadersOnly(from string, cmd fsm.Command) error {
	return &fsm.Refusal{
		Code: fsm.ErrInvalid, Field: "node", Value: from, Message: fmt.Sprintf("only a leader decides this, and tells nobody: %T of node %q", cmd, from),
	}
}

// executor is the service that carries a failover out, if there is one.
func (n *Node) executor(failover string) (host string) {
	n.View(func(s *fsm.State) {
		if f, ok := s.Failover(failover); ok {
			host = f.Executor
		}
	})
	return host
}
