package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lockstep-storage/lockstep/api/client"
)

// failoverFlags are what asks for a failover, beside the names.
type failoverFlags struct {
	target, mode, reason, key string
	group                     string
	attached, wait, yes       bool
}

func (f *failoverFlags) register(cmd *cobra.Command, mode string) {
	flags := cmd.Flags()
	flags.StringVar(&f.mode, "mode", mode, "forced: the site in use is presumed lost; planned: loses nothing")
	flags.StringVar(&f.group, "group", "", "the id of a replication group: the rest of the cluster stays where it is")
	flags.BoolVar(&f.attached, "allow-attached", false, "with --group: even if its volumes are attached")
	flags.StringVar(&f.reason, "reason", "", "why, for people; kept in the record")
	flags.StringVar(&f.key, "idempotency-key", "", "repeating the command with the same key asks only once")
	flags.BoolVar(&f.wait, "wait", false, "wait for the end and show each member's progress")
	flags.BoolVarP(&f.yes, "yes", "y", false, "do not ask to confirm a forced failover")
}

func (a *app) failover() *cobra.Command {
	var f failoverFlags
	cmd := &cobra.Command{
		Use:   "failover CLUSTER|HOST [BACKEND_ID]",
		Short: "Switch a cluster to another site",
		Long: `Switch a cluster, or a service outside clusters, to another site: a replication
target, or "default" for the primary. BACKEND_ID may be left out when there is only
one target. A forced failover presumes the site in use lost: what was not replicated
yet stays behind. A planned one drains, syncs and demotes it first and loses nothing.`,
		Example: `  lockstep failover prod@files site-b --wait
  lockstep failover prod@files site-b --mode planned --reason 'power maintenance'`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) == 2 && f.target != "" && f.target != args[1]:
				return usage("two targets: %q and --to %q", args[1], f.target)
			case len(args) == 2:
				f.target = args[1]
			}
			return a.requestFailover(cmd, args[0], f)
		},
	}
	f.register(cmd, client.Forced)
	cmd.Flags().StringVar(&f.target, "to", "", "the site to switch to, instead of BACKEND_ID")
	return cmd
}

