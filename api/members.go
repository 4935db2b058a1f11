package api

import (
	"strings"

	"github.com/lockstep-storage/lockstep/fsm"
)

// memberState is how a member stands to the committed site of its cluster.
type memberState string

// The states of a member.
const (
	memberCurrent memberState = "current" // its driver was told the committed site
	memberBehind  memberState = "behind"  // up, but its driver was not told yet
	memberError   memberState = "error"   // its driver refuses the committed site
	memberDown    memberState = "down"    // it has no lease
	memberStuck   memberState = "stuck"   // processes of its driver cannot be ended
)

// refuses reports whether a member's driver refuses the committed site.
func refuses(cl *fsm.Cluster, svc *fsm.Service) bool {
	return svc.Reported.Error != "" && svc.Reported.Epoch == cl.Epoch
}

func stateOf(cl *fsm.Cluster, svc *fsm.Service, up bool) memberState {
	switch {
	case svc.Stuck:
		return memberStuck
	case !up:
		return memberDown
	case refuses(cl, svc):
		return memberError
	case svc.Reported.Epoch != cl.Epoch || svc.Reported.ActiveBackendID != cl.ActiveBackendID:
		return memberBehind
	}
	return memberCurrent
}

// onHost returns the clusters that the services of a host belong to. A host
// without @backend means all its backends.
func onHost(state *fsm.State, host string) []fsm.Cluster {
	var all []fsm.Cluster
	seen := map[string]bool{}
	for svc := range state.Services() {
		if !matchesHost(svc.Host, host) || seen[svc.Group()] {
			continue
		}
		seen[svc.Group()] = true
		if cl, ok := state.Cluster(svc.Group()); ok {
			all = append(all, cl)
		}
	}
	return all
}

// clustersNamed returns the cluster of a name, or those of all backends if the name
// has no @backend.
func clustersNamed(state *fsm.State, name string) []fsm.Cluster {
	var all []fsm.Cluster
	for cl := range state.Clusters() {
		if !cl.Single && matchesHost(cl.Name, name) {
			all = append(all, cl)
		}
	}
	return all
}

// matchesHost reports whether a service's host is the one asked for, or a backend
// of it.
func matchesHost(host, asked string) bool {
	return host == asked || !strings.Contains(asked, "@") && strings.HasPrefix(host, asked+"@")
}

// failedBack reports whether a cluster is on its primary site again. Cinder writes
// empty strings then where it had null before the first failover.
func failedBack(cl *fsm.Cluster) bool {
	return cl.Epoch > 1 && cl.ActiveBackendID == fsm.DefaultBackendID
}

// activeBackend writes the active site as Cinder does.
func activeBackend(cl *fsm.Cluster) any {
	switch {
	case cl.ActiveBackendID != fsm.DefaultBackendID:
		return cl.ActiveBackendID
	case failedBack(cl):
		return ""
	}
	return nil
}

// disabledReason writes why something is disabled as Cinder does.
func disabledReason(cl *fsm.Cluster, reason string) any {
	if reason == "" && failedBack(cl) {
		return ""
	}
	return orNull(reason)
}

func statusWord(disabled bool) string { //nolint:revive // it is the word for the flag
	if disabled {
		return "disabled"
	}
	return "enabled"
}

func stateWord(up bool) string { //nolint:revive // it is the word for the flag
	if up {
		return "up"
	}
	return "down"
}
