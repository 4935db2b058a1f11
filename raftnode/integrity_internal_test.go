package raftnode

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/lockstep-storage/lockstep/fsm"
)

const wroteEntries = 60

// written fills stores in dir and closes them, as after a clean stop.
func written(t *testing.T, dir, logStore string) {
	t.Helper()
	s, err := openStores(storeConfig(dir, logStore))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Stable.SetUint64([]byte("CurrentTerm"), 1); err != nil {
		t.Fatal(err)
	}
	for i := range uint64(wroteEntries) {
		if err := s.Logs.StoreLog(commandEntry(t, i+1, 1, newcomer(fmt.Sprintf("node%d", i+1)))); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.mark.write(); err != nil {
		t.Fatal(err)
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
}

// readBack opens the stores of dir and compares every entry with what was written.
func readBack(t *testing.T, dir, logStore string) (refused error) {
	t.Helper()
	s, err := openStores(storeConfig(dir, logStore))
	if err != nil {
		return err
	}
	defer func() { _ = s.close() }()
	if _, err := s.loggedDirectories(); err != nil {
		return err
	}
	for i := range uint64(wroteEntries) {
		var got raft.Log
		want := commandEntry(t, i+1, 1, newcomer(fmt.Sprintf("node%d", i+1)))
		if err := s.Logs.GetLog(i+1, &got); err != nil || got.Index != want.Index || got.Term != 1 || !bytes.Equal(got.Data, want.Data) {
			t.Errorf("opened without a word, and entry %d is %+v (%v)", i+1, got, err)
			return nil
		}
	}
	return nil
}

// One byte of the log is wrong. Either it is one that means nothing, and every
// entry is there, or the node does not start: nothing is lost in silence. Of bbolt
// only what it keeps is damaged: on a damaged structure it panics, which is loud.
func TestDamagedLogIsNeverShortenedInSilence(t *testing.T) {
	t.Parallel()
	for logStore, file := range map[string]string{LogStoreWAL: walDir + "/00000000000000000001-0000000000000000.wal", LogStoreBoltDB: boltFile} {
		t.Run(logStore, func(t *testing.T) {
			t.Parallel()
			whole := t.TempDir()
			written(t, whole, logStore)
			if err := readBack(t, whole, logStore); err != nil {
				t.Fatalf("an undamaged log is refused: %v", err)
			}
			content, err := os.ReadFile(filepath.Join(whole, file))
			if err != nil {
				t.Fatal(err)
			}
			offsets := everywhere(content)
			if logStore == LogStoreBoltDB {
				offsets = keptNames(content)
			}
			refused := 0
			for _, offset := range offsets {
				if opensDamaged(t, whole, logStore, file, content, offset) != nil {
					refused++
				}
				if t.Failed() {
					t.Fatalf("with byte %d flipped", offset)
				}
			}
			t.Logf("%d of %d flipped bytes kept the log from being opened, the others meant nothing", refused, len(offsets))
			if refused == 0 {
				t.Error("no damage was noticed")
			}
		})
	}
}

// everywhere is 64 offsets in what is written of a file.
func everywhere(content []byte) (offsets []int) {
	used := len(bytes.TrimRight(content, "\x00"))
	for i := range 64 {
		offsets = append(offsets, used*i/64)
	}
	return offsets
}

// keptNames is where the names of nodes are, of which some pages are out of use.
func keptNames(content []byte) (offsets []int) {
	for at := 0; ; {
		i := bytes.Index(content[at:], []byte("node"))
		if i < 0 || len(offsets) == 64 {
			return offsets
		}
		at += i + 1
		offsets = append(offsets, at)
	}
}

func opensDamaged(t *testing.T, whole, logStore, file string, content []byte, offset int) error {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{stableFile, probeFile, walDir + "/wal-meta.db"} {
		copied, err := os.ReadFile(filepath.Join(whole, name))
		if err != nil {
			continue // of the other store
		}
		if err := errors.Join(os.MkdirAll(filepath.Join(dir, walDir), 0o750), os.WriteFile(filepath.Join(dir, name), copied, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if logStore == LogStoreBoltDB {
		if err := os.RemoveAll(filepath.Join(dir, walDir)); err != nil {
			t.Fatal(err)
		}
	} else {
		content = content[:min(len(content), 1<<20)] // not all that is allocated
	}
	damaged := slices.Clone(content)
	damaged[offset] ^= 0x40
	if err := os.WriteFile(filepath.Join(dir, file), damaged, 0o600); err != nil {
		t.Fatal(err)
	}
	return readBack(t, dir, logStore)
}

func TestLogThatIsShorterThanItWas(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	written(t, dir, LogStoreWAL)
	cfg := storeConfig(dir, LogStoreWAL)
	s, err := openStores(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Logs.DeleteRange(50, wroteEntries); err != nil { // as Raft does: it knows what it does
		t.Fatal(err)
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	if s, err = openStores(cfg); err != nil {
		t.Fatalf("a log that Raft has shortened is refused: %v", err)
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, probeFile), fmt.Appendf(nil, "%020d\n", 50), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = openStores(cfg)
	wantError(t, err, "ends at 49")
}

// snapshotOf writes a snapshot up to index and returns its directory.
func snapshotOf(t *testing.T, s *stores, dir string, index uint64) string {
	t.Helper()
	sink, err := s.Snapshots.Create(1, index, 1, raft.Configuration{}, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fsm.NewState().WriteTo(sink); err != nil {
		t.Fatal(err)
	}
	if err := sink.Close(); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "snapshots", sink.ID())
}

func TestDamagedSnapshots(t *testing.T) {
	t.Parallel()
	flip := func(t *testing.T, path string) {
		t.Helper()
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		content[len(content)/2] ^= 0x40
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, test := range map[string]struct {
		damage  func(t *testing.T, snapshot string)
		keep    bool // the log reaches back to the older snapshot
		refused bool
		says    string
	}{
		"none": {func(*testing.T, string) {}, false, false, ""},
		"its state, and the log does not reach back": {func(t *testing.T, at string) { t.Helper(); flip(t, at+"/state.bin") }, false, true, ""},
		"its state, and the log reaches back":        {func(t *testing.T, at string) { t.Helper(); flip(t, at+"/state.bin") }, true, false, "make up for it"},
		"its description": {func(t *testing.T, at string) {
			t.Helper()
			if err := os.Truncate(at+"/meta.json", 10); err != nil {
				t.Fatal(err)
			}
		}, false, true, ""},
		"it is gone in part": {func(t *testing.T, at string) {
			t.Helper()
			if err := os.Remove(at + "/state.bin"); err != nil {
				t.Fatal(err)
			}
		}, false, true, ""},
		"it was not finished": {func(t *testing.T, at string) {
			t.Helper()
			if err := os.Mkdir(filepath.Dir(at)+"/1-99-1.tmp", 0o750); err != nil {
				t.Fatal(err)
			}
		}, false, false, "not finished"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			written(t, dir, LogStoreWAL)
			s, err := openStores(storeConfig(dir, LogStoreWAL))
			if err != nil {
				t.Fatal(err)
			}
			snapshotOf(t, s, dir, 20)
			newest := snapshotOf(t, s, dir, 40)
			if !test.keep {
				if err := s.Logs.DeleteRange(1, 40); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.close(); err != nil {
				t.Fatal(err)
			}
			test.damage(t, newest)
			var log syncBuffer
			cfg := storeConfig(dir, LogStoreWAL)
			cfg.Logger = hclog.New(&hclog.LoggerOptions{Output: &log})
			s, err = openStores(cfg)
			if (err != nil) != test.refused || !strings.Contains(log.String(), test.says) {
				t.Errorf("opened: %v; log: %s", err, log.String())
			}
			if err == nil {
				_ = s.close()
			}
		})
	}
}
