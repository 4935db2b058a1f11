package evidence_test

import (
	"strings"
	"testing"
	"time"

	"github.com/lockstep-storage/lockstep/api/client"
	"github.com/lockstep-storage/lockstep/cmd/internal/chaos/evidence"
	"github.com/lockstep-storage/lockstep/cmd/internal/history"
	"github.com/lockstep-storage/lockstep/driverhost"
	"github.com/lockstep-storage/lockstep/driverhost/file"
	"github.com/lockstep-storage/lockstep/fsm"
)

const (
	gib   = 1 << 30
	start = 1000 // of the run
)

// entry is a line of a journal with effect.
func entry(at int64, host, call string, epoch, claim uint64) file.JournalEntry {
	return file.JournalEntry{MonoNS: at, Host: host, Call: call, Epoch: epoch, Claim: claim, Outcome: file.OutcomeOK}
}

func promotion(at int64, host, failover, phase string, epoch, claim uint64) file.JournalEntry {
	e := entry(at, host, file.CallPromote, epoch, claim)
	e.Failover, e.Phase = failover, phase
	return e
}

func op(kind history.Kind, id string, begin, end int64, r history.Request, a history.Answer) history.Operation {
	r.Kind, r.ID = kind, id
	return history.Operation{Request: r, Answer: a, Begin: time.Duration(begin), End: time.Duration(end)}
}

func member(host string) client.ClusterMember {
	return client.ClusterMember{Host: host, State: client.StateCurrent, Reported: client.Report{Epoch: 3, ActiveBackendID: "default"}}
}

