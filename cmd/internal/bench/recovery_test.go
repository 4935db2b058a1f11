package bench_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/lockstep-storage/lockstep/api/client"
	"github.com/lockstep-storage/lockstep/cmd/internal/config"
)

var (
	recoveryRuns = flag.Int("recovery", 0, "how often to measure each recovery; 0 for not at all")
	recoveryJSON = flag.String("recovery-json", "", "a file to write the measured times to")
)

// TestRecovery measures how long it takes to go on after kill -9 of a process, with
// the default configuration, from the kill on. See make recovery.
func TestRecovery(t *testing.T) {
	if *recoveryRuns == 0 {
		t.Skip("only when it is asked for, with -recovery")
	}
	d := start(t, t.ArtifactDir())
	disk := d.watchDisk(t)
	if err := d.client.SetDefaultQuota(t.Context(), map[string]int64{"volumes": -1, "gigabytes": -1}); err != nil {
		t.Fatal(err) // every run may create a volume
	}
	lease := config.Default().Lease
	out := recoveries{Lease: lease.Duration.String(), Grace: lease.Grace.String(), Runs: *recoveryRuns}
	out.Baseline.FsyncMS, out.Baseline.RoundTripMS = ms(d.fsync(t)), ms(d.roundTrip(t))
	for _, of := range []struct {
		name    string
		measure func(*testing.T, int) time.Duration
	}{
		{"leader killed: next commit", d.nextCommit},
		{"leader and executor killed right after the request: done", d.finish("", "")},
		{"leader and executor killed while draining: done", d.finish(holdCreate, client.PhaseDraining)},
		{"leader and executor killed in the driver's call: done", d.finish(holdFailover, client.PhasePromoting)},
		{"leader killed while switching: done", d.finish(holdCompleted, client.PhaseSwitching)},
		{"member killed: promotion starts", d.promotion},
	} {
		var runs []run
		for i := range *recoveryRuns {
			disk.slowest()
			began := time.Now()
			took := of.measure(t, i)
			runs = append(runs, run{Began: began, MS: ms(took), FsyncMS: ms(disk.slowest())})
			fmt.Fprintf(os.Stderr, "%s  %s: %d of %d: %.0f ms\n", began.Format(time.TimeOnly), of.name, i+1, *recoveryRuns, ms(took))
			d.revive(t)
		}
		out.Recoveries = append(out.Recoveries, distributionOf(of.name, runs))
	}
	out.print(t)
}

// recoveries is what is printed for people, and written for programs.
type recoveries struct {
	Runs     int    `json:"runs"`
	Lease    string `json:"lease_duration"`
	Grace    string `json:"lease_grace"`
	Baseline struct {
		FsyncMS     float64 `json:"fsync_p50_ms"`
		RoundTripMS float64 `json:"loopback_http_p50_ms"`
	} `json:"baseline"`
	Recoveries []distribution `json:"recoveries"`
}

// run is one measurement, with the slowest fsync from its beginning to its end: what
// the machine itself may have added.
type run struct {
	Began   time.Time `json:"began"`
	MS      float64   `json:"ms"`
	FsyncMS float64   `json:"slowest_fsync_ms"`
}

// distribution is of times in milliseconds.
type distribution struct {
	Name   string  `json:"name"`
	Min    float64 `json:"min_ms"`
	Median float64 `json:"median_ms"`
	P90    float64 `json:"p90_ms"`
	Max    float64 `json:"max_ms"`
	Fsync  float64 `json:"slowest_fsync_ms"` // of all runs
	Runs   []run   `json:"runs"`
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func distributionOf(name string, runs []run) distribution {
	d := distribution{Name: name, Runs: runs}
	took := make([]float64, len(runs))
	for i, r := range runs {
		took[i] = r.MS
		d.Fsync = max(d.Fsync, r.FsyncMS)
	}
	slices.Sort(took)
	n := len(took)
	d.Min, d.Median, d.P90, d.Max = took[0], took[n/2], took[(9*n+9)/10-1], took[n-1]
	return d
}

func (r recoveries) print(t *testing.T) {
	t.Helper()
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "ms, from the kill\tmin\tmedian\tp90\tmax\tslowest fsync\t")
	for _, d := range r.Recoveries {
		fmt.Fprintf(w, "%s\t%.0f\t%.0f\t%.0f\t%.0f\t%.1f\t\n", d.Name, d.Min, d.Median, d.P90, d.Max, d.Fsync)
	}
	_ = w.Flush() // into memory
	fmt.Printf("%d runs, lease %s, grace %s; fsync %.2f ms, round trip over HTTP %.2f ms (medians)\n%s",
		r.Runs, r.Lease, r.Grace, r.Baseline.FsyncMS, r.Baseline.RoundTripMS, text.String())
	if *recoveryJSON == "" {
		return
	}
	raw, err := json.MarshalIndent(r, "", "  ")
	if err == nil {
		err = os.WriteFile(*recoveryJSON, append(raw, '\n'), 0o600)
	}
	if err != nil {
		t.Error(err)
	}
}

