package process_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/lockstep-storage/lockstep/driverhost"
	"github.com/lockstep-storage/lockstep/driverhost/process"
)

// late is how late what the kernel does may be seen on a busy machine. It must leave
// room before K is over, which is what counts.
const late = killAfter / 2

// log is a log that a test can read while others write.
type log struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *log) logger() hclog.Logger {
	return hclog.New(&hclog.LoggerOptions{Name: "agent", Level: hclog.Debug, Output: l})
}

// opened opens a driver that is closed at the end of the test.
func opened(t *testing.T, cfg process.Config, l *lease, onStuck func(bool)) (driverhost.Process, *log) {
	t.Helper()
	open, err := process.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	lines := &log{}
	kept := l.keep() // a busy machine takes longer to start a process than some leases last
	d, err := open(t.Context(), request(l, onStuck, lines.logger()))
	kept()
	if err != nil {
		t.Fatalf("%v\n%s", err, lines)
	}
	p, ok := d.(driverhost.Process)
	if !ok {
		t.Fatalf("%T is no Process", d)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p, lines
}

func create(ctx context.Context, d driverhost.Driver, id string) error {
	_, err := d.CreateVolume(ctx, driverhost.VolumeRequest{Token: driverhost.Token{Epoch: 3, Claim: 9}, Volume: driverhost.Volume{ID: id, SizeGiB: 1}})
	return err
}

// line is a line of a driver's journal.
type line struct {
	at   time.Duration
	pid  int
	text string
}

func journal(t *testing.T, dir string) (lines []line) {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(dir, "journal"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	for text := range strings.SplitSeq(strings.TrimSpace(string(content)), "\n") {
		part := strings.SplitN(text, " ", 3)
		if len(part) < 3 {
			continue
		}
		at, _ := strconv.ParseInt(part[0], 10, 64)
		pid, _ := strconv.Atoi(part[1])
		lines = append(lines, line{time.Duration(at), pid, part[2]})
	}
	return lines
}

// await waits until a line with the text is in the journal.
func await(t *testing.T, dir, text string) line {
	t.Helper()
	var found line
	eventually(t, text, func() bool {
		for _, l := range journal(t, dir) {
			if strings.HasPrefix(l.text, text) {
				found = l
				return true
			}
		}
		return false
	})
	return found
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(20 * time.Second)
	for !holds() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("never: %s", what)
		}
	}
}

// soon returns what a channel brings.
func soon[T any](t *testing.T, what string, from <-chan T) (got T) {
	t.Helper()
	select {
	case got = <-from:
	case <-time.After(20 * time.Second):
		t.Fatalf("never: %s", what)
	}
	return got
}

// gone reports whether a process has ended; a zombie has.
func gone(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	after := stat[bytes.LastIndexByte(stat, ')')+1:]
	return bytes.HasPrefix(after, []byte(" Z")) || bytes.HasPrefix(after, []byte(" X"))
}

