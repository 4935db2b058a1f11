// Command clients runs OpenStack's own clients, the commands cinder and openstack
// and the library gophercloud, against a real cluster of three nodes, and compares
// what they print and how they exit with what Cinder's users expect.
//
// It exits with 0 if all was as expected, 1 if something was not, 2 if its command
// line is wrong, and 3 if a client is missing or the cluster did not start.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"syscall"
	"time"

	"github.com/lockstep-storage/lockstep/scripts/devcluster"
)

// longest bounds the whole run, so that it ends wherever it hangs.
const longest = 15 * time.Minute

// promoteDelay holds up each promotion, so that there is time to ask for another one
// meanwhile: Python takes seconds to start where much else runs.
const promoteDelay = 10 * time.Second

const (
	exitOK = iota
	exitDiffers
	exitUsage
	exitCannot
)

// options are what the command line says.
type options struct {
	binary, dir, output string
	short, goOn         bool
	keystone            bool
	only                *regexp.Regexp
}

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, out, progress io.Writer) int {
	o, err := parse(args, progress)
	if err != nil {
		fmt.Fprintln(progress, "clients:", err)
		return exitUsage
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeoutCause(ctx, longest, fmt.Errorf("the clients did not end within %v", longest))
	defer cancel()
	rep, err := tell(ctx, o, progress)
	if err != nil {
		fmt.Fprintln(progress, "clients:", err)
		return exitCannot
	}
	if err := rep.write(out, o.output); err != nil {
		fmt.Fprintln(progress, "clients:", err)
		return exitCannot
	}
	if !rep.ok() {
		return exitDiffers
	}
	return exitOK
}

func parse(args []string, errs io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("clients", flag.ContinueOnError)
	flags.SetOutput(errs)
	flags.StringVar(&o.binary, "bin", "bin/lockstep", "the lockstep to ask")
	flags.StringVar(&o.dir, "dir", "", "directory for the cluster (default: a new one, removed unless something differs)")
	flags.StringVar(&o.output, "o", "table", "table or json")
	flags.BoolVar(&o.short, "short", false, "tell the story with the fewest commands")
	flags.BoolVar(&o.keystone, "keystone", false, "as users of the Keystone that scripts/keystone/run has started")
	flags.BoolVar(&o.goOn, "k", false, "go on after a stage in which something differs")
	only := flags.String("run", "", "tell only stages whose title matches; later ones may need what earlier ones made")
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

// tell starts a cluster and tells the story. Its error is about what is missing for
// that; what clients do is in the report.
func tell(ctx context.Context, o options, progress io.Writer) (rep *report, err error) {
	for _, client := range []string{"cinder", "openstack"} {
		if _, err := exec.LookPath(client); err != nil {
			return nil, fmt.Errorf("%w (scripts/debian-install installs it, see make clients)", err)
		}
	}
	dir := o.dir
	if dir == "" {
		if dir, err = os.MkdirTemp("", "lockstep-clients-"); err != nil {
			return nil, err
		}
		defer func() {
			if err == nil && rep.ok() {
				err = os.RemoveAll(dir)
				return
			}
			fmt.Fprintf(progress, "clients: everything is kept in %s\n", dir)
		}()
	}
	return perform(ctx, o, dir, progress)
}

// perform tells the story to a cluster in a directory.
func perform(ctx context.Context, o options, dir string, progress io.Writer) (rep *report, err error) {
	rep = &report{begin: time.Now()}
	var k *keystone
	var args []string
	if o.keystone {
		if k, err = newKeystone(ctx, dir); err != nil {
			return nil, err
		}
		defer k.end()
		args = k.arguments()
	}
	cluster, err := devcluster.Start(ctx, o.binary, dir, append([]string{
		"--node-prefix", "vol", "--cluster", "mycluster", "--backend", "aa", "--promote-delay", promoteDelay.String(),
	}, args...)...)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, cluster.End()) }()
	fmt.Fprintf(progress, "clients: %d nodes are ready after %.1fs\n", len(cluster.Nodes), time.Since(rep.begin).Seconds())
	t := &teller{o: o, progress: progress, rep: rep, known: newMemory(), cluster: cluster, access: noauth{}}
	if k == nil {
		t.tell(ctx, story())
		return rep, nil
	}
	if err := k.publish(ctx, cluster.Nodes); err != nil {
		return nil, err
	}
	t.access = k
	t.tell(ctx, k.story())
	return rep, nil
}
