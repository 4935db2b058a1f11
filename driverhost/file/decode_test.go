package file_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/lockstep-storage/lockstep/driverhost/file"
)

// sealed adds the checksum: without it a decoder gets no further than that.
func sealed(data []byte) []byte {
	h := sha256.Sum256(data)
	return append(bytes.Clone(data), h[:]...)
}

func FuzzDelta(f *testing.F) {
	path := filepath.Join(f.TempDir(), "delta")
	if err := file.WriteDelta(path, "volume-v1", 3*block+5, map[int64][]byte{1: pattern(1), 2: nil, 3: {1, 2, 3, 4, 5}}); err != nil {
		f.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data[:len(data)-sha256.Size])
	f.Add(data[:len(data)/2])
	f.Fuzz(func(t *testing.T, data []byte) {
		data = sealed(data)
		err := file.ReadDelta(bytes.NewReader(data), int64(len(data)), func(end, size int64) {
			if end < 0 || end > size {
				t.Errorf("block ends at %d of %d", end, size)
			}
		})
		_ = err // any bytes may be refused; none may panic or reach beyond the volume
	})
}

func TestDeltaMustBeWhole(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "delta")
	must(t, file.WriteDelta(path, "volume-v1", 3*block, map[int64][]byte{1: pattern(1)}))
	data, err := os.ReadFile(path)
	must(t, err)
	read := func(data []byte) (blocks int, err error) {
		err = file.ReadDelta(bytes.NewReader(data), int64(len(data)), func(int64, int64) { blocks++ })
		return blocks, err
	}
	if n, err := read(data); err != nil || n != 1 {
		t.Fatalf("%d blocks, %v", n, err)
	}
	for cut := range data {
		if n, err := read(data[:cut]); err == nil || n != 0 {
			t.Fatalf("cut at %d: %d blocks, %v", cut, n, err)
		}
		flipped := bytes.Clone(data)
		flipped[cut] ^= 1
		if n, err := read(flipped); err == nil || n != 0 {
			t.Fatalf("flipped at %d: %d blocks, %v", cut, n, err)
		}
	}
}

func FuzzBlockMap(f *testing.F) {
	data, err := file.EncodedMap()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data[:len(data)-sha256.Size])
	f.Add(data[:40])
	f.Fuzz(func(t *testing.T, data []byte) {
		again, err := file.RecodeMap(sealed(data))
		if err != nil {
			return
		}
		if third, err := file.RecodeMap(again); err != nil || !bytes.Equal(again, third) {
			t.Errorf("a map does not survive being written: %v", err)
		}
	})
}

func FuzzJSON(f *testing.F) {
	f.Add([]byte(`{"name":"volume-v1","volume":"v1","replicated":true}`))
	f.Add([]byte(`{"id":"x","role":"active","token":{"epoch":1,"claim":2}}`))
	f.Add([]byte(`{"source":"default","started":"2026-01-02T03:04:05Z"}`))
	f.Add([]byte("{\"call\":\"promote\"}\n{\"ca"))
	f.Fuzz(func(t *testing.T, data []byte) {
		file.Decode(data)
		if name, err := file.DecodeSidecarName(data); err == nil && !file.IsName(name) {
			t.Errorf("sidecar of %q was taken", name)
		}
		if !json.Valid(data) {
			if _, err := file.DecodeSidecarName(data); err == nil {
				t.Error("a sidecar that is no JSON was taken")
			}
		}
	})
}
