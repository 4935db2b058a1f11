package freeport_test

import (
	"context"
	"net"
	"strconv"
	"sync"
	"testing"

	"github.com/lockstep-storage/lockstep/scripts/freeport"
)

func TestFindNeverReturnsAPortTwice(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	found := map[int]bool{}
	var searches sync.WaitGroup
	for range 20 {
		searches.Go(func() {
			const n = 9
			base, err := freeport.Find(t.Context(), n)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Error(err)
				return
			}
			for port := base; port < base+n; port++ {
				if found[port] {
					t.Errorf("port %d was found twice", port)
				}
				found[port] = true
			}
		})
	}
	searches.Wait()
}

func TestFindPassesOverPortsInUse(t *testing.T) {
	t.Parallel()
	base, err := freeport.Find(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	// Whoever searches from there on meets these ports next.
	taken := map[int]bool{}
	for port := base + 1; port < base+4; port++ {
		packets, err := new(net.ListenConfig).ListenPacket(t.Context(), "udp", "127.0.0.1:"+strconv.Itoa(port))
		if err != nil {
			continue // in use, as it should be
		}
		t.Cleanup(func() { _ = packets.Close() })
		taken[port] = true
	}
	for range 8 {
		base, err := freeport.Find(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		if taken[base] {
			t.Errorf("port %d was found, though it is in use", base)
		}
	}
}

func TestFindGivesUp(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if base, err := freeport.Find(ctx, 3000); err == nil {
		t.Errorf("got %d after the end of the context, want an error", base)
	}
}
