package file_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lockstep-storage/lockstep/driverhost"
	"github.com/lockstep-storage/lockstep/driverhost/file"
)

func (b *backend) total(site string) int64 {
	b.t.Helper()
	n, err := file.SyncTotal(b.path(site, "synced"))
	must(b.t, err)
	return n
}

func TestOnlyChangedBlocksAreCopied(t *testing.T) {
	t.Parallel()
	b := newBackend(t, secondary)
	d := b.open("node1", primary)
	create(t, d, epoch(1), replicated("v1"))
	create(t, d, epoch(1), driverhost.Volume{ID: "plain", SizeGiB: 1})
	source := b.volume(primary, "v1")
	for i := range 8 {
		write(t, source, int64(i)*block, pattern(byte(i)))
	}
	b.synced(d, secondary)
	missing(t, b.replica(secondary, "plain"))
	if got := mode(t, b.replica(secondary, "v1")); got != 0o400 {
		t.Errorf("mode of the replica is %o", got)
	}
	tests := []struct {
		what   string
		change func()
		copied int64
	}{
		{"nothing", func() {}, 0},
		{"one block", func() { write(t, source, 2*block, pattern(50)) }, block},
		{"one byte", func() { write(t, source, 3*block+7, []byte{1}) }, block},
		{"the same bytes", func() { write(t, source, 2*block, pattern(50)) }, 0},
		{"zeros", func() { write(t, source, 4*block, make([]byte, block)) }, 0},
		{"the end", func() { write(t, source, gib-1, []byte{1}) }, block},
		{"a longer volume", func() {
			must(t, d.ExtendVolume(t.Context(), driverhost.ExtendVolumeRequest{
				Token: epoch(1), Volume: replicated("v1"), NewSizeGiB: 2,
			}))
		}, 0},
		{"across a border", func() { write(t, source, 6*block-1, []byte{1, 1}) }, 2 * block},
	}
	for _, tt := range tests {
		before := b.total(secondary)
		tt.change()
		b.synced(d, secondary)
		same(t, source, b.replica(secondary, "v1"))
		if got := b.total(secondary) - before; got != tt.copied {
			t.Errorf("%s: %d bytes copied, want %d", tt.what, got, tt.copied)
		}
	}
}

func TestDeletionsReachATargetThatWasAway(t *testing.T) {
	t.Parallel()
	b := newBackend(t, secondary, third)
	d := b.open("node1", primary)
	v := replicated("v1")
	create(t, d, epoch(1), v)
	must(t, d.CreateSnapshot(t.Context(), driverhost.SnapshotRequest{Token: epoch(1), Snapshot: driverhost.Snapshot{ID: "s1", Volume: v}}))
	b.synced(d, secondary)
	b.synced(d, third)
	back := b.away(third)
	must(t, d.DeleteVolume(t.Context(), driverhost.VolumeRequest{Token: epoch(1), Volume: v}))
	b.synced(d, secondary)
	missing(t, b.replica(secondary, "v1"))
	back()
	b.synced(d, third)
	missing(t, b.replica(third, "v1"))
	for _, id := range []string{secondary, third} {
		left, err := os.ReadDir(b.path(primary, "deleted", id))
		must(t, err)
		if len(left) != 0 {
			t.Errorf("%d notes are left for %s", len(left), id)
		}
		_, err = os.Stat(b.path(id, "replicas", "snapshot-s1"))
		must(t, err) // a volume's deletion is not that of its snapshot
	}
}

func TestAnEmptySourceDeletesNoReplica(t *testing.T) {
	t.Parallel()
	b := newBackend(t, secondary)
	d := b.open("node1", primary)
	create(t, d, epoch(1), replicated("v1"))
	b.synced(d, secondary)
	for _, dir := range []string{"volumes", "meta"} {
		must(t, os.RemoveAll(b.path(primary, dir)))
		must(t, os.Mkdir(b.path(primary, dir), 0o700))
	}
	b.synced(d, secondary)
	_, err := os.Stat(b.replica(secondary, "v1"))
	must(t, err)
}

func TestAShrunkSourceIsNotReplicated(t *testing.T) {
	t.Parallel()
	b := newBackend(t, secondary)
	d := b.open("node1", primary)
	create(t, d, epoch(1), replicated("v1"))
	write(t, b.volume(primary, "v1"), 0, pattern(1))
	b.synced(d, secondary)
	must(t, os.Truncate(b.volume(primary, "v1"), 0))
	eventually(t, "the target is reported", func() bool {
		stats, err := d.Stats(t.Context())
		must(t, err)
		return !stats.Targets[0].Healthy && strings.Contains(stats.Targets[0].Error, "shrink")
	})
	if _, size := head(t, b.replica(secondary, "v1")); size != gib {
		t.Errorf("replica has %d bytes", size)
	}
}

