package bench_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/lockstep-storage/lockstep/api/client"
)

// BenchmarkFailover measures from the request until the last member has switched,
// as a client sees it.
func BenchmarkFailover(b *testing.B) {
	for _, volumes := range []int{0, 10_000} {
		b.Run(fmt.Sprintf("volumes=%d", volumes), func(b *testing.B) {
			d := start(b, "")
			d.fill(b, volumes)
			targets := []string{"site-b", "default"}
			var took []time.Duration
			b.ResetTimer()
			for i := range b.N {
				took = append(took, d.failover(b, targets[i%2]))
			}
			b.StopTimer()
			report(b, "ms-median", median(took))
			report(b, "ms-max", slices.Max(took))
			report(b, "ms-fsync-baseline", d.fsync(b))
		})
	}
}

// failover switches the cluster and returns how long it took.
func (d *deployment) failover(b *testing.B, target string) time.Duration {
	b.Helper()
	began := time.Now()
	f, err := d.client.RequestFailover(b.Context(), client.FailoverRequest{
		Cluster: clusterName, BackendID: target, Mode: client.Forced,
	}, "")
	for err == nil && !f.Finished() {
		f, err = d.client.WaitFailover(b.Context(), f.ID, f.Index, 30*time.Second)
	}
	took := time.Since(began)
	if err != nil || f.Phase != client.PhaseDone || f.Partial() {
		b.Fatalf("failover to %s: %+v, %v", target, f, err)
	}
	return took
}

// fill creates replicated volumes and waits until they are available.
func (d *deployment) fill(b *testing.B, n int) {
	b.Helper()
	if err := d.client.EnsureVolumeType(b.Context(), "replicated", map[string]string{"replication_enabled": "<is> True"}); err != nil {
		b.Fatal(err)
	}
	if err := d.client.SetDefaultQuota(b.Context(), map[string]int64{"volumes": -1, "gigabytes": -1}); err != nil {
		b.Fatal(err)
	}
	d.each(b, n, 64, func(i int) error {
		_, err := d.client.CreateVolume(b.Context(), client.VolumeRequest{Name: fmt.Sprint("v", i), Size: 1, VolumeType: "replicated"})
		return err
	})
	for {
		creating := false
		for v, err := range d.client.Volumes(b.Context()) {
			if err != nil {
				b.Fatal(err)
			}
			creating = creating || v.Status == "creating"
		}
		if !creating {
			return
		}
	}
}

// each calls fn n times from a number of clients at once.
func (d *deployment) each(b *testing.B, n, clients int, fn func(i int) error) {
	b.Helper()
	work := make(chan int)
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			for i := range work {
				if err := fn(i); err != nil {
					b.Error(err)
				}
			}
		})
	}
	for i := range n {
		work <- i
	}
	close(work)
	wg.Wait()
}

// BenchmarkCommit measures commits through the HTTP API: each request is one
// entry in the log, answered when the node that was asked has applied it.
func BenchmarkCommit(b *testing.B) {
	d := start(b, "")
	for _, clients := range []int{1, 64, 256} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			began := time.Now()
			d.each(b, b.N, clients, func(i int) error {
				return d.client.DisableService(b.Context(), "node1@instant", fmt.Sprint("reason ", i))
			})
			b.ReportMetric(float64(b.N)/time.Since(began).Seconds(), "commits/s")
			report(b, "ms-fsync-baseline", d.fsync(b))
		})
	}
}

// fsync is the baseline: appending 4 KiB to a file and syncing it, on the disk
// that the deployment writes to.
func (d *deployment) fsync(tb testing.TB) time.Duration {
	tb.Helper()
	f, err := os.Create(filepath.Join(d.dir, "baseline"))
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	var took []time.Duration
	for range 200 {
		began := time.Now()
		if _, err := f.Write(make([]byte, 4096)); err != nil {
			tb.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			tb.Fatal(err)
		}
		took = append(took, time.Since(began))
	}
	return median(took)
}

func median(d []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(d))
	return sorted[len(sorted)/2]
}

func report(b *testing.B, name string, d time.Duration) {
	b.Helper()
	b.ReportMetric(float64(d.Microseconds())/1000, name)
}
