package raftnode

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestIdentityOfADataDirectory(t *testing.T) {
	t.Parallel()
	const valid = `{"format":1,"deployment":"east","node":"node1"}`
	tests := map[string]struct {
		content string // of identity.json; "" for none
		beside  string // another file in the directory
		want    string // part of the error; "" for none
	}{
		"an empty directory is claimed":                 {},
		"the same node comes back":                      {content: valid},
		"what a newer release added is ignored":         {content: `{"format":1,"deployment":"east","node":"node1","zone":"a"}`},
		"what an interrupted start left is overwritten": {beside: "identity.json.tmp"},
		"another deployment is refused":                 {content: `{"format":1,"deployment":"west","node":"node1"}`, want: `belongs to deployment "west"`},
		"another node name is refused":                  {content: `{"format":1,"deployment":"east","node":"node2"}`, want: `belongs to node "node2"`},
		"a newer format is refused":                     {content: `{"format":2,"deployment":"east","node":"node1"}`, want: "format 2 and this release reads up to 1"},
		"half a file is damaged":                        {content: valid[:20], want: "damaged"},
		"an empty object is damaged":                    {content: `{}`, want: "damaged"},
		"state without an identity is refused":          {beside: stableFile, want: "identity.json is missing"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if test.content != "" {
				writeFile(t, filepath.Join(dir, "identity.json"), []byte(test.content))
			}
			if test.beside != "" {
				writeFile(t, filepath.Join(dir, test.beside), []byte("x"))
			}
			id, err := openIdentity(dir, "east", "node1")
			wantError(t, err, test.want)
			if err == nil && id.Close() != nil {
				t.Error("the directory was not released")
			}
		})
	}
}

func TestIdentityNamesAreChecked(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	for field, names := range map[string][2]string{
		`deployment ""`:     {"", "node1"},
		`deployment "a b"`:  {"a b", "node1"},
		`node "node1@east"`: {"east", "node1@east"},
		`node "nnnn`:        {"east", strings.Repeat("n", maxName+1)},
	} {
		_, err := openIdentity(dir, names[0], names[1])
		wantError(t, err, field)
	}
	if exists(dir) {
		t.Error("a refused name left a directory behind")
	}
}

func TestTwoProcessesNeverShareADirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first, err := openIdentity(dir, "east", "node1")
	if err != nil {
		t.Fatal(err)
	}
	_, err = openIdentity(dir, "east", "node1")
	wantError(t, err, "lock data directory "+dir)
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	second, err := openIdentity(dir, "east", "node1")
	if err != nil {
		t.Fatalf("the lock outlived its process: %v", err)
	}
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
}

// wantError checks that err says want, or is nil if want is "".
func wantError(t *testing.T, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("unexpected error: %v", err)
	case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
		t.Errorf("got error %v, want one with %q", err, want)
	}
}

func writeFile(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}
