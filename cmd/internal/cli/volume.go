package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/lockstep-storage/lockstep/api/client"
)

func (a *app) volume() *cobra.Command {
	return parent("volume", "Create, list, show, delete and extend volumes",
		a.volumeCreate(),
		&cobra.Command{
			Use: "list", Short: "List the volumes, newest first", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error { return a.volumeList(cmd) },
		},
		&cobra.Command{
			Use: "show VOLUME", Short: "Show a volume, by id or name", Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				return a.onVolume(cmd, args[0], callTimeout, func(_ context.Context, _ *client.Client, v client.Volume) error {
					return a.show(v, func(w io.Writer) error { return printVolume(w, v) })
				})
			},
		},
		a.volumeDelete(),
		a.volumeExtend(),
	)
}

func (a *app) volumeCreate() *cobra.Command {
	var r client.VolumeRequest
	var wait bool
	cmd := &cobra.Command{
		Use: "create --size GIB", Short: "Create a volume", Args: cobra.NoArgs,
		Example: "  lockstep volume create --size 1 --type replicated --name db --wait",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if r.Size < 1 {
				return usage("--size %d: must be at least 1 GiB", r.Size)
			}
			c, ctx, cancel, err := a.client(cmd)
			if err != nil {
				return err
			}
			defer cancel()
			v, err := c.CreateVolume(ctx, r)
			if err == nil && wait {
				v, err = awaitVolume(ctx, c, v, "creating")
			}
			if err != nil {
				return err
			}
			return a.show(v, func(w io.Writer) error { return printVolume(w, v) })
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&r.Name, "name", "", "a name for people")
	flags.Int64Var(&r.Size, "size", 0, "in GiB (required)")
	flags.StringVar(&r.VolumeType, "type", "", "volume type; one with replication_enabled '<is> True' is replicated")
	flags.StringToStringVar(&r.Metadata, "metadata", nil, "key=value, may be repeated")
	flags.BoolVar(&wait, "wait", false, "wait until it is available")
	mustHave(cmd, "size")
	return cmd
}

func (a *app) volumeDelete() *cobra.Command {
	var wait bool
	cmd := &cobra.Command{
		Use: "delete VOLUME", Short: "Delete a volume, by id or name", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.onVolume(cmd, args[0], callTimeout, func(ctx context.Context, c *client.Client, v client.Volume) error {
				if err := c.DeleteVolume(ctx, v.ID); err != nil {
					return err
				}
				if wait {
					_, err := awaitVolume(ctx, c, v, "deleting")
					if refused, ok := errors.AsType[*client.Error](err); !ok || refused.Code != client.CodeNotFound {
						return err
					}
					a.said("deleted %s", v.ID)
					return nil
				}
				a.said("deleting %s", v.ID)
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until it is gone")
	return cmd
}

func (a *app) volumeExtend() *cobra.Command {
	var wait bool
	cmd := &cobra.Command{
		Use: "extend VOLUME GIB", Short: "Grow a volume, by id or name, to a size", Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			size, err := strconv.ParseInt(args[1], 10, 64)
			if err != nil || size < 1 {
				return usage("size %q: must be a whole number of GiB", args[1])
			}
			return a.onVolume(cmd, args[0], callTimeout, func(ctx context.Context, c *client.Client, v client.Volume) error {
				if err := c.ExtendVolume(ctx, v.ID, size); err != nil {
					return err
				}
				if wait {
					if v, err = awaitVolume(ctx, c, v, "extending"); err != nil {
						return err
					}
					a.said("extended %s to %d GiB", v.ID, v.Size)
					return nil
				}
				a.said("extending %s to %d GiB", v.ID, size)
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until it has the size")
	return cmd
}

func (a *app) volumeList(cmd *cobra.Command) error {
	c, ctx, cancel, err := a.client(cmd)
	if err != nil {
		return err
	}
	defer cancel()
	list := []client.Volume{}
	for v, err := range c.Volumes(ctx) {
		if err != nil {
			return err
		}
		list = append(list, v)
	}
	return a.show(list, func(w io.Writer) error {
		t := table{header: []string{"ID", "NAME", "STATUS", "GIB", "TYPE", "REPLICATION", "CLUSTER", "HOST"}}
		for _, v := range list {
			t.add(v.ID, v.Name, v.Status, strconv.FormatInt(v.Size, 10), v.VolumeType, v.ReplicationStatus, v.ClusterName, v.Host)
		}
		return t.print(w)
	})
}

func printVolume(w io.Writer, v client.Volume) error {
	var t table
	t.add("id", v.ID)
	t.add("name", v.Name)
	t.add("status", v.Status)
	t.add("size", fmt.Sprintf("%d GiB", v.Size))
	t.add("type", v.VolumeType)
	t.add("replication", v.ReplicationStatus)
	t.add("cluster", v.ClusterName)
	t.add("host", v.Host)
	t.add("created", v.CreatedAt)
	t.add("updated", v.UpdatedAt)
	return t.print(w)
}

// onVolume finds a volume by its id or its name, and does something with it.
func (a *app) onVolume(cmd *cobra.Command, name string, usual time.Duration, fn func(context.Context, *client.Client, client.Volume) error) error {
	c, ctx, cancel, err := a.clientFor(cmd, usual)
	if err != nil {
		return err
	}
	defer cancel()
	v, err := findVolume(ctx, c, name)
	if err != nil {
		return err
	}
	return fn(ctx, c, v)
}

func findVolume(ctx context.Context, c *client.Client, name string) (client.Volume, error) {
	if uuid.Validate(name) == nil {
		return c.Volume(ctx, name)
	}
	var found []client.Volume
	for v, err := range c.Volumes(ctx) {
		if err != nil {
			return client.Volume{}, err
		}
		if v.Name == name {
			found = append(found, v)
		}
	}
	switch len(found) {
	case 0:
		return client.Volume{}, &exitError{code: ExitRefused, err: fmt.Errorf("no volume has the id or name %q: 'lockstep volume list' shows all", name)}
	case 1:
		return found[0], nil
	}
	ids := make([]string, len(found))
	for i, v := range found {
		ids[i] = v.ID
	}
	return client.Volume{}, usage("%d volumes have the name %q: use an id: %s", len(found), name, strings.Join(ids, ", "))
}

// lookEvery is the time between two looks at a volume that is being changed.
const lookEvery = 100 * time.Millisecond

// awaitVolume waits until a volume has left a passing status.
func awaitVolume(ctx context.Context, c *client.Client, v client.Volume, passing string) (client.Volume, error) {
	err := awaitStatus(ctx, passing, func() (string, error) {
		next, err := c.Volume(ctx, v.ID)
		if err == nil {
			v = next
		}
		return v.Status, err
	})
	return v, err
}

// awaitStatus looks at a status until it is no longer the passing one.
func awaitStatus(ctx context.Context, passing string, look func() (string, error)) error {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		status, err := look()
		switch {
		case err != nil && ctx.Err() == nil:
			return err
		case err == nil && strings.HasPrefix(status, "error"):
			return fmt.Errorf("it ended in status %s", status)
		case err == nil && status != passing:
			return nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return &exitError{code: ExitRunning, err: fmt.Errorf("it is still %s", passing)}
		}
	}
}
