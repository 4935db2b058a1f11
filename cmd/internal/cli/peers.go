package cli

import (
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/lockstep-storage/lockstep/api/client"
)

func (a *app) peers() *cobra.Command {
	return parent("peers", "List and remove the nodes of the deployment",
		&cobra.Command{
			Use: "list", Short: "List the nodes", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error { return a.peersList(cmd) },
		},
		&cobra.Command{
			Use: "remove NODE", Short: "Take a node that is gone for good out of the deployment", Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				return a.change(cmd, "removed "+args[0], func(c *client.Client) error {
					return c.RemovePeer(cmd.Context(), args[0])
				})
			},
		},
	)
}

func (a *app) peersList(cmd *cobra.Command) error {
	c, ctx, cancel, err := a.client(cmd)
	if err != nil {
		return err
	}
	defer cancel()
	peers, err := c.Peers(ctx)
	if err != nil {
		return err
	}
	return a.show(notNil(peers), func(w io.Writer) error { return printPeers(w, peers) })
}

func printPeers(w io.Writer, peers []client.Peer) error {
	t := table{header: []string{"NODE", "ROLE", "ALIVE", "API", "RAFT", "GOSSIP", "VERSION"}}
	for _, p := range peers {
		role := p.Suffrage
		if p.Leader {
			role = "leader"
		}
		t.add(p.ID, role, yesNo(p.Alive), p.API, p.Raft, p.Gossip, p.Version)
	}
	return t.print(w)
}

// health is what status shows.
type health struct {
	client.Status

	Peers      []client.Peer     `json:"peers"`
	Membership []client.Cluster  `json:"membership"`
	Failovers  []client.Failover `json:"failovers"` // unfinished
}

func (a *app) status() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Show the health of the deployment on one screen", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, ctx, cancel, err := a.client(cmd)
			if err != nil {
				return err
			}
			defer cancel()
			cmd.SetContext(ctx)
			h, err := gatherHealth(cmd, c)
			if err != nil {
				return err
			}
			if err := a.show(h, func(w io.Writer) error { return printHealth(w, h) }); err != nil || h.Leader != "" {
				return err
			}
			return &exitError{code: ExitNoLeader, err: errors.New("nobody leads: what is shown may be old, and nothing can be changed")}
		},
	}
}

func gatherHealth(cmd *cobra.Command, c *client.Client) (health, error) {
	ctx := cmd.Context()
	h := health{Failovers: []client.Failover{}}
	var err error
	if h.Status, err = c.Status(ctx); err != nil {
		return h, err
	}
	if h.Peers, err = c.Peers(ctx); err != nil {
		return h, err
	}
	level := client.Linearizable
	if h.Leader == "" {
		level = client.Stale
	}
	clusters, err := c.AllClusters(ctx, level)
	h.Membership = notNil(clusters)
	if err != nil || h.Leader == "" {
		return h, err
	}
	for _, id := range h.UnfinishedFailovers {
		f, err := c.Failover(ctx, id)
		if err != nil {
			return h, err
		}
		h.Failovers = append(h.Failovers, f)
	}
	return h, nil
}

func printHealth(w io.Writer, h health) error {
	var t table
	t.add("deployment", h.Deployment)
	t.add("leader", fmt.Sprintf("%s (term %d)", or(h.Leader, "nobody"), h.Term))
	t.add("answered by", fmt.Sprintf("%s, %s, ready: %s, applied %d of %d", h.Node, h.Version, yesNo(h.Ready), h.AppliedIndex, h.CommitIndex))
	if h.NotReady != "" {
		t.add("not ready", h.NotReady)
	}
	t.add("holds", fmt.Sprintf("%d clusters, %d services, %d volumes", h.Clusters, h.Services, h.Volumes))
	t.add("failovers", strconv.Itoa(len(h.Failovers))+" unfinished")
	if err := t.print(w); err != nil {
		return err
	}
	fmt.Fprintln(w)
	if err := printPeers(w, h.Peers); err != nil {
		return err
	}
	for _, cl := range h.Membership {
		fmt.Fprintf(w, "\n%s on %s, epoch %d, %s%s\n", cl.Name, cl.ActiveBackendID, cl.Epoch, cl.ReplicationStatus, remarks(cl))
		if err := printMembers(w, cl); err != nil {
			return err
		}
	}
	for _, f := range h.Failovers {
		fmt.Fprintf(w, "\nfailover %s of %s: %s -> %s, %s, attempt %d\n", f.ID, f.Subject(), f.From, f.Target, f.Phase, f.Attempt)
	}
	return nil
}

func remarks(cl client.Cluster) string {
	text := ""
	if cl.Disabled {
		text += ", " + withReason("disabled", cl.DisabledReason)
	}
	if cl.Frozen {
		text += ", frozen"
	}
	if cl.Held {
		text += ", held"
	}
	return text
}
