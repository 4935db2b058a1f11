package clustertest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/hashicorp/raft"
)

// files is a disk as one process has it open.
type files struct {
	*disk
	process *process
	content *content
}

var (
	_ raft.LogStore      = files{}
	_ raft.StableStore   = files{}
	_ raft.SnapshotStore = files{}

	errNoSpace = errors.New("no space left on device")
	errIO      = errors.New("input/output error")
)

// do makes a write durable: keep is called with the number of units that are. A
// write that fails ends the process, as raftnode's guards do: what Raft holds in
// memory is then not what is on the disk.
func (f files) do(units int, keep func(n int)) error {
	err := f.write(units, keep)
	if err != nil && f.process.lives() {
		f.stats.Add("disk: a failed write ends the process", 1)
		f.fatal(f.process)
	}
	return err
}

func (f files) write(units int, keep func(n int)) error {
	if !f.process.runs() {
		return errKilled
	}
	w := &write{units: units, keep: keep}
	f.mu.Lock()
	f.pending[w] = struct{}{}
	latency := f.latency
	f.mu.Unlock()
	if latency > 0 {
		<-time.After(latency)
	}
	for {
		f.mu.Lock()
		stalled := f.stalled
		if stalled == nil {
			err := f.finish(w)
			f.mu.Unlock()
			if !f.process.runs() {
				return errKilled // nobody hears of it
			}
			return err
		}
		f.mu.Unlock()
		select {
		case <-stalled:
		case <-f.process.died:
			return errKilled
		}
	}
}

// finish ends a write, well or badly. f.mu is held.
func (f files) finish(w *write) error {
	_, under := f.pending[w]
	delete(f.pending, w)
	switch {
	case !under || !f.process.lives():
		return errKilled // a crash has decided what became of it
	case f.failing != nil:
		return f.failing
	}
	w.keep(w.units)
	return nil
}

// read waits while the process may not read.
func (f files) read() error {
	if !f.process.runs() {
		return errKilled
	}
	return nil
}

// FirstIndex implements [raft.LogStore].
func (f files) FirstIndex() (uint64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.content.first, nil
}

// LastIndex implements [raft.LogStore].
func (f files) LastIndex() (uint64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.content.last, nil
}

// GetLog implements [raft.LogStore].
func (f files) GetLog(index uint64, log *raft.Log) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	e, ok := f.content.logs[index]
	if !ok {
		return raft.ErrLogNotFound
	}
	*log = *e
	return nil
}

// IsMonotonic implements [raft.MonotonicLogStore]: like the default store, it has
// no gaps, so Raft empties it when it installs a snapshot.
func (f files) IsMonotonic() bool { return true }

// StoreLog implements [raft.LogStore].
func (f files) StoreLog(log *raft.Log) error { return f.StoreLogs([]*raft.Log{log}) }

// StoreLogs implements [raft.LogStore].
func (f files) StoreLogs(logs []*raft.Log) error {
	if ahead := f.wall(); ahead != 0 && f.process.leads() {
		for _, log := range logs {
			log.AppendedAt = log.AppendedAt.Add(ahead) // Raft has asked the wall clock
		}
	}
	return f.do(len(logs), func(n int) {
		for _, log := range logs[:n] {
			e := new(*log)
			f.content.add(e)
			f.archive[e.Index] = e
		}
	})
}

// DeleteRange implements [raft.LogStore].
func (f files) DeleteRange(from, to uint64) error {
	return f.do(1, func(n int) {
		if n == 0 {
			return
		}
		if to >= f.content.last { // a conflict with the leader; a compaction leaves the last entries
			maps.DeleteFunc(f.archive, func(i uint64, _ *raft.Log) bool { return i >= from })
		}
		f.content.drop(from, to)
	})
}

// Set implements [raft.StableStore].
func (f files) Set(key, value []byte) error {
	return f.do(1, func(n int) {
		if n == 1 {
			f.content.keys[string(key)] = string(value)
		}
	})
}

// errNotFound is what Raft takes for a key that has never been set.
var errNotFound = errors.New("not found")

// Get implements [raft.StableStore].
func (f files) Get(key []byte) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	value, ok := f.content.keys[string(key)]
	if !ok {
		return nil, errNotFound
	}
	return []byte(value), nil
}

// SetUint64 implements [raft.StableStore]. Raft panics if it cannot keep its term,
// and need not be told: its process has ended.
func (f files) SetUint64(key []byte, value uint64) error {
	err := f.Set(key, fmt.Append(nil, value))
	if string(key) == "CurrentTerm" {
		return nil
	}
	return err
}

// GetUint64 implements [raft.StableStore].
func (f files) GetUint64(key []byte) (uint64, error) {
	text, err := f.Get(key)
	if err != nil {
		return 0, err
	}
	var value uint64
	_, err = fmt.Sscan(string(text), &value)
	return value, err
}

const snapshotsKept = 2

// Create implements [raft.SnapshotStore].
func (f files) Create(version raft.SnapshotVersion, index, term uint64, configuration raft.Configuration,
	configurationIndex uint64, _ raft.Transport,
) (raft.SnapshotSink, error) {
	if err := f.read(); err != nil {
		return nil, err
	}
	return &sink{files: f, meta: raft.SnapshotMeta{
		Version: version, ID: fmt.Sprintf("%d-%d-%d", term, index, time.Now().UnixNano()), Index: index, Term: term,
		Configuration: configuration, ConfigurationIndex: configurationIndex,
	}}, nil
}

// List implements [raft.SnapshotStore].
func (f files) List() ([]*raft.SnapshotMeta, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []*raft.SnapshotMeta
	for _, s := range f.content.snapshots {
		all = append(all, new(s.meta))
	}
	return all, nil
}

// Open implements [raft.SnapshotStore].
func (f files) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	if err := f.read(); err != nil {
		return nil, nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.content.snapshots {
		if s.meta.ID == id {
			return new(s.meta), io.NopCloser(bytes.NewReader(s.data)), nil
		}
	}
	return nil, nil, fmt.Errorf("snapshot %s: %w", id, errNotFound)
}

// sink is a snapshot that is being written. It is there, as a whole, once it has
// been closed.
type sink struct {
	files
	meta raft.SnapshotMeta
	data bytes.Buffer
	done bool
}

// ID implements [raft.SnapshotSink].
func (s *sink) ID() string { return s.meta.ID }

// Write implements [io.Writer].
func (s *sink) Write(p []byte) (int, error) { return s.data.Write(p) }

// Cancel implements [raft.SnapshotSink].
func (s *sink) Cancel() error {
	s.done = true
	return nil
}

// Close implements [io.Closer].
func (s *sink) Close() error {
	if s.done {
		return nil
	}
	s.done = true
	s.meta.Size = int64(s.data.Len())
	return s.do(1, func(n int) {
		if n == 0 {
			return
		}
		s.dropUncertain(s.meta)
		c := s.content
		c.snapshots = append([]*snapshot{{s.meta, s.data.Bytes()}}, c.snapshots...)
		slices.SortStableFunc(c.snapshots, func(a, b *snapshot) int { return int(b.meta.Index) - int(a.meta.Index) }) //nolint:gosec // small
		c.snapshots = c.snapshots[:min(len(c.snapshots), snapshotsKept)]
	})
}
