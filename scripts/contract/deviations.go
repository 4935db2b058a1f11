package main

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
)

// deviation is one exchange in which Lockstep differs on purpose.
type deviation struct {
	Case   string `yaml:"case"`
	Reason string `yaml:"reason"` // a key of the reasons
	// Differs are patterns, one of which each difference must match, and each of
	// which some difference must match.
	Differs []string `yaml:"differs"`
	// Lacks are the names of records in the recorded list that are not in ours, since
	// the request that would have made them was refused. The other rows are compared.
	Lacks []string `yaml:"lacks"`
	// Unreachable marks an exchange in a state that Lockstep has not.
	Unreachable bool `yaml:"unreachable"`
}

// deviations is the list of where Lockstep differs on purpose.
type deviations struct {
	Reasons    map[string]string `yaml:"reasons"`
	Deviations []deviation       `yaml:"deviations"`
}

func loadDeviations(path string) (deviations, error) {
	var d deviations
	content, err := os.ReadFile(path) //nolint:gosec // named on the command line
	if err != nil {
		return d, err
	}
	if err := yaml.UnmarshalWithOptions(content, &d, yaml.Strict()); err != nil {
		return d, fmt.Errorf("%s: %w", path, err)
	}
	seen := map[string]bool{}
	for _, dev := range d.Deviations {
		switch {
		case d.Reasons[dev.Reason] == "":
			return d, fmt.Errorf("%s: %s: %q is none of the reasons", path, dev.Case, dev.Reason)
		case seen[dev.Case]:
			return d, fmt.Errorf("%s: %s is listed twice", path, dev.Case)
		case len(dev.Differs)+len(dev.Lacks) == 0 && !dev.Unreachable:
			return d, fmt.Errorf("%s: %s does not say in what it differs", path, dev.Case)
		}
		for _, pattern := range dev.Differs {
			if _, err := regexp.Compile(pattern); err != nil {
				return d, fmt.Errorf("%s: %s: %w", path, dev.Case, err)
			}
		}
		seen[dev.Case] = true
	}
	return d, nil
}

// judge says what became of an exchange, given what is listed.
func (d deviations) judge(res result) result {
	i := slices.IndexFunc(d.Deviations, func(dev deviation) bool { return dev.Case == res.Name })
	if i < 0 {
		res.Outcome = agrees
		if res.Unmet != "" {
			res.Differences = append(res.Differences, "not asked: "+res.Unmet)
		}
		if len(res.Differences) > 0 {
			res.Outcome = differs
		}
		return res
	}
	dev := d.Deviations[i]
	res.Outcome, res.Reason = deviates, d.Reasons[dev.Reason]
	if problems := dev.check(res); len(problems) > 0 {
		res.Outcome = broken
		res.Differences = append(problems, res.Differences...)
	}
	return res
}

// check returns what is not as the deviation says.
func (dev deviation) check(res result) []string {
	if dev.Unreachable != (res.Unmet != "") {
		return []string{"listed as unreachable, but it was reached: " + res.Unmet}
	}
	if dev.Unreachable {
		return nil
	}
	var problems []string
	if len(res.Differences)+len(dev.Lacks) == 0 {
		problems = append(problems, "listed as a deviation, but the answers agree")
	}
	for _, diff := range res.Differences {
		if !slices.ContainsFunc(dev.Differs, func(p string) bool { return regexp.MustCompile(p).MatchString(diff) }) {
			problems = append(problems, "not as listed: "+diff)
		}
	}
	for _, p := range dev.Differs {
		if !slices.ContainsFunc(res.Differences, regexp.MustCompile(p).MatchString) {
			problems = append(problems, "listed but not seen: "+p)
		}
	}
	return problems
}

// without returns a recorded list without the records that ours lacks on purpose.
func (d deviations) without(title, body string) (string, error) {
	i := slices.IndexFunc(d.Deviations, func(dev deviation) bool { return dev.Case == title })
	if i < 0 || len(d.Deviations[i].Lacks) == 0 {
		return body, nil
	}
	var list map[string][]map[string]any
	if err := decode(body, &list); err != nil {
		return "", fmt.Errorf("%s: %w", title, err)
	}
	for _, name := range d.Deviations[i].Lacks {
		found := false
		for noun, rows := range list {
			list[noun] = slices.DeleteFunc(rows, func(row map[string]any) bool {
				found = found || row["name"] == name
				return row["name"] == name
			})
		}
		if !found {
			return "", fmt.Errorf("%s lacks %q, but so does what was recorded", title, name)
		}
	}
	text, err := json.Marshal(list)
	return string(text), err
}

// unused returns the deviations that belong to no exchange of the run.
func (d deviations) unused(rep *report, only *regexp.Regexp) []string {
	var names []string
	for _, dev := range d.Deviations {
		known := slices.ContainsFunc(rep.results, func(res result) bool { return res.Name == dev.Case })
		if !known && only.MatchString(dev.Case) {
			names = append(names, strings.TrimSpace(dev.Case))
		}
	}
	return names
}
