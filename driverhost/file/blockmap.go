package file

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"slices"
	"syscall"
	"time"
)

// A sum identifies the content of a block: SHA-256, cut to 128 bits.
type sum [16]byte

func sumOf(data []byte) sum {
	h := sha256.Sum256(data)
	return sum(h[:len(sum{})])
}

// A stamp tells one state of a source file from another. The zero stamp is equal
// to none.
type stamp struct {
	Site    string `json:"site,omitempty"` // random id of the directory
	Inode   uint64 `json:"inode,omitempty"`
	Size    int64  `json:"size,omitempty"`
	ModTime int64  `json:"mtime_ns,omitempty"`
}

// settled is how old a file's last change must be for its stamp to be trusted:
// two writes within one tick of the file system's clock leave the same time.
const settled = 2 * time.Second

// stampOf stamps an open file of the site. It is zero while the file is so
// fresh, or its time so far in the future, that a write could hide behind it.
func stampOf(siteID string, fi os.FileInfo, now time.Time) stamp {
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok || now.Sub(fi.ModTime()) < settled {
		return stamp{}
	}
	return stamp{Site: siteID, Inode: st.Ino, Size: fi.Size(), ModTime: fi.ModTime().UnixNano()}
}

// A blockMap describes the content of a replica: the sums of all blocks that are
// not zero.
type blockMap struct {
	BlockSize int64
	Size      int64
	Compared  bool  // the replica was once made equal to its source
	Source    stamp // the state of the source that it equals; zero if that is not certain
	Sums      map[int64]sum
}

type mapHeader struct {
	Version   int   `json:"version"`
	BlockSize int64 `json:"block_size"`
	Size      int64 `json:"size"`
	Compared  bool  `json:"compared"`
	Source    stamp `json:"source"`
	Blocks    int64 `json:"blocks"`
}

const (
	mapVersion    = 1
	mapRecordSize = 8 + len(sum{})
)

var errMap = errors.New("damaged block map")

// encode writes a JSON line, the blocks in order, and the SHA-256 of all that.
func (m blockMap) encode() ([]byte, error) {
	header, err := json.Marshal(mapHeader{
		Version: mapVersion, BlockSize: m.BlockSize, Size: m.Size,
		Compared: m.Compared, Source: m.Source, Blocks: int64(len(m.Sums)),
	})
	if err != nil {
		return nil, err
	}
	out := slices.Grow(append(header, '\n'), len(m.Sums)*mapRecordSize+sha256.Size)
	for _, index := range slices.Sorted(maps.Keys(m.Sums)) {
		out = binary.BigEndian.AppendUint64(out, uint64(index))
		s := m.Sums[index]
		out = append(out, s[:]...)
	}
	h := sha256.Sum256(out)
	return append(out, h[:]...), nil
}

func decodeMap(data []byte) (blockMap, error) {
	if len(data) < sha256.Size {
		return blockMap{}, errMap
	}
	body, tail := data[:len(data)-sha256.Size], data[len(data)-sha256.Size:]
	if h := sha256.Sum256(body); !bytes.Equal(h[:], tail) {
		return blockMap{}, errMap
	}
	line, records, ok := bytes.Cut(body, []byte{'\n'})
	var h mapHeader
	if !ok || json.Unmarshal(line, &h) != nil || h.Version != mapVersion || !validGeometry(h.BlockSize, h.Size) {
		return blockMap{}, errMap
	}
	if len(records)%mapRecordSize != 0 || h.Blocks != int64(len(records)/mapRecordSize) {
		return blockMap{}, errMap
	}
	m := blockMap{
		BlockSize: h.BlockSize, Size: h.Size, Compared: h.Compared, Source: h.Source, Sums: make(map[int64]sum, h.Blocks),
	}
	for record := range slices.Chunk(records, mapRecordSize) {
		index := binary.BigEndian.Uint64(record)
		if index >= uint64(blocksOf(h.Size, h.BlockSize)) {
			return blockMap{}, errMap
		}
		m.Sums[int64(index)] = sum(record[8:])
	}
	return m, nil
}

// maxSize is the size of the largest volume, in bytes: 1 EiB.
const maxSize = 1 << 60

func validGeometry(blockSize, size int64) bool {
	return blockSize >= MinBlockSize && blockSize <= MaxBlockSize && blockSize&(blockSize-1) == 0 && size >= 0 && size <= maxSize
}

// blocksOf is the number of blocks in a file of the size.
func blocksOf(size, blockSize int64) int64 { return (size + blockSize - 1) / blockSize }

// readMap returns an error that wraps errMap or fs.ErrNotExist when the replica
// has no usable map; it then has to be read to make one.
func (s *site) readMap(name string) (blockMap, error) {
	data, err := os.ReadFile(s.blockMap(name))
	if err != nil {
		return blockMap{}, err
	}
	return decodeMap(data)
}

func (s *site) writeMap(name string, m blockMap) error {
	data, err := m.encode()
	if err != nil {
		return err
	}
	return replaceFile(s.blockMap(name), data)
}

// resize follows a change of the replica's size.
func (m *blockMap) resize(size int64) {
	m.Size = size
	maps.DeleteFunc(m.Sums, func(index int64, _ sum) bool { return index >= blocksOf(size, m.BlockSize) })
}
