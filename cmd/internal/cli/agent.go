package cli

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

	"github.com/lockstep-storage/lockstep/cmd/internal/agent"
	"github.com/lockstep-storage/lockstep/cmd/internal/config"
)

func (a *app) agent() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use: "agent --config FILE", Short: "Run a node until it is interrupted", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := config.Load(path)
			if err != nil {
				return err
			}
			logger := hclog.New(&hclog.LoggerOptions{
				Name: "lockstep", Level: hclog.LevelFromString(cfg.LogLevel), Output: a.Err, TimeFormat: "2006-01-02T15:04:05.000Z0700",
			})
			program, err := os.Executable()
			if err != nil {
				return fmt.Errorf("path of this program: %w", err)
			}
			return agent.Run(cmd.Context(), cfg, a.release(), agent.Processes(program), logger)
		},
	}
	cmd.Flags().StringVar(&path, "config", "", "configuration file (required); see 'lockstep config example'")
	mustHave(cmd, "config")
	return cmd
}

// mustHave makes flags required. The error could only be that the command has no
// such flag.
func mustHave(cmd *cobra.Command, flags ...string) {
	for _, name := range flags {
		cmd.Flag(name).Annotations = map[string][]string{cobra.BashCompOneRequiredFlag: {"true"}}
	}
}

func (a *app) config() *cobra.Command {
	return parent("config", "Check and show configuration files",
		&cobra.Command{
			Use: "validate FILE", Short: "Check a configuration file", Args: cobra.ExactArgs(1),
			RunE: func(_ *cobra.Command, args []string) error {
				cfg, err := config.Load(args[0])
				if err != nil {
					return err
				}
				a.said("%s is valid: node %s of deployment %s, %d backends", args[0], cfg.Node, cfg.Deployment, len(cfg.Backends))
				return nil
			},
		},
		&cobra.Command{
			Use: "example", Short: "Print a complete, commented configuration", Args: cobra.NoArgs,
			RunE: func(*cobra.Command, []string) error {
				_, err := io.WriteString(a.Out, config.Example())
				return err
			},
		},
	)
}

// build is what version shows.
type build struct {
	Version  string `json:"version"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func (a *app) version() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			b := build{Version: a.release(), Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
			return a.show(b, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "lockstep %s (%s, %s)\n", b.Version, b.Go, b.Platform)
				return err
			})
		},
	}
}

// release is the version set at the build, else that of the module.
func (a *app) release() string {
	info, ok := debug.ReadBuildInfo()
	if a.Release == "dev" && ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return a.Release
}
