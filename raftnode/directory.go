package raftnode

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/hashicorp/raft"

	"github.com/lockstep-storage/lockstep/fsm"
)

// newID returns 64 random bits as text.
func newID() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // it never fails
	return hex.EncodeToString(b[:])
}

// directoryText is a directory in a handshake: a name like the others there.
func directoryText(d fsm.Directory) string {
	return fmt.Sprintf("%s.%d.%s", d.ID, d.Start, d.Nonce)
}

func parseDirectory(text string) (fsm.Directory, error) {
	parts := strings.Split(text, ".")
	if len(parts) != 3 {
		return fsm.Directory{}, fmt.Errorf("data directory %q: must be id.start.nonce", text)
	}
	start, err := strconv.ParseUint(parts[1], 10, 64)
	if err != nil {
		return fsm.Directory{}, fmt.Errorf("data directory %q: %w", text, err)
	}
	return fsm.Directory{ID: parts[0], Start: start, Nonce: parts[2]}, nil
}

// otherDirectory reports whether a node has another data directory than it had, by
// their ids. Of one without files there is none to compare.
func otherDirectory(had, has string) bool { return had != "" && has != "" && had != has }

// directories is which data directory each node has, as far as this node knows:
// by its state, and by its log as long as that is not applied. A voter that has
// lost its directory must not be heard by one who has not applied its
// registration yet either: the two might elect a leader that lacks what was
// acknowledged.
type directories struct {
	logged map[string][]fsm.Directory // in the log when it was opened; never changed
	node   atomic.Pointer[Node]       // once it is there
}

// check refuses a node whose directory is not the one that is known.
func (d *directories) check(id string, is fsm.Directory) error {
	known, ok := fsm.Directory{}, false
	if n := d.node.Load(); n != nil {
		n.View(func(s *fsm.State) {
			var node fsm.Node
			node, ok = s.Node(id)
			known = node.Directory
		})
	}
	candidates := []fsm.Directory{known}
	if !ok {
		candidates = d.logged[id]
	}
	for _, known = range candidates {
		if is.Follows(known) {
			return nil
		}
	}
	switch {
	case len(candidates) == 0:
		return nil
	case is.ID == known.ID:
		return fmt.Errorf("the data directory of node %q is an older copy (start %d, start %d is known): it has forgotten votes and "+
			"acknowledged changes; empty it and start the node again: it is taken back as a new one", id, is.Start, known.Start)
	}
	return fmt.Errorf("the data directory of node %q is not the one that is known (%s, not %s): it was emptied or replaced, and its votes are lost; "+
		"the leader takes the node back as a new one while a majority of the others is up", id, is.ID, known.ID)
}

// loggedDirectories reads the whole log, which shows too that all of it can be
// read, and returns what nodes have registered in it.
func (s *stores) loggedDirectories() (map[string][]fsm.Directory, error) {
	logged := map[string][]fsm.Directory{}
	first, err := s.Logs.FirstIndex()
	if err != nil {
		return nil, err
	}
	last, err := s.Logs.LastIndex()
	if err != nil {
		return nil, err
	}
	for i := first; i > 0 && i <= last; i++ {
		var entry raft.Log
		if err := s.Logs.GetLog(i, &entry); err != nil {
			return nil, fmt.Errorf("entry %d of %d to %d: %w", i, first, last, err)
		}
		if entry.Index != i {
			return nil, fmt.Errorf("entry %d of %d to %d says that it is entry %d", i, first, last, entry.Index)
		}
		if entry.Type != raft.LogCommand {
			continue
		}
		_, cmd, err := fsm.Decode(entry.Data)
		if err != nil {
			return nil, fmt.Errorf("entry %d: %w: it is damaged, or a newer release has written it: start one that is at least as new", i, err)
		}
		if c, ok := cmd.(fsm.RegisterNode); ok && c.Node.Directory.ID != "" {
			logged[c.Node.ID] = append(logged[c.Node.ID], c.Node.Directory)
		}
	}
	return logged, nil
}
