package evidence

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/lockstep-storage/lockstep/cmd/internal/history"
)

// linearizeWithin bounds the check for linearizability.
const linearizeWithin = 2 * time.Minute

// Verdict is what the evidence comes to.
type Verdict struct {
	Violations []Violation `json:"violations"`
	Undecided  []string    `json:"undecided"` // checks that did not end in time
}

// Check judges the evidence.
func (e *Evidence) Check() Verdict {
	var v Verdict
	for _, check := range []func() []Violation{
		e.checkJournals, e.checkData, e.checkFailovers, e.checkMembers, e.checkVolumes, e.checkStale, e.checkLogs,
	} {
		v.Violations = append(v.Violations, check()...)
	}
	v.Violations = append(v.Violations, e.Asserted...)
	switch result := history.Check(e.Operations, linearizeWithin); result.Verdict {
	case history.Violated:
		v.Violations = append(v.Violations, Violation{
			Check: "linearizability", Where: "operations.json: " + result.Object + " (-recheck draws it)",
			Says: "the answers about " + result.Object + " cannot be those of one system doing one thing at a time",
		})
	case history.Undecided:
		v.Undecided = append(v.Undecided, "linearizability of "+result.Object)
	case history.Linearizable:
	}
	return v
}

// Draw writes a page that shows the first history that is not linearizable, and
// returns its path, or an empty one.
func (e *Evidence) Draw(dir string) (path string, err error) {
	result := history.Check(e.Operations, linearizeWithin)
	if result.Verdict != history.Violated {
		return "", nil
	}
	path = filepath.Join(dir, "linearizability.html")
	f, err := os.Create(path)
	if err != nil {
		return "", err
	}
	if err := result.Visualize(f); err != nil {
		return "", fmt.Errorf("%w, %w", err, f.Close())
	}
	return path, f.Close()
}

// checkFailovers is G5: every failover has ended, and every one that was accepted
// is known.
func (e *Evidence) checkFailovers() []Violation {
	var found []Violation
	known := map[string]bool{}
	for _, f := range e.Final.Failovers {
		known[f.ID] = true
		if !f.Finished() {
			found = append(found, Violation{
				Check: "G5", Where: "final.json: failover " + f.ID,
				Says: fmt.Sprintf("failover %s to %s is still %s in attempt %d: %s", f.ID, f.Target, f.Phase, f.Attempt, f.Error),
			})
		}
	}
	for _, op := range e.Operations {
		if op.Request.Kind == history.RequestFailover && accepted(op) && !known[op.Request.ID] {
			found = append(found, Violation{
				Check: "G13", Where: "operations.json: failover " + op.Request.ID,
				Says: "failover " + op.Request.ID + " was accepted and nobody knows of it",
			})
		}
	}
	return found
}

func accepted(op history.Operation) bool { return !op.Answer.Unknown && op.Answer.Code == "" }

// checkMembers is G10: all nodes agree on the site, and every member was told.
func (e *Evidence) checkMembers() []Violation {
	var found []Violation
	say := func(format string, args ...any) {
		found = append(found, Violation{Check: "G10", Where: "final.json", Says: fmt.Sprintf(format, args...)})
	}
	if e.Final.Converged != "" {
		say("after %v: %s", e.Final.Took.Round(time.Second), e.Final.Converged)
	}
	cl := e.Final.Cluster
	if len(e.Final.Nodes) != e.Run.Nodes || len(cl.Members) != e.Run.Nodes {
		say("%d nodes and %d members, want %d of each", len(e.Final.Nodes), len(cl.Members), e.Run.Nodes)
	}
	for _, n := range e.Final.Nodes {
		if n.Ready != "" || n.Epoch != cl.Epoch || n.Site != cl.ActiveBackendID {
			say("%s is at epoch %d on %s, not at epoch %d on %s: %s", n.Node, n.Epoch, n.Site, cl.Epoch, cl.ActiveBackendID, n.Ready)
		}
	}
	for _, m := range cl.Members {
		if m.Reported.Epoch != cl.Epoch || m.Reported.ActiveBackendID != cl.ActiveBackendID {
			say("%s was told epoch %d on %s, not epoch %d on %s: %s", m.Host,
				m.Reported.Epoch, m.Reported.ActiveBackendID, cl.Epoch, cl.ActiveBackendID, m.Reported.Error)
		}
	}
	return found
}