func now(t *testing.T) time.Duration {
	t.Helper()
	at, err := driverhost.BootTime()
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// endsInTime waits for the end of a process and checks that it came after the lease's
// end, and before K was over.
func endsInTime(t *testing.T, pid int, end time.Duration) {
	t.Helper()
	eventually(t, "the end of the process", func() bool { return gone(pid) })
	at := now(t) - end
	if at < 0 || at > killAfter/2+late {
		t.Errorf("the process ended %v after the lease, not within %v", at, killAfter/2+late)
	}
}

func TestCallsReachTheDriver(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d, lines := opened(t, config(dir, ""), leased(time.Minute), nil)
	got, err := d.CreateVolume(t.Context(), driverhost.VolumeRequest{
		Token: driverhost.Token{Epoch: 3, Claim: 9}, Volume: driverhost.Volume{ID: "v", SizeGiB: 1},
	})
	if err != nil || got.ProviderLocation != "v@3.9" {
		t.Errorf("create: %+v, %v", got, err)
	}
	v := driverhost.Volume{
		ID: "v", Name: "n", SizeGiB: 4, Replicated: true, ProviderID: "p", ProviderLocation: "l", ReplicationDriverData: "r",
	}
	snapshot := driverhost.SnapshotRequest{Token: driverhost.Token{Epoch: 3}, Snapshot: driverhost.Snapshot{ID: "s", Volume: v}}
	extend := driverhost.ExtendVolumeRequest{Token: driverhost.Token{Claim: 4}, Volume: v, NewSizeGiB: 5}
	if err := errors.Join(d.ExtendVolume(t.Context(), extend), d.CreateSnapshot(t.Context(), snapshot), d.DeleteSnapshot(t.Context(), snapshot)); err != nil {
		t.Error(err)
	}
	copier, ok := d.(driverhost.Copier)
	if !ok {
		t.Fatal("a driver in a process makes no copies")
	}
	for _, from := range []driverhost.CopyRequest{
		{Token: driverhost.Token{Epoch: 3}, Volume: v, SourceVolume: "source"}, {Token: driverhost.Token{Epoch: 3}, Volume: v, Snapshot: "s"},
	} {
		if got, err := copier.CreateVolumeFrom(t.Context(), from); err != nil || got.ProviderLocation != "copy" {
			t.Errorf("copy: %+v, %v", got, err)
		}
		await(t, dir, fmt.Sprintf("copy %+v", from))
	}
	for _, want := range []string{fmt.Sprintf("extend %+v", extend), fmt.Sprintf("snapshot %+v", snapshot), fmt.Sprintf("unsnapshot %+v", snapshot)} {
		await(t, dir, want)
	}
	stats, err := d.Stats(t.Context())
	if err == nil || err.Error() != "half measured" || !stats.At.Equal(time.Unix(1, 2)) || len(stats.Targets) != 1 ||
		stats.Targets[0].Lag != -1 || stats.Targets[0].Error != "not \ufffd copied" || !stats.Targets[0].LastSync.IsZero() {
		t.Errorf("stats: %+v, %v", stats, err)
	}
	eventually(t, "the driver's line in the log, with its level", func() bool {
		return strings.Contains(lines.String(), "[WARN]") && strings.Contains(lines.String(), "opened: site=default")
	})
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	await(t, dir, "close")
}

func TestAdoptionReachesTheDriver(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d, _ := opened(t, config(dir, ""), leased(time.Minute), nil)
	adopter, retyper := adopts(t, d)
	token, v := driverhost.Token{Epoch: 3, Claim: 9}, driverhost.Volume{ID: "v", Replicated: true}
	manage := driverhost.ManageVolumeRequest{Token: token, Volume: v, Reference: "lun"}
	if did, err := adopter.ManageVolume(t.Context(), manage); err != nil || did.SizeGiB != 3 || did.ProviderID != "p" {
		t.Errorf("manage: %+v, %v", did, err)
	}
	unmanage := driverhost.VolumeRequest{Token: token, Volume: v}
	retype := driverhost.RetypeVolumeRequest{Token: token, Volume: v, Replicated: true, Snapshots: []string{"a", "b"}}
	if err := errors.Join(adopter.UnmanageVolume(t.Context(), unmanage), retyper.RetypeVolume(t.Context(), retype)); err != nil {
		t.Error(err)
	}
	for _, want := range []string{fmt.Sprintf("manage %+v", manage), fmt.Sprintf("unmanage %+v", unmanage), fmt.Sprintf("retype %+v", retype)} {
		await(t, dir, want)
	}
	all, err := adopter.ManageableVolumes(t.Context())
	if err != nil || len(all) != 12_000 || all[11_999] != (driverhost.Manageable{Reference: fmt.Sprintf("lun-%0200d\ufffd", 11_999), SizeGiB: 1, Unsafe: "busy"}) {
		t.Errorf("list: %d, %v", len(all), err)
	}
}

func adopts(t *testing.T, d driverhost.Driver) (driverhost.Adopter, driverhost.Retyper) {
	t.Helper()
	adopter, ok := d.(driverhost.Adopter)
	retyper, also := d.(driverhost.Retyper)
	if !ok || !also {
		t.Fatal("a driver in a process adopts nothing")
	}
	return adopter, retyper
}

// A driver that cannot is not asked: a call that it does not know would end it.
func TestADriverThatAdoptsNothingSurvivesBeingAsked(t *testing.T) {
	t.Parallel()
	d, _ := opened(t, config(t.TempDir(), `, "lacks": true`), leased(time.Minute), nil)
	adopter, retyper := adopts(t, d)
	_, manage := adopter.ManageVolume(t.Context(), driverhost.ManageVolumeRequest{})
	_, list := adopter.ManageableVolumes(t.Context())
	for name, err := range map[string]error{"manage": manage, "list": list, "unmanage": adopter.UnmanageVolume(t.Context(), driverhost.VolumeRequest{})} {
		if !errors.Is(err, driverhost.ErrNoAdoption) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := retyper.RetypeVolume(t.Context(), driverhost.RetypeVolumeRequest{}); !errors.Is(err, driverhost.ErrNoRetype) {
		t.Errorf("retype: %v", err)
	}
	if err := create(t.Context(), d, "v"); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func TestErrorsKeepTheirMeaning(t *testing.T) {
	t.Parallel()
	d, _ := opened(t, config(t.TempDir(), ""), leased(time.Minute), nil)
	err := create(t.Context(), d, "failing")
	if !errors.Is(err, driverhost.ErrFenced) || !errors.Is(err, driverhost.ErrBusy) || errors.Is(err, driverhost.ErrUnableToFailOver) {
		t.Errorf("create: %v", err)
	}
	if err == nil || !strings.Contains(err.Error(), "array says \ufffd") {
		t.Errorf("create: %v", err)
	}
	if err := create(t.Context(), d, "huge"); err == nil || !strings.Contains(err.Error(), "more than the 1048576 that are allowed") {
		t.Errorf("too much said of a volume: %v", err)
	}
	aa, _ := d.(driverhost.ActiveActive)
	_, err = aa.Failover(t.Context(), driverhost.FailoverRequest{ID: "refused"})
	if !errors.Is(err, driverhost.ErrUnableToFailOver) || errors.Is(err, driverhost.ErrInvalidReplicationTarget) {
		t.Errorf("failover: %v", err)
	}
	if err := create(t.Context(), d, "v"); err != nil {
		t.Errorf("after failures: %v", err)
	}
}

func TestOptionalInterfacesAreThoseOfTheDriver(t *testing.T) {
	t.Parallel()
	has := func(d driverhost.Driver) [3]bool {
		_, aa := d.(driverhost.ActiveActive)
		_, demoter := d.(driverhost.Demoter)
		_, host := d.(driverhost.HostFailover)
		return [3]bool{aa, demoter, host}
	}
	d, _ := opened(t, config(t.TempDir(), ""), leased(time.Minute), nil)
	if got := has(d); got != [3]bool{true, true, false} {
		t.Errorf("a driver with failover and demote: %v", got)
	}
	d, _ = opened(t, config(t.TempDir(), `, "lacks": true`), leased(time.Minute), nil)
	if got := has(d); got != [3]bool{} {
		t.Errorf("a driver without: %v", got)
	}
}

func TestManyVolumes(t *testing.T) {
	t.Parallel()
	d, _ := opened(t, config(t.TempDir(), ""), leased(time.Minute), nil)
	aa, _ := d.(driverhost.ActiveActive)
	req := driverhost.FailoverRequest{ID: "f", From: "default", Target: "site-b"}
	for i := range 100_000 {
		v := driverhost.Volume{ID: strconv.Itoa(i), Name: "fails", SizeGiB: 1, Replicated: true}
		if i%10_000 == 0 {
			v.ReplicationDriverData = strings.Repeat("d", 900_000)
		}
		req.Volumes = append(req.Volumes, v)
	}
	got, err := aa.Failover(t.Context(), req)
	if err != nil || len(got.Volumes) != len(req.Volumes) {
		t.Fatalf("%d results for %d volumes: %v", len(got.Volumes), len(req.Volumes), err)
	}
	for i, r := range got.Volumes {
		if r.VolumeID != req.Volumes[i].ID || !r.Failed || r.ProviderLocation != req.Volumes[i].ReplicationDriverData {
			t.Fatalf("result %d is of %s, failed %v", i, r.VolumeID, r.Failed)
		}
	}
	if got, err = aa.Failover(t.Context(), driverhost.FailoverRequest{ID: "nothing", Volumes: req.Volumes}); err != nil || len(got.Volumes) != 0 {
		t.Errorf("no results: %d, %v", len(got.Volumes), err)
	}
	demoter, _ := d.(driverhost.Demoter)
	if err := demoter.Demote(t.Context(), driverhost.DemoteRequest{ID: "f", Volumes: req.Volumes}); err != nil {
		t.Error(err)
	}
}

// A call that is cancelled counts as running until the driver has answered.
func TestCancelledCallEndsWhenTheDriverHasAnswered(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d, _ := opened(t, config(dir, ""), leased(time.Minute), nil)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- create(ctx, d, "late") }()
	await(t, dir, "begin late")
	cancel()
	if err := <-ended; err == nil {
		t.Error("the call has succeeded")
	}
	await(t, dir, "cancelled")
	last := journal(t, dir)
	if text := last[len(last)-1].text; text != "end late" {
		t.Errorf("the call has ended, and the driver's last word is %q", text)
	}
}

func TestLeaseIsRenewedDuringACall(t *testing.T) {
	t.Parallel()
	l := leased(time.Second)
	d, _ := opened(t, config(t.TempDir(), ""), l, nil)
	defer l.keep()()
	_, err := d.CreateVolume(t.Context(), driverhost.VolumeRequest{Volume: driverhost.Volume{ID: "long", SizeGiB: 2500}})
	if err != nil {
		t.Errorf("a call of 2.5 leases: %v", err)
	}
}

func TestCallsEndWithTheLease(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := leased(time.Second)
	d, _ := opened(t, config(dir, ""), l, nil)
	work := make(chan error, 1)
	go func() { work <- create(t.Context(), d, "work") }()
	if err := create(t.Context(), d, "wait"); !errors.Is(err, driverhost.ErrLeaseEnded) && !errors.Is(err, driverhost.ErrDriverLost) {
		t.Errorf("a call over the end of its lease: %v", err)
	}
	if err := <-work; !errors.Is(err, driverhost.ErrLeaseEnded) && !errors.Is(err, driverhost.ErrDriverLost) {
		t.Errorf("work over the end of its lease: %v", err)
	}
	if err := create(t.Context(), d, "v"); !errors.Is(err, driverhost.ErrLeaseEnded) {
		t.Errorf("a call without a lease: %v", err)
	}
	<-d.Lost()
	endsInTime(t, journal(t, dir)[0].pid, l.end())
	for _, line := range journal(t, dir) {
		if line.text == "request" && line.at > l.end()+late/4 {
			t.Errorf("a request to the storage %v after the lease", line.at-l.end())
		}
	}
}

// A lease that has lapsed is not revived by the next: calls of the old one end.
func TestCallDoesNotOutliveItsLease(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := leased(500 * time.Millisecond)
	d, _ := opened(t, config(dir, ""), l, nil)
	ended := make(chan error, 1)
	go func() { ended <- create(t.Context(), d, "wait") }()
	await(t, dir, "begin wait")
	eventually(t, "the end of the lease", func() bool { until, _ := l.Deadline(); return until == 0 })
	l.renew(time.Minute)
	if err := <-ended; !errors.Is(err, driverhost.ErrLeaseEnded) {
		t.Errorf("a call over a gap between leases: %v", err)
	}
}
