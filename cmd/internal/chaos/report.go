package chaos

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/lockstep-storage/lockstep/cmd/internal/chaos/evidence"
	"github.com/lockstep-storage/lockstep/cmd/internal/chaos/lab"
	"github.com/lockstep-storage/lockstep/cmd/internal/history"
	"github.com/lockstep-storage/lockstep/fsm"
)

// Report says what a run did and what was found.
type Report struct {
	Run        evidence.Run              `json:"run"`
	Faults     map[string]int            `json:"faults"`     // by kind
	Impossible map[string]string         `json:"impossible"` // faults that had no effect, and why, by kind
	Operations map[string]map[string]int `json:"operations"` // by kind and outcome
	Data       map[string]int            `json:"data"`       // reads and writes of hosts, by outcome
	Failovers  map[string]Times          `json:"failovers"`  // by mode and phase
	Scenarios  []ScenarioResult          `json:"scenarios,omitempty"`
	Journal    map[string]int            `json:"journal"` // driver calls, by outcome
	Restarts   []lab.Exit                `json:"restarts,omitempty"`
	Converged  time.Duration             `json:"converged"`
	Broken     string                    `json:"broken,omitempty"` // why the run did not get to its end
	Violations []evidence.Violation      `json:"violations"`
	Undecided  []string                  `json:"undecided,omitempty"`
}

// ScenarioResult is how a scenario went.
type ScenarioResult struct {
	Name  string        `json:"name"`
	Took  time.Duration `json:"took"`
	Error string        `json:"error,omitempty"`
}

// Times are how many failovers there were, and how long they took from the request
// until a client saw their end. Not all were watched until then.
type Times struct {
	Count  int           `json:"count"`
	Median time.Duration `json:"median"`
	Most   time.Duration `json:"most"`
}

// Good reports whether the run got to its end and nothing was wrong.
func (r *Report) Good() bool { return r.Broken == "" && len(r.Violations) == 0 }

// report saves the evidence and judges it.
func (w *world) report(broken error) (*Report, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	e := &w.seen
	if err := e.LoadJournals(w.options.Dir); err != nil {
		return nil, err
	}
	if err := e.LoadLogs(w.options.Dir); err != nil {
		return nil, err
	}
	if err := e.Save(w.options.Dir); err != nil {
		return nil, err
	}
	r := judge(e, broken == nil)
	r.Scenarios = w.scenariosDone
	r.Broken = errorText(broken)
	for _, n := range w.lab.Nodes {
		r.Restarts = append(r.Restarts, n.Exits()...)
	}
	return r, r.save(w.options.Dir)
}

const reportName = "report.json"

func (r *Report) save(dir string) error {
	content, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, reportName), append(content, '\n'), 0o600)
}

// Recheck judges the evidence that a run has left in a directory, again.
func Recheck(dir string) (*Report, error) {
	e, err := evidence.Load(dir)
	if err != nil {
		return nil, fmt.Errorf("recheck %s: %w", dir, err)
	}
	r := judge(e, e.Run.Ended)
	var before Report
	if content, err := os.ReadFile(filepath.Join(dir, reportName)); err == nil && json.Unmarshal(content, &before) == nil {
		r.Scenarios, r.Restarts, r.Broken = before.Scenarios, before.Restarts, before.Broken
	}
	page, err := e.Draw(dir)
	if err != nil {
		return nil, err
	}
	if page != "" {
		r.Undecided = append(r.Undecided, "see "+page)
	}
	return r, nil
}

// judge counts and checks. Of a run that did not get to its end only that is
// checked which holds at every moment.
func judge(e *evidence.Evidence, whole bool) *Report { //nolint:revive // whether there is an end to judge
	r := &Report{
		Run: e.Run, Faults: map[string]int{}, Impossible: map[string]string{}, Operations: map[string]map[string]int{},
		Data: map[string]int{}, Journal: map[string]int{}, Failovers: failovers(e), Converged: e.Final.Took,
	}
	for _, f := range e.Faults {
		r.Faults[f.Kind]++
		if f.Note != "" {
			r.Impossible[f.Kind] = f.Note
		}
	}
	for _, op := range e.Operations {
		kind := string(op.Request.Kind)
		if r.Operations[kind] == nil {
			r.Operations[kind] = map[string]int{}
		}
		r.Operations[kind][outcome(op.Answer)]++
	}
	for _, a := range e.Data {
		r.Data[accessOutcome(a)]++
	}
	for _, entries := range e.Journals {
		for _, entry := range entries {
			r.Journal[cmp.Or(map[string]string{"ok": "ok", "fenced": "fenced"}[entry.Outcome], "failed")]++
		}
	}
	if whole {
		v := e.Check()
		r.Violations, r.Undecided = v.Violations, v.Undecided
	} else {
		r.Violations = e.Asserted
	}
	return r
}

