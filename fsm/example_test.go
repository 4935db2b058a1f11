package fsm_test

import (
	"errors"
	"fmt"

	"github.com/lockstep-storage/lockstep/fsm"
)

// twoNodes is a deployment of two nodes that serve one backend.
func twoNodes() *fsm.State {
	s := fsm.NewState()
	for i, node := range []string{"node1", "node2"} {
		err := s.Apply(fsm.Meta{Index: uint64(i + 1)}, fsm.RegisterService{
			Host: node + "@files", Node: node, Cluster: "dev@files", Targets: []string{"site-b"},
		})
		if err != nil {
			fmt.Println(err)
		}
	}
	return s
}

func ExampleState_Apply() {
	s := twoNodes()
	typo := fsm.RequestFailover{ID: "f1", Cluster: "dev@files", Target: "site-x", Mode: fsm.Forced}
	err := s.Apply(fsm.Meta{Index: 3}, typo)
	fmt.Println(err)
	if refusal, ok := errors.AsType[*fsm.Refusal](err); ok {
		fmt.Println(refusal.Field, refusal.Allowed, errors.Is(err, fsm.ErrInvalid))
	}
	cl, _ := s.Cluster("dev@files")
	fmt.Println(cl.ReplicationStatus, cl.ActiveBackendID)
	// Output:
	// backend_id "site-x" is not a site of "dev@files": it has "default", "site-b"
	// backend_id [default site-b] true
	// enabled default
}

func ExampleState_Plan() {
	s := twoNodes()
	leader := fsm.Observation{
		Term: 1, Node: "node2", Limits: fsm.DefaultLimits(),
		Live: map[string]bool{"node2@files": true}, // node1 is out of touch, but not for long enough yet
	}
	if err := s.Apply(fsm.Meta{Index: 3}, fsm.RequestFailover{ID: "f1", Cluster: "dev@files", Target: "site-b", Mode: fsm.Forced}); err != nil {
		fmt.Println(err)
	}
	if err := s.Apply(fsm.Meta{Index: 4}, fsm.MemberDrained{Failover: "f1", Host: "node2@files"}); err != nil {
		fmt.Println(err)
	}
	fmt.Println(len(s.Plan(leader)))
	leader.Gone = map[string]bool{"node1@files": true}
	fmt.Printf("%+v\n", s.Plan(leader)[0])
	// Output:
	// 0
	// {Failover:f1 Attempt:0 ClaimIndex:0 Executor:node2@files Term:1}
}

func ExampleState_Todo() {
	s := twoNodes()
	justStarted, told := uint64(0), uint64(1)
	task, _ := s.Todo("node1@files", justStarted)
	fmt.Println(task.Kind == fsm.TaskSwitch, task.Target, task.Epoch)
	report := fsm.MemberSwitched{Host: "node1@files", Epoch: task.Epoch, ActiveBackendID: task.Target}
	if err := s.Apply(fsm.Meta{Index: 3}, report); err != nil {
		fmt.Println(err)
	}
	_, owed := s.Todo("node1@files", told)
	fmt.Println(owed)
	// Output:
	// true default 1
	// false
}
