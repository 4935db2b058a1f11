package file_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lockstep-storage/lockstep/driverhost"
	"github.com/lockstep-storage/lockstep/driverhost/file"
)

// A step is one call, or something that happens between calls.
type step func(t *testing.T, b *backend, d *file.Driver) error

func creating(sizeGiB int64) step {
	return func(t *testing.T, _ *backend, d *file.Driver) error {
		_, err := d.CreateVolume(t.Context(), driverhost.VolumeRequest{
			Token: epoch(1), Volume: driverhost.Volume{ID: "v1", SizeGiB: sizeGiB},
		})
		return err
	}
}

func extending(sizeGiB int64) step {
	return func(t *testing.T, _ *backend, d *file.Driver) error {
		return d.ExtendVolume(t.Context(), driverhost.ExtendVolumeRequest{
			Token: epoch(1), Volume: driverhost.Volume{ID: "v1"}, NewSizeGiB: sizeGiB,
		})
	}
}

func deleting() step {
	return func(t *testing.T, _ *backend, d *file.Driver) error {
		return d.DeleteVolume(t.Context(), driverhost.VolumeRequest{Token: epoch(1), Volume: driverhost.Volume{ID: "v1"}})
	}
}

func snapshotRequest() driverhost.SnapshotRequest {
	return driverhost.SnapshotRequest{
		Token: epoch(1), Snapshot: driverhost.Snapshot{ID: "s1", Volume: driverhost.Volume{ID: "v1"}},
	}
}

func snapshotting() step {
	return func(t *testing.T, _ *backend, d *file.Driver) error {
		return d.CreateSnapshot(t.Context(), snapshotRequest())
	}
}

func unsnapshotting() step {
	return func(t *testing.T, _ *backend, d *file.Driver) error {
		return d.DeleteSnapshot(t.Context(), snapshotRequest())
	}
}

func writing(seed byte) step {
	return func(t *testing.T, b *backend, _ *file.Driver) error {
		write(t, b.volume(primary, "v1"), 0, pattern(seed))
		return nil
	}
}

// leaving is what a call that was killed may leave behind.
func leaving(elem ...string) step {
	return func(_ *testing.T, b *backend, _ *file.Driver) error {
		return os.WriteFile(b.path(primary, elem...), []byte("half"), 0o600)
	}
}

func losing(elem ...string) step {
	return func(_ *testing.T, b *backend, _ *file.Driver) error { return os.Remove(b.path(primary, elem...)) }
}

func TestCallsSucceedWhenWhatTheyAskForHolds(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		steps   []step
		size    int64 // of the volume at the end; 0: there is none
		content byte
		snap    byte // content of the snapshot at the end
	}{
		"create":                       {steps: []step{creating(1)}, size: gib},
		"create twice":                 {steps: []step{creating(1), writing(1), creating(1)}, size: gib, content: 1},
		"create after a kill":          {steps: []step{leaving("volumes", "volume-v1.tmp"), creating(1)}, size: gib},
		"create after a torn sidecar":  {steps: []step{leaving("meta", "volume-v1.tmp"), leaving("meta", "volume-v1"), creating(1)}, size: gib},
		"delete":                       {steps: []step{creating(1), deleting()}},
		"delete twice":                 {steps: []step{creating(1), deleting(), deleting()}},
		"delete what never was":        {steps: []step{deleting()}},
		"delete after a kill":          {steps: []step{creating(1), losing("volumes", "volume-v1"), deleting()}},
		"extend":                       {steps: []step{creating(1), writing(1), extending(3)}, size: 3 * gib, content: 1},
		"extend twice":                 {steps: []step{creating(1), extending(3), extending(3)}, size: 3 * gib},
		"extend to less":               {steps: []step{creating(3), extending(2)}, size: 3 * gib},
		"snapshot":                     {steps: []step{creating(1), writing(1), snapshotting(), writing(2)}, size: gib, content: 2, snap: 1},
		"snapshot twice":               {steps: []step{creating(1), writing(1), snapshotting(), writing(2), snapshotting()}, size: gib, content: 2, snap: 1},
		"snapshot after a kill":        {steps: []step{creating(1), writing(1), leaving("snapshots", "snapshot-s1.7.tmp"), snapshotting()}, size: gib, content: 1, snap: 1},
		"snapshot outlives its volume": {steps: []step{creating(1), writing(1), snapshotting(), deleting()}, snap: 1},
		"delete snapshot":              {steps: []step{creating(1), snapshotting(), unsnapshotting()}, size: gib},
		"delete snapshot twice":        {steps: []step{creating(1), snapshotting(), unsnapshotting(), unsnapshotting()}, size: gib},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBackend(t, secondary)
			d := b.open("node1", primary)
			for _, s := range tt.steps {
				must(t, s(t, b, d))
			}
			checkVolume(t, b.volume(primary, "v1"), tt.size, tt.content)
			if tt.snap == 0 {
				missing(t, b.path(primary, "snapshots", "snapshot-s1"))
			} else {
				checkVolume(t, b.path(primary, "snapshots", "snapshot-s1"), gib, tt.snap)
			}
			left, err := filepath.Glob(b.path(primary, "*", "*.tmp"))
			must(t, err)
			if len(left) != 0 {
				t.Errorf("left behind: %q", left)
			}
			for _, e := range b.journal(primary, "") {
				if e.Outcome != file.OutcomeOK || e.Node != "node1" || e.Host != "node1@files" || e.Epoch != 1 || e.MonoNS == 0 {
					t.Errorf("journal has %+v", e)
				}
			}
		})
	}
}

