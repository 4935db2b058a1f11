// Command contract replays what a running OpenStack Cinder was asked, against a
// real cluster of three nodes, and compares the answers: status, headers and body,
// after normalising what differs from run to run. It exits with 0 if everything
// agrees except for the deviations that are listed with their reasons.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"syscall"
	"time"
)

// longest bounds the whole run, so that it ends wherever it hangs.
const longest = 5 * time.Minute

// options are what the command line says.
type options struct {
	binary, dir, recorded, deviations, output string
	only                                      *regexp.Regexp
	shown                                     int
}

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, out, progress io.Writer) int {
	o, err := parse(args, progress)
	if err != nil {
		fmt.Fprintln(progress, "contract:", err)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeoutCause(ctx, longest, fmt.Errorf("the replay did not end within %v", longest))
	defer cancel()
	rep, err := replay(ctx, o, progress)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = fmt.Errorf("%w (%w)", err, cause)
		}
		fmt.Fprintln(progress, "contract:", err)
		return 1
	}
	if err := rep.write(out, o); err != nil {
		fmt.Fprintln(progress, "contract:", err)
		return 1
	}
	if !rep.ok() {
		return 1
	}
	return 0
}

func parse(args []string, errs io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("contract", flag.ContinueOnError)
	flags.SetOutput(errs)
	flags.StringVar(&o.binary, "bin", "bin/lockstep", "the lockstep to compare")
	flags.StringVar(&o.dir, "dir", "", "directory for the clusters (default: a new one, removed at the end)")
	flags.StringVar(&o.recorded, "recorded", "scripts/contract/recorded", "directory of the recordings and their sequences")
	flags.StringVar(&o.deviations, "deviations", "scripts/contract/deviations.yaml", "where Lockstep differs on purpose")
	flags.StringVar(&o.output, "o", "table", "table or json")
	flags.IntVar(&o.shown, "show", 20, "how many failures to show in full")
	only := flags.String("run", "", "report only exchanges whose name matches; what comes before them is replayed all the same")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if o.output != "table" && o.output != "json" {
		return o, fmt.Errorf("-o %q: must be table or json", o.output)
	}
	var err error
	if o.only, err = regexp.Compile(*only); err != nil {
		return o, fmt.Errorf("-run %q: %w", *only, err)
	}
	return o, nil
}
