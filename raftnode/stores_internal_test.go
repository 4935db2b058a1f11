package raftnode

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

func storeConfig(dir, logStore string) StoreConfig {
	return StoreConfig{Dir: dir, LogStore: logStore, Failed: func(error) {}, Logger: hclog.NewNullLogger()}
}

// fill opens the stores in dir, takes part in term 3, writes one entry of it
// and closes them again.
func fill(t *testing.T, dir, logStore string) {
	t.Helper()
	s, err := openStores(storeConfig(dir, logStore))
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(
		s.Stable.SetUint64([]byte("CurrentTerm"), 3),
		s.Logs.StoreLog(&raft.Log{Index: 1, Term: 3, Data: []byte("entry")}),
		s.close(),
	)
	if err != nil {
		t.Fatal(err)
	}
}

func TestStoresKeepWhatTheyWereGiven(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{LogStoreWAL, LogStoreBoltDB} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s, err := openStores(storeConfig(t.TempDir(), kind))
			if err != nil {
				t.Fatal(err)
			}
			defer closeStores(t, s)
			var entries []*raft.Log
			for i := range uint64(cachedEntries * 2) {
				entries = append(entries, &raft.Log{Index: i + 1, Term: 1, Data: bytes.Repeat([]byte{byte(i)}, int(i%7)*maxCachedEntry/5)})
			}
			for chunk := range slices.Chunk(entries, 60) {
				if err := s.Logs.StoreLogs(chunk); err != nil {
					t.Fatal(err)
				}
			}
			// The end is cut off and written anew, as by a new leader.
			if err := s.Logs.DeleteRange(1001, cachedEntries*2); err != nil {
				t.Fatal(err)
			}
			for i := 1001; i <= len(entries); i++ {
				entries[i-1] = &raft.Log{Index: uint64(i), Term: 2, Data: bytes.Repeat([]byte("b"), (i%2)*2*maxCachedEntry)}
				if err := s.Logs.StoreLog(entries[i-1]); err != nil {
					t.Fatal(err)
				}
			}
			for _, want := range entries {
				var got raft.Log
				if err := s.Logs.GetLog(want.Index, &got); err != nil {
					t.Fatal(err)
				}
				if got.Term != want.Term || !bytes.Equal(got.Data, want.Data) {
					t.Fatalf("entry %d is not what was stored", want.Index)
				}
			}
			if monotonic, ok := s.Logs.(raft.MonotonicLogStore); !ok || monotonic.IsMonotonic() != (kind == LogStoreWAL) {
				t.Error("the cache hides whether the log may have gaps")
			}
		})
	}
}

func TestBoltStoresAreThereAfterARestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	fill(t, dir, LogStoreBoltDB)
	s, err := openStores(storeConfig(dir, LogStoreBoltDB))
	if err != nil {
		t.Fatal(err)
	}
	defer closeStores(t, s)
	if last, err := s.Logs.LastIndex(); last != 1 || err != nil {
		t.Errorf("last index is %d, %v, want 1", last, err)
	}
	if term, err := s.Stable.GetUint64([]byte("CurrentTerm")); term != 3 || err != nil {
		t.Errorf("term is %d, %v, want 3", term, err)
	}
}

func TestStoresOfAnotherKindAreRefused(t *testing.T) {
	t.Parallel()
	for was, asked := range map[string]string{LogStoreWAL: LogStoreBoltDB, LogStoreBoltDB: LogStoreWAL} {
		dir := t.TempDir()
		fill(t, dir, was)
		_, err := openStores(storeConfig(dir, asked))
		wantError(t, err, `was written with log_store "`+was+`"`)
	}
	_, err := openStores(storeConfig(t.TempDir(), "leveldb"))
	wantError(t, err, `log_store "leveldb": must be "wal" or "boltdb"`)
}

func TestDamagedStoresAreRefused(t *testing.T) {
	t.Parallel()
	garbage := bytes.Repeat([]byte("garbage "), 8<<10)
	tests := map[string]struct {
		kind   string
		damage func(t *testing.T, dir string)
		want   string
	}{
		"a stable store of garbage": {
			LogStoreBoltDB, func(t *testing.T, dir string) { writeFile(t, filepath.Join(dir, stableFile), garbage) }, stableFile,
		},
		"a log of garbage": {
			LogStoreBoltDB, func(t *testing.T, dir string) { writeFile(t, filepath.Join(dir, boltFile), garbage) }, boltFile,
		},
		"a log that was cut short": {LogStoreBoltDB, func(t *testing.T, dir string) {
			if err := os.Truncate(filepath.Join(dir, boltFile), 8<<10); err != nil {
				t.Fatal(err)
			}
		}, boltFile},
		"a wal without its segment's content": {LogStoreBoltDB, func(t *testing.T, dir string) {
			remove(t, filepath.Join(dir, boltFile))
			if err := os.Mkdir(filepath.Join(dir, walDir), 0o700); err != nil {
				t.Fatal(err)
			}
			writeFile(t, filepath.Join(dir, walDir, "wal-meta.db"), garbage)
		}, walDir},
		"a stable store that was lost": {
			LogStoreBoltDB, func(t *testing.T, dir string) { remove(t, filepath.Join(dir, stableFile)) }, "knows term 0 only",
		},
		"a log that was lost": {
			LogStoreBoltDB, func(t *testing.T, dir string) { remove(t, filepath.Join(dir, boltFile)) }, boltFile + " is missing",
		},
		"a wal that was lost": {
			LogStoreWAL, func(t *testing.T, dir string) { remove(t, filepath.Join(dir, walDir)) }, walDir + " is missing",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			fill(t, dir, test.kind)
			test.damage(t, dir)
			kind := test.kind
			if exists(filepath.Join(dir, walDir)) {
				kind = LogStoreWAL
			}
			s, err := openStores(storeConfig(dir, kind))
			if err == nil {
				closeStores(t, s)
			}
			wantError(t, err, test.want)
		})
	}
}

func TestASnapshotNewerThanTheStableStoreIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, err := openStores(storeConfig(dir, LogStoreBoltDB))
	if err != nil {
		t.Fatal(err)
	}
	sink, err := s.Snapshots.Create(raft.SnapshotVersionMax, 10, 4, raft.Configuration{}, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.WriteString(sink, "state")
	if err := errors.Join(err, sink.Close(), s.close()); err != nil {
		t.Fatal(err)
	}
	_, err = openStores(storeConfig(dir, LogStoreBoltDB))
	wantError(t, err, "a snapshot is of term 4")
}

func TestStoresCloseTheLastFirstAndReportAll(t *testing.T) {
	t.Parallel()
	var order []int
	errFirst, errSecond := errors.New("first"), errors.New("second")
	s := &stores{closers: []func() error{
		func() error { order = append(order, 1); return errFirst },
		func() error { order = append(order, 2); return errSecond },
	}}
	err := s.close()
	if !errors.Is(err, errFirst) || !errors.Is(err, errSecond) {
		t.Errorf("got %v, want both errors", err)
	}
	if !slices.Equal(order, []int{2, 1}) {
		t.Errorf("closed in order %v", order)
	}
	if err := s.close(); err != nil {
		t.Errorf("closing again: %v", err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
}

func closeStores(t *testing.T, s *stores) {
	t.Helper()
	if err := s.close(); err != nil {
		t.Error(err)
	}
}
