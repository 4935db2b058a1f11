// Command mutants breaks one safety rule of the source after the other, each in a
// copy of the tree, and runs the tests, which have to notice. A test suite that
// misses one proves nothing about that rule.
//
// It exits with 0 if every mutant is killed, with 1 if one survives, and with 2 if
// the question could not be asked: the tests fail without any mutant, or a mutant
// does not apply or does not compile any more.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"syscall"
	"time"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout)) }

// options are what the flags say.
type options struct {
	root    string
	match   string
	short   bool
	seeds   int
	timeout time.Duration
	format  string
}

func run(args []string, out io.Writer) int {
	o, err := parse(args)
	if err != nil {
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	results, err := o.judge(ctx, out)
	if len(results) > 0 {
		err = errors.Join(err, o.print(out, results))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		return 2
	}
	for _, r := range results {
		if r.KilledBy == "" {
			return 1
		}
	}
	return 0
}

func parse(args []string) (options, error) {
	o := options{}
	f := flag.NewFlagSet("mutants", flag.ContinueOnError)
	f.StringVar(&o.root, "root", ".", "the tree to break copies of")
	f.StringVar(&o.match, "run", "", "only the mutants whose name matches this regular expression")
	f.BoolVar(&o.short, "short", false, "only the mutants that a quick test kills, one in four each day")
	f.IntVar(&o.seeds, "seeds", 200, "random histories that a mutant has to survive")
	f.DurationVar(&o.timeout, "timeout", 10*time.Minute, "for the tests of one package")
	f.StringVar(&o.format, "o", "table", "output: table or json")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if o.format != "table" && o.format != "json" {
		err := fmt.Errorf("-o %q must be table or json", o.format)
		fmt.Fprintln(os.Stderr, "mutants:", err)
		return o, err
	}
	return o, nil
}

// judge runs the tests on the tree as it is, and on each mutant.
func (o options) judge(ctx context.Context, out io.Writer) ([]result, error) {
	match, err := regexp.Compile(o.match)
	if err != nil {
		return nil, err
	}
	all, err := load()
	if err != nil {
		return nil, err
	}
	chosen := choose(all, match)
	if o.short {
		chosen = quickToday(chosen, time.Now())
	}
	if len(chosen) == 0 {
		return nil, fmt.Errorf("no mutant matches %q", o.match)
	}
	tree, err := copyTree(ctx, o.root)
	if err != nil {
		return nil, err
	}
	progress := out
	if o.format == "json" {
		progress = os.Stderr
	}
	s := suite{tree: tree, seeds: o.seeds, timeout: o.timeout, out: progress}
	var results []result
	err = s.unbroken(ctx, chosen)
	if err == nil {
		results, err = s.judgeAll(ctx, chosen)
	}
	return results, errors.Join(err, os.RemoveAll(tree))
}

func (o options) print(out io.Writer, results []result) error {
	if o.format == "json" {
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		return enc.Encode(results)
	}
	return table(out, results)
}
