// Command demo shows what Lockstep does, on this machine, with real processes and
// real files: the leader is killed while it promotes the second site, the first
// site is taken away, and the failover is finished all the same, with every byte
// in place. It exits with 0 if everything it checks holds, else with 1.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

// longest bounds the whole demo, so that it ends wherever it hangs.
const longest = 3 * time.Minute

func main() { os.Exit(run()) }

func run() int {
	binary := flag.String("bin", "bin/lockstep", "the lockstep to show")
	dir := flag.String("dir", "", "directory for everything (default: a new one, removed at the end)")
	keep := flag.Bool("keep", false, "do not remove the directory")
	verbose := flag.Bool("v", false, "also print what the nodes say about themselves")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "demo: unexpected argument %q\n", flag.Arg(0))
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeoutCause(ctx, longest, fmt.Errorf("the demo did not end within %v", longest))
	defer cancel()
	place, err := directory(*dir)
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		return 1
	}
	d := &demo{out: os.Stdout, begin: time.Now(), dir: place, details: io.Discard}
	if *verbose {
		d.details = os.Stdout
	}
	err = d.run(ctx, *binary)
	if err == nil && !*keep && *dir == "" {
		err = os.RemoveAll(place)
	}
	if err != nil {
		fmt.Printf("\n%v\n\nEverything is kept in %s: dev.log, the log of each node, the journal of each site.\ndemo: FAILED\n", err, place)
		return 1
	}
	if *keep || *dir != "" {
		fmt.Printf("\nEverything is kept in %s.\n", place)
	}
	fmt.Println()
	fmt.Println("demo: OK")
	return 0
}

// directory returns an absolute path of an empty directory.
func directory(dir string) (string, error) {
	if dir == "" {
		return os.MkdirTemp("", "lockstep-demo-")
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return "", err
	}
	entries, err := os.ReadDir(dir)
	if err == nil && len(entries) > 0 {
		err = fmt.Errorf("-dir %s: is not empty, and the demo begins with nothing", dir)
	}
	if err != nil {
		return "", err
	}
	return filepath.Abs(dir)
}