func TestSnapshotsFollowTheirVolume(t *testing.T) {
	t.Parallel()
	b := newBackend(t, secondary)
	d := b.open("node1", primary)
	v := replicated("v1")
	create(t, d, epoch(1), v)
	write(t, b.volume(primary, "v1"), 0, pattern(1))
	sn := driverhost.SnapshotRequest{Token: epoch(1), Snapshot: driverhost.Snapshot{ID: "s1", Volume: v}}
	must(t, d.CreateSnapshot(t.Context(), sn))
	write(t, b.volume(primary, "v1"), 0, pattern(2))
	create(t, d, epoch(1), replicated("v2")) // not listed below
	other := driverhost.Snapshot{ID: "s2", Volume: replicated("v2")}
	must(t, d.CreateSnapshot(t.Context(), driverhost.SnapshotRequest{Token: epoch(1), Snapshot: other}))
	b.synced(d, secondary)
	b.away(primary)
	res, err := failover(t.Context(), d, epoch(2), secondary, v)
	noneFailed(t, res, err)
	checkVolume(t, b.volume(secondary, "v1"), gib, 2)
	checkVolume(t, b.path(secondary, "snapshots", "snapshot-s1"), gib, 1)
	missing(t, b.path(secondary, "snapshots", "snapshot-s2"))
	use(t, secondary, epoch(2), d)
	sn.Token = epoch(2)
	must(t, d.DeleteSnapshot(t.Context(), sn))
	missing(t, b.path(secondary, "snapshots", "snapshot-s1"))
}

// Two halves of a deployment that do not see each other's site both see the
// third. It follows the later epoch, whatever the other half copies.
func TestAFencedSourceOverwritesNothing(t *testing.T) {
	t.Parallel()
	b := newBackend(t, secondary, third)
	old := b.open("node1", primary)
	v := replicated("v1")
	create(t, old, epoch(1), v)
	b.synced(old, secondary)
	b.synced(old, third)
	must(t, old.Close())

	left, right := *b, *b
	left.cfg.Sites = map[string]string{primary: b.path(primary), secondary: b.path(secondary) + "-x", third: b.path(third)}
	right.cfg.Sites = map[string]string{primary: b.path(primary) + "-x", secondary: b.path(secondary), third: b.path(third)}
	stale, late := left.open("node1", primary), right.open("node2", primary)
	res, err := failover(t.Context(), late, epoch(2), secondary, v)
	noneFailed(t, res, err)
	use(t, secondary, epoch(2), late)
	write(t, b.volume(secondary, "v1"), 0, pattern(2))
	right.synced(late, third)
	write(t, b.volume(primary, "v1"), 0, pattern(1))
	eventually(t, "the stale source is refused", func() bool {
		stats, err := stale.Stats(t.Context())
		must(t, err)
		return strings.Contains(stats.Targets[1].Error, driverhost.ErrFenced.Error())
	})
	right.synced(late, third)
	same(t, b.volume(secondary, "v1"), b.replica(third, "v1"))

	whole := b.open("node3", secondary) // sees both: the old site is fenced and follows
	b.synced(whole, primary)
	same(t, b.volume(secondary, "v1"), b.replica(primary, "v1"))
	_, err = stale.CreateVolume(t.Context(), driverhost.VolumeRequest{Token: epoch(1), Volume: v})
	wantErr(t, err, driverhost.ErrFenced)
}

func TestARoundEndsWhenItsSourceIsFenced(t *testing.T) {
	t.Parallel()
	b := newBackend(t, secondary)
	d := b.open("node1", primary)
	must(t, d.Close())
	create(t, d, epoch(2), replicated("v1"))
	wantErr(t, d.Round(t.Context(), primary, secondary, epoch(1)), driverhost.ErrFenced)
	missing(t, b.replica(secondary, "v1"))
	must(t, d.Round(t.Context(), primary, secondary, epoch(2)))
	same(t, b.volume(primary, "v1"), b.replica(secondary, "v1"))
}

func TestDamagedSidecarHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	b := newBackend(t, secondary)
	d := b.open("node1", primary)
	create(t, d, epoch(1), replicated("v1"))
	must(t, os.WriteFile(b.path(primary, "meta", "volume-v2"), []byte("{"), 0o600))
	create(t, d, epoch(1), replicated("v3"))
	eventually(t, "the damage is reported and the rest copied", func() bool {
		stats, err := d.Stats(t.Context())
		must(t, err)
		_, err = os.Stat(b.replica(secondary, "v3"))
		return err == nil && strings.Contains(stats.Targets[0].Error, "volume-v2: damaged sidecar")
	})
}

