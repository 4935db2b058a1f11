package raftnode

import (
	"errors"
	"fmt"

	"github.com/hashicorp/raft-wal/fs"
	"github.com/hashicorp/raft-wal/metadb"
	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"
)

// repairWAL mends what raft-wal v0.4.0 leaves behind when the end of the log is cut
// off, as from a leader that was deposed with entries that only it had: it notes
// that the last segment is sealed and does not seal it. While the process runs all
// is well, but the next one cannot read the segment, and Raft panics. (It is mended
// in raft-wal's repository, after its last release.)
//
// Each such segment is sealed here, before the log is opened. A crash in between
// does no harm: what is written is the same each time.
func repairWAL(dir string) (err error) {
	var meta metadb.BoltMetaDB
	state, err := meta.Load(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, meta.Close()) }()
	repaired := false
	for i, s := range state.Segments {
		if s.SealTime.IsZero() || s.IndexStart != 0 {
			continue
		}
		if state.Segments[i].IndexStart, err = sealSegment(dir, s); err != nil {
			return fmt.Errorf("seal segment %s: %w", segment.FileName(s), err)
		}
		repaired = true
	}
	if !repaired {
		return nil
	}
	return meta.CommitState(state)
}

// sealSegment writes the index of a segment and returns where it is. The index is
// written with the entry that makes a segment too large, so one is added that lies
// beyond the segment's MaxIndex, which stays: nobody reads it.
func sealSegment(dir string, s types.SegmentInfo) (index uint64, err error) {
	s.SizeLimit = 0
	w, err := segment.NewFiler(dir, fs.New()).RecoverTail(s)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	sealed, index, err := w.Sealed()
	if err != nil || sealed {
		return index, err
	}
	next := max(w.LastIndex()+1, s.BaseIndex)
	if err := w.Append([]types.LogEntry{{Index: next}}); err != nil {
		return 0, err
	}
	if sealed, index, err = w.Sealed(); err == nil && !sealed {
		err = errors.New("it did not get an index")
	}
	return index, err
}
