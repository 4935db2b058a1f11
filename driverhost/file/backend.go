package file

import (
	"context"

	"github.com/lockstep-storage/lockstep/driverhost"
)

// Open starts a driver whose options decode reads strictly into a [Config]. It is for
// a process that serves this driver.
func Open(ctx context.Context, req driverhost.OpenRequest, decode func(into any) error) (driverhost.Driver, error) {
	cfg := DefaultConfig()
	if err := decode(&cfg); err != nil {
		return nil, err
	}
	open, err := New(cfg)
	if err != nil {
		return nil, err
	}
	return open(ctx, req)
}
