package cli

import (
	"io"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/lockstep-storage/lockstep/api/client"
)

func (a *app) snapshot() *cobra.Command {
	return parent("snapshot", "Create, list and delete snapshots",
		a.snapshotCreate(),
		&cobra.Command{
			Use: "list", Short: "List the snapshots, newest first", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error { return a.snapshotList(cmd) },
		},
		&cobra.Command{
			Use: "delete ID", Short: "Delete a snapshot", Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				return a.change(cmd, "deleting "+args[0], func(c *client.Client) error {
					return c.DeleteSnapshot(cmd.Context(), args[0])
				})
			},
		},
	)
}

func (a *app) snapshotCreate() *cobra.Command {
	var name string
	var wait bool
	cmd := &cobra.Command{
		Use: "create VOLUME", Short: "Take a snapshot of a volume, by id or name", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, ctx, cancel, err := a.client(cmd)
			if err != nil {
				return err
			}
			defer cancel()
			v, err := findVolume(ctx, c, args[0])
			if err != nil {
				return err
			}
			s, err := c.CreateSnapshot(ctx, v.ID, name)
			if err != nil {
				return err
			}
			if wait {
				err = awaitStatus(ctx, "creating", func() (string, error) {
					next, err := c.Snapshot(ctx, s.ID)
					if err == nil {
						s = next
					}
					return s.Status, err
				})
				if err != nil {
					return err
				}
			}
			return a.show(s, func(w io.Writer) error { return printSnapshots(w, []client.Snapshot{s}) })
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "a name for people")
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until it is available")
	return cmd
}

func (a *app) snapshotList(cmd *cobra.Command) error {
	c, ctx, cancel, err := a.client(cmd)
	if err != nil {
		return err
	}
	defer cancel()
	list := []client.Snapshot{}
	for s, err := range c.Snapshots(ctx) {
		if err != nil {
			return err
		}
		list = append(list, s)
	}
	return a.show(list, func(w io.Writer) error { return printSnapshots(w, list) })
}

func printSnapshots(w io.Writer, list []client.Snapshot) error {
	t := table{header: []string{"ID", "NAME", "STATUS", "GIB", "VOLUME", "CREATED"}}
	for _, s := range list {
		t.add(s.ID, s.Name, s.Status, strconv.FormatInt(s.Size, 10), s.VolumeID, s.CreatedAt)
	}
	return t.print(w)
}
