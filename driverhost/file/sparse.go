package file

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// eachBlock calls visit, in ascending order, with every block of the first size
// bytes of f that holds something other than zeros. Holes are not read. The
// last block is as long as the size leaves it. visit must not keep data.
func eachBlock(ctx context.Context, f *os.File, size, blockSize int64, visit func(index int64, data []byte) error) error {
	b := blockReader{f: f, size: size, blockSize: blockSize, buf: make([]byte, blockSize), zero: make([]byte, blockSize)}
	for next := int64(0); next*blockSize < size; {
		start, end, err := dataExtent(f, next*blockSize, size)
		if err != nil || start >= size {
			return err
		}
		for next = start / blockSize; next*blockSize < end; next++ {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := b.read(next, visit); err != nil {
				return err
			}
		}
	}
	return nil
}

type blockReader struct {
	f               *os.File
	size, blockSize int64
	buf, zero       []byte
}

func (b *blockReader) read(index int64, visit func(index int64, data []byte) error) error {
	block := b.buf[:min(b.blockSize, b.size-index*b.blockSize)]
	if _, err := b.f.ReadAt(block, index*b.blockSize); err != nil {
		return fmt.Errorf("read %s at %d: %w", b.f.Name(), index*b.blockSize, errShort(err))
	}
	if bytes.Equal(block, b.zero[:len(block)]) {
		return nil
	}
	return visit(index, block)
}

// errShort: the end of a file that was longer a moment ago is not the end of a
// scan.
func errShort(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// dataExtent finds the first data at or after offset. It returns size, size when
// there is none, and everything when the file system cannot tell.
func dataExtent(f *os.File, offset, size int64) (start, end int64, err error) {
	start, err = f.Seek(offset, unix.SEEK_DATA)
	switch {
	case errors.Is(err, unix.ENXIO):
		return size, size, nil
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.EOPNOTSUPP):
		return offset, size, nil
	case err != nil:
		return 0, 0, err
	}
	end, err = f.Seek(start, unix.SEEK_HOLE)
	if err != nil {
		return 0, 0, err
	}
	return min(start, size), min(end, size), nil
}

// punch makes a range of f zero, freeing its space where the file system can.
func punch(f *os.File, offset, length int64) error {
	err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, offset, length)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		_, err = f.WriteAt(make([]byte, length), offset)
	}
	return err
}

// createSparse makes a file of the given size that is all hole.
func createSparse(path string, size int64) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, modeWritable)
	if err != nil {
		return nil, err
	}
	if err := f.Truncate(size); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
