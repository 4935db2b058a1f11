package file

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lockstep-storage/lockstep/driverhost"
)

// JournalEntry is one line of a site's journal. The lines are in the order in
// which the calls had effect: each is written while the site's lock is held.
type JournalEntry struct {
	Wall     time.Time `json:"wall"`               // by the clock of the node
	MonoNS   int64     `json:"mono_ns"`            // CLOCK_BOOTTIME of the node's machine, in ns
	Node     string    `json:"node"`               // that made the call
	Host     string    `json:"host"`               // the service: node@backend
	Epoch    uint64    `json:"epoch"`              // of the call's token
	Claim    uint64    `json:"claim"`              // of the call's token
	Call     string    `json:"call"`               // one of the Call constants
	Volume   string    `json:"volume,omitempty"`   // id
	Snapshot string    `json:"snapshot,omitempty"` // id
	Failover string    `json:"failover,omitempty"` // id
	Phase    string    `json:"phase,omitempty"`    // "start" or "end" of a promotion
	Promoted int       `json:"promoted,omitempty"` // volumes that this promotion moved
	Failed   int       `json:"failed,omitempty"`   // volumes that it could not promote
	Outcome  string    `json:"outcome"`            // "ok", "fenced", or what went wrong
	Torn     bool      `json:"-"`                  // a line that a crash cut short; nothing else is set
}

// What JournalEntry.Call may be.
const (
	CallCreateVolume   = "create_volume"
	CallDeleteVolume   = "delete_volume"
	CallExtendVolume   = "extend_volume"
	CallCreateSnapshot = "create_snapshot"
	CallDeleteSnapshot = "delete_snapshot"
	CallManageVolume   = "manage_volume"
	CallUnmanageVolume = "unmanage_volume"
	CallRetypeVolume   = "retype_volume"
	CallFreeze         = "freeze"
	CallThaw           = "thaw"
	CallPromote        = "promote"
	CallDemote         = "demote"
	CallFence          = "fence"
)

// What JournalEntry.Outcome says of calls that took or met no error.
const (
	OutcomeOK     = "ok"
	OutcomeFenced = "fenced"
)

// The phases of a promotion: its token is raised; it has ended.
const (
	PhaseStart = "start"
	PhaseEnd   = "end"
)

func outcome(err error) string {
	const longest = 512
	switch {
	case err == nil:
		return OutcomeOK
	case errors.Is(err, driverhost.ErrFenced):
		return OutcomeFenced
	}
	text := err.Error()
	return strings.ToValidUTF8(text[:min(len(text), longest)], "")
}

// record appends one line, in one write, under the site's lock. The line is not
// synced: a loss of power may cost the last ones, never their order.
func (s *site) record(e JournalEntry) error {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	e.Wall, e.MonoNS = time.Now().UTC(), ts.Nano()
	line, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	f, err := os.OpenFile(s.file("journal"), os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	line = append(line, '\n')
	if tornTail(f) {
		line = append([]byte{'\n'}, line...)
	}
	_, err = f.Write(line)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	return nil
}

// tornTail reports whether a crash cut the last line short: the next one must
// not be glued to it.
func tornTail(f *os.File) bool {
	fi, err := f.Stat()
	if err != nil || fi.Size() == 0 {
		return false
	}
	var last [1]byte
	_, err = f.ReadAt(last[:], fi.Size()-1)
	return err == nil && last[0] != '\n'
}

// ReadJournal reads the journal of a site. A line that a crash cut short is
// left out when it is the last, and marked as torn when others follow it.
func ReadJournal(path string) ([]JournalEntry, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return decodeJournal(data), nil
}

func decodeJournal(data []byte) []JournalEntry {
	var entries []JournalEntry
	for line := range bytes.Lines(data) {
		var e JournalEntry
		if err := json.Unmarshal(line, &e); err == nil {
			entries = append(entries, e)
		} else if bytes.HasSuffix(line, []byte{'\n'}) {
			entries = append(entries, JournalEntry{Torn: true})
		}
	}
	return entries
}
