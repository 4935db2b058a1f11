package evidence_test

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/lockstep-storage/lockstep/cmd/internal/chaos/evidence"
)

// write makes a file of a run's directory.
func write(t *testing.T, dir, path, content string) {
	t.Helper()
	full := filepath.Join(dir, path)
	if err := os.MkdirAll(filepath.Dir(full), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(full, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestSaveAndLoad(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, "sites/default/journal", `{"mono_ns":7,"call":"fence","outcome":"ok"}`+"\n"+`{"torn`)
	write(t, dir, "nodes/node1/log", "2026-01-01T00:00:00.000Z [INFO]  lockstep: no panic here\npanic: it broke\n\ngoroutine 1 [running]:\n")
	write(t, dir, "nodes/node2/log", "WARNING: DATA RACE\n")
	saved := good()
	if err := saved.Save(dir); err != nil {
		t.Fatal(err)
	}
	loaded, err := evidence.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(loaded.Journals["default"]) != 1 || loaded.Journals["default"][0].MonoNS != 7 {
		t.Errorf("journal: got %+v, want one line", loaded.Journals)
	}
	want := []evidence.Finding{{Node: "node1", Line: 2, Text: "panic: it broke"}, {Node: "node2", Line: 1, Text: "WARNING: DATA RACE"}}
	if !reflect.DeepEqual(loaded.Logs, want) {
		t.Errorf("findings: got %+v, want %+v", loaded.Logs, want)
	}
	if !reflect.DeepEqual(loaded.Operations, saved.Operations) || !reflect.DeepEqual(loaded.Data, saved.Data) {
		t.Error("operations and accesses: got others than were saved")
	}
}

func TestLoadNeedsAllParts(t *testing.T) {
	t.Parallel()
	if _, err := evidence.Load(t.TempDir()); err == nil {
		t.Error("Load of an empty directory: got no error")
	}
}
