package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/lockstep-storage/lockstep/cmd/internal/config"
	"github.com/lockstep-storage/lockstep/driverhost"
	"github.com/lockstep-storage/lockstep/driverhost/file"
	"github.com/lockstep-storage/lockstep/driverhost/process"
)

// driver are the processes of the drivers that lockstep brings along. It is not
// listed: nobody needs it.
func (a *app) driver() *cobra.Command {
	cmd := parent("driver", "Serve a storage driver to the agent that starts this command",
		&cobra.Command{
			Use: config.DriverFile, Short: "Serve the file driver", Args: cobra.NoArgs,
			Long: `Serve the file driver to an agent.

An agent runs each driver in a process of its own, and starts this command for a
backend with 'driver: file'. It cannot be run by hand: the agent passes the
options, the deadline of the lease and a lock on to it.`,
			RunE: func(cmd *cobra.Command, _ []string) error {
				return process.Serve(cmd.Context(), openFile)
			},
		},
	)
	cmd.Hidden = true
	return cmd
}

func openFile(ctx context.Context, req driverhost.OpenRequest, options []byte) (driverhost.Driver, error) {
	return file.Open(ctx, req, func(into any) error { return config.DecodeOptions(options, into) })
}
