// Package cli is the command line of lockstep.
package cli

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/lockstep-storage/lockstep/api/client"
	"github.com/lockstep-storage/lockstep/cmd/internal/tlsfiles"
)

// addressVariable is the environment variable with the nodes to ask.
const addressVariable = "LOCKSTEP_ADDR"

// caVariable is the environment variable with the authority of the nodes.
const caVariable = "LOCKSTEP_CACERT"

// Process is what a command has of its process.
type Process struct {
	Args     []string // without the name of the program
	In       io.Reader
	Out, Err io.Writer
	Release  string // of the build
}

// Main runs the command that args name, and returns its exit code.
func Main(ctx context.Context, p Process) int {
	a := &app{Process: p}
	root := a.root() //nolint:contextcheck // cobra hands ctx to the commands
	root.SetArgs(p.Args)
	root.SetIn(p.In)
	root.SetOut(p.Out)
	root.SetErr(p.Err)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return ExitDone
	}
	if !a.started {
		err = &exitError{code: ExitUsage, err: err}
	}
	err = a.diagnose(ctx, err)
	a.explain(err, cmd.CommandPath())
	return exitCode(err)
}

// app is one run of the program.
type app struct {
	Process

	started bool // the command line was understood
	addrs   []string
	output  string
	timeout time.Duration
	caCert  string
	tlsConf *tls.Config

	tokenFile string
	apiToken  string
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "lockstep",
		Short: "Fail over active/active volume services as one event",
		Long: `Lockstep switches an active/active storage backend to another replication target
as one event: every live volume service works against the new site, or none.

The commands ask the nodes named by --addr or ` + addressVariable + `, whichever answers.`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          help,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			return a.start(cmd)
		},
	}
	flags := root.PersistentFlags()
	flags.StringSliceVar(&a.addrs, "addr", nil,
		"nodes to ask, a comma list of host:port (default $"+addressVariable+" or "+client.DefaultAddress+")")
	flags.StringVar(&a.tokenFile, "token-file", "",
		"file with the token to ask with (default $"+tokenVariable+", or one of the Keystone of $OS_AUTH_URL)")
	flags.StringVar(&a.caCert, "cacert", "",
		"PEM file of the authority that a node's certificate must be from, for https (default $"+caVariable+" or the system's)")
	flags.StringVarP(&a.output, "output", "o", formatTable, "how to print: table, json or yaml")
	flags.DurationVar(&a.timeout, "timeout", 0, "how long to try, and with --wait to wait (default 10s, with --wait 15m)")
	root.AddGroup(
		&cobra.Group{ID: groupOperate, Title: "Fail over:"},
		&cobra.Group{ID: groupLook, Title: "Look at and manage:"},
		&cobra.Group{ID: groupRun, Title: "Run nodes:"},
	)
	addTo(root, groupOperate, a.failover(), a.failback(), a.failovers(), a.freeze(), a.thaw())
	addTo(root, groupLook, a.status(), a.cluster(), a.service(), a.volume(), a.snapshot(), a.peers())
	addTo(root, groupRun, a.agent(), a.config(), a.tls(), a.token(), a.policy(), a.dev(), a.version())
	root.AddCommand(exitCodesTopic(), a.driver())
	return root
}

const (
	groupOperate = "operate"
	groupLook    = "look"
	groupRun     = "run"
)

func addTo(root *cobra.Command, group string, cmds ...*cobra.Command) {
	for _, cmd := range cmds {
		cmd.GroupID = group
		root.AddCommand(cmd)
	}
}

func help(cmd *cobra.Command, _ []string) error { return cmd.Help() }

// parent makes a command that only has others below it.
func parent(name, short string, children ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: name, Short: short, Args: cobra.NoArgs, RunE: help}
	cmd.AddCommand(children...)
	return cmd
}

// start checks what all commands have in common.
func (a *app) start(cmd *cobra.Command) error {
	if !slices.Contains(formats(), a.output) {
		return fmt.Errorf("--output %q: must be one of %s", a.output, strings.Join(formats(), ", "))
	}
	if a.timeout < 0 {
		return fmt.Errorf("--timeout %v: must not be negative", a.timeout)
	}
	if len(a.addrs) == 0 {
		for addr := range strings.SplitSeq(os.Getenv(addressVariable), ",") {
			if addr = strings.TrimSpace(addr); addr != "" {
				a.addrs = append(a.addrs, addr)
			}
		}
	}
	if err := a.trust(); err != nil {
		return err
	}
	if _, err := client.New(a.addrs, a.options(0)); err != nil {
		return err
	}
	if err := cmd.ValidateRequiredFlags(); err != nil {
		return err
	}
	a.started = true
	return nil
}

const (
	callTimeout = 10 * time.Second
	waitTimeout = 15 * time.Minute
)

func (a *app) timeoutOr(usual time.Duration) time.Duration {
	if a.timeout > 0 {
		return a.timeout
	}
	return usual
}

// client returns a client of the deployment, and a context for one command.
func (a *app) client(cmd *cobra.Command) (*client.Client, context.Context, context.CancelFunc, error) {
	return a.clientFor(cmd, callTimeout)
}

func (a *app) clientFor(cmd *cobra.Command, usual time.Duration) (*client.Client, context.Context, context.CancelFunc, error) {
	limit := a.timeoutOr(usual)
	if err := a.credentials(cmd.Context()); err != nil {
		return nil, nil, nil, err
	}
	c, err := client.New(a.addrs, a.options(limit))
	if err != nil {
		return nil, nil, nil, err
	}
	ctx, cancel := context.WithTimeoutCause(cmd.Context(), limit, errDeadline)
	return c, ctx, cancel, nil
}

// trust reads the authority that nodes must have their certificates from.
func (a *app) trust() error {
	if a.caCert == "" {
		a.caCert = os.Getenv(caVariable)
	}
	if a.caCert == "" {
		return nil
	}
	pool, err := tlsfiles.Pool(a.caCert)
	if err != nil {
		return fmt.Errorf("--cacert: %w", err)
	}
	a.tlsConf = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	return nil
}

// options are those of every client.
func (a *app) options(patience time.Duration) client.Options {
	return client.Options{Patience: patience, TLS: a.tlsConf, Token: a.apiToken}
}

// errDeadline ends the context of a command whose time is up.
var errDeadline = errors.New("the time is up")

// terminal reports whether a stream is one, and its file descriptor.
func terminal(stream any) (fd int, ok bool) {
	f, isFile := stream.(*os.File)
	if !isFile {
		return 0, false
	}
	return int(f.Fd()), term.IsTerminal(int(f.Fd()))
}
