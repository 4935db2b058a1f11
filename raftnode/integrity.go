package raftnode

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// sumOf is the check sum that is kept with an entry: neither log store looks at
// one when it reads.
func sumOf(entry *raft.Log) []byte {
	var head [17]byte
	binary.BigEndian.PutUint64(head[:], entry.Index)
	binary.BigEndian.PutUint64(head[8:], entry.Term)
	head[16] = byte(entry.Type)
	table := crc32.MakeTable(crc32.Castagnoli)
	return binary.BigEndian.AppendUint32(nil, crc32.Update(crc32.Checksum(head[:], table), table, entry.Data))
}

// checkSum refuses an entry that is not what was written.
func checkSum(entry *raft.Log) error {
	if string(entry.Extensions) != string(sumOf(entry)) {
		return errors.New("it is damaged: its check sum is wrong")
	}
	return nil
}

// tailMark remembers on disk up to where the log had been written, half a second
// late at most: a log store that finds garbage takes it for the end of the log,
// as after a crash, although what follows was acknowledged.
type tailMark struct {
	path string

	mu   sync.Mutex
	file *os.File
	last uint64 // index of the last entry that is on disk
}

// reached notes that the log is on disk up to index.
func (m *tailMark) reached(index uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.last = index
}

// lower notes that the log is about to end at index.
func (m *tailMark) lower(index uint64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.last = min(m.last, index)
	return m.sync()
}

// write puts the mark on disk. It keeps the file and its block, so that it needs
// no space later.
func (m *tailMark) write() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.sync()
}

func (m *tailMark) sync() (err error) {
	if m.file == nil {
		if m.file, err = os.OpenFile(m.path, os.O_CREATE|os.O_WRONLY, 0o600); err != nil {
			return err
		}
	}
	if _, err := fmt.Fprintf(&writerAt{m.file}, "%020d\n", m.last); err != nil {
		return err
	}
	return m.file.Sync()
}

func (m *tailMark) close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.file == nil {
		return nil
	}
	file := m.file
	m.file = nil
	return file.Close()
}

// writerAt writes at the beginning of a file.
type writerAt struct{ file *os.File }

func (w *writerAt) Write(p []byte) (int, error) { return w.file.WriteAt(p, 0) }

// check compares the mark on disk with where the log and the snapshots end.
func (m *tailMark) check(reaches uint64, logger hclog.Logger) error {
	content, err := os.ReadFile(m.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	marked, err := strconv.ParseUint(strings.TrimSpace(string(content)), 10, 64)
	if err != nil {
		logger.Warn("the mark of the log's end cannot be read and is written anew", "path", m.path, "error", err)
		return nil
	}
	if marked > reaches {
		return fmt.Errorf("the log was on disk up to entry %d and now ends at %d: its end is damaged, or an older copy was put back", marked, reaches)
	}
	return nil
}

// checkSnapshots reads the newest snapshot. Raft would silently take an older one,
// which is as good only if the log reaches back to it. It removes what a crash has
// left half-written, and says so.
func checkSnapshots(dir string, store raft.SnapshotStore, firstLog uint64, logger hclog.Logger) error {
	entries, err := os.ReadDir(filepath.Join(dir, "snapshots"))
	if err != nil {
		return err
	}
	newest := uint64(0) // that there has been, readable or not
	for _, entry := range entries {
		path := filepath.Join(dir, "snapshots", entry.Name())
		if strings.HasSuffix(entry.Name(), ".tmp") {
			logger.Warn("a snapshot that was not finished is removed", "path", path)
			if err := os.RemoveAll(path); err != nil {
				return err
			}
			continue
		}
		var term, index, at uint64
		if _, err := fmt.Sscanf(entry.Name(), "%d-%d-%d", &term, &index, &at); err == nil {
			newest = max(newest, index)
		}
	}
	good, err := newestReadable(store, logger)
	if err != nil {
		return err
	}
	switch {
	case good == newest:
		return nil
	case firstLog == 0 || firstLog > good+1:
		return fmt.Errorf("the snapshot up to entry %d is damaged, the one before goes up to %d and the log begins with %d (0: with nothing): what lies between is lost here",
			newest, good, firstLog)
	}
	logger.Warn("the newest snapshot is damaged; an older one and the log make up for it", "damaged", newest, "used", good)
	return nil
}

// newestReadable returns the index of the newest snapshot that is what was
// written, 0 without any.
func newestReadable(store raft.SnapshotStore, logger hclog.Logger) (uint64, error) {
	all, err := store.List()
	if err != nil {
		return 0, err
	}
	for _, snapshot := range all {
		meta, content, err := store.Open(snapshot.ID)
		if err == nil {
			err = content.Close()
		}
		if err == nil && !strings.HasPrefix(snapshot.ID, fmt.Sprintf("%d-%d-", meta.Term, meta.Index)) {
			err = fmt.Errorf("it says that it is of entry %d in term %d", meta.Index, meta.Term)
		}
		if err == nil {
			return meta.Index, nil
		}
		logger.Error("a snapshot is damaged", "snapshot", snapshot.ID, "error", err)
	}
	return 0, nil
}