// good is the evidence of a run in which a cluster was failed over to site-b by
// force and back as planned, and in which nothing was wrong.
func good() *evidence.Evidence {
	demote := entry(4800, "a", file.CallDemote, 3, 20)
	demote.Failover = "f2"
	write := func(seq, at int64, site string, epoch uint64) evidence.Access {
		return evidence.Access{Volume: "d", Write: true, Seq: seq, Site: site, Epoch: epoch, Begin: at, End: at + 10}
	}
	read := func(seq, at int64, site string, epoch uint64) evidence.Access {
		return evidence.Access{Volume: "d", Seq: seq, Site: site, Epoch: epoch, Begin: at, End: at + 10}
	}
	round := func(after, by int64) evidence.Round {
		return evidence.Round{Site: "site-b", Source: "default", After: after, By: by}
	}
	return &evidence.Evidence{
		Run: evidence.Run{Nodes: 2, Start: start, Cluster: "c"},
		Journals: map[string][]file.JournalEntry{
			"default": {
				entry(2000, "a", file.CallCreateVolume, 1, 0), entry(2100, "b", file.CallCreateSnapshot, 1, 0), entry(3100, "a", file.CallFence, 2, 10),
				demote, promotion(5500, "a", "f2", file.PhaseStart, 3, 20), promotion(5600, "a", "f2", file.PhaseEnd, 3, 20),
				entry(6000, "b", file.CallExtendVolume, 3, 20),
			},
			"site-b": {
				promotion(3000, "a", "f1", file.PhaseStart, 2, 10), promotion(3200, "a", "f1", file.PhaseEnd, 2, 10),
				entry(4000, "b", file.CallDeleteVolume, 2, 10), entry(4900, "a", file.CallFence, 3, 20),
			},
		},
		Data: []evidence.Access{
			read(0, 2000, "default", 1), write(1, 2100, "default", 1), write(2, 2500, "default", 1), write(3, 2950, "default", 1),
			read(2, 3500, "site-b", 2), write(4, 3600, "site-b", 2), read(4, 5900, "default", 3),
		},
		Rounds: []evidence.Round{round(2200, 2300), round(2600, 2700), round(2800, 2900)},
		Operations: []history.Operation{
			op(history.CreateVolume, "v", 900, 1000, history.Request{Size: 1}, history.Answer{}),
			op(history.CreateVolume, "w", 900, 1000, history.Request{Size: 1}, history.Answer{}),
			op(history.DeleteVolume, "w", 3000, 3100, history.Request{}, history.Answer{}),
			op(history.RequestFailover, "f1", 1900, 1950, history.Request{Cluster: "c", Target: "site-b"}, history.Answer{}),
			op(history.ReadCluster, "", 2500, 2600, history.Request{Cluster: "c"}, history.Answer{Epoch: 2, Active: "site-b"}),
			op(history.RequestFailover, "f2", 3700, 3750, history.Request{Cluster: "c", Target: "default"}, history.Answer{}),
			op(history.ReadFailover, "f2", 5900, 5950, history.Request{}, history.Answer{Phase: fsm.Done}),
		},
		Stale: []evidence.StaleRead{
			{Node: 1, Life: 1, Begin: 2000, End: 2010, Epoch: 1, Says: true}, {Node: 1, Life: 1, Begin: 3400, End: 3410, Epoch: 2, Says: true},
		},
		Final: evidence.Final{
			Nodes:   []evidence.NodeView{{Node: "a", Epoch: 3, Site: "default"}, {Node: "b", Epoch: 3, Site: "default"}},
			Cluster: client.Cluster{Epoch: 3, ActiveBackendID: "default", Members: []client.ClusterMember{member("a"), member("b")}},
			Failovers: []client.Failover{
				{ID: "f1", Mode: client.Forced, From: "default", Target: "site-b", Phase: client.PhaseDone, Epoch: 2},
				{ID: "f2", Mode: client.Planned, From: "site-b", Target: "default", Phase: client.PhaseDone, Epoch: 3},
			},
			Volumes: []client.Volume{{ID: "v", Status: "available", Size: 1}},
			Files:   []evidence.File{{Volume: "v", Bytes: gib}},
		},
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	add := func(e *evidence.Evidence, site string, lines ...file.JournalEntry) {
		e.Journals[site] = append(e.Journals[site], lines...)
	}
	fenced := entry(3500, "b", file.CallCreateVolume, 1, 0)
	fenced.Outcome = file.OutcomeFenced
	undone := promotion(6300, "a", "f3", file.PhaseEnd, 4, 30)
	undone.Outcome = driverhost.ErrUnableToFailOver.Error()
	for name, c := range map[string]struct {
		doctor func(*evidence.Evidence)
		want   string // the check that must speak; empty: none
	}{
		"good": {func(*evidence.Evidence) {}, ""},
		"a call of the old epoch after the promotion began": {
			func(e *evidence.Evidence) { add(e, "default", entry(3050, "b", file.CallCreateVolume, 1, 0)) }, "G3",
		},
		"a call of the old epoch that the fence stopped": {
			func(e *evidence.Evidence) { add(e, "default", fenced) }, "G3",
		},
		"calls of the old epoch after a promotion was undone": {
			func(e *evidence.Evidence) {
				add(e, "site-b", promotion(6200, "a", "f3", file.PhaseStart, 4, 30), undone)
				add(e, "default", entry(6400, "b", file.CallCreateVolume, 3, 20))
			}, "",
		},
		"a call of the old epoch before a promotion was undone": {
			func(e *evidence.Evidence) {
				add(e, "site-b", promotion(6200, "a", "f3", file.PhaseStart, 4, 30), undone)
				add(e, "default", entry(6250, "b", file.CallCreateVolume, 3, 20))
			}, "G3",
		},
		"a promotion of an older claim that ends after a later one began": {
			func(e *evidence.Evidence) {
				e.Journals["site-b"] = append([]file.JournalEntry{promotion(3010, "b", "f1", file.PhaseStart, 2, 11)}, e.Journals["site-b"]...)
			}, "G16",
		},
		"a token that falls": {
			func(e *evidence.Evidence) { add(e, "default", entry(6500, "b", file.CallCreateVolume, 3, 19)) }, "fencing token",
		},
		"a planned switchover that loses a write": {
			func(e *evidence.Evidence) { e.Data[6].Seq = 2 }, "data",
		},
		"a forced failover that loses what the last round had": {
			func(e *evidence.Evidence) { e.Data[4].Seq = 1 }, "data",
		},
		"a forced failover that loses what came after the last round": {
			func(e *evidence.Evidence) { e.Data[4].Seq = 3 }, "",
		},
		"content that nobody has written": {
			func(e *evidence.Evidence) { e.Data[6].Seq = evidence.Torn }, "data",
		},
		"a write that failed and is there": {
			func(e *evidence.Evidence) { e.Data[5].Failed = "input/output error" }, "",
		},
		"a failover that never ends": {
			func(e *evidence.Evidence) { e.Final.Failovers[1].Phase = client.PhasePromoting }, "G5",
		},
		"a failover that is forgotten": {
			func(e *evidence.Evidence) {
				e.Operations = append(e.Operations, op(history.RequestFailover, "f9", 5960, 5970, history.Request{Cluster: "c", Target: "site-b"}, history.Answer{}))
			}, "G13",
		},
		"no convergence":           {func(e *evidence.Evidence) { e.Final.Converged = "a is behind" }, "G10"},
		"a node at an older epoch": {func(e *evidence.Evidence) { e.Final.Nodes[1].Epoch = 2 }, "G10"},
		"a node that is missing":   {func(e *evidence.Evidence) { e.Final.Nodes = e.Final.Nodes[:1] }, "G10"},
		"a member that was not told": {
			func(e *evidence.Evidence) { e.Final.Cluster.Members[1].Reported.Epoch = 2 }, "G10",
		},
		"a volume that is creating for ever": {
			func(e *evidence.Evidence) { e.Final.Volumes[0].Status = "creating" }, "defined status",
		},
		"a snapshot that is deleting for ever": {
			func(e *evidence.Evidence) { e.Final.Snapshots = []client.Snapshot{{ID: "s", Status: "deleting"}} }, "defined status",
		},
		"a volume that is lost":  {func(e *evidence.Evidence) { e.Final.Volumes = nil }, "G13"},
		"a volume that is back":  {func(e *evidence.Evidence) { e.Final.Volumes[0].ID = "w" }, "G13"},
		"a volume without file":  {func(e *evidence.Evidence) { e.Final.Files[0].Bytes = -1 }, "G13"},
		"a volume that is short": {func(e *evidence.Evidence) { e.Final.Volumes[0].Size = 2 }, "G13"},
		"a volume that may have been deleted": {
			func(e *evidence.Evidence) {
				e.Final.Volumes = nil
				e.Operations = append(e.Operations, op(history.DeleteVolume, "v", 3000, 3100, history.Request{}, history.Answer{Unknown: true}))
			}, "",
		},
		"a stale read of what was never committed": {
			func(e *evidence.Evidence) {
				e.Stale[1] = evidence.StaleRead{Node: 2, Begin: 2000, End: 2010, Epoch: 3, Says: true}
			}, "G8",
		},
		"a node that forgets": {
			func(e *evidence.Evidence) { e.Stale[0].Epoch, e.Stale[1].Epoch = 2, 1 }, "G8",
		},
		"a stale read that does not say so": {func(e *evidence.Evidence) { e.Stale[0].Says = false }, "G8"},
		"a linearizable read of the past": {
			func(e *evidence.Evidence) {
				e.Operations = append(e.Operations, op(history.ReadCluster, "", 5990, 5995, history.Request{Cluster: "c"}, history.Answer{Epoch: 1}))
			}, "linearizability",
		},
		"an agent that broke": {
			func(e *evidence.Evidence) {
				e.Logs = []evidence.Finding{{Node: "a", Text: "panic: index out of range"}}
			}, "no agent breaks",
		},
		"a scenario that failed": {
			func(e *evidence.Evidence) { e.Asserted = []evidence.Violation{{Check: "scenario x"}} }, "scenario x",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := good()
			c.doctor(e)
			verdict := e.Check()
			if len(verdict.Undecided) > 0 {
				t.Errorf("undecided: got %v, want none", verdict.Undecided)
			}
			spoke := c.want == "" && len(verdict.Violations) == 0
			for _, v := range verdict.Violations {
				spoke = spoke || c.want != "" && v.Check == c.want
			}
			if !spoke {
				t.Errorf("violations: got %+v, want one of %q", verdict.Violations, c.want)
			}
		})
	}
}

func TestViolationsPointIntoTheEvidence(t *testing.T) {
	t.Parallel()
	e := good()
	e.Journals["default"] = append(e.Journals["default"], entry(3050, "b", file.CallCreateVolume, 1, 0))
	verdict := e.Check()
	if len(verdict.Violations) == 0 {
		t.Fatal("violations: got none")
	}
	if v := verdict.Violations[0]; v.Where != "sites/default/journal:8" || !strings.Contains(v.Says, "sites/site-b/journal:1") {
		t.Errorf("violation: got %+v, want lines 8 of default and 1 of site-b", v)
	}
}
