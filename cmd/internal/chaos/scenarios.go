package chaos

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/lockstep-storage/lockstep/api/client"
	"github.com/lockstep-storage/lockstep/cmd/internal/chaos/evidence"
	"github.com/lockstep-storage/lockstep/cmd/internal/chaos/lab"
	"github.com/lockstep-storage/lockstep/driverhost/file"
)

// Scenario is a fault at the worst moment, and what must come of it.
type Scenario struct {
	Name string
	run  func(context.Context, *world) error
}

// Scenarios are all scenarios.
func Scenarios() []Scenario {
	return []Scenario{
		{"sigstop-member-through-failover", through(Stop, member)},
		{"pause-member-through-failover", through(Pause, member)},
		{"partition-member-through-failover", through(Partition, member)},
		{"deaf-member-through-failover", through(Deaf, member)},
		{"sigstop-leader-through-failover", through(Stop, leader)},
		{"partition-leader-through-failover", through(Partition, leader)},
		{"kill-leader-through-failover", through(Kill, leader)},
		{"sigstop-executor-in-promotion", within(Stop)},
		{"pause-executor-in-promotion", within(Pause)},
		{"partition-executor-in-promotion", within(Partition)},
		{"kill-executor-in-promotion", within(Kill)},
		{"disk-stall-of-leader", stallLeader},
		{"disk-full", fillDisks},
		{"empty-disk", replaceDisk(EmptyDisk)},
		{"old-disk", replaceDisk(OldDisk)},
		{"power-loss", losePowerOfAll},
		{"quorum-lost", loseQuorum},
	}
}

// ParseScenarios reads a list of names, separated by commas; "all" or "none".
func ParseScenarios(list string) ([]Scenario, error) {
	switch list {
	case "all":
		return Scenarios(), nil
	case "none", "":
		return nil, nil
	}
	var chosen []Scenario
	for name := range strings.SplitSeq(list, ",") {
		i := slices.IndexFunc(Scenarios(), func(s Scenario) bool { return s.Name == strings.TrimSpace(name) })
		if i < 0 {
			var names []string
			for _, s := range Scenarios() {
				names = append(names, s.Name)
			}
			return nil, fmt.Errorf("scenario: %q is none of all, none, %s", name, strings.Join(names, ", "))
		}
		chosen = append(chosen, Scenarios()[i])
	}
	return chosen, nil
}

// errNotHere says that a scenario needs what this machine does not allow.
var errNotHere = errors.New("not possible here")