// leader returns the number of the node that leads.
func (d *deployment) leader(t *testing.T) int {
	t.Helper()
	st, err := d.client.Status(t.Context())
	i := slices.IndexFunc([]int{0, 1, 2}, func(i int) bool { return nodeName(i) == st.Leader })
	if err != nil || i < 0 {
		t.Fatalf("leader %q, %v", st.Leader, err)
	}
	return i
}

// revive starts who is dead, and waits until all serve where they did at first.
func (d *deployment) revive(t *testing.T) {
	t.Helper()
	for i, cmd := range d.nodes {
		if cmd == nil {
			d.run(t, i)
		}
	}
	d.await(t)
	if cl, err := d.client.Cluster(t.Context(), clusterName); err != nil || cl.ActiveBackendID != "default" {
		d.failOver(t, "default", "", nil)
		d.await(t)
	}
}

// nextCommit kills the leader and commits at another node.
func (d *deployment) nextCommit(t *testing.T, run int) time.Duration {
	t.Helper()
	d.kill(d.leader(t))
	killed := time.Now()
	if err := d.client.DisableService(t.Context(), nodeName(0)+"@instant", fmt.Sprint("run ", run)); err != nil {
		t.Fatal(err)
	}
	took := time.Since(killed)
	if err := d.client.EnableService(t.Context(), nodeName(0)+"@instant"); err != nil {
		t.Fatal(err)
	}
	return took
}

// finish returns a measurement of a failover whose leader is killed when it has
// reached a phase, in which the drivers are held until then.
func (d *deployment) finish(held, phase string) func(*testing.T, int) time.Duration {
	return func(t *testing.T, run int) time.Duration {
		t.Helper()
		release := d.holding(t, held)
		defer release()
		leader := d.leader(t)
		if held == holdCreate { // a call in flight that the leader's own member has to wait for
			d.create(t, leader, run)
		}
		var killed time.Time
		d.failOver(t, "site-b", phase, func() {
			d.kill(leader)
			killed = time.Now()
			release()
		})
		return time.Since(killed)
	}
}

// promotion kills a member that does not lead, and waits until a failover that is
// asked for at once promotes.
func (d *deployment) promotion(t *testing.T, _ int) time.Duration {
	t.Helper()
	release := d.holding(t, holdFailover)
	defer release()
	d.kill((d.leader(t) + 1) % 3)
	killed := time.Now()
	var took time.Duration
	d.failOver(t, "site-b", client.PhasePromoting, func() {
		took = time.Since(killed)
		release()
	})
	return took
}

// holding has the drivers hold a call until release is called.
func (d *deployment) holding(t *testing.T, name string) (release func()) {
	t.Helper()
	if name == "" {
		return func() {}
	}
	path := filepath.Join(d.dir, name)
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return func() { _ = os.Remove(path) } // it may have been released
}

// create has the member of a node make a call to its driver.
func (d *deployment) create(t *testing.T, node, run int) {
	t.Helper()
	c, err := client.New([]string{"127.0.0.1:" + d.ports[3*node]}, client.Options{})
	if err == nil {
		_, err = c.CreateVolume(t.Context(), client.VolumeRequest{Name: fmt.Sprint("held", run), Size: 1})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// failOver asks for a failover and waits until it is done. When it has reached a
// phase, or been accepted if none is given, then is called.
func (d *deployment) failOver(t *testing.T, target, phase string, then func()) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	f, err := d.client.RequestFailover(ctx, client.FailoverRequest{Cluster: clusterName, BackendID: target, Mode: client.Forced}, "")
	for err == nil && phase != "" && f.Phase != phase && !f.Finished() {
		f, err = d.client.WaitFailover(ctx, f.ID, f.Index, 30*time.Second)
	}
	if err == nil && then != nil {
		then()
	}
	for err == nil && !f.Finished() {
		f, err = d.client.WaitFailover(ctx, f.ID, f.Index, 30*time.Second)
	}
	if err != nil || f.Phase != client.PhaseDone {
		t.Fatalf("failover to %s: %+v, %v", target, f, err)
	}
}

// roundTrip is the baseline of the network: a request that needs nobody else.
func (d *deployment) roundTrip(t *testing.T) time.Duration {
	t.Helper()
	var took []time.Duration
	for range 200 {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://127.0.0.1:"+d.ports[0]+"/livez", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if err := resp.Body.Close(); err != nil {
			t.Fatal(err)
		}
		took = append(took, time.Since(began))
	}
	return median(took)
}
