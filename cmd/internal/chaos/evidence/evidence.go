package evidence

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lockstep-storage/lockstep/api/client"
	"github.com/lockstep-storage/lockstep/cmd/internal/history"
	"github.com/lockstep-storage/lockstep/driverhost"
	"github.com/lockstep-storage/lockstep/driverhost/file"
)

// Evidence is all that was seen of a run. Times are CLOCK_BOOTTIME of the machine
// in nanoseconds, as in the journals of the sites, unless they are of type
// time.Time.
type Evidence struct {
	Run        Run
	Faults     []Fault
	Operations []history.Operation // times since Run.Start
	Stale      []StaleRead
	Data       []Access
	Rounds     []Round
	Asserted   []Violation // what scenarios found on the spot
	Final      Final
	Journals   map[string][]file.JournalEntry // by site
	Logs       []Finding                      // in the logs of the nodes
}

// Run says how the evidence came about.
type Run struct {
	Seed     int64         `json:"seed"`
	Duration time.Duration `json:"duration"` // of the random part
	Nodes    int           `json:"nodes"`
	Kinds    []string      `json:"kinds"` // of faults
	Mode     string        `json:"mode"`  // how the network is made
	Cluster  string        `json:"cluster"`
	Start    int64         `json:"start"`
	Wall     time.Time     `json:"wall"` // at Start
	Grace    time.Duration `json:"grace"`
	Wind     time.Duration `json:"wind"` // lease and kill: how long a member may be at work after it lost touch
	Ended    bool          `json:"ended"`
}

// Fault is one fault that was injected.
type Fault struct {
	Kind     string        `json:"kind"`
	Nodes    []int         `json:"nodes"`
	Begin    int64         `json:"begin"`
	End      int64         `json:"end"`
	Planned  time.Duration `json:"planned"` // begin, since the random part began
	Duration time.Duration `json:"duration"`
	Scenario string        `json:"scenario,omitempty"`
	Note     string        `json:"note,omitempty"`
}

// StaleRead is what a node said of the cluster when asked for what it knows.
type StaleRead struct {
	Node  int    `json:"node"`
	Life  int    `json:"life"` // how often the node had been started
	Begin int64  `json:"begin"`
	End   int64  `json:"end"`
	Epoch uint64 `json:"epoch"`
	Site  string `json:"site"`
	Says  bool   `json:"says"` // how stale it is
}

// Access is one read or write of a host at the site in use, under the site's lock,
// so that it is never under way when the site is closed.
type Access struct {
	Volume string `json:"volume"`
	Slot   int    `json:"slot"`
	Write  bool   `json:"write"`
	Seq    int64  `json:"seq"` // that was written or found; 0: never written; Torn: no content that was written
	Site   string `json:"site"`
	Epoch  uint64 `json:"epoch"` // of the site's token
	Begin  int64  `json:"begin"`
	End    int64  `json:"end"`
	Failed string `json:"failed,omitempty"` // the write may have had effect
	Final  bool   `json:"final,omitempty"`  // made after the end
}

// Torn is the Seq of a slot that holds what nobody has written.
const Torn = -1

// Round is a complete round of replication to a site, seen between two looks.
type Round struct {
	Site   string           `json:"site"`
	Source string           `json:"source"` // empty: the site forgot its rounds, since it was promoted
	Token  driverhost.Token `json:"token"`
	After  int64            `json:"after"` // the look before, which saw an earlier one
	By     int64            `json:"by"`
}

// Final is the deployment after all faults were mended.
type Final struct {
	Converged string            `json:"converged"` // empty: in time; else what was still missing
	Took      time.Duration     `json:"took"`
	Nodes     []NodeView        `json:"nodes"`
	Cluster   client.Cluster    `json:"cluster"`
	Failovers []client.Failover `json:"failovers"`
	Volumes   []client.Volume   `json:"volumes"`
	Snapshots []client.Snapshot `json:"snapshots"`
	Files     []File            `json:"files"` // of volumes at the site in use
	Reopened  string            `json:"reopened,omitempty"`
}

// NodeView is the cluster as one node knows it.
type NodeView struct {
	Node  string `json:"node"`
	Ready string `json:"ready"` // empty, or why not
	Epoch uint64 `json:"epoch"`
	Site  string `json:"site"`
}

// File is a volume's file at the site in use.
type File struct {
	Volume string `json:"volume"`
	Bytes  int64  `json:"bytes"` // negative: there is none
}

// Finding is a line in the log of a node that must not be there.
type Finding struct {
	Node string `json:"node"`
	Line int    `json:"line"`
	Text string `json:"text"`
}

// Violation is a promise that did not hold.
type Violation struct {
	Check string `json:"check"`
	Says  string `json:"says"`
	Where string `json:"where"` // in the evidence
}

// Now is CLOCK_BOOTTIME in nanoseconds, or 0 on a machine without it.
func Now() int64 {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) != nil {
		return 0
	}
	return ts.Nano()
}

// parts are the files that evidence consists of, besides journals and logs.
func (e *Evidence) parts() map[string]any {
	return map[string]any{
		"run.json": &e.Run, "faults.json": &e.Faults, "operations.json": &e.Operations, "stale.json": &e.Stale,
		"data.json": &e.Data, "rounds.json": &e.Rounds, "asserted.json": &e.Asserted, "final.json": &e.Final,
	}
}

// Save writes the evidence into a directory, beside the sites and the nodes.
func (e *Evidence) Save(dir string) error {
	for name, part := range e.parts() {
		content, err := json.MarshalIndent(part, "", " ")
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), append(content, '\n'), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// Load reads the evidence of a run from its directory, with the journals of the
// sites and what is wrong in the logs of the nodes.
func Load(dir string) (*Evidence, error) {
	e := &Evidence{}
	for name, part := range e.parts() {
		content, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(content, part); err != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Join(dir, name), err)
		}
	}
	return e, errors.Join(e.LoadJournals(dir), e.LoadLogs(dir))
}

// LoadJournals reads the journals of the sites.
func (e *Evidence) LoadJournals(dir string) error {
	e.Journals = map[string][]file.JournalEntry{}
	sites, err := os.ReadDir(filepath.Join(dir, "sites"))
	if err != nil {
		return err
	}
	for _, site := range sites {
		entries, err := file.ReadJournal(filepath.Join(dir, "sites", site.Name(), "journal"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		e.Journals[site.Name()] = entries
	}
	return nil
}

// LoadLogs looks for what must not be in the logs of the nodes: the marks of a Go
// program that broke.
func (e *Evidence) LoadLogs(dir string) error {
	e.Logs = nil
	nodes, err := os.ReadDir(filepath.Join(dir, "nodes"))
	if err != nil {
		return err
	}
	for _, node := range nodes {
		content, err := os.ReadFile(filepath.Join(dir, "nodes", node.Name(), "log"))
		if err != nil {
			return err
		}
		number := 0
		told := map[string]bool{} // an agent that breaks at each start says so once
		for line := range bytes.Lines(content) {
			number++
			if broken(line) && !told[string(line)] {
				told[string(line)] = true
				e.Logs = append(e.Logs, Finding{Node: node.Name(), Line: number, Text: string(bytes.TrimSpace(line))})
			}
		}
	}
	return nil
}

func broken(line []byte) bool {
	for _, mark := range []string{"panic: ", "fatal error: ", "WARNING: DATA RACE", "[signal SIG"} {
		if bytes.HasPrefix(line, []byte(mark)) || bytes.Contains(line, []byte(": "+mark)) {
			return true
		}
	}
	return false
}