func checkVolume(t *testing.T, path string, size int64, content byte) {
	t.Helper()
	if size == 0 {
		missing(t, path)
		return
	}
	fi, err := os.Stat(path)
	must(t, err)
	if fi.Size() != size {
		t.Errorf("%s has %d bytes, want %d", path, fi.Size(), size)
	}
	if st, ok := fi.Sys().(*syscall.Stat_t); !ok || st.Blocks*512 > 1<<20 {
		t.Errorf("%s is not sparse", path)
	}
	want := make([]byte, block)
	if content != 0 {
		want = pattern(content)
	}
	if !bytes.Equal(readBlock(t, path, 0), want) {
		t.Errorf("%s has not the content %d", path, content)
	}
}

func TestCallsThatCannotSucceed(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		steps []step
		call  step
		want  string
	}{
		"create with another size":      {steps: []step{creating(1)}, call: creating(2), want: "exists with"},
		"extend what is not there":      {call: extending(2), want: "no such file"},
		"snapshot of what is not there": {call: snapshotting(), want: "no such file"},
		"no size":                       {call: creating(0), want: "size: 0 GiB: 1 to"},
		"negative size":                 {call: creating(-1), want: "size: -1 GiB: 1 to"},
		"size beyond all":               {call: creating(1 << 60), want: "1 to 1073741824 are allowed"},
		"extend beyond all":             {steps: []step{creating(1)}, call: extending(1 << 60), want: "1 to 1073741824 are allowed"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBackend(t, secondary)
			d := b.open("node1", primary)
			for _, s := range tt.steps {
				must(t, s(t, b, d))
			}
			if err := tt.call(t, b, d); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error is %v, want %q", err, tt.want)
			}
		})
	}
}

func TestHostileIDsTouchNothing(t *testing.T) {
	t.Parallel()
	b := newBackend(t, secondary)
	d := b.open("node1", primary)
	for _, id := range []string{"", ".", "..", "../x", "a/b", "a.tmp", "a\x00", "a\n", "ü", "*", strings.Repeat("a", 65), "/etc/passwd"} {
		v := driverhost.Volume{ID: id, SizeGiB: 1}
		_, err := d.CreateVolume(t.Context(), driverhost.VolumeRequest{Token: epoch(1), Volume: v})
		_, ferr := failover(t.Context(), d, epoch(2), secondary, v)
		for call, err := range map[string]error{
			"create":   err,
			"delete":   d.DeleteVolume(t.Context(), driverhost.VolumeRequest{Token: epoch(1), Volume: v}),
			"extend":   d.ExtendVolume(t.Context(), driverhost.ExtendVolumeRequest{Token: epoch(1), Volume: v, NewSizeGiB: 2}),
			"snapshot": d.CreateSnapshot(t.Context(), driverhost.SnapshotRequest{Token: epoch(1), Snapshot: driverhost.Snapshot{ID: id, Volume: replicated("v1")}}),
			"of":       d.CreateSnapshot(t.Context(), driverhost.SnapshotRequest{Token: epoch(1), Snapshot: driverhost.Snapshot{ID: "s1", Volume: v}}),
			"drop":     d.DeleteSnapshot(t.Context(), driverhost.SnapshotRequest{Token: epoch(1), Snapshot: driverhost.Snapshot{ID: id, Volume: v}}),
			"failover": ferr,
		} {
			if err == nil || !strings.Contains(err.Error(), "are allowed") {
				t.Errorf("%s of %q: %v", call, id, err)
			}
		}
	}
	if lines := b.journal(primary, ""); len(lines) != 0 {
		t.Errorf("journal has %+v", lines)
	}
}

