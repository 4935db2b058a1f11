package file

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"
)

// sync makes one replica equal to its source. A source that is not there is
// skipped: replicas are deleted by notes only.
func (p *pair) sync(ctx context.Context, name string) error {
	path := p.src.place(name)
	fi, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	_, present := p.present[name]
	now := stampOf(p.srcID, fi, time.Now())
	if present && now != (stamp{}) && p.seen[name] == now {
		return nil
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	c := comparison{pair: p, name: name, source: f}
	if present {
		err = c.update(ctx, now)
	} else {
		err = c.create(ctx)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	delete(p.seen, name)
	if c.next.Source != (stamp{}) {
		p.seen[name] = c.next.Source
	}
	return nil
}

// A comparison is the work on one replica in one round.
type comparison struct {
	*pair

	name   string
	source *os.File
	next   blockMap // of the replica when the work is done
}

// begin takes the stamp of the source before it is read: what is written to it
// later changes the stamp and is found in the next round.
func (c *comparison) begin() error {
	// A page that is mapped and dirty can change without touching the time
	// of the file. Writing it back makes the next change to it count.
	if err := c.source.Sync(); err != nil {
		return err
	}
	fi, err := c.source.Stat()
	if err != nil {
		return err
	}
	c.next = blockMap{
		BlockSize: c.blockSize, Size: fi.Size(), Compared: true,
		Source: stampOf(c.srcID, fi, time.Now()), Sums: make(map[int64]sum),
	}
	return nil
}

// create makes a replica that does not exist. The copy is written beside it, and
// committed by a rename.
func (c *comparison) create(ctx context.Context) error {
	if err := c.begin(); err != nil {
		return err
	}
	tmp := c.dst.file("staging", c.name+tmpSuffix)
	dst, err := createSparse(tmp, c.next.Size)
	if err != nil {
		return err
	}
	err = eachBlock(ctx, c.source, c.next.Size, c.blockSize, func(index int64, data []byte) error {
		c.next.Sums[index] = sumOf(data)
		c.copied += int64(len(data))
		_, err := dst.WriteAt(data, index*c.blockSize)
		return err
	})
	if err == nil {
		err = dst.Chmod(modeReadOnly)
	}
	if err := closeSynced(dst, err); err != nil {
		return err
	}
	m, err := c.src.readSidecar(c.name)
	if errors.Is(err, fs.ErrNotExist) {
		return remove(tmp) // deleted meanwhile
	}
	if err != nil {
		return err
	}
	return c.commit(ctx, func() error {
		if err := c.dst.writeSidecar(m); err != nil {
			return err
		}
		// A map of an earlier replica must not outlive it.
		if err := remove(c.dst.blockMap(c.name), c.dst.delta(c.name)); err != nil {
			return err
		}
		if err := publish(tmp, c.dst.replica(c.name)); err != nil {
			return err
		}
		return c.dst.writeMap(c.name, c.next)
	})
}

// update changes the blocks of a replica that differ from the source, which has
// the stamp now.
func (c *comparison) update(ctx context.Context, now stamp) error {
	base, err := c.base(ctx)
	if err != nil {
		return err
	}
	if c.next.Source = now; now != (stamp{}) && now == base.Source {
		return nil
	}
	if err := c.begin(); err != nil {
		return err
	}
	// A replica that was never compared may be a stale volume of any size.
	if base.Compared && c.next.Size < base.Size {
		return fmt.Errorf("source has %d bytes, less than the %d of its replica: volumes do not shrink", c.next.Size, base.Size)
	}
	tmp := c.dst.file("staging", c.name+".delta"+tmpSuffix)
	records, err := c.writeDelta(ctx, tmp, base)
	if err != nil {
		return err
	}
	if records == 0 && c.next.Size == base.Size {
		return errors.Join(remove(tmp), c.confirm(ctx, base.Source))
	}
	return c.commit(ctx, func() error {
		if err := publish(tmp, c.dst.delta(c.name)); err != nil {
			return err
		}
		return c.dst.redo(ctx, c.name)
	})
}

// base is the map of the replica as it is. One that has none is read, and the map
// kept: applying a delta brings a map up to date, but makes none.
func (c *comparison) base(ctx context.Context) (blockMap, error) {
	m, err := c.dst.readMap(c.name)
	if err == nil && m.BlockSize == c.blockSize {
		return m, nil
	}
	if m, err = c.readReplica(ctx); err != nil {
		return blockMap{}, err
	}
	return m, c.commit(ctx, func() error { return c.dst.writeMap(c.name, m) })
}

// readReplica makes the map of a replica that has none.
func (c *comparison) readReplica(ctx context.Context) (blockMap, error) {
	f, err := os.Open(c.dst.replica(c.name))
	if err != nil {
		return blockMap{}, err
	}
	m := blockMap{BlockSize: c.blockSize, Sums: make(map[int64]sum)}
	fi, err := f.Stat()
	if err == nil {
		m.Size = fi.Size()
		err = eachBlock(ctx, f, m.Size, m.BlockSize, func(index int64, data []byte) error {
			m.Sums[index] = sumOf(data)
			return nil
		})
	}
	return m, errors.Join(err, f.Close())
}

// writeDelta writes what turns base into the source, not committed, and returns
// the number of blocks in it.
func (c *comparison) writeDelta(ctx context.Context, path string, base blockMap) (int64, error) {
	w, err := createDelta(path, deltaHeader{
		Version: deltaVersion, Name: c.name, BlockSize: c.blockSize, Size: c.next.Size, Source: c.next.Source,
	})
	if err != nil {
		return 0, err
	}
	err = eachBlock(ctx, c.source, c.next.Size, c.blockSize, func(index int64, data []byte) error {
		s := sumOf(data)
		c.next.Sums[index] = s
		if base.Sums[index] == s {
			return nil
		}
		return w.block(index, data)
	})
	for index := range base.Sums {
		if _, ok := c.next.Sums[index]; err == nil && !ok && index < blocksOf(c.next.Size, c.blockSize) {
			err = w.block(index, nil)
		}
	}
	if err != nil {
		return 0, errors.Join(err, w.f.Close())
	}
	c.copied += w.bytes
	return w.blocks, w.finish()
}

// confirm notes that the replica is equal to the source as it is, if that is
// news.
func (c *comparison) confirm(ctx context.Context, known stamp) error {
	if c.next.Source == known {
		return nil
	}
	return c.commit(ctx, func() error { return c.dst.writeMap(c.name, c.next) })
}

// commit has an effect at the target if source and target still are what they
// were.
func (c *comparison) commit(ctx context.Context, effect func() error) error {
	return c.onTarget(ctx, func(siteState) error {
		if err := c.sourceHolds(); err != nil {
			return err
		}
		return effect()
	})
}
