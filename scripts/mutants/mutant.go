package main

import (
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
)

//go:embed mutants.yaml
var listed []byte

// mutant is one safety rule broken in the source.
type mutant struct {
	Name      string   `yaml:"name"`
	Guarantee string   `yaml:"guarantee"` // such as G3, or the flaw of Cinder that comes back: D1
	Rule      string   `yaml:"rule"`      // what no longer holds
	File      string   `yaml:"file"`
	Old       string   `yaml:"old"` // stands in File exactly once
	New       string   `yaml:"new"`
	Tests     []string `yaml:"tests"` // in the order in which they are tried: a package, or one and a regular expression
	Quick     bool     `yaml:"quick"` // the first of Tests kills it within seconds
}

// load reads the list of mutants that is built in.
func load() ([]mutant, error) {
	var all []mutant
	if err := yaml.UnmarshalWithOptions(listed, &all, yaml.Strict()); err != nil {
		return nil, fmt.Errorf("mutants.yaml: %w", err)
	}
	known := map[string]bool{}
	for _, m := range all {
		if m.Name == "" || m.Guarantee == "" || m.Rule == "" || m.File == "" || m.Old == m.New || len(m.Tests) == 0 {
			return nil, fmt.Errorf("mutants.yaml: %q: name, guarantee, rule, file, tests and different old and new are required", m.Name)
		}
		if known[m.Name] {
			return nil, fmt.Errorf("mutants.yaml: %q is listed twice", m.Name)
		}
		known[m.Name] = true
	}
	return all, nil
}

// choose returns the mutants whose name matches.
func choose(all []mutant, match *regexp.Regexp) []mutant {
	return slices.DeleteFunc(slices.Clone(all), func(m mutant) bool { return !match.MatchString(m.Name) })
}

// rotation is over how many days the quick mutants are spread.
const rotation = 4

// quickToday returns today's share of the quick mutants, with the test that kills
// them.
func quickToday(all []mutant, now time.Time) (chosen []mutant) {
	quick := 0
	for _, m := range all {
		if !m.Quick {
			continue
		}
		if quick++; (quick+now.YearDay())%rotation == 0 {
			m.Tests = m.Tests[:1]
			chosen = append(chosen, m)
		}
	}
	return chosen
}

// mutate returns the file of m with its rule broken.
func (m mutant) mutate(source string) (string, error) {
	if n := strings.Count(source, m.Old); n != 1 {
		return "", fmt.Errorf("%s: the text to replace stands in %s %d times, not once: mend mutants.yaml", m.Name, m.File, n)
	}
	return strings.Replace(source, m.Old, m.New, 1), nil
}

// apply breaks the rule in a tree. The returned function mends it.
func (m mutant) apply(tree string) (mend func() error, err error) {
	path := filepath.Join(tree, filepath.FromSlash(m.File))
	source, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	broken, err := m.mutate(string(source))
	if err != nil {
		return nil, err
	}
	return func() error { return os.WriteFile(path, source, 0o600) }, os.WriteFile(path, []byte(broken), 0o600)
}