func TestTokensOnlyGrow(t *testing.T) {
	t.Parallel()
	b := newBackend(t, secondary)
	d := b.open("node1", primary)
	must(t, d.FreezeBackend(t.Context(), epoch(2)))
	must(t, d.ThawBackend(t.Context(), epoch(2)))
	wantErr(t, d.FreezeBackend(t.Context(), epoch(1)), driverhost.ErrFenced)
	wantErr(t, d.ThawBackend(t.Context(), driverhost.Token{Epoch: 2, Claim: 99}), driverhost.ErrFenced)
	wantErr(t, b.open("node2", primary).FreezeBackend(t.Context(), epoch(1)), driverhost.ErrFenced)
	err := d.Demote(t.Context(), driverhost.DemoteRequest{Token: epoch(1), ID: "f", From: primary, Target: secondary})
	wantErr(t, err, driverhost.ErrFenced)
	_, err = failover(t.Context(), d, epoch(1), secondary) // the target has not seen epoch 2, the old site has
	wantErr(t, err, driverhost.ErrFenced)
	var got []string
	for _, e := range b.journal(primary, "") {
		got = append(got, e.Call+" "+e.Outcome)
	}
	want := "freeze ok, thaw ok, freeze fenced, thaw fenced, freeze fenced, demote fenced, fence fenced"
	if s := strings.Join(got, ", "); s != want {
		t.Errorf("journal is %s, want %s", s, want)
	}
}

func TestWaitingForTheLockEndsWithTheContext(t *testing.T) {
	t.Parallel()
	b := newBackend(t)
	d := b.open("node1", primary)
	f, err := os.OpenFile(b.path(primary, "lock"), os.O_RDWR, 0)
	must(t, err)
	must(t, syscall.Flock(int(f.Fd()), syscall.LOCK_EX))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	ended := make(chan error)
	for range 2 { // one waits for the other, which waits for the lock
		go func() {
			_, err := d.CreateVolume(ctx, driverhost.VolumeRequest{Token: epoch(1), Volume: replicated("v1")})
			ended <- err
		}()
	}
	for range 2 {
		wantErr(t, <-ended, context.DeadlineExceeded)
	}
	must(t, f.Close())
	missing(t, b.volume(primary, "v1"))
	create(t, d, epoch(1), replicated("v1"))
}

func TestJournalSurvivesATornLine(t *testing.T) {
	t.Parallel()
	b := newBackend(t)
	d := b.open("node1", primary)
	must(t, d.FreezeBackend(t.Context(), epoch(1)))
	f, err := os.OpenFile(b.path(primary, "journal"), os.O_WRONLY|os.O_APPEND, 0)
	must(t, err)
	_, err = f.WriteString(`{"wall":"2026-`)
	must(t, errors.Join(err, f.Close()))
	if got := b.journal(primary, ""); len(got) != 1 {
		t.Errorf("journal with a torn last line is %+v", got)
	}
	must(t, d.ThawBackend(t.Context(), epoch(1)))
	got := b.journal(primary, "")
	if len(got) != 3 || !got[1].Torn || got[2].Call != file.CallThaw {
		t.Errorf("journal with a torn line in the middle is %+v", got)
	}
	_, err = file.ReadJournal(b.path(primary, "none"))
	wantErr(t, err, fs.ErrNotExist)
}