func outcome(a history.Answer) string {
	switch {
	case a.Unknown:
		return "unknown"
	case a.Code != "":
		return "refused"
	}
	return "ok"
}

func accessOutcome(a evidence.Access) string {
	switch {
	case !a.Write:
		return "read"
	case a.Failed != "":
		return "write failed"
	}
	return "written"
}

// failovers counts how failovers ended, and how long they took by the clock of their
// clients: those of the nodes are made to jump.
func failovers(e *evidence.Evidence) map[string]Times {
	begin, end := map[string]time.Duration{}, map[string]time.Duration{}
	for _, op := range e.Operations {
		id, known := op.Request.ID, end[op.Request.ID] != 0
		switch {
		case op.Request.Kind == history.RequestFailover && outcome(op.Answer) == "ok":
			begin[id] = op.Begin
		case op.Request.Kind == history.ReadFailover && !known && ended(op.Answer.Phase):
			end[id] = op.End
		}
	}
	times := map[string]Times{}
	took := map[string][]time.Duration{}
	for _, f := range e.Final.Failovers {
		key := f.Mode + " " + f.Phase
		if f.From == f.Target {
			key += ", to the site in use"
		}
		t := times[key]
		t.Count++
		times[key] = t
		if begin[f.ID] != 0 && end[f.ID] != 0 {
			took[key] = append(took[key], end[f.ID]-begin[f.ID])
		}
	}
	for key, t := range took {
		slices.Sort(t)
		times[key] = Times{Count: times[key].Count, Median: t[len(t)/2], Most: t[len(t)-1]}
	}
	return times
}

func ended(p fsm.Phase) bool {
	return p == fsm.Done || p == fsm.Failed || p == fsm.Aborted
}

// Print writes the report for people.
func (r *Report) Print(out io.Writer) {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "\nfaults\t%s\n", counts(r.Faults))
	for _, kind := range slices.Sorted(maps.Keys(r.Impossible)) {
		fmt.Fprintf(t, "\t%s: %s\n", kind, r.Impossible[kind])
	}
	for _, kind := range slices.Sorted(maps.Keys(r.Operations)) {
		fmt.Fprintf(t, "%s\t%s\n", kind, counts(r.Operations[kind]))
	}
	fmt.Fprintf(t, "data of hosts\t%s\n", counts(r.Data))
	fmt.Fprintf(t, "driver calls\t%s\n", counts(r.Journal))
	for _, key := range slices.Sorted(maps.Keys(r.Failovers)) {
		f := r.Failovers[key]
		fmt.Fprintf(t, "failovers %s\t%d, median %v, most %v\n", key, f.Count, f.Median.Round(time.Millisecond), f.Most.Round(time.Millisecond))
	}
	fmt.Fprintf(t, "agents that ended by themselves\t%d\n", len(r.Restarts))
	fmt.Fprintf(t, "converged after\t%v\n", r.Converged.Round(time.Millisecond))
	held := len(r.Scenarios)
	for _, s := range r.Scenarios {
		if s.Error != "" {
			held--
			fmt.Fprintf(t, "scenario %s\t%s\n", s.Name, s.Error)
		}
	}
	fmt.Fprintf(t, "scenarios that hold\t%d of %d\n", held, len(r.Scenarios))
	for _, u := range r.Undecided {
		fmt.Fprintf(t, "undecided\t%s\n", u)
	}
	fmt.Fprintf(t, "violations\t%d\n", len(r.Violations))
	_ = t.Flush() // as Fprint
	for _, v := range r.Violations {
		fmt.Fprintf(out, "  %s: %s\n      %s\n", v.Check, v.Says, v.Where)
	}
	if r.Broken != "" {
		fmt.Fprintf(out, "the run did not get to its end: %s\n", r.Broken)
	}
}

func counts(m map[string]int) string {
	var words []string
	for _, key := range slices.Sorted(maps.Keys(m)) {
		words = append(words, fmt.Sprintf("%s %d", key, m[key]))
	}
	return strings.Join(words, ", ")
}
