package file_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-storage/lockstep/driverhost"
	"github.com/lockstep-storage/lockstep/driverhost/file"
)

const (
	primary   = file.Primary
	secondary = "site-b"
	third     = "site-c"

	block = file.MinBlockSize
	gib   = 1 << 30
)

// A backend is a set of sites in a temporary directory.
type backend struct {
	t   *testing.T
	cfg file.Config
}

// newBackend makes a backend with the primary and the given targets. Rounds of
// replication follow each other without much of a pause.
func newBackend(t *testing.T, targets ...string) *backend {
	t.Helper()
	cfg := file.DefaultConfig()
	cfg.ReplicationInterval = 5 * time.Millisecond
	cfg.BlockSize = block
	cfg.Sites = map[string]string{}
	dir := t.TempDir()
	for _, id := range append(targets, primary) {
		cfg.Sites[id] = filepath.Join(dir, id)
	}
	return &backend{t: t, cfg: cfg}
}

// open starts the driver of a member that was told the site.
func (b *backend) open(node, active string) *file.Driver {
	b.t.Helper()
	opener, err := file.New(b.cfg)
	if err != nil {
		b.t.Fatal(err)
	}
	d, err := opener(b.t.Context(), driverhost.OpenRequest{Node: node, Host: node + "@files", ActiveBackendID: active})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() {
		if err := d.Close(); err != nil {
			b.t.Error(err)
		}
	})
	driver, ok := d.(*file.Driver)
	if !ok {
		b.t.Fatalf("driver is a %T", d)
	}
	return driver
}

func (b *backend) path(site string, elem ...string) string {
	return filepath.Join(append([]string{b.cfg.Sites[site]}, elem...)...)
}

func (b *backend) volume(site, id string) string { return b.path(site, "volumes", "volume-"+id) }

func (b *backend) replica(site, id string) string { return b.path(site, "replicas", "volume-"+id) }

// journal returns the lines of a site that are about one call; all if call is
// empty.
func (b *backend) journal(site, call string) []file.JournalEntry {
	b.t.Helper()
	all, err := file.ReadJournal(b.path(site, "journal"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		b.t.Fatal(err)
	}
	var out []file.JournalEntry
	for _, e := range all {
		if call == "" || e.Call == call {
			out = append(out, e)
		}
	}
	return out
}

// away takes a site's directory away and returns what brings it back.
func (b *backend) away(site string) (back func()) {
	b.t.Helper()
	dir := b.cfg.Sites[site]
	must(b.t, os.Rename(dir, dir+"-away"))
	return func() { must(b.t, os.Rename(dir+"-away", dir)) }
}

// setRole makes a site look as a crash in the middle of a promotion leaves it.
func (b *backend) setRole(site, role string) {
	b.t.Helper()
	data, err := os.ReadFile(b.path(site, "token"))
	must(b.t, err)
	text := strings.Replace(string(data), `"role":"active"`, `"role":"`+role+`"`, 1)
	must(b.t, os.WriteFile(b.path(site, "token"), []byte(text), 0o600))
}

func epoch(n uint64) driverhost.Token { return driverhost.Token{Epoch: n, Claim: 100 * (n - 1)} }

func replicated(id string) driverhost.Volume {
	return driverhost.Volume{ID: id, SizeGiB: 1, Replicated: true}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error is %v, want %v", err, want)
	}
}

func create(t *testing.T, d *file.Driver, token driverhost.Token, v driverhost.Volume) {
	t.Helper()
	_, err := d.CreateVolume(t.Context(), driverhost.VolumeRequest{Token: token, Volume: v})
	must(t, err)
}

// failover is a forced one from the primary, or opens that again.
func failover(ctx context.Context, d *file.Driver, token driverhost.Token, target string, vs ...driverhost.Volume) (driverhost.FailoverResult, error) {
	return d.Failover(ctx, driverhost.FailoverRequest{Token: token, ID: "f", From: primary, Target: target, Volumes: vs})
}

