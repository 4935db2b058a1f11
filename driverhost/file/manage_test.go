package file_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/lockstep-storage/lockstep/driverhost"
	"github.com/lockstep-storage/lockstep/driverhost/file"
)

// lay puts a file of a size, with recognisable bytes, where the primary finds what
// can be adopted.
func (b *backend) lay(name string, size int64) string {
	b.t.Helper()
	path := b.path(primary, "import", name)
	must(b.t, os.WriteFile(path, pattern(7), 0o600))
	must(b.t, os.Truncate(path, size))
	return path
}

func manage(t *testing.T, d *file.Driver, token driverhost.Token, v driverhost.Volume, ref string) (driverhost.ManagedVolume, error) {
	t.Helper()
	return d.ManageVolume(t.Context(), driverhost.ManageVolumeRequest{Token: token, Volume: v, Reference: ref})
}

// A file is adopted where it is, grown to whole GiB, and replicated like any volume;
// given up, it is back under its name, and its replicas are gone.
func TestManageVolume(t *testing.T) {
	t.Parallel()
	b := newBackend(t, secondary)
	d := b.open("n1", primary)
	from := b.lay("lun", gib+5)
	for range 2 { // the answer to the first call may be lost
		did, err := manage(t, d, epoch(1), replicated("v1"), "lun")
		must(t, err)
		want := driverhost.ManagedVolume{SizeGiB: 2, VolumeUpdate: driverhost.VolumeUpdate{ProviderID: "lun", ProviderLocation: b.volume(primary, "v1")}}
		if did != want {
			t.Fatalf("got %+v, want %+v", did, want)
		}
	}
	missing(t, from)
	if got := readBlock(t, b.volume(primary, "v1"), 0); string(got) != string(pattern(7)) {
		t.Error("the volume has other bytes than the file")
	}
	b.synced(d, secondary)
	same(t, b.volume(primary, "v1"), b.replica(secondary, "v1"))

	for range 2 {
		must(t, d.UnmanageVolume(t.Context(), driverhost.VolumeRequest{Token: epoch(1), Volume: replicated("v1")}))
	}
	missing(t, b.volume(primary, "v1"))
	if _, size := head(t, from); size != 2*gib {
		t.Errorf("the file has %d bytes", size)
	}
	b.synced(d, secondary)
	missing(t, b.replica(secondary, "v1"))
	if calls := b.journal(primary, file.CallManageVolume); len(calls) != 2 || calls[0].Volume != "v1" || calls[0].Outcome != file.OutcomeOK {
		t.Errorf("journal: %+v", calls)
	}
}

// An adopted volume fails over like any other, and is given up at the site that is
// in use by then, under its old name.
func TestAdoptedVolumeFailsOver(t *testing.T) {
	t.Parallel()
	b := newBackend(t, secondary)
	d := b.open("n1", primary)
	b.lay("lun", gib)
	_, err := manage(t, d, epoch(1), replicated("v1"), "lun")
	must(t, err)
	b.synced(d, secondary)
	res, err := failover(t.Context(), d, epoch(2), secondary, replicated("v1"))
	noneFailed(t, res, err)
	use(t, secondary, epoch(2), d)
	if _, err := manage(t, d, epoch(1), replicated("v2"), "lun"); !errors.Is(err, driverhost.ErrFenced) {
		t.Errorf("adopted under an epoch that is over: %v", err)
	}
	must(t, d.UnmanageVolume(t.Context(), driverhost.VolumeRequest{Token: epoch(2), Volume: replicated("v1")}))
	if got := readBlock(t, b.path(secondary, "import", "lun"), 0); string(got) != string(pattern(7)) {
		t.Error("the file has other bytes than the volume")
	}
}

// A reference that names nothing, or what must not be taken, is refused, and what it
// names stays as it is.
func TestManageRefusesBadReferences(t *testing.T) {
	t.Parallel()
	b := newBackend(t, secondary)
	d := b.open("n1", primary)
	dir := b.path(primary, "import")
	must(t, os.Mkdir(filepath.Join(dir, "directory"), 0o700))
	must(t, os.WriteFile(filepath.Join(dir, "empty"), nil, 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "image.qcow2"), []byte("QFI\xfb and so on"), 0o600))
	b.lay("linked", gib)
	must(t, os.Link(filepath.Join(dir, "linked"), b.path(primary, "other-name")))
	must(t, os.Symlink(b.path(primary, "token"), filepath.Join(dir, "link")))
	must(t, syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o600))
	b.lay("good", gib)
	create(t, d, epoch(1), driverhost.Volume{ID: "taken", SizeGiB: 1})
	for ref, says := range map[string]string{
		"nope": "there is no", "directory": "directory", "empty": "it is empty", "image.qcow2": "qcow2", "linked": "2 names",
		"link": "symbolic link", "fifo": "not a regular file", "../token": "no path", "..": "no path", "": "1 to 255 bytes",
		"a\nb": "no path", strings.Repeat("x", 256): "1 to 255 bytes", "\xff": "1 to 255 bytes",
	} {
		_, err := manage(t, d, epoch(1), replicated("v1"), ref)
		if err == nil || !strings.Contains(err.Error(), says) && ref != "link" && ref != "directory" {
			t.Errorf("%.20q: %v, want %q", ref, err, says)
		}
		missing(t, b.volume(primary, "v1"))
	}
	if _, err := manage(t, d, epoch(1), driverhost.Volume{ID: "taken", SizeGiB: 1}, "good"); err == nil {
		t.Error("a volume that is there was taken for an adopted one")
	}
	must(t, d.UnmanageVolume(t.Context(), driverhost.VolumeRequest{Token: epoch(1), Volume: replicated("v1")})) // as a deletion after the refusal does
	all, err := d.ManageableVolumes(t.Context())
	must(t, err)
	var safe []string
	for _, m := range all {
		if m.Unsafe == "" {
			safe = append(safe, m.Reference)
		}
	}
	if len(all) != 7 || strings.Join(safe, " ") != "good" || all[0].Unsafe == "" {
		t.Errorf("the list: %+v", all)
	}
}

