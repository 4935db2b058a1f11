package file

import (
	"github.com/lockstep-storage/lockstep/driverhost"
)

// Backend is the [driverhost.Factory] of this driver: its options are a [Config].
func Backend(decode func(into any) error) (driverhost.Backend, error) {
	cfg := DefaultConfig()
	if err := decode(&cfg); err != nil {
		return driverhost.Backend{}, err
	}
	open, err := New(cfg)
	if err != nil {
		return driverhost.Backend{}, err
	}
	return driverhost.Backend{Open: open, Targets: cfg.Targets()}, nil
}