// planned is a switchover as its executor makes it.
func planned(ctx context.Context, d *file.Driver, token driverhost.Token, from, target string, vs ...driverhost.Volume) (driverhost.FailoverResult, error) {
	err := d.Demote(ctx, driverhost.DemoteRequest{Token: token, ID: "p", From: from, Target: target, Volumes: vs})
	if err != nil {
		return driverhost.FailoverResult{}, err
	}
	return d.Failover(ctx, driverhost.FailoverRequest{
		Token: token, ID: "p", From: from, Target: target, Planned: true, Volumes: vs,
	})
}

// reopen opens a site again after a switchover that was refused, as its executor
// does.
func reopen(ctx context.Context, d *file.Driver, token driverhost.Token, old, target string, vs ...driverhost.Volume) (driverhost.FailoverResult, error) {
	return d.Failover(ctx, driverhost.FailoverRequest{Token: token, ID: "p", From: target, Target: old, Volumes: vs})
}

func use(t *testing.T, site string, token driverhost.Token, ds ...*file.Driver) {
	t.Helper()
	for _, d := range ds {
		must(t, d.FailoverCompleted(t.Context(), driverhost.FailoverCompletedRequest{Token: token, ActiveBackendID: site}))
	}
}

func noneFailed(t *testing.T, res driverhost.FailoverResult, err error) {
	t.Helper()
	must(t, err)
	for _, v := range res.Volumes {
		if v.Failed {
			t.Fatalf("volume %s: %s", v.VolumeID, v.Error)
		}
	}
}

// eventually waits for a condition that other goroutines bring about.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	deadline := time.NewTimer(30 * time.Second)
	defer deadline.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("no longer waiting until %s", what)
		}
	}
}

// synced waits until a round of replication to the site that started after the
// call is complete.
func (b *backend) synced(d *file.Driver, site string) {
	b.t.Helper()
	start := time.Now()
	eventually(b.t, site+" is in sync", func() bool {
		stats, err := d.Stats(b.t.Context())
		must(b.t, err)
		for _, s := range stats.Targets {
			if s.BackendID == site {
				return s.LastSync.After(start)
			}
		}
		return false
	})
}

// write puts bytes into a file at an offset, as the user of a volume does.
func write(t *testing.T, path string, offset int64, data []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteAt(data, offset)
	must(t, errors.Join(err, f.Close()))
}

// pattern is a block of recognisable bytes.
func pattern(seed byte) []byte {
	data := make([]byte, block)
	for i := range data {
		data[i] = seed + byte(i%251) + 1
	}
	return data
}

// head is the checksum of the first MiB of a file and its size: volumes in tests
// are 1 GiB of hole with little in it.
func head(t *testing.T, path string) (sum [sha256.Size]byte, size int64) {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	data := make([]byte, 1<<20)
	_, err = f.ReadAt(data, 0)
	must(t, err)
	fi, err := f.Stat()
	must(t, errors.Join(err, f.Close()))
	return sha256.Sum256(data), fi.Size()
}

func same(t *testing.T, a, b string) {
	t.Helper()
	sumA, sizeA := head(t, a)
	sumB, sizeB := head(t, b)
	if sumA != sumB || sizeA != sizeB {
		t.Fatalf("%s (%d bytes, %x) differs from %s (%d bytes, %x)", a, sizeA, sumA[:4], b, sizeB, sumB[:4])
	}
}

func missing(t *testing.T, path string) {
	t.Helper()
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("%s is there (%v)", path, err)
	}
}

// readBlock reads one block of a file.
func readBlock(t *testing.T, path string, index int64) []byte {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	data := make([]byte, block)
	_, err = f.ReadAt(data, index*block)
	must(t, errors.Join(err, f.Close()))
	return data
}

func mode(t *testing.T, path string) fs.FileMode {
	t.Helper()
	fi, err := os.Stat(path)
	must(t, err)
	return fi.Mode().Perm()
}