// A crash between any two steps of an adoption leaves the file where it was, or the
// volume in place; the call that is made again ends it.
func TestManageAfterACrash(t *testing.T) {
	t.Parallel()
	b := newBackend(t, secondary)
	d := b.open("n1", primary)
	b.lay("lun", 2*gib) // grown already
	sidecar := `{"name":"volume-v1","volume":"v1","replicated":true,"reference":"lun"}`
	must(t, os.WriteFile(b.path(primary, "meta", "volume-v1"), []byte(sidecar+"\n"), 0o600))
	did, err := manage(t, d, epoch(1), replicated("v1"), "lun")
	must(t, err)
	if did.SizeGiB != 2 {
		t.Errorf("got %+v", did)
	}
	// The volume was moved, and what is known of it is still there.
	must(t, os.Rename(b.volume(primary, "v1"), b.path(primary, "import", "lun")))
	must(t, d.UnmanageVolume(t.Context(), driverhost.VolumeRequest{Token: epoch(1), Volume: replicated("v1")}))
	missing(t, b.path(primary, "meta", "volume-v1"))
	if _, size := head(t, b.path(primary, "import", "lun")); size != 2*gib {
		t.Errorf("the file has %d bytes", size)
	}
}

// A name that something else has by now is left to it.
func TestUnmanageOverwritesNothing(t *testing.T) {
	t.Parallel()
	b := newBackend(t, secondary)
	d := b.open("n1", primary)
	b.lay("lun", gib)
	_, err := manage(t, d, epoch(1), replicated("v1"), "lun")
	must(t, err)
	b.lay("lun", 3*gib)
	must(t, d.UnmanageVolume(t.Context(), driverhost.VolumeRequest{Token: epoch(1), Volume: replicated("v1")}))
	for name, want := range map[string]int64{"lun": 3 * gib, "volume-v1": gib} {
		if _, size := head(t, b.path(primary, "import", name)); size != want {
			t.Errorf("%s has %d bytes, want %d", name, size, want)
		}
	}
}

// A volume that becomes replicated is, with its snapshots, though those who
// replicate have seen it before; one that no longer is loses its replicas.
func TestRetypeVolume(t *testing.T) {
	t.Parallel()
	b := newBackend(t, secondary)
	d, other := b.open("n1", primary), b.open("n2", primary)
	v := driverhost.Volume{ID: "v1", SizeGiB: 1}
	create(t, d, epoch(1), v)
	must(t, d.CreateSnapshot(t.Context(), driverhost.SnapshotRequest{Token: epoch(1), Snapshot: driverhost.Snapshot{ID: "s1", Volume: v}}))
	snapshot := b.path(secondary, "replicas", "snapshot-s1")
	retype := func(to bool) {
		t.Helper()
		req := driverhost.RetypeVolumeRequest{Token: epoch(1), Volume: v, Replicated: to, Snapshots: []string{"s1", "gone"}}
		for range 2 {
			must(t, d.RetypeVolume(t.Context(), req))
		}
		b.synced(d, secondary)
		b.synced(other, secondary)
	}
	b.synced(d, secondary)
	b.synced(other, secondary)
	missing(t, b.replica(secondary, "v1"))
	retype(true)
	same(t, b.volume(primary, "v1"), b.replica(secondary, "v1"))
	head(t, snapshot)
	retype(false)
	b.synced(d, secondary)
	missing(t, b.replica(secondary, "v1"))
	missing(t, snapshot)
	retype(true)
	same(t, b.volume(primary, "v1"), b.replica(secondary, "v1"))
	res, err := failover(t.Context(), d, epoch(2), secondary, replicated("v1"))
	noneFailed(t, res, err)
	use(t, secondary, epoch(2), d)
	if err := d.RetypeVolume(t.Context(), driverhost.RetypeVolumeRequest{Token: epoch(2), Volume: driverhost.Volume{ID: "v9"}}); err == nil {
		t.Error("retyped a volume that is not there")
	}
}