func TestStatsOfASiteThatIsGone(t *testing.T) {
	t.Parallel()
	b := newBackend(t, secondary, third)
	d := b.open("node1", primary)
	create(t, d, epoch(1), replicated("v1"))
	b.synced(d, secondary)
	b.away(secondary)
	b.synced(d, third)
	stats, err := d.Stats(t.Context())
	must(t, err)
	if stats.TotalCapacityGiB <= 0 || stats.FreeCapacityGiB <= 0 || len(stats.Targets) != 2 {
		t.Fatalf("stats are %+v", stats)
	}
	if s := stats.Targets[0]; s.BackendID != secondary || s.Healthy || s.Lag >= 0 || s.Error == "" {
		t.Errorf("target that is gone: %+v", s)
	}
	if s := stats.Targets[1]; s.BackendID != third || !s.Healthy || s.Lag < 0 || s.LastSync.IsZero() {
		t.Errorf("target that follows: %+v", s)
	}
	b.away(primary)
	stats, err = d.Stats(t.Context())
	wantErr(t, err, fs.ErrNotExist)
	if len(stats.Targets) != 2 || stats.Targets[1].LastSync.IsZero() {
		t.Errorf("targets of a site that is gone: %+v", stats.Targets)
	}
}

// What a target knows of another source, or of a time before it was promoted, is
// no measure of how well it follows.
func TestStatsForgetEarlierSources(t *testing.T) {
	t.Parallel()
	b := newBackend(t, secondary, third)
	d := b.open("node1", primary)
	create(t, d, epoch(1), replicated("v1"))
	b.synced(d, secondary)
	b.synced(d, third)
	must(t, d.Close())
	res, err := failover(t.Context(), d, epoch(2), secondary, replicated("v1"))
	noneFailed(t, res, err)
	unknown := func(site string) {
		t.Helper()
		stats, err := d.Stats(t.Context())
		must(t, err)
		for _, s := range stats.Targets {
			if s.BackendID == site && (s.Healthy || !s.LastSync.IsZero() || s.Lag >= 0) {
				t.Errorf("target is %+v", s)
			}
		}
	}
	use(t, secondary, epoch(2), d)
	unknown(third)
	res, err = failover(t.Context(), d, epoch(3), primary, replicated("v1"))
	noneFailed(t, res, err)
	use(t, primary, epoch(3), d)
	unknown(secondary)
}

func TestReplicationTargets(t *testing.T) {
	t.Parallel()
	got := newBackend(t, third, secondary).open("node1", primary).ReplicationTargets()
	if len(got) != 2 || got[0] != secondary || got[1] != third {
		t.Errorf("targets are %q", got)
	}
}

// A volume made of another one, or of a snapshot, has its bytes and is its own from
// then on.
func TestCreateVolumeFrom(t *testing.T) {
	t.Parallel()
	b := newBackend(t, secondary)
	d := b.open("node1", primary)
	for _, s := range []step{creating(1), writing(1), snapshotting(), writing(2)} {
		must(t, s(t, b, d))
	}
	from := func(id string, size int64, volume, snapshot string) error {
		_, err := d.CreateVolumeFrom(t.Context(), driverhost.CopyRequest{
			Token: epoch(1), Volume: driverhost.Volume{ID: id, SizeGiB: size}, SourceVolume: volume, Snapshot: snapshot,
		})
		return err
	}
	must(t, from("clone", 1, "v1", ""))
	must(t, from("old", 2, "", "s1"))
	must(t, writing(3)(t, b, d))
	must(t, from("clone", 1, "v1", "")) // again: it is left as it is
	checkVolume(t, b.volume(primary, "clone"), gib, 2)
	checkVolume(t, b.volume(primary, "old"), 2*gib, 1)
	write(t, b.volume(primary, "old"), 0, pattern(4)) // a copy of what is read-only is not
	checkVolume(t, b.volume(primary, "v1"), gib, 3)
	for name, err := range map[string]error{
		"what is not there": from("x", 1, "v9", ""), "a hostile id": from("x", 1, "../v1", ""),
	} {
		if err == nil {
			t.Errorf("a volume of %s was made", name)
		}
	}
	left, err := filepath.Glob(b.path(primary, "*", "*.tmp"))
	must(t, err)
	if len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
}
