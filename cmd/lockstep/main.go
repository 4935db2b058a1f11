// Command lockstep fails over active/active volume services: it is the agent on
// every node and the client for operators.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/lockstep-storage/lockstep/cmd/internal/cli"
)

var version = "dev" // set by the linker

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second interrupt ends the process at once
	return cli.Main(ctx, cli.Process{Args: os.Args[1:], In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Release: version})
}
