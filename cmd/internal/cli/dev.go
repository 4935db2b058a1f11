package cli

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/lockstep-storage/lockstep/cmd/internal/dev"
)

func (a *app) dev() *cobra.Command {
	o := dev.Default()
	cmd := &cobra.Command{
		Use:   "dev --dir DIR",
		Short: "Run a real cluster of several nodes on this machine until it is interrupted",
		Long: `Run a deployment of several agent processes on loopback addresses, with sites that
are directories under DIR/sites, until it is interrupted. A node that dies is not
started again: DIR/dev.json, written when the cluster is ready, says how to. The same
DIR can be used again.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			binary, err := os.Executable()
			if err != nil {
				return err
			}
			if o.Auth != "" {
				if err := a.credentials(cmd.Context()); err != nil {
					return err
				}
			}
			o.Binary, o.Out, o.Token = binary, a.Out, a.apiToken
			return dev.Run(cmd.Context(), o)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.Dir, "dir", "", "directory for everything (required)")
	flags.IntVar(&o.Nodes, "nodes", o.Nodes, "number of nodes")
	flags.IntVar(&o.APIPort, "api-port", o.APIPort, "API port of the first node; Raft and gossip follow it, the next node is 10 further")
	flags.StringVar(&o.NodePrefix, "node-prefix", o.NodePrefix, "nodes are called this and a number")
	flags.StringVar(&o.Cluster, "cluster", o.Cluster, "name of the cluster, before the @")
	flags.StringVar(&o.Backend, "backend", o.Backend, "name of the backend, after the @")
	flags.StringSliceVar(&o.Targets, "targets", o.Targets, "replication targets, a comma list")
	flags.DurationVar(&o.PromoteDelay, "promote-delay", 0, "an artificial pause before each promotion, to rehearse failures")
	flags.StringSliceVar(&o.Admins, "admins", nil, "users who are administrators, a comma list (default: everybody)")
	flags.StringVar(&o.Auth, "auth", "", "file with the section auth of the nodes' configuration; your token must be an administrator's (default: noauth)")
	flags.StringVar(&o.LogLevel, "log-level", o.LogLevel, "of the nodes, whose logs are in DIR/NODE/log")
	flags.BoolVar(&o.TLS, "tls", false, "encrypt all ports, with certificates in DIR/tls")
	mustHave(cmd, "dir")
	return cmd
}
