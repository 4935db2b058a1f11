package cli

import (
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/lockstep-storage/lockstep/cmd/internal/tlsfiles"
)

func (a *app) tls() *cobra.Command {
	return parent("tls", "Make the files by which nodes know each other",
		parent("ca", "The authority of a deployment", a.tlsCACreate()),
		parent("cert", "Certificates of nodes", a.tlsCertCreate()),
		parent("gossip-key", "Keys that encrypt gossip", a.tlsGossipKeyCreate()),
	)
}

func dirFlag(cmd *cobra.Command, dir *string) {
	cmd.Flags().StringVar(dir, "dir", "tls", "directory of the files, made if it is missing")
}

func (a *app) tlsCACreate() *cobra.Command {
	var dir, deployment string
	var days int
	cmd := &cobra.Command{
		Use: "create --deployment NAME", Short: "Make the authority of a deployment: ca.pem and ca-key.pem", Args: cobra.NoArgs,
		Long: `Make the authority of a deployment: ca.pem, which every node and every user gets,
and ca-key.pem, which signs the certificates of nodes. Keep that one off the nodes:
who has it can be any node. Nothing is ever overwritten.`,
		RunE: func(*cobra.Command, []string) error {
			made, err := tlsfiles.CreateAuthority(dir, deployment, days)
			if err != nil {
				return err
			}
			return a.showCreated(made)
		},
	}
	cmd.Flags().StringVar(&deployment, "deployment", "", "name of the deployment, as in the configuration (required)")
	cmd.Flags().IntVar(&days, "days", tlsfiles.AuthorityDays, "how long it is good")
	dirFlag(cmd, &dir)
	mustHave(cmd, "deployment")
	return cmd
}

func (a *app) tlsCertCreate() *cobra.Command {
	var dir string
	var hosts []string
	var days int
	cmd := &cobra.Command{
		Use: "create NODE --host NAMES", Short: "Make the certificate of a node: NODE.pem and NODE-key.pem", Args: cobra.ExactArgs(1),
		Long: `Make the certificate of a node, NODE.pem, and its key, NODE-key.pem, with the
authority in the directory. Nodes know each other by the name of the node, wherever
it is; --host is for users, whose clients compare it with the address they ask.`,
		RunE: func(_ *cobra.Command, args []string) error {
			made, err := tlsfiles.CreateCertificate(dir, args[0], hosts, days)
			if err != nil {
				return err
			}
			return a.showCreated(made)
		},
	}
	cmd.Flags().StringSliceVar(&hosts, "host", nil, "host names and IP addresses of the API, a comma list; localhost is always among them")
	cmd.Flags().IntVar(&days, "days", tlsfiles.NodeDays, "how long it is good")
	dirFlag(cmd, &dir)
	return cmd
}

func (a *app) tlsGossipKeyCreate() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use: "create", Short: "Make a key that encrypts gossip: gossip.key", Args: cobra.NoArgs,
		Long: `Make a key that encrypts gossip: gossip.key, the same on all nodes.

To replace it, make another one in a directory of its own, and change gossip.key on
all nodes in three steps: the new line below the old one, the new one above, the
old one gone. Nodes read the file again by themselves.`,
		RunE: func(*cobra.Command, []string) error {
			made, err := tlsfiles.CreateGossipKey(dir)
			if err != nil {
				return err
			}
			return a.showCreated(made)
		},
	}
	dirFlag(cmd, &dir)
	return cmd
}

// showCreated names what was made. Keys themselves are never shown.
func (a *app) showCreated(made tlsfiles.Created) error {
	return a.show(made, func(w io.Writer) error {
		var t table
		if made.Cert != "" {
			t.add("certificate", made.Cert)
		}
		t.add("key", made.Key)
		if made.Deployment != "" {
			t.add("deployment", made.Deployment)
		}
		if made.Node != "" {
			t.add("node", made.Node)
			t.add("hosts", strings.Join(made.Hosts, ", "))
		}
		if made.Until != nil {
			t.add("good until", made.Until.Format(time.DateOnly))
		}
		return t.print(w)
	})
}
