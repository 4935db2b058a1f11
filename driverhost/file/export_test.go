package file

import (
	"context"
	"io"
	"os"

	"github.com/lockstep-storage/lockstep/driverhost"
)

// Round makes one round of replication under a token.
func (d *Driver) Round(ctx context.Context, from, to string, token driverhost.Token) error {
	return d.lastRound(ctx, d.sites[from], d.sites[to], token)
}

// WriteDelta writes a finished delta for a replica; a nil block is one of zeros.
func WriteDelta(path, name string, size int64, blocks map[int64][]byte) error {
	w, err := createDelta(path, deltaHeader{Version: deltaVersion, Name: name, BlockSize: MinBlockSize, Size: size})
	if err != nil {
		return err
	}
	for index, data := range blocks {
		if err := w.block(index, data); err != nil {
			return err
		}
	}
	return w.finish()
}

// ReadDelta decodes a delta and reports the bounds that its blocks keep to.
func ReadDelta(r io.ReadSeeker, length int64, visit func(end, size int64)) error {
	var h deltaHeader
	return readDelta(r, length,
		func(got deltaHeader) error { h = got; return nil },
		func(index int64, data []byte) error { visit(index*h.BlockSize+int64(len(data)), h.Size); return nil })
}

// RecodeMap decodes a block map and encodes it again.
func RecodeMap(data []byte) ([]byte, error) {
	m, err := decodeMap(data)
	if err != nil {
		return nil, err
	}
	return m.encode()
}

// EncodedMap is the encoded map of a volume of one block.
func EncodedMap() ([]byte, error) {
	return blockMap{BlockSize: MinBlockSize, Size: MinBlockSize, Sums: map[int64]sum{0: {1}}}.encode()
}

// Decode runs every decoder of JSON that the package has.
func Decode(data []byte) {
	_, _ = decodeSidecar(data)
	_, _ = decodeState(data)
	_, _ = decodeSyncRecord(data)
	_ = decodeJournal(data)
}

// DecodeSidecarName decodes a sidecar to the name in it.
func DecodeSidecarName(data []byte) (string, error) {
	m, err := decodeSidecar(data)
	return m.Name, err
}

// IsName is isName.
func IsName(name string) bool { return isName(name) }

// EachBlock lists the blocks of a file that are read and not zero.
func EachBlock(ctx context.Context, f *os.File, size int64) ([]int64, error) {
	var out []int64
	err := eachBlock(ctx, f, size, MinBlockSize, func(index int64, _ []byte) error {
		out = append(out, index)
		return nil
	})
	return out, err
}

// SyncTotal is the number of bytes that complete rounds have copied to a site.
func SyncTotal(path string) (int64, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	r, err := decodeSyncRecord(data)
	return r.Total, err
}