func TestHolesAreNotRead(t *testing.T) {
	t.Parallel()
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	must(t, err)
	const size = 100*block + 10
	must(t, f.Truncate(size))
	write(t, f.Name(), 2*block, pattern(1))
	write(t, f.Name(), 50*block, make([]byte, block)) // data, but zeros
	write(t, f.Name(), 60*block-1, []byte{1, 1})
	write(t, f.Name(), size-1, []byte{1})
	got, err := file.EachBlock(t.Context(), f, size)
	must(t, errors.Join(err, f.Close()))
	if want := []int64{2, 59, 60, 100}; !slices.Equal(got, want) {
		t.Errorf("blocks are %v, want %v", got, want)
	}
}

// The map that a site has from its time as a replica is not of what was written
// to it when it was in use.
func TestMapsAreForgottenAfterASiteWasInUse(t *testing.T) {
	t.Parallel()
	b := newBackend(t, secondary)
	d := b.open("node1", primary)
	v := replicated("v1")
	create(t, d, epoch(1), v)
	write(t, b.volume(primary, "v1"), 0, pattern(1))
	b.synced(d, secondary)
	res, err := planned(t.Context(), d, epoch(2), primary, secondary, v)
	noneFailed(t, res, err)
	use(t, secondary, epoch(2), d)
	write(t, b.volume(secondary, "v1"), 0, pattern(2))
	res, err = planned(t.Context(), d, epoch(3), secondary, primary, v)
	noneFailed(t, res, err)
	checkVolume(t, b.volume(primary, "v1"), gib, 2)
	use(t, primary, epoch(3), d)
	write(t, b.volume(primary, "v1"), 0, pattern(1))
	b.synced(d, secondary)
	checkVolume(t, b.replica(secondary, "v1"), gib, 1)
}

// Two writes in one tick of the clock leave the same time of change. So a time
// is trusted only once it is old, which spares reading what has not changed.
func TestTimesAreTrustedWhenTheyAreOld(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		age  time.Duration
		want byte
	}{
		"old":   {age: time.Hour, want: 1},
		"fresh": {age: -time.Hour, want: 2},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBackend(t, secondary)
			d := b.open("node1", primary)
			create(t, d, epoch(1), replicated("v1"))
			path, at := b.volume(primary, "v1"), time.Now().Add(-tt.age)
			for seed := range byte(2) {
				must(t, d.Close()) // no round sees the volume between the two calls
				write(t, path, 0, pattern(seed+1))
				must(t, os.Chtimes(path, at, at))
				d = b.open("node1", primary)
				b.synced(d, secondary)
			}
			checkVolume(t, b.replica(secondary, "v1"), gib, tt.want)
		})
	}
}

func TestWritesThroughAMappingAreFound(t *testing.T) {
	t.Parallel()
	b := newBackend(t, secondary)
	d := b.open("node1", primary)
	create(t, d, epoch(1), replicated("v1"))
	must(t, d.Close())
	f, err := os.OpenFile(b.volume(primary, "v1"), os.O_RDWR, 0)
	must(t, err)
	mapped, err := syscall.Mmap(int(f.Fd()), 0, block, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	must(t, errors.Join(err, f.Close()))
	copy(mapped, pattern(1))
	old := time.Now().Add(-time.Hour)
	must(t, os.Chtimes(b.volume(primary, "v1"), old, old)) // the page is dirty: writing to it again is not noticed
	must(t, d.Round(t.Context(), primary, secondary, epoch(1)))
	copy(mapped, pattern(2))
	must(t, d.Round(t.Context(), primary, secondary, epoch(1)))
	must(t, syscall.Munmap(mapped))
	checkVolume(t, b.replica(secondary, "v1"), gib, 2)
}

// A replica that no failover lists stays one, with the delta that belongs to it.
func TestAReplicaThatIsNotListedStaysWhole(t *testing.T) {
	t.Parallel()
	b := newBackend(t, secondary)
	b.cfg.LastSyncTimeout = 0
	d := b.open("node1", primary)
	must(t, d.Close())
	create(t, d, epoch(1), replicated("v1"))
	must(t, d.Round(t.Context(), primary, secondary, epoch(1)))
	must(t, file.WriteDelta(b.staged(".delta"), "volume-v1", gib, map[int64][]byte{0: pattern(1)}))
	must(t, os.Remove(b.path(primary, "meta", "volume-v1"))) // nor does its source know it any more
	_, err := failover(t.Context(), d, epoch(2), secondary)
	must(t, err)
	missing(t, b.volume(secondary, "v1"))
	b.cfg.LastSyncTimeout = time.Minute
	d = b.open("node1", secondary)
	must(t, d.Close())
	_, err = failover(t.Context(), d, epoch(3), primary)
	must(t, err)
	must(t, d.Round(t.Context(), primary, secondary, epoch(3)))
	checkVolume(t, b.replica(secondary, "v1"), gib, 1)
}
