package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/lockstep-storage/lockstep/api"
	"github.com/lockstep-storage/lockstep/driverhost"
	"github.com/lockstep-storage/lockstep/fsm"
	"github.com/lockstep-storage/lockstep/raftnode"
)

// methodManageable is the question what could be adopted in a cluster, as a service
// of the node that is asked sees it. It is not passed on.
const methodManageable = "manageable"

// adoption answers what could be adopted.
type adoption struct {
	process *raftnode.Process
	hosts   *driverhost.Host
	peers   raftnode.Asker
}

// manageable asks this node's service of a cluster, and if it has none, or that does
// not serve, those of other nodes, in turn.
func (a *adoption) manageable(ctx context.Context, cluster string) ([]api.Existing, error) {
	found, err := a.here(ctx, cluster)
	if err == nil {
		return found, nil
	}
	question, encoding := json.Marshal(cluster)
	if encoding != nil {
		return nil, fmt.Errorf("cluster %q: %w", cluster, encoding)
	}
	peers, unknown := a.process.Peers()
	if unknown != nil {
		return nil, unknown
	}
	for _, p := range slices.DeleteFunc(peers, func(p raftnode.PeerStatus) bool { return !p.Alive || !a.serves(p.ID, cluster) }) {
		answer, refused := a.peers.Ask(ctx, p.ID, p.API, methodManageable, question)
		if refused == nil {
			refused = json.Unmarshal(answer, &found)
		}
		if refused == nil {
			return found, nil
		}
		err = refused
	}
	return nil, err
}

// serves reports whether another node has a service of a cluster.
func (a *adoption) serves(node, cluster string) (serves bool) {
	a.process.View(func(s *fsm.State) {
		for svc := range s.Members(cluster) {
			serves = serves || svc.Node == node
		}
	})
	return serves && node != a.process.Status().Node
}

// here asks this node's service. What its driver says is for people.
func (a *adoption) here(ctx context.Context, cluster string) ([]api.Existing, error) {
	found, err := a.hosts.Manageable(ctx, cluster)
	if err != nil && fsm.CodeOf(err) == fsm.ErrInternal {
		err = &fsm.Refusal{Code: fsm.ErrConflict, Message: err.Error()}
	}
	if err != nil {
		return nil, err
	}
	all := make([]api.Existing, len(found))
	for i, m := range found {
		all[i] = api.Existing(m)
	}
	return all, nil
}

// answer answers the question of another node.
func (a *adoption) answer(ctx context.Context, body []byte) ([]byte, error) {
	var cluster string
	if err := json.Unmarshal(body, &cluster); err != nil {
		return nil, fmt.Errorf("question: %w: %w", fsm.ErrInvalid, err)
	}
	found, err := a.here(ctx, cluster)
	if err != nil {
		return nil, err
	}
	return json.Marshal(found)
}