// checkVolumes is G13 for volumes and snapshots: what was acknowledged is there,
// nothing is under way for ever, and what is available has its file.
func (e *Evidence) checkVolumes() []Violation {
	var found []Violation
	status := map[string]string{}
	for _, v := range e.Final.Volumes {
		status[v.ID] = v.Status
	}
	for _, s := range e.Final.Snapshots {
		status[s.ID] = s.Status
	}
	settled := []string{"available", "in-use", "error", "error_deleting", "error_extending"}
	for id, s := range status {
		if !slices.Contains(settled, s) {
			found = append(found, Violation{Check: "defined status", Where: "final.json: " + id, Says: id + " is still " + s})
		}
	}
	for id, asked := range e.asked() {
		switch s, there := status[id]; {
		case asked.created && !asked.deleted && !asked.maybe && !there:
			found = append(found, Violation{Check: "G13", Where: "operations.json: " + id, Says: id + " was created and is not there"})
		case asked.deleted && there && s != "error_deleting":
			found = append(found, Violation{Check: "G13", Where: "operations.json: " + id, Says: id + " was deleted and is " + s})
		}
	}
	return append(found, e.checkFiles()...)
}

// asked is what clients asked for of a volume or snapshot.
type asked struct {
	created, deleted bool // and were told that it would be done
	maybe            bool // it may have been deleted
}

func (e *Evidence) asked() map[string]asked {
	all := map[string]asked{}
	for _, op := range e.Operations {
		a := all[op.Request.ID]
		switch op.Request.Kind {
		case history.CreateVolume, history.CreateSnapshot:
			a.created = a.created || accepted(op)
		case history.DeleteVolume, history.DeleteSnapshot:
			a.deleted = a.deleted || accepted(op)
			a.maybe = a.maybe || op.Answer.Unknown
		case history.ExtendVolume, history.ReadVolume, history.ReadSnapshot, history.RequestFailover, history.AbortFailover,
			history.ReadFailover, history.SetFrozen, history.ReadCluster:
			continue
		}
		all[op.Request.ID] = a
	}
	return all
}

const gib = 1 << 30

// checkFiles says that every available volume is at the site in use, whole.
func (e *Evidence) checkFiles() []Violation {
	bytes := map[string]int64{}
	for _, f := range e.Final.Files {
		bytes[f.Volume] = f.Bytes
	}
	var found []Violation
	for _, v := range e.Final.Volumes {
		if got := bytes[v.ID]; v.Status == "available" && got != v.Size*gib {
			found = append(found, Violation{
				Check: "G13", Where: "final.json: volume " + v.ID,
				Says: fmt.Sprintf("volume %s is available with %d GiB, and its file at %s has %d bytes", v.ID, v.Size, e.Final.Cluster.ActiveBackendID, got),
			})
		}
	}
	return found
}

// checkStale is the rest of G8: a stale read shows a state that was committed, so
// no later linearizable read is behind it; a node does not forget in one life; and
// it says how stale it is.
func (e *Evidence) checkStale() []Violation {
	var found []Violation
	say := func(i int, format string, args ...any) {
		found = append(found, Violation{Check: "G8", Where: fmt.Sprintf("stale.json: entry %d", i), Says: fmt.Sprintf(format, args...)})
	}
	last := map[[2]int]StaleRead{}
	for i, s := range e.Stale {
		life := [2]int{s.Node, s.Life}
		if before := last[life]; s.Epoch < before.Epoch && before.End < s.Begin {
			say(i, "node %d showed epoch %d after it had shown %d", s.Node, s.Epoch, before.Epoch)
		}
		if before := last[life]; s.Epoch >= before.Epoch {
			last[life] = s
		}
		if !s.Says {
			say(i, "node %d did not say how stale its answer was", s.Node)
		}
		if op, behind := e.behind(s); behind {
			say(i, "node %d showed epoch %d, and a linearizable read after that epoch %d", s.Node, s.Epoch, op.Answer.Epoch)
		}
	}
	return found
}

// behind finds a linearizable read that began after a stale one and shows less.
func (e *Evidence) behind(s StaleRead) (history.Operation, bool) {
	for _, op := range e.Operations {
		if op.Request.Kind == history.ReadCluster && accepted(op) && e.Run.Start+int64(op.Begin) > s.End && op.Answer.Epoch < s.Epoch {
			return op, true
		}
	}
	return history.Operation{}, false
}

func (e *Evidence) checkLogs() []Violation {
	var found []Violation
	for _, f := range e.Logs {
		found = append(found, Violation{
			Check: "no agent breaks", Where: fmt.Sprintf("nodes/%s/log:%d", f.Node, f.Line), Says: f.Text,
		})
	}
	return found
}
