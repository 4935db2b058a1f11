package file_test

import (
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/lockstep-storage/lockstep/driverhost/file"
)

// A crash may end replication anywhere. Whatever it leaves, a promotion gives
// the state before the round or after it, nothing between.
func TestTornCopiesAreNeverPromoted(t *testing.T) {
	t.Parallel()
	const before, after, none = "before", "after", ""
	tests := map[string]struct {
		torn func(t *testing.T, b *backend, delta string)
		want string
	}{
		"nothing written":              {func(*testing.T, *backend, string) {}, before},
		"delta half written":           {func(t *testing.T, b *backend, delta string) { copyHead(t, delta, b.staged(".delta.tmp"), 2) }, before},
		"delta written, not committed": {func(t *testing.T, b *backend, delta string) { copyHead(t, delta, b.staged(".delta.tmp"), 1) }, before},
		"delta committed":              {func(t *testing.T, b *backend, delta string) { copyHead(t, delta, b.staged(".delta"), 1) }, after},
		"delta half applied": {func(t *testing.T, b *backend, delta string) {
			copyHead(t, delta, b.staged(".delta"), 1)
			must(t, os.Chmod(b.replica(secondary, "v1"), 0o600))
			write(t, b.replica(secondary, "v1"), 3*block+9, pattern(77)[:100])
		}, after},
		"delta applied, not removed": {func(t *testing.T, b *backend, delta string) {
			copyHead(t, delta, b.staged(".delta"), 1)
			must(t, os.Chmod(b.replica(secondary, "v1"), 0o600))
			write(t, b.replica(secondary, "v1"), 3*block, pattern(77))
			write(t, b.replica(secondary, "v1"), 4*block, make([]byte, block))
		}, after},
		"committed delta damaged": {func(t *testing.T, b *backend, delta string) {
			copyHead(t, delta, b.staged(".delta"), 2)
			must(t, os.Chmod(b.replica(secondary, "v1"), 0o600))
			write(t, b.replica(secondary, "v1"), 3*block+9, pattern(77)[:100])
		}, none},
		"delta of another volume": {func(t *testing.T, b *backend, _ string) {
			must(t, file.WriteDelta(b.staged(".delta"), "volume-v2", gib, map[int64][]byte{0: pattern(1)}))
		}, none},
		"first copy half written": {func(t *testing.T, b *backend, _ string) {
			must(t, os.Rename(b.replica(secondary, "v1"), b.staged(".tmp")))
		}, none},
		"map lost": {func(t *testing.T, b *backend, delta string) {
			copyHead(t, delta, b.staged(".delta"), 1)
			must(t, os.Remove(b.path(secondary, "maps", "volume-v1")))
		}, after},
		"map damaged": {func(t *testing.T, b *backend, delta string) {
			copyHead(t, delta, b.staged(".delta"), 1)
			must(t, os.Truncate(b.path(secondary, "maps", "volume-v1"), 20))
		}, after},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, sums := tornBackend(t, tt.torn)
			b.cfg.LastSyncTimeout = 0 // the source is there, but not for this promotion
			d := b.open("node2", secondary)
			res, err := failover(t.Context(), d, epoch(2), secondary, replicated("v1"))
			must(t, err)
			if tt.want == none {
				if !res.Volumes[0].Failed {
					t.Errorf("a torn replica was promoted: %+v", res.Volumes[0])
				}
				missing(t, b.volume(secondary, "v1"))
				return
			}
			noneFailed(t, res, err)
			if got, _ := head(t, b.volume(secondary, "v1")); got != sums[tt.want] {
				t.Errorf("the promoted volume is not that of %s the round", tt.want)
			}
		})
		t.Run(name+", next round", func(t *testing.T) {
			t.Parallel()
			b, _ := tornBackend(t, tt.torn)
			// The source goes back to what it was: a map that is not in step
			// with the replica would find nothing to copy.
			write(t, b.volume(primary, "v1"), 3*block, pattern(3))
			write(t, b.volume(primary, "v1"), 4*block, pattern(4))
			d := b.open("node2", primary)
			b.synced(d, secondary)
			same(t, b.volume(primary, "v1"), b.replica(secondary, "v1"))
		})
	}
}

func (b *backend) staged(suffix string) string {
	return b.path(secondary, "staging", "volume-v1"+suffix)
}

// tornBackend has a replica of blocks 3 and 4, a source that has changed since,
// and what torn made of the delta between them. It returns the checksums of the
// volume before and after the change.
func tornBackend(t *testing.T, torn func(t *testing.T, b *backend, delta string)) (*backend, map[string][sha256.Size]byte) {
	t.Helper()
	b := newBackend(t, secondary)
	d := b.open("node1", primary)
	create(t, d, epoch(1), replicated("v1"))
	source := b.volume(primary, "v1")
	write(t, source, 3*block, pattern(3))
	write(t, source, 4*block, pattern(4))
	b.synced(d, secondary)
	must(t, d.Close())
	sums := map[string][sha256.Size]byte{}
	sums["before"], _ = head(t, source)
	write(t, source, 3*block, pattern(77))
	write(t, source, 4*block, make([]byte, block))
	sums["after"], _ = head(t, source)
	delta := filepath.Join(t.TempDir(), "delta")
	must(t, file.WriteDelta(delta, "volume-v1", gib, map[int64][]byte{3: pattern(77), 4: nil}))
	torn(t, b, delta)
	return b, sums
}

// copyHead copies the first 1/part of a file.
func copyHead(t *testing.T, from, to string, part int64) {
	t.Helper()
	src, err := os.Open(from)
	must(t, err)
	fi, err := src.Stat()
	must(t, err)
	dst, err := os.Create(to)
	must(t, err)
	_, err = io.CopyN(dst, src, fi.Size()/part)
	must(t, errors.Join(err, dst.Close(), src.Close()))
}
