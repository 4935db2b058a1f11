package main

import (
	"os"
	"path/filepath"
	"testing"
)

// A digest must tell apart everything but holes from zeros.
func TestDigest(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	type extent struct {
		at   int64
		data string
	}
	file := func(name string, size int64, extents ...extent) string {
		t.Helper()
		path := filepath.Join(dir, name)
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Truncate(size); err != nil {
			t.Fatal(err)
		}
		for _, e := range extents {
			if _, err := f.WriteAt([]byte(e.data), e.at); err != nil {
				t.Fatal(err)
			}
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		sum, err := digest(path)
		if err != nil {
			t.Fatal(err)
		}
		return sum
	}
	const size = 8 << 20
	zeros := string(make([]byte, 3*digestBlock))
	same := file("a", size, extent{size / 2, "data"})
	if got := file("b", size, extent{0, zeros}, extent{size / 2, "data"}); got != same {
		t.Error("written zeros count unlike a hole")
	}
	sums := map[string]string{same: "a"}
	for name, sum := range map[string]string{
		"empty":           file("c", size),
		"other data":      file("d", size, extent{size / 2, "Data"}),
		"elsewhere":       file("e", size, extent{size/2 + digestBlock, "data"}),
		"by a byte":       file("f", size, extent{size/2 + 1, "data"}),
		"larger":          file("g", size+1, extent{size / 2, "data"}),
		"at the end":      file("h", size, extent{size - 4, "data"}),
		"odd size, empty": file("i", size-3),
	} {
		if other, taken := sums[sum]; taken {
			t.Errorf("%q has the digest of %q", name, other)
		}
		sums[sum] = name
	}
}
