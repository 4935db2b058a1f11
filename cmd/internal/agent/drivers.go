package agent

import (
	"fmt"
	"net/url"
	"path/filepath"

	"github.com/lockstep-storage/lockstep/cmd/internal/config"
	"github.com/lockstep-storage/lockstep/driverhost"
	"github.com/lockstep-storage/lockstep/driverhost/process"
)

// Drivers makes the driver of one backend of a node.
type Drivers func(cfg config.Config, backend config.Backend) (driverhost.Backend, error)

// Processes has every driver run in a process of its own. Lockstep is the path of
// this program, which is the process of the drivers that it brings along.
func Processes(lockstep string) Drivers {
	return func(cfg config.Config, backend config.Backend) (driverhost.Backend, error) {
		command := []string{backend.Driver}
		if backend.Driver == config.DriverFile {
			command = []string{lockstep, "driver", config.DriverFile}
		}
		return Process(cfg, backend, command)
	}
}

// Process has the driver of one backend run in processes of command.
func Process(cfg config.Config, backend config.Backend, command []string) (driverhost.Backend, error) {
	targets, err := backend.ReplicationTargets()
	if err != nil {
		return driverhost.Backend{}, err
	}
	options, err := backend.Options.JSON()
	if err != nil {
		return driverhost.Backend{}, fmt.Errorf("options: %w", err)
	}
	open, err := process.New(process.Config{
		Command: command, Options: options, Kill: cfg.Lease.Kill,
		Lock: filepath.Join(cfg.DataDir, "drivers", url.PathEscape(backend.Name)+".lock"),
	})
	return driverhost.Backend{Open: open, Targets: targets}, err
}
