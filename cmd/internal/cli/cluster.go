package cli

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lockstep-storage/lockstep/api/client"
)

func (a *app) cluster() *cobra.Command {
	return parent("cluster", "List, show, enable and disable clusters",
		&cobra.Command{
			Use: "list", Short: "List the clusters", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error { return a.clusterList(cmd) },
		},
		&cobra.Command{
			Use: "show CLUSTER", Short: "Show what a cluster has committed and what each member has reported", Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error { return a.clusterShow(cmd, args[0]) },
		},
		&cobra.Command{
			Use: "enable CLUSTER", Short: "Let a cluster take new work, after a failover on the new site", Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				return a.change(cmd, "enabled "+args[0], func(c *client.Client) error {
					return c.EnableCluster(cmd.Context(), args[0])
				})
			},
		},
		a.clusterDisable(),
	)
}

func (a *app) clusterDisable() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use: "disable CLUSTER", Short: "Keep new work from a cluster", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.change(cmd, "disabled "+args[0], func(c *client.Client) error {
				return c.DisableCluster(cmd.Context(), args[0], reason)
			})
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for people")
	return cmd
}

// change makes a call that changes something and has no answer of its own.
func (a *app) change(cmd *cobra.Command, done string, call func(*client.Client) error) error {
	c, ctx, cancel, err := a.client(cmd)
	if err != nil {
		return err
	}
	defer cancel()
	cmd.SetContext(ctx)
	if err := call(c); err != nil {
		return err
	}
	a.said("%s", done)
	return nil
}

func (a *app) clusterList(cmd *cobra.Command) error {
	c, ctx, cancel, err := a.client(cmd)
	if err != nil {
		return err
	}
	defer cancel()
	clusters, err := c.Clusters(ctx)
	if err != nil {
		return err
	}
	return a.show(notNil(clusters), func(w io.Writer) error {
		t := table{header: []string{"CLUSTER", "SITE", "REPLICATION", "STATUS", "STATE", "MEMBERS", "DOWN", "FROZEN"}}
		for _, cl := range clusters {
			t.add(cl.Name, or(cl.ActiveBackendID, "default"), cl.ReplicationStatus, withReason(cl.Status, cl.DisabledReason),
				cl.State, strconv.Itoa(cl.NumHosts), strconv.Itoa(cl.NumDownHosts), yesNo(cl.Frozen))
		}
		return t.print(w)
	})
}

// notNil makes an empty list of none, for JSON.
func notNil[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

func withReason(status, reason string) string {
	if reason == "" {
		return status
	}
	return status + " (" + reason + ")"
}

func (a *app) clusterShow(cmd *cobra.Command, name string) error {
	c, ctx, cancel, err := a.client(cmd)
	if err != nil {
		return err
	}
	defer cancel()
	cl, err := c.Cluster(ctx, name)
	if err != nil {
		return err
	}
	return a.show(cl, func(w io.Writer) error { return printCluster(w, cl) })
}

func printCluster(w io.Writer, cl client.Cluster) error {
	status := "enabled"
	if cl.Disabled {
		status = withReason("disabled", cl.DisabledReason)
	}
	var t table
	t.add("cluster", cl.Name)
	t.add("site", fmt.Sprintf("%s (epoch %d)", cl.ActiveBackendID, cl.Epoch))
	t.add("targets", strings.Join(cl.Targets, ", "))
	t.add("replication", cl.ReplicationStatus)
	t.add("status", status)
	t.add("frozen", yesNo(cl.Frozen))
	if cl.Held {
		t.add("held", "yes: a failed failover may have promoted something; fail over or back to open it")
	}
	t.add("failover", or(cl.Failover, "none unfinished"))
	if err := t.print(w); err != nil {
		return err
	}
	fmt.Fprintln(w)
	return printMembers(w, cl)
}

func printMembers(w io.Writer, cl client.Cluster) error {
	t := table{header: []string{"MEMBER", "UP", "STATE", "COMMITTED", "REPORTED", "AGE", "STATUS", "ERROR"}}
	for _, m := range cl.Members {
		reported := ""
		if m.Reported.Epoch > 0 {
			reported = site(m.Reported.Epoch, m.Reported.ActiveBackendID)
		}
		status := "enabled"
		if m.Disabled {
			status = withReason("disabled", m.DisabledReason)
		}
		problem := m.Reported.Error
		if m.State == client.StateStuck {
			problem = "its driver cannot be ended: power off " + m.Node + ", then lockstep peers remove " + m.Node
		}
		t.add(m.Host, known(m.Up), m.State, site(m.Committed.Epoch, m.Committed.ActiveBackendID), reported, m.Age, status, problem)
	}
	return t.print(w)
}

func site(epoch uint64, backendID string) string { return fmt.Sprintf("%d:%s", epoch, backendID) }
