// Command chaos breaks a deployment of real processes on this machine, on purpose
// and in many ways at once, while clients work with it; then it mends everything
// and checks that no promise was broken. It exits with 0 if all held, with 1 if
// not, and with 2 if it was asked for something that it cannot do.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/lockstep-storage/lockstep/cmd/internal/chaos"
	"github.com/lockstep-storage/lockstep/cmd/internal/chaos/lab"
)

func main() { os.Exit(run()) }

// flags are what is asked for.
type flags struct {
	binary, dir, kinds, scenarios, output, recheck string
	duration                                       time.Duration
	seed                                           int64
	nodes                                          int
	keep, verbose                                  bool
}

func parse() (f flags, err error) {
	flag.StringVar(&f.binary, "bin", "bin/lockstep", "the lockstep to break")
	flag.StringVar(&f.dir, "dir", "", "empty directory for everything (default: a new one, removed after a good run)")
	flag.BoolVar(&f.keep, "keep", false, "do not remove the directory after a good run")
	flag.DurationVar(&f.duration, "duration", 2*time.Minute, "how long to inject random faults; 0s: only the scenarios")
	flag.Int64Var(&f.seed, "seed", 0, "what the faults follow from (default: another one each time)")
	flag.IntVar(&f.nodes, "nodes", 5, "agents, 3 to 9")
	flag.StringVar(&f.kinds, "faults", "all", "kinds of random faults, separated by commas: "+kinds())
	flag.StringVar(&f.scenarios, "scenario", "all", "scenarios to run first: all, none, or names separated by commas: "+names())
	flag.StringVar(&f.output, "o", "text", "how to report: text or json")
	flag.StringVar(&f.recheck, "recheck", "", "run nothing: judge again what a run has left in this directory")
	flag.BoolVar(&f.verbose, "v", false, "say every fault")
	flag.Parse()
	switch {
	case flag.NArg() > 0:
		return f, fmt.Errorf("unexpected argument %q", flag.Arg(0))
	case f.output != "text" && f.output != "json":
		return f, fmt.Errorf("-o: got %q, want text or json", f.output)
	}
	if f.seed == 0 {
		f.seed = time.Now().UnixNano() % 1e9
	}
	return f, nil
}

func kinds() string {
	var all []string
	for _, k := range chaos.Kinds() {
		all = append(all, string(k))
	}
	return strings.Join(all, ", ")
}

func names() string {
	var all []string
	for _, s := range chaos.Scenarios() {
		all = append(all, s.Name)
	}
	return strings.Join(all, ", ")
}

// options checks what was asked for.
func (f flags) options() (o chaos.Options, err error) {
	o = chaos.Options{Nodes: f.nodes, Duration: f.duration, Seed: f.seed, Verbose: f.verbose}
	if o.Kinds, err = chaos.ParseKinds(f.kinds); err != nil {
		return o, err
	}
	if o.Scenarios, err = chaos.ParseScenarios(f.scenarios); err != nil {
		return o, err
	}
	path, err := exec.LookPath(f.binary)
	if err != nil {
		return o, fmt.Errorf("-bin: %w (make build builds it)", err)
	}
	if o.Binary, err = filepath.Abs(path); err != nil {
		return o, err
	}
	return o, o.Validate()
}

func run() int {
	f, err := parse()
	if err != nil {
		return refuse(err)
	}
	if f.recheck != "" {
		return recheck(f)
	}
	options, err := f.options()
	if err != nil {
		return refuse(err)
	}
	if done, code := lab.Enter(); done {
		return code
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if options.Dir, err = directory(f.dir); err != nil {
		return refuse(err)
	}
	out := os.Stdout
	if f.output == "json" {
		out = os.Stderr
	}
	report, err := chaos.Run(ctx, options, out)
	if err != nil {
		fmt.Fprintf(os.Stderr, "chaos: %v\nEverything is kept in %s.\n", err, options.Dir)
		return 1
	}
	show(f, report)
	if !report.Good() {
		fmt.Fprintf(out, "\nEverything is kept in %s.\nJudge it again: %s -recheck %s\nReplay:         %s -seed %d -duration %v -nodes %d -faults %s -scenario %s\nchaos: FAILED\n",
			options.Dir, os.Args[0], options.Dir, os.Args[0], f.seed, f.duration, f.nodes, f.kinds, f.scenarios)
		return 1
	}
	return f.tidy(options.Dir, out)
}

// tidy removes what a good run has left.
func (f flags) tidy(dir string, out *os.File) int {
	if f.keep || f.dir != "" {
		fmt.Fprintf(out, "\nEverything is kept in %s.\n", dir)
	} else if err := os.RemoveAll(dir); err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		return 1
	}
	fmt.Fprintf(out, "\nchaos: OK (seed %d)\n", f.seed)
	return 0
}

func refuse(err error) int {
	fmt.Fprintln(os.Stderr, "chaos:", err)
	return 2
}

func recheck(f flags) int {
	report, err := chaos.Recheck(f.recheck)
	if err != nil {
		return refuse(err)
	}
	show(f, report)
	if !report.Good() {
		return 1
	}
	return 0
}

func show(f flags, r *chaos.Report) {
	if f.output == "text" {
		r.Print(os.Stdout)
		return
	}
	content, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		return
	}
	fmt.Println(string(content))
}

// directory returns an absolute path of an empty directory.
func directory(dir string) (string, error) {
	if dir == "" {
		return os.MkdirTemp("", "lockstep-chaos-")
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return "", err
	}
	entries, err := os.ReadDir(dir)
	if err == nil && len(entries) > 0 {
		err = fmt.Errorf("-dir %s: is not empty, and a run begins with nothing", dir)
	}
	if err != nil {
		return "", err
	}
	return filepath.Abs(dir)
}
