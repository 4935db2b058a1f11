package raftnode

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/raft"
)

// TestAWALWhoseEndWasCutOffOpensAgain cuts the end of a log off, as Raft does with
// entries that only a deposed leader had, and opens a copy of the directory, as
// after kill -9.
func TestAWALWhoseEndWasCutOffOpensAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, err := openStores(storeConfig(dir, LogStoreWAL))
	if err != nil {
		t.Fatal(err)
	}
	defer closeStores(t, s)
	written := map[uint64]string{}
	term, next := uint64(1), uint64(1)
	for round := range 3 {
		for range 10 {
			written[next] = fmt.Sprintf("entry %d of term %d", next, term)
			if err := s.Logs.StoreLog(&raft.Log{Index: next, Term: term, Data: []byte(written[next])}); err != nil {
				t.Fatal(err)
			}
			next++
		}
		cut := next - uint64(round) - 1
		if err := s.Logs.DeleteRange(cut, next-1); err != nil {
			t.Fatal(err)
		}
		for ; next > cut; next-- {
			delete(written, next-1)
		}
		term++
	}
	if err := s.Stable.SetUint64([]byte("CurrentTerm"), term); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second finds what the first has repaired
		dir = copyOf(t, dir)
		checkLog(t, dir, written)
	}
}

func copyOf(t *testing.T, dir string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return to
}

// checkLog opens a log and compares all of it. The log goes on after its end.
func checkLog(t *testing.T, dir string, want map[uint64]string) {
	t.Helper()
	s, err := openStores(storeConfig(dir, LogStoreWAL))
	if err != nil {
		t.Fatal(err)
	}
	defer closeStores(t, s)
	last, err := s.Logs.LastIndex()
	if err != nil || last != uint64(len(want)) {
		t.Errorf("last index: got %d, %v, want %d", last, err, len(want))
	}
	for index, content := range want {
		var got raft.Log
		if err := s.Logs.GetLog(index, &got); err != nil || string(got.Data) != content {
			t.Errorf("entry %d: got %q, %v, want %q", index, got.Data, err, content)
		}
	}
	if err := s.Logs.StoreLog(&raft.Log{Index: last + 1, Term: 9}); err != nil {
		t.Errorf("append after the end: %v", err)
	}
	if err := s.Logs.DeleteRange(last+1, last+1); err != nil {
		t.Errorf("cut off the end again: %v", err)
	}
}
