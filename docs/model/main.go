// Command model searches all states of the failover protocol for one that breaks a
// guarantee. See README.md.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"regexp"
	"runtime/debug"
	"time"
)

func main() { os.Exit(mainly(os.Args[1:])) }

const usage = `Usage: model [-suite short|full] [-run REGEXP]
       model -one [flags of the model]

Without -one it runs the named configurations, in which every rule is kept, and
the mutants, in each of which one is broken and must be noticed.
It exits with 1 if a guarantee is broken, or if a mutant is not noticed.

`

// options are the flags that are not the model's.
type options struct {
	suite   string
	match   string
	one     bool
	mutant  string
	trace   bool
	quiet   bool
	bounded bool
	limits  limits
}

func mainly(args []string) int {
	m := standard()
	o := options{}
	f := flag.NewFlagSet("model", flag.ContinueOnError)
	f.Usage = func() {
		fmt.Fprint(f.Output(), usage)
		f.PrintDefaults()
	}
	memory := 0
	f.StringVar(&o.suite, "suite", "full", "the named runs: short, full or none")
	f.StringVar(&o.match, "run", "", "only the runs and mutants whose name matches")
	f.BoolVar(&o.one, "one", false, "one run, of the configuration that the other flags say")
	f.StringVar(&o.mutant, "mutant", "", "with -one: break the rule of this mutant")
	f.BoolVar(&o.trace, "trace", false, "print the trace of each mutant, too")
	f.BoolVar(&o.quiet, "quiet", false, "say nothing of progress")
	f.BoolVar(&o.bounded, "bounded", false, "a run that reaches a limit is no failure")
	f.IntVar(&memory, "memory", 6000, "megabytes that a run may take")
	f.IntVar(&o.limits.states, "states", 1<<32-1, "states that a run may visit")
	f.DurationVar(&o.limits.time, "time", time.Hour, "that a run may take")
	m.define(f)
	if err := f.Parse(args); err != nil {
		return 2
	}
	o.limits.memory = memory << 20
	debug.SetGCPercent(gcPercent)
	if o.one {
		return o.runOne(m)
	}
	match, err := regexp.Compile(o.match)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	return o.runSuite(match)
}

// runOne runs the configuration of the flags.
func (o options) runOne(m model) int {
	for _, v := range mutants() {
		if v.name == o.mutant {
			v.breaks(&m)
		}
	}
	if err := m.validate(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	v := o.search(m)
	fmt.Fprintln(os.Stdout, v.summary())
	if err := v.err(); err != nil {
		fmt.Fprintln(os.Stdout, err)
		v.printTrace(os.Stdout)
		return 1
	}
	return 0
}

// runSuite runs the named configurations and the mutants.
func (o options) runSuite(match *regexp.Regexp) (code int) {
	for _, r := range runs() {
		if match.MatchString(r.name) && (o.suite == "full" || o.suite == "short" && r.short) {
			code = max(code, o.runCorrect(r))
		}
	}
	for _, r := range mutants() {
		if match.MatchString(r.name) && (o.suite != "short" || !r.long()) {
			code = max(code, o.runMutant(r))
		}
	}
	return code
}

// runCorrect runs a configuration in which nothing may be found.
func (o options) runCorrect(r run) int {
	m := standard()
	r.sets(&m)
	v := o.search(m)
	fmt.Fprintf(os.Stdout, "%-24s %-9s %s\n", r.name, v.word(), v.summary())
	err := v.err()
	if err == nil || o.bounded && errors.Is(err, errLimits) {
		return 0
	}
	fmt.Fprintf(os.Stdout, "%s: %v\n", r.name, err)
	v.printTrace(os.Stdout)
	return 1
}

// runMutant runs a configuration in which one property must be found broken.
func (o options) runMutant(r mutant) int {
	v := o.search(r.model())
	fmt.Fprintf(os.Stdout, "%-24s %-9s %s\n", r.name, v.word(), v.summary())
	if o.trace || v.broken != r.caught {
		v.printTrace(os.Stdout)
	}
	if v.broken != r.caught {
		fmt.Fprintf(os.Stdout, "%s: not noticed: expected %v\n", r.name, r.caught)
		return 1
	}
	return 0
}

// model is the configuration of a mutant.
func (r mutant) model() model {
	m := standard()
	m.leases = false
	r.breaks(&m)
	return m
}

func (o options) search(m model) verdict {
	s := newSearch(&m, o.limits)
	if !o.quiet {
		s.progress = func(v verdict) { fmt.Fprintln(os.Stderr, "  ...", v.summary()) }
	}
	return s.run()
}
