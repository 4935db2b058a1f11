package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/lockstep-storage/lockstep/api/client"
	"github.com/lockstep-storage/lockstep/cmd/internal/config"
	"github.com/lockstep-storage/lockstep/raftnode"
)

// The exit codes. Scripts rely on them: never change one.
const (
	ExitDone     = 0 // what was asked for is done, or accepted
	ExitError    = 1 // it failed, or no node answers
	ExitUsage    = 2 // the command line is wrong
	ExitRefused  = 3 // a node refused it and nothing has changed
	ExitPartly   = 4 // the failover is done, but a live member or a volume did not follow
	ExitRunning  = 5 // it was still running when the time was up
	ExitNoLeader = 6 // nobody leads the deployment
	ExitDisk     = 7 // agent: the disk under the data directory hangs, fails or is full
	ExitData     = 8 // agent: the data directory cannot be used as it is
)

const exitCodes = `  0  done, or accepted when --wait is not given
  1  it failed, or no node answers
  2  the command line is wrong, or a confirmation is missing
  3  refused: nothing has changed
  4  the failover is done, but a live member or a volume did not follow
  5  still running when the time was up; it goes on without this command
  6  nobody leads the deployment: fewer than a majority of the voters are up
  7  agent: the disk under the data directory hangs, fails or is full; start it again once that is mended
  8  agent: the data directory cannot be used as it is; the message says what to do
`

func exitCodesTopic() *cobra.Command {
	return &cobra.Command{
		Use:   "exit-codes",
		Short: "What the exit codes mean",
		Long:  "Exit codes of all commands:\n\n" + exitCodes,
	}
}

// exitError is an error with an exit code of its own.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

func usage(format string, args ...any) error {
	return &exitError{code: ExitUsage, err: fmt.Errorf(format, args...)}
}

// exitCode returns the exit code for an error.
func exitCode(err error) int {
	if own, ok := errors.AsType[*exitError](err); ok {
		return own.code
	}
	refused, ok := errors.AsType[*client.Error](err)
	_, disk := errors.AsType[*raftnode.DiskError](err)
	_, data := errors.AsType[*raftnode.DataError](err)
	switch {
	case disk:
		return ExitDisk
	case data:
		return ExitData
	case !ok:
		return ExitError
	case refused.Temporary():
		return ExitNoLeader
	case refused.Status < http.StatusInternalServerError:
		return ExitRefused
	default:
		return ExitError
	}
}

// probe is how long to look for the reason of an answer that did not come.
const probe = time.Second

// diagnose finds out whether an answer did not come because nobody leads: a node
// waits for an election longer than many a command does.
func (a *app) diagnose(ctx context.Context, err error) error {
	if _, ok := errors.AsType[*client.UnreachableError](err); !ok || !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, errDeadline) {
		return err
	}
	c, newErr := client.New(a.addrs, a.options(-1))
	if newErr != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, probe)
	defer cancel()
	if s, statusErr := c.Status(ctx); statusErr != nil || s.Leader != "" {
		return err
	}
	return &exitError{code: ExitNoLeader, err: errors.New("nobody leads the deployment")}
}

// explain prints an error and what to do about it.
func (a *app) explain(err error, command string) {
	style := config.Plain
	if _, ok := terminal(a.Err); ok {
		style = config.Coloured
	}
	fmt.Fprintf(a.Err, "lockstep: %s\n", config.Describe(err, style))
	if hint := advice(err, command); hint != "" {
		fmt.Fprintf(a.Err, "hint: %s\n", hint)
	}
}

// advice is what to do next, if that is known.
func advice(err error, command string) string {
	if exitCode(err) == ExitUsage {
		return fmt.Sprintf("'%s --help' shows how", command)
	}
	if _, ok := errors.AsType[*client.UnreachableError](err); ok {
		return fmt.Sprintf("name the nodes with --addr or %s; 'lockstep dev' starts some on this machine", addressVariable)
	}
	if errors.Is(err, context.Canceled) {
		return ""
	}
	refused, ok := errors.AsType[*client.Error](err)
	if exitCode(err) == ExitNoLeader {
		return "a majority of the voters has to be up: 'lockstep peers list' shows who is"
	}
	if !ok {
		return ""
	}
	return adviceOn(refused)
}

func adviceOn(refused *client.Error) string {
	switch refused.Code {
	case client.CodeUnauthorized:
		return "give a token with --token-file or " + tokenVariable + "; 'lockstep token create' makes one"
	case client.CodeForbidden:
		return "'lockstep policy list' shows which roles may do that"
	case client.CodeFailingOver:
		return "'lockstep failovers list' shows it, 'lockstep failovers watch ID' waits for it"
	case "frozen":
		return "'lockstep thaw NAME' ends the freeze"
	case "held":
		return "'lockstep failover' or 'lockstep failback' to the site that has the data opens it again"
	case "disabled":
		return "'lockstep cluster enable NAME' lets it take new work, after a failover on the new site"
	case client.CodeNotFound:
		for noun, list := range map[string]string{"failover ": "failovers", "Volume ": "volume", "Snapshot ": "snapshot"} {
			if strings.HasPrefix(refused.Message, noun) {
				return fmt.Sprintf("'lockstep %s list' shows what there is", list)
			}
		}
		return "'lockstep cluster list' and 'lockstep service list' show what there is"
	}
	return ""
}
