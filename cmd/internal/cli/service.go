package cli

import (
	"io"

	"github.com/spf13/cobra"

	"github.com/lockstep-storage/lockstep/api/client"
)

func (a *app) service() *cobra.Command {
	var reason string
	disable := &cobra.Command{
		Use: "disable HOST", Short: "Keep new work from a service", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.change(cmd, "disabled "+args[0], func(c *client.Client) error {
				return c.DisableService(cmd.Context(), args[0], reason)
			})
		},
	}
	disable.Flags().StringVar(&reason, "reason", "", "why, for people")
	return parent("service", "List, enable and disable volume services",
		&cobra.Command{
			Use: "list", Short: "List the volume services", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error { return a.serviceList(cmd) },
		},
		&cobra.Command{
			Use: "enable HOST", Short: "Let a service take new work", Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				return a.change(cmd, "enabled "+args[0], func(c *client.Client) error {
					return c.EnableService(cmd.Context(), args[0])
				})
			},
		},
		disable,
	)
}

func (a *app) serviceList(cmd *cobra.Command) error {
	c, ctx, cancel, err := a.client(cmd)
	if err != nil {
		return err
	}
	defer cancel()
	services, err := c.Services(ctx)
	if err != nil {
		return err
	}
	return a.show(notNil(services), func(w io.Writer) error {
		t := table{header: []string{"HOST", "CLUSTER", "SITE", "REPLICATION", "STATUS", "STATE", "FROZEN"}}
		for _, s := range services {
			t.add(s.Host, s.Cluster, or(s.ActiveBackendID, "default"), s.ReplicationStatus,
				withReason(s.Status, s.DisabledReason), s.State, yesNo(s.Frozen))
		}
		return t.print(w)
	})
}

func (a *app) freeze() *cobra.Command {
	return &cobra.Command{
		Use: "freeze CLUSTER|HOST", Short: "Keep the volumes of a cluster from being managed", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.change(cmd, "frozen "+args[0], func(c *client.Client) error {
				return clusterOrHost(args[0], func(cluster, host string) error {
					return c.Freeze(cmd.Context(), client.Subject{Cluster: cluster, Host: host})
				})
			})
		},
	}
}

func (a *app) thaw() *cobra.Command {
	return &cobra.Command{
		Use: "thaw CLUSTER|HOST", Short: "End a freeze", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.change(cmd, "thawed "+args[0], func(c *client.Client) error {
				return clusterOrHost(args[0], func(cluster, host string) error {
					return c.Thaw(cmd.Context(), client.Subject{Cluster: cluster, Host: host})
				})
			})
		},
	}
}
