package file

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"math"
	"os"

	"github.com/lockstep-storage/lockstep/driverhost"
)

// A delta file holds the blocks that make a replica equal to its source. It is
// a JSON line, records of (index, length, bytes) in which length 0 means a block
// of zeros, an end record, and the SHA-256 of all that. The rename to its final
// name commits it; it is then applied, again after every crash, until it is
// removed. Applying it twice is applying it once.
type deltaHeader struct {
	Version   int    `json:"version"`
	Name      string `json:"name"` // volume-<id> or snapshot-<id>
	BlockSize int64  `json:"block_size"`
	Size      int64  `json:"size"` // of the replica after it
	Source    stamp  `json:"source"`
}

const (
	deltaVersion = 1
	deltaEnd     = math.MaxUint64
	// maxHeader bounds the JSON line in bytes.
	maxHeader = 4096
)

var errDelta = errors.New("damaged delta")

func (h deltaHeader) valid() bool {
	return h.Version == deltaVersion && isName(h.Name) && validGeometry(h.BlockSize, h.Size)
}

// A deltaWriter writes a delta that is not yet committed.
type deltaWriter struct {
	f      *os.File
	buf    *bufio.Writer
	hash   hash.Hash
	w      io.Writer // to both
	blocks int64     // records written
	bytes  int64     // of data in them
}

func createDelta(path string, h deltaHeader) (*deltaWriter, error) {
	line, err := json.Marshal(h)
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	w := &deltaWriter{f: f, buf: bufio.NewWriterSize(f, 1<<20), hash: sha256.New()}
	w.w = io.MultiWriter(w.buf, w.hash)
	if _, err := w.w.Write(append(line, '\n')); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return w, nil
}

// block adds a block; empty data stands for zeros.
func (w *deltaWriter) block(index int64, data []byte) error {
	w.blocks++
	w.bytes += int64(len(data))
	return w.record(uint64(index), data)
}

func (w *deltaWriter) record(index uint64, data []byte) error {
	var head [12]byte
	binary.BigEndian.PutUint64(head[:], index)
	binary.BigEndian.PutUint32(head[8:], uint32(len(data)))
	if _, err := w.w.Write(head[:]); err != nil {
		return err
	}
	_, err := w.w.Write(data)
	return err
}

// finish writes the end, makes the file durable and closes it.
func (w *deltaWriter) finish() error {
	err := w.record(deltaEnd, nil)
	if err == nil {
		_, err = w.buf.Write(w.hash.Sum(nil))
	}
	if err == nil {
		err = w.buf.Flush()
	}
	return closeSynced(w.f, err)
}

// readDelta checks that a delta of the given length is whole, and only then
// calls start with its header and visit with each of its records.
func readDelta(r io.ReadSeeker, length int64, start func(deltaHeader) error, visit func(index int64, data []byte) error) error {
	body := length - sha256.Size
	if body < 0 {
		return errDelta
	}
	h := sha256.New()
	if _, err := io.CopyN(h, r, body); err != nil {
		return fmt.Errorf("read delta: %w", err)
	}
	var tail [sha256.Size]byte
	if _, err := io.ReadFull(r, tail[:]); err != nil {
		return fmt.Errorf("read delta: %w", err)
	}
	if !bytes.Equal(h.Sum(nil), tail[:]) {
		return errDelta
	}
	if _, err := r.Seek(0, io.SeekStart); err != nil {
		return err
	}
	return decodeRecords(bufio.NewReaderSize(io.LimitReader(r, body), maxHeader), start, visit)
}

func decodeRecords(r *bufio.Reader, start func(deltaHeader) error, visit func(index int64, data []byte) error) error {
	line, err := r.ReadSlice('\n')
	var h deltaHeader
	if err != nil || json.Unmarshal(line, &h) != nil || !h.valid() {
		return errDelta
	}
	if err := start(h); err != nil {
		return err
	}
	buf := make([]byte, h.BlockSize)
	for {
		index, data, err := decodeRecord(r, h, buf)
		if err != nil || index == deltaEnd {
			return err
		}
		if err := visit(int64(index), data); err != nil {
			return err
		}
	}
}

func decodeRecord(r io.Reader, h deltaHeader, buf []byte) (index uint64, data []byte, err error) {
	var head [12]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, errDelta
	}
	index, length := binary.BigEndian.Uint64(head[:]), int64(binary.BigEndian.Uint32(head[8:]))
	if index == deltaEnd {
		return index, nil, nil
	}
	if index >= uint64(blocksOf(h.Size, h.BlockSize)) || length != 0 && length != blockLength(h, int64(index)) {
		return 0, nil, errDelta
	}
	if _, err := io.ReadFull(r, buf[:length]); err != nil {
		return 0, nil, errDelta
	}
	return index, buf[:length], nil
}

// blockLength is the length of a block: the last may be short.
func blockLength(h deltaHeader, index int64) int64 {
	return min(h.BlockSize, h.Size-index*h.BlockSize)
}

// redo applies the committed delta of a replica, if there is one, and removes
// it. The caller holds the lock of the site. Without a replica to apply it to,
// the delta is left over from one that was deleted or promoted.
func (s *site) redo(ctx context.Context, name string) error {
	f, err := os.Open(s.delta(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	found, err := exists(s.replica(name))
	if err == nil && found {
		err = s.applyDelta(ctx, f, name)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("delta of %s at %s: %w", name, s.id, err)
	}
	return remove(s.delta(name))
}

func (s *site) applyDelta(ctx context.Context, f *os.File, name string) error {
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	dst, err := openReplica(s.replica(name))
	if err != nil {
		return err
	}
	a := applier{name: name, dst: dst}
	a.sums, err = s.readMap(name)
	a.mapped = err == nil
	err = readDelta(f, fi.Size(), a.start, func(index int64, data []byte) error {
		if err := driverhost.Allowed(ctx); err != nil {
			return err
		}
		return a.block(index, data)
	})
	if err := closeSynced(dst, err); err != nil {
		return err
	}
	if !a.mapped {
		return remove(s.blockMap(name))
	}
	return s.writeMap(name, a.sums)
}

// openReplica opens a replica for writing. It is read-only before and after,
// for everybody else.
func openReplica(path string) (*os.File, error) {
	if err := os.Chmod(path, modeWritable); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	if err := f.Chmod(modeReadOnly); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// An applier writes the blocks of one delta to a replica and keeps the map of
// its blocks in step.
type applier struct {
	name   string
	dst    *os.File
	header deltaHeader
	sums   blockMap
	mapped bool // sums describes the replica
}

func (a *applier) start(h deltaHeader) error {
	if h.Name != a.name {
		return fmt.Errorf("%w: it is that of %s", errDelta, h.Name)
	}
	a.header = h
	a.mapped = a.mapped && a.sums.BlockSize == h.BlockSize
	if a.mapped {
		a.sums.resize(h.Size)
		a.sums.Compared, a.sums.Source = true, h.Source
	}
	return a.dst.Truncate(h.Size)
}

func (a *applier) block(index int64, data []byte) error {
	if len(data) == 0 {
		delete(a.sums.Sums, index)
		return punch(a.dst, index*a.header.BlockSize, blockLength(a.header, index))
	}
	if a.mapped {
		a.sums.Sums[index] = sumOf(data)
	}
	_, err := a.dst.WriteAt(data, index*a.header.BlockSize)
	return err
}
