package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// suite runs tests in a copy of the tree.
type suite struct {
	tree    string
	seeds   int
	timeout time.Duration
	out     io.Writer // of progress
}

// result is what became of one mutant.
type result struct {
	Name      string  `json:"mutant"`
	Guarantee string  `json:"guarantee"`
	Rule      string  `json:"rule"`
	KilledBy  string  `json:"killed_by"` // the first test that failed; empty if none did
	Package   string  `json:"package,omitempty"`
	Seconds   float64 `json:"seconds"`
}

// unbroken runs the tests on the tree as it is, which must pass.
func (s suite) unbroken(ctx context.Context, mutants []mutant) error {
	all := map[string]bool{}
	for _, m := range mutants {
		for _, tests := range m.Tests {
			all[tests] = true
		}
	}
	for _, tests := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(s.out, "unbroken %s\n", tests)
		failed, err := s.test(ctx, tests)
		if err != nil {
			return err
		}
		if failed != "" {
			return fmt.Errorf("%s fails in %s without any mutant", failed, tests)
		}
	}
	return nil
}

// judgeAll runs the tests on each mutant.
func (s suite) judgeAll(ctx context.Context, mutants []mutant) ([]result, error) {
	var results []result
	var errs []error
	for i, m := range mutants {
		r, err := s.judge(ctx, m)
		if err != nil {
			fmt.Fprintf(s.out, "%2d/%d %-28s %v\n", i+1, len(mutants), m.Name, err)
			errs = append(errs, fmt.Errorf("%s could not be judged", m.Name))
			if ctx.Err() != nil {
				break
			}
			continue
		}
		verdict := "killed by " + r.KilledBy
		if r.KilledBy == "" {
			verdict = "SURVIVES"
		}
		fmt.Fprintf(s.out, "%2d/%d %-28s %6.1f s  %s\n", i+1, len(mutants), m.Name, r.Seconds, verdict)
		results = append(results, r)
	}
	return results, errors.Join(errs...)
}

// judge breaks one rule and runs the tests until one fails.
func (s suite) judge(ctx context.Context, m mutant) (r result, err error) {
	r = result{Name: m.Name, Guarantee: m.Guarantee, Rule: m.Rule}
	mend, err := m.apply(s.tree)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, mend()) }()
	began := time.Now()
	for _, tests := range m.Tests {
		failed, err := s.test(ctx, tests)
		r.Seconds = time.Since(began).Seconds()
		if err != nil {
			return r, fmt.Errorf("%s: %w", m.Name, err)
		}
		if failed != "" {
			r.KilledBy = failed
			r.Package, _, _ = strings.Cut(tests, " ")
			break
		}
	}
	return r, nil
}

// test runs tests, and returns the first that failed. Trimmed paths let the copy
// share the build cache.
func (s suite) test(ctx context.Context, tests string) (failed string, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout+time.Minute)
	defer cancel()
	pkg, match, _ := strings.Cut(tests, " ")
	args := []string{"test", "-trimpath", "-json", "-vet=off", "-count=1", "-failfast", "-timeout", s.timeout.String(), "-run", match, pkg}
	if strings.HasSuffix(pkg, "clustertest") {
		args = append(args, "-seeds", strconv.Itoa(s.seeds))
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = s.tree
	cmd.Env = append(os.Environ(), "GOFLAGS=-buildvcs=false")
	// The tests are a child of go: both end when the first failure is seen.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 10 * time.Second
	events, err := cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	var complaints strings.Builder
	cmd.Stderr = &complaints
	if err := cmd.Start(); err != nil {
		return "", err
	}
	failed, said := firstFailure(events)
	if failed != "" {
		cancel()
		_ = cmd.Wait() // it was killed
		return failed, nil
	}
	if err := cmd.Wait(); err != nil {
		return "", fmt.Errorf("go %s: %w\n%s%s", strings.Join(args, " "), err, said, complaints.String())
	}
	return "", nil
}

// testEvent is what go test -json says.
type testEvent struct {
	Action, Test, Output string
}

// firstFailure returns the first test that failed, as soon as it has; or nothing and
// the end of the output, if none did: code that does not compile kills no mutant.
func firstFailure(events io.Reader) (failed, output string) {
	var last []string
	hangs := ""
	for dec := json.NewDecoder(events); ; {
		var e testEvent
		if err := dec.Decode(&e); err != nil {
			return "", strings.Join(last, "")
		}
		if e.Output != "" {
			last = append(last[max(0, len(last)-20):], e.Output)
		}
		if strings.HasPrefix(e.Output, "panic: test timed out") {
			hangs = " (hangs)"
		}
		if e.Action == "fail" && e.Test != "" {
			return e.Test + hangs, ""
		}
	}
}

// table writes results as Markdown, as docs/robustness.md has them.
func table(w io.Writer, results []result) error {
	var text strings.Builder
	killed := 0
	text.WriteString("\n| mutant | guarantee | rule that is broken | killed by | s |\n|---|---|---|---|---|\n")
	for _, r := range results {
		by := "**survives**"
		if r.KilledBy != "" {
			killed++
			by = fmt.Sprintf("`%s`: %s", strings.TrimPrefix(r.Package, "./"), r.KilledBy)
		}
		fmt.Fprintf(&text, "| %s | %s | %s | %s | %.0f |\n", r.Name, r.Guarantee, r.Rule, by, r.Seconds)
	}
	fmt.Fprintf(&text, "\n%d of %d killed.\n", killed, len(results))
	_, err := io.WriteString(w, text.String())
	return err
}
