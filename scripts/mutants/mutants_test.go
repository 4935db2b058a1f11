package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

const root = "../.."

// Every mutant applies to the tree as it is.
func TestMutantsApply(t *testing.T) {
	t.Parallel()
	all, err := load()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 25 {
		t.Errorf("there are %d mutants, want 25 at least", len(all))
	}
	for _, m := range all {
		source, err := os.ReadFile(filepath.Join(root, m.File))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := m.mutate(string(source)); err != nil {
			t.Error(err)
		}
	}
}

// Every mutant is in the published table, with its rule.
func TestMutantsArePublished(t *testing.T) {
	t.Parallel()
	all, err := load()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, "docs", "robustness.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range all {
		if row := "| " + m.Name + " | " + m.Guarantee + " | " + m.Rule + " | "; !strings.Contains(string(text), row) {
			t.Errorf("docs/robustness.md has no row %q: run make mutants", row)
		}
	}
}

func TestMutate(t *testing.T) {
	t.Parallel()
	m := mutant{Name: "m", File: "f.go", Old: "a < b", New: "a > b"}
	if got, err := m.mutate("if a < b {"); err != nil || got != "if a > b {" {
		t.Errorf("%q, %v", got, err)
	}
	for _, source := range []string{"", "a < b, a < b"} {
		if _, err := m.mutate(source); err == nil || !strings.Contains(err.Error(), "f.go") {
			t.Errorf("%q: %v, want an error that names the file", source, err)
		}
	}
}

func TestFirstFailure(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ text, want string }{
		"a test":           {`{"Action":"run","Test":"TestA"}{"Action":"fail","Test":"TestA"}`, "TestA"},
		"the first":        {`{"Action":"fail","Test":"TestA/b"}{"Action":"fail","Test":"TestA"}`, "TestA/b"},
		"one that hangs":   {`{"Action":"output","Output":"panic: test timed out after 1s\n"}{"Action":"fail","Test":"TestA"}`, "TestA (hangs)"},
		"does not compile": {`{"Action":"build-output","Output":"undefined: x\n"}{"Action":"fail"}`, ""},
		"none":             {`{"Action":"pass","Test":"TestA"}{"Action":"pass"}`, ""},
	} {
		if got, _ := firstFailure(strings.NewReader(tc.text)); got != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
}

// Each quick mutant has its day.
func TestChoose(t *testing.T) {
	t.Parallel()
	all, err := load()
	if err != nil {
		t.Fatal(err)
	}
	var seen []string
	for day := range rotation {
		for _, m := range quickToday(all, time.Date(2026, 1, 1+day, 0, 0, 0, 0, time.UTC)) {
			if len(m.Tests) != 1 {
				t.Errorf("%s: %q, want the first of its tests", m.Name, m.Tests)
			}
			seen = append(seen, m.Name)
		}
	}
	slices.Sort(seen)
	var quick []string
	for _, m := range all {
		if m.Quick {
			quick = append(quick, m.Name)
		}
	}
	slices.Sort(quick)
	if !slices.Equal(seen, quick) {
		t.Errorf("in %d days %q are chosen, want %q", rotation, seen, quick)
	}
	if got := choose(all, regexp.MustCompile("^request-id")); len(got) != 1 {
		t.Errorf("%d mutants match, want 1", len(got))
	}
}

// A small module of its own: the tool tells a mutant that is killed from one that
// survives and one that does not compile.
func TestJudge(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":    "module example.com/m\n\ngo 1.26\n",
		"m.go":      "package m\n\nfunc Less(a, b int) bool { return a < b }\n\nfunc Add(a, b int) int { return a + b }\n",
		"m_test.go": "package m\n\nimport \"testing\"\n\nfunc TestLess(t *testing.T) {\n\tif Less(1, 1) {\n\t\tt.Error()\n\t}\n}\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := suite{tree: dir, timeout: time.Minute, out: testWriter{t}}
	mutant := func(from, to string) mutant {
		return mutant{Name: "m", File: "m.go", Old: from, New: to, Tests: []string{"."}}
	}
	killed, err := s.judge(t.Context(), mutant("a < b", "a <= b"))
	if err != nil || killed.KilledBy != "TestLess" {
		t.Errorf("%+v, %v; want it killed by TestLess", killed, err)
	}
	lives, err := s.judge(t.Context(), mutant("a + b", "a - b"))
	if err != nil || lives.KilledBy != "" {
		t.Errorf("%+v, %v; want a survivor", lives, err)
	}
	if _, err := s.judge(t.Context(), mutant("a + b", "a +")); err == nil {
		t.Error("a mutant that does not compile is no error")
	}
	if text, err := os.ReadFile(filepath.Join(dir, "m.go")); err != nil || !strings.Contains(string(text), "a + b") {
		t.Errorf("the tree was not mended: %s, %v", text, err)
	}
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}
