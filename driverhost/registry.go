package driverhost

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Registry holds the drivers that a node can run, by the names that
// configurations use.
type Registry map[string]Factory

// Factory makes a backend of a driver from its options. It opens nothing. Decode
// reads the options strictly into the driver's own configuration.
type Factory func(decode func(into any) error) (Backend, error)

// Backend is a configured driver that has not been opened.
type Backend struct {
	Open    Opener
	Targets []string // its replication targets, without the primary
}

// Backend makes a backend of the named driver.
func (r Registry) Backend(driver string, decode func(into any) error) (Backend, error) {
	factory, ok := r[driver]
	if !ok {
		names := slices.Sorted(maps.Keys(r))
		return Backend{}, fmt.Errorf("driver %q is not one of %s", driver, strings.Join(names, ", "))
	}
	return factory(decode)
}
