// Package freeport finds ports for the deployments that tests and tools start on
// one machine. No node of a product's deployment needs it: those are configured.
package freeport

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync/atomic"
)

// Linux gives ports from 32768 on to outgoing connections (ip_local_port_range), so
// one of those may be taken between being found and being used, or while its user is
// restarted. The ports below are taken only by those who ask for them.
const first, last = 10_000, 32_000

// searched is how far this process has come, so that it never returns a port twice.
// It begins somewhere, since others may search at once.
//
//nolint:gochecknoglobals // the ports are of the machine, and so of the whole process
var searched = func() *atomic.Int64 {
	var n atomic.Int64
	n.Store(rand.Int64N(last - first))
	return &n
}()

// Find returns the first of n consecutive ports on which nobody listens on loopback,
// with TCP or UDP. No two calls of one process return the same ports until all of
// some 20,000 have been looked at. The error of the last try is returned when there
// are none.
func Find(ctx context.Context, n int) (int, error) {
	err := ctx.Err()
	for range (last - first) / n {
		if ctx.Err() != nil {
			break
		}
		base := first + (int(searched.Add(int64(n)))-n)%(last-first)
		if base+n > last {
			continue
		}
		if err = free(ctx, base, n); err == nil {
			return base, nil
		}
	}
	return 0, fmt.Errorf("no %d free ports from %d to %d: %w", n, first, last, err)
}

func free(ctx context.Context, base, n int) error {
	var lc net.ListenConfig
	for port := base; port < base+n; port++ {
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		l, err := lc.Listen(ctx, "tcp", addr)
		if err != nil {
			return err
		}
		packets, err := lc.ListenPacket(ctx, "udp", addr)
		if err != nil {
			return errors.Join(err, l.Close())
		}
		if err := errors.Join(l.Close(), packets.Close()); err != nil {
			return err
		}
	}
	return nil
}