func (a *app) failback() *cobra.Command {
	f := failoverFlags{target: "default"}
	var forced bool
	cmd := &cobra.Command{
		Use:   "failback CLUSTER|HOST",
		Short: "Switch a cluster back to the primary site",
		Long: `Switch a cluster, or a service outside clusters, back to its primary site. Unless
forced, everything is replicated back first, and it is refused while data would be lost.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if forced {
				f.mode = client.Forced
			}
			return a.requestFailover(cmd, args[0], f)
		},
	}
	f.register(cmd, client.Planned)
	cmd.Flags().BoolVar(&forced, "forced", false, "the same as --mode forced")
	return cmd
}

// requestFailover asks for a failover and, if wanted, waits for its end.
func (a *app) requestFailover(cmd *cobra.Command, name string, f failoverFlags) error {
	if modes := []string{client.Forced, client.Planned}; !slices.Contains(modes, f.mode) {
		return usage("--mode %q: must be one of %s", f.mode, strings.Join(modes, ", "))
	}
	if f.attached && f.group == "" {
		return usage("--allow-attached needs --group")
	}
	if f.mode == client.Forced && !f.yes {
		if err := a.confirm(or(f.group, name), or(f.target, "its replication target")); err != nil {
			return err
		}
	}
	usual := callTimeout
	if f.wait {
		usual = waitTimeout
	}
	c, ctx, cancel, err := a.clientFor(cmd, usual)
	if err != nil {
		return err
	}
	defer cancel()
	var record client.Failover
	err = clusterOrHost(name, func(cluster, host string) error {
		record, err = c.RequestFailover(ctx, client.FailoverRequest{
			Cluster: cluster, Host: host, Group: f.group, AllowAttached: f.attached, BackendID: f.target, Mode: f.mode, Reason: f.reason,
		}, f.key)
		return err
	})
	if err != nil {
		return err
	}
	if f.wait {
		return a.watch(ctx, c, record.ID)
	}
	return a.show(record, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "failover %s of %s to %s: %s\nwatch it with: lockstep failovers watch %s\n",
			record.ID, record.Subject(), record.Target, record.Phase, record.ID)
		return err
	})
}

// confirm has a person type the name of what is failed over by force.
func (a *app) confirm(name, target string) error {
	if _, ok := terminal(a.In); !ok {
		return usage("a forced failover needs --yes when nobody can be asked")
	}
	return askName(a.In, a.Err, name, target)
}

func askName(in io.Reader, out io.Writer, name, target string) error {
	fmt.Fprintf(out, "A forced failover of %s to %s presumes the site in use lost:\n"+
		"what has not been replicated yet stays behind. Type %s to go on: ", name, target, name)
	answer, err := bufio.NewReader(in).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read the confirmation: %w", err)
	}
	if strings.TrimSpace(answer) != name {
		return usage("not confirmed: nothing was done")
	}
	return nil
}

// clusterOrHost makes a call about a cluster and, if there is none of the name,
// about the service outside clusters of that name.
func clusterOrHost(name string, call func(cluster, host string) error) error {
	err := call(name, "")
	if !missing(err) {
		return err
	}
	if second := call("", name); !missing(second) {
		return second
	}
	return err
}

// missing reports whether a refusal says that there is no such thing. Cinder
// answers a freeze of an unknown cluster with 400.
func missing(err error) bool {
	refused, ok := errors.AsType[*client.Error](err)
	return ok && (refused.Code == client.CodeNotFound || strings.Contains(refused.Message, "No service found"))
}

func (a *app) failovers() *cobra.Command {
	var cluster string
	var limit int
	list := &cobra.Command{
		Use: "list", Short: "List failovers, newest first", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.failoverList(cmd, cluster, limit) },
	}
	list.Flags().StringVar(&cluster, "cluster", "", "only those of one cluster")
	list.Flags().IntVar(&limit, "limit", 50, "at most so many")
	return parent("failovers", "List, show, abort and watch failovers", list,
		&cobra.Command{
			Use: "show ID", Short: "Show a failover and how far each member is", Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error { return a.failoverShow(cmd, args[0]) },
		},
		&cobra.Command{
			Use: "abort ID", Short: "End a failover of which nothing was promoted yet", Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error { return a.failoverAbort(cmd, args[0]) },
		},
		&cobra.Command{
			Use: "watch ID", Short: "Wait for the end of a failover and show its progress", Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				c, ctx, cancel, err := a.clientFor(cmd, waitTimeout)
				if err != nil {
					return err
				}
				defer cancel()
				return a.watch(ctx, c, args[0])
			},
		},
	)
}

func (a *app) failoverList(cmd *cobra.Command, cluster string, limit int) error {
	c, ctx, cancel, err := a.client(cmd)
	if err != nil {
		return err
	}
	defer cancel()
	list := []client.Failover{}
	for f, err := range c.Failovers(ctx, cluster) {
		if err != nil {
			return err
		}
		if len(list) >= limit {
			break
		}
		list = append(list, f)
	}
	return a.show(list, func(w io.Writer) error {
		t := table{header: []string{"ID", "CLUSTER", "FROM", "TO", "MODE", "PHASE", "ATTEMPT", "REQUESTED", "FINISHED", "ERROR"}}
		for _, f := range list {
			t.add(f.ID, f.Subject(), f.From, f.Target, f.Mode, f.Phase, fmt.Sprint(f.Attempt), clock(f.RequestedAt), clock(f.FinishedAt), f.Error)
		}
		return t.print(w)
	})
}

func (a *app) failoverShow(cmd *cobra.Command, id string) error {
	c, ctx, cancel, err := a.client(cmd)
	if err != nil {
		return err
	}
	defer cancel()
	f, err := c.Failover(ctx, id)
	if err != nil {
		return err
	}
	return a.show(f, func(w io.Writer) error { return printFailover(w, f) })
}

func printFailover(w io.Writer, f client.Failover) error {
	var t table
	t.add("failover", f.ID)
	t.add("cluster", f.Subject())
	t.add("sites", f.From+" -> "+f.Target)
	t.add("mode", f.Mode)
	t.add("phase", f.Phase)
	t.add("attempt", fmt.Sprint(f.Attempt))
	t.add("executor", f.Executor)
	t.add("epoch", fmt.Sprint(f.Epoch))
	t.add("volumes", fmt.Sprintf("%d with a result of their own, %d failed", f.Results.Staged, f.Results.Failed))
	t.add("reason", f.Reason)
	t.add("requested", strings.TrimSpace(clock(f.RequestedAt)+" "+f.RequestedBy))
	t.add("finished", clock(f.FinishedAt))
	t.add("error", f.Error)
	if err := t.print(w); err != nil || len(f.Members) == 0 {
		return err
	}
	fmt.Fprintln(w)
	members := table{header: []string{"MEMBER", "UP", "STATE", "REPORTED", "AT", "ERROR"}}
	for _, m := range f.Members {
		members.add(m.Host, known(m.Up), m.State, site(m.Epoch, m.ActiveBackendID), clock(m.At), m.Error)
	}
	return members.print(w)
}

func (a *app) failoverAbort(cmd *cobra.Command, id string) error {
	c, ctx, cancel, err := a.client(cmd)
	if err != nil {
		return err
	}
	defer cancel()
	f, err := c.AbortFailover(ctx, id)
	if err != nil {
		return err
	}
	return a.show(f, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "aborted %s of %s: it stays on %s\n", f.ID, f.Subject(), f.From)
		return err
	})
}

// watch shows a failover until it has ended, and says with an exit code how.
func (a *app) watch(ctx context.Context, c *client.Client, id string) error {
	last, err := follow(ctx, c, id, a.progress())
	if last.ID == "" || err != nil && ctx.Err() == nil {
		return err
	}
	if showErr := a.show(last, func(w io.Writer) error { return printEnd(w, last) }); showErr != nil {
		return showErr
	}
	if err != nil {
		return &exitError{code: ExitRunning, err: fmt.Errorf("failover %s is still %s; it goes on, watch it with: lockstep failovers watch %s", id, last.Phase, id)}
	}
	return verdict(last)
}

// verdict is the error of a failover that did not end well.
func verdict(f client.Failover) error {
	switch {
	case f.Phase == client.PhaseAborted:
		return fmt.Errorf("failover %s was aborted: %s stays on %s", f.ID, f.Subject(), f.From)
	case f.Phase == client.PhaseFailed:
		return fmt.Errorf("failover %s failed: %s", f.ID, or(f.Error, "no reason was given"))
	case f.Partial():
		return &exitError{code: ExitPartly, err: fmt.Errorf("failover %s is done, but not everything followed: %s", f.ID, laggards(f))}
	}
	return nil
}

// laggards says what did not follow a failover.
func laggards(f client.Failover) string {
	var parts []string
	if f.Results.Failed > 0 {
		parts = append(parts, fmt.Sprintf("%d volumes", f.Results.Failed))
	}
	for _, m := range f.Members {
		if m.Stayed() {
			parts = append(parts, m.Host+" ("+or(m.Error, m.State)+")")
		}
	}
	return strings.Join(parts, ", ")
}

func printEnd(w io.Writer, f client.Failover) error {
	took := ""
	if !f.FinishedAt.IsZero() {
		took = fmt.Sprintf(" after %.1fs", f.FinishedAt.Sub(f.RequestedAt).Seconds())
	}
	if f.Phase != client.PhaseDone {
		return nil
	}
	_, err := fmt.Fprintf(w, "%s is on %s, epoch %d%s\n", f.Subject(), f.Target, f.Epoch, took)
	for _, m := range f.Members {
		if !m.Stayed() && m.State != client.MemberSwitched {
			fmt.Fprintf(w, "%s is down; it follows before it serves again\n", m.Host)
		}
	}
	return err
}
