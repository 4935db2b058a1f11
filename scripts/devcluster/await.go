package devcluster

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Patience is how long to wait for anything that must happen.
const Patience = 40 * time.Second

// look is how often Await looks.
const look = 20 * time.Millisecond

type hopeless struct{ error }

func (h *hopeless) Unwrap() error { return h.error }

// Hopeless marks an error that waiting does not cure.
func Hopeless(err error) error { return &hopeless{err} }

// Await looks until check returns nil. The last reason why it does not is the error.
func Await(ctx context.Context, what string, check func() error) error {
	ctx, cancel := context.WithTimeout(ctx, Patience)
	defer cancel()
	ticker := time.NewTicker(look)
	defer ticker.Stop()
	for {
		err := check()
		if err == nil {
			return nil
		}
		if end, ok := errors.AsType[*hopeless](err); ok {
			return end.error
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("waited for: %s\n got: %w", what, err)
		}
	}
}