// runScenario runs a scenario between two moments of quiet.
func (w *world) runScenario(ctx context.Context, s Scenario) {
	began := time.Now()
	err := await(ctx, convergeWithin, w.settled)
	if err == nil {
		err = s.run(ctx, w)
	}
	if err == nil {
		err = await(ctx, convergeWithin, w.settled)
	}
	took := time.Since(began).Round(10 * time.Millisecond)
	switch {
	case ctx.Err() != nil:
	case errors.Is(err, errNotHere):
		w.say("scenario %s: %v", s.Name, err)
	case err != nil:
		w.assert("scenario "+s.Name, "faults.json, scenario "+s.Name, "%v", err)
	default:
		w.say("scenario %s: holds (%v)", s.Name, took)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.scenariosDone = append(w.scenariosDone, ScenarioResult{Name: s.Name, Took: took, Error: errorText(err)})
	_ = w.all.EnableCluster(ctx, lab.Cluster) // at the next opportunity, then
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// leader is the number of the node that leads.
func leader(ctx context.Context, w *world) (int, error) {
	status, err := w.all.Status(ctx)
	if err != nil {
		return 0, err
	}
	return w.number(status.Leader)
}

func (w *world) number(name string) (int, error) {
	for _, n := range w.lab.Nodes {
		if n.Name == name || n.Name+"@"+lab.Backend == name {
			return n.ID, nil
		}
	}
	return 0, fmt.Errorf("node %q is unknown", name)
}

// member is the number of a node that does not lead.
func member(ctx context.Context, w *world) (int, error) {
	leads, err := leader(ctx, w)
	return leads%len(w.lab.Nodes) + 1, err
}

// target is a site that is not in use.
func (w *world) target(ctx context.Context) (string, error) {
	cl, err := w.all.Cluster(ctx, lab.Cluster)
	if err != nil {
		return "", err
	}
	if cl.ActiveBackendID == lab.Sites()[0] {
		return lab.Sites()[1], nil
	}
	return lab.Sites()[0], nil
}

// doneWithin is how long a failover may take in which one node is lost: an
// election, the wait of a new leader, a promotion.
const doneWithin = 40 * time.Second

// through breaks a node before a failover and mends it afterwards. From the start
// of the promotion on, the node makes no driver call of the old epoch: not even
// those that were waiting for the old site when the node was broken, and that the
// old site, which could not be fenced, would take when it answers again.
func through(kind Kind, pick func(context.Context, *world) (int, error)) func(context.Context, *world) error {
	return func(ctx context.Context, w *world) error {
		victim, err := pick(ctx, w)
		if err != nil {
			return err
		}
		site, err := w.target(ctx)
		if err != nil {
			return err
		}
		answer := w.breakIt(ctx, planned{kind: SiteStall}, string(kind))
		w.ownWork(ctx, victim)
		mend := w.breakIt(ctx, planned{kind: kind, nodes: []int{victim}}, string(kind))
		f, err := w.settle(ctx, site, client.Forced, doneWithin)
		answer()
		mend()
		if err != nil {
			return err
		}
		return w.switched(ctx, f, victim)
	}
}

// ownWork gives a node volumes to create, and waits until it is at it.
func (w *world) ownWork(ctx context.Context, node int) {
	const volumes = 4
	u := w.newUser(node - 1)
	for range volumes {
		u.createVolume(ctx)
	}
	wait(ctx, 200*time.Millisecond)
}

// within breaks the executor of a failover in the middle of its promotion.
func within(kind Kind) func(context.Context, *world) error {
	return func(ctx context.Context, w *world) error {
		site, err := w.target(ctx)
		if err != nil {
			return err
		}
		f, err := w.requestFailover(ctx, client.FailoverRequest{
			Cluster: lab.Cluster, BackendID: site, Mode: client.Forced, Reason: fmt.Sprintf("chaos %s %d", kind, evidence.Now()),
		})
		if err != nil {
			return err
		}
		var executor string
		err = await(ctx, doneWithin, func(context.Context) (err error) {
			executor, err = w.promoting(site, f.ID)
			return err
		})
		if err != nil {
			return err
		}
		victim, err := w.number(executor)
		if err != nil {
			return err
		}
		mend := w.breakIt(ctx, planned{kind: kind, nodes: []int{victim}}, string(kind))
		f, err = w.awaitFailover(ctx, f.ID, doneWithin)
		mend()
		if err != nil {
			return err
		}
		return w.switched(ctx, f, victim)
	}
}

// promoting returns the host that has begun a promotion, by the journal.
func (w *world) promoting(site, failover string) (host string, err error) {
	entries, err := file.ReadJournal(filepath.Join(w.lab.SiteDir(site), "journal"))
	if err != nil {
		return "", err
	}
	for _, e := range entries {
		if e.Call == file.CallPromote && e.Phase == file.PhaseStart && e.Failover == failover && e.Outcome == file.OutcomeOK {
			return e.Host, nil
		}
	}
	return "", fmt.Errorf("no promotion to %s in the journal", site)
}

// switched is nil if a failover is done, all is quiet again, and the journals show
// no call of an older epoch by the node since the promotion began.
func (w *world) switched(ctx context.Context, f client.Failover, victim int) error {
	if f.Phase != client.PhaseDone {
		return fmt.Errorf("failover %s has %s: %s", f.ID, f.Phase, f.Error)
	}
	if err := await(ctx, convergeWithin, w.settled); err != nil {
		return err
	}
	return w.noCallOfOld(f, w.node(victim).Name+"@"+lab.Backend)
}

func (w *world) noCallOfOld(f client.Failover, host string) error {
	e := evidence.Evidence{}
	if err := e.LoadJournals(w.options.Dir); err != nil {
		return err
	}
	var began int64
	for _, entry := range e.Journals[f.Target] {
		if entry.Failover == f.ID && entry.Phase == file.PhaseStart && entry.Outcome == file.OutcomeOK && began == 0 {
			began = entry.MonoNS
		}
	}
	if began == 0 {
		return fmt.Errorf("failover %s is done without a promotion in the journal of %s", f.ID, f.Target)
	}
	for site, entries := range e.Journals {
		for i, entry := range entries {
			if !entry.Torn && entry.MonoNS > began && entry.Epoch < f.Epoch && entry.Host == host {
				return fmt.Errorf("%s of epoch %d by %s after the promotion to epoch %d began: sites/%s/journal:%d",
					entry.Call, entry.Epoch, host, f.Epoch, site, i+1)
			}
		}
	}
	return nil
}
