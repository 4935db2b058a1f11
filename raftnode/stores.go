package raftnode

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	wal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/metadb"
	"go.etcd.io/bbolt"
)

// The values of log_store.
const (
	LogStoreWAL    = "wal"    // raft-wal, the default: about twice the writes of boltdb.
	LogStoreBoltDB = "boltdb" // raft-boltdb, the conservative choice.
)

// What lies in a data directory beside identity.json and snapshots.
const (
	stableFile = "stable.db" // term and vote
	walDir     = "wal"       // the log with log_store wal
	boltFile   = "raft.db"   // the log with log_store boltdb
)

const (
	retainedSnapshots = 2
	cachedEntries     = 512
	// maxCachedEntry in bytes keeps the cache under 32 MiB: it counts entries,
	// and an entry may have 1 MiB.
	maxCachedEntry = 64 << 10
)

// StoreConfig says where and how a node keeps its log, its votes and its
// snapshots. Every field is required.
type StoreConfig struct {
	Dir      string      // the data directory, already claimed by openIdentity
	LogStore string      // LogStoreWAL or LogStoreBoltDB
	Failed   func(error) // called when something could not be written
	Logger   hclog.Logger
}

// stores is all that Raft keeps on disk.
type stores struct {
	Logs      raft.LogStore
	Stable    raft.StableStore
	Snapshots raft.SnapshotStore

	mark     *tailMark
	logFound bool           // the log was there before this start
	closers  []func() error // in the order of opening
}

// openStores opens what is in cfg.Dir or creates it. It refuses a directory
// that was written with the other log store, or that has lost a part: a server
// that forgets its vote or its log breaks the promises it made to the others.
func openStores(cfg StoreConfig) (_ *stores, err error) {
	logPath, err := logStorePath(cfg)
	if err != nil {
		return nil, err
	}
	s := &stores{logFound: exists(logPath), mark: &tailMark{path: filepath.Join(cfg.Dir, probeFile)}}
	s.closers = append(s.closers, s.mark.close)
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()

	stablePath := filepath.Join(cfg.Dir, stableFile)
	stable, err := openBolt(stablePath)
	if err != nil {
		return nil, err
	}
	s.Stable = &guardedStable{StableStore: stable, path: stablePath, failed: cfg.Failed}
	s.closers = append(s.closers, stable.Close)

	if err := s.openLog(cfg, logPath); err != nil {
		return nil, err
	}
	s.Snapshots, err = raft.NewFileSnapshotStoreWithLogger(cfg.Dir, retainedSnapshots, cfg.Logger.Named("snapshots"))
	if err != nil {
		return nil, fmt.Errorf("snapshots in %s: %w", cfg.Dir, err)
	}
	if err := s.check(stablePath, logPath); err != nil {
		return nil, err
	}
	if err := s.verify(cfg); err != nil {
		return nil, fmt.Errorf("%w: %s", err, cure)
	}
	return s, syncDir(cfg.Dir)
}

// close closes all that was opened, the last first.
func (s *stores) close() error {
	var errs []error
	for _, closer := range slices.Backward(s.closers) {
		errs = append(errs, closer())
	}
	s.closers = nil
	return errors.Join(errs...)
}

// logStorePath returns where the log is, unless the directory holds a log of
// the other kind.
func logStorePath(cfg StoreConfig) (string, error) {
	walPath, boltPath := filepath.Join(cfg.Dir, walDir), filepath.Join(cfg.Dir, boltFile)
	asked, other, otherKind := walPath, boltPath, LogStoreBoltDB
	switch cfg.LogStore {
	case LogStoreWAL:
	case LogStoreBoltDB:
		asked, other, otherKind = boltPath, walPath, LogStoreWAL
	default:
		return "", fmt.Errorf("log_store %q: must be %q or %q", cfg.LogStore, LogStoreWAL, LogStoreBoltDB)
	}
	if exists(other) {
		return "", fmt.Errorf("log_store %q: %s was written with log_store %q: set that, "+
			"or remove this node from the deployment, empty its data directory and let it join again",
			cfg.LogStore, other, otherKind)
	}
	return asked, nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

func (s *stores) openLog(cfg StoreConfig, path string) error {
	var log interface {
		raft.LogStore
		Close() error
	}
	var err error
	if cfg.LogStore == LogStoreWAL {
		log, err = openWAL(path, cfg.Logger.Named("wal"))
	} else {
		log, err = openBolt(path)
	}
	if err != nil {
		return err
	}
	s.closers = append(s.closers, log.Close)
	s.Logs, err = newLogCache(&guardedLog{LogStore: log, path: path, failed: cfg.Failed, mark: s.mark})
	return err
}

// walLog is a raft-wal that gives up its lock when it is closed, which raft-wal
// itself does not.
type walLog struct {
	*wal.WAL
	meta *metadb.BoltMetaDB
}

// Close implements [io.Closer].
func (l *walLog) Close() error { return errors.Join(l.WAL.Close(), l.meta.Close()) }

func openWAL(dir string, logger hclog.Logger) (log *walLog, err error) {
	defer guardOpen(dir, &err)()
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, err
	}
	if err := repairWAL(dir); err != nil {
		return nil, err
	}
	meta := new(metadb.BoltMetaDB)
	opened, err := wal.Open(dir, wal.WithLogger(logger), wal.WithMetaStore(meta), wal.WithSegmentSize(segmentSize))
	if err != nil {
		return nil, errors.Join(err, meta.Close())
	}
	return &walLog{WAL: opened, meta: meta}, nil
}

// openBolt does not write the list of free pages with every commit: with it, a
// commit takes three times as long once a long log has been cut.
func openBolt(path string) (store *raftboltdb.BoltStore, err error) {
	defer guardOpen(path, &err)()
	return raftboltdb.New(raftboltdb.Options{Path: path, BoltOptions: &bbolt.Options{
		Timeout:        time.Second, // to wait for the file's lock
		NoFreelistSync: true,
		FreelistType:   bbolt.FreelistMapType,
	}})
}

// guardOpen returns what to defer while the store at path is opened. bbolt maps
// its file and trusts it: one that was cut short ends the process with a fault
// unless that is turned into an error here.
func guardOpen(path string, err *error) func() {
	before := debug.SetPanicOnFault(true)
	return func() {
		debug.SetPanicOnFault(before)
		if fault := recover(); fault != nil {
			*err = fmt.Errorf("%v", fault)
		}
		if *err != nil {
			*err = fmt.Errorf("open %s: %w (if it is damaged, remove this node from the deployment, "+
				"empty its data directory and let it join again)", path, *err)
		}
	}
}

// cure is what to do about a data directory that is not sound.
const cure = "restore the whole data directory, or remove this node from the deployment, empty the directory and let it join again"

// check compares the parts with each other. Each may be sound and yet not be
// this node's: a file that was lost comes back empty, a restored one is old.
func (s *stores) check(stablePath, logPath string) error {
	term, err := s.Stable.GetUint64([]byte("CurrentTerm"))
	if err != nil && !errors.Is(err, raftboltdb.ErrKeyNotFound) {
		return fmt.Errorf("read term from %s: %w", stablePath, err)
	}
	if term > 0 && !s.logFound {
		return fmt.Errorf("%s is missing but %s has taken part in term %d: %s", logPath, stablePath, term, cure)
	}
	newest, err := s.newestTerm()
	if err != nil {
		return fmt.Errorf("read %s: %w: %s", logPath, err, cure)
	}
	if newest > term {
		return fmt.Errorf("%s knows term %d only but the log or a snapshot is of term %d: it was lost or is old: %s",
			stablePath, term, newest, cure)
	}
	return nil
}

// verify looks for what Raft and its stores would pass over in silence.
func (s *stores) verify(cfg StoreConfig) error {
	first, err := s.Logs.FirstIndex()
	if err != nil {
		return err
	}
	last, err := s.Logs.LastIndex()
	if err != nil {
		return err
	}
	if err := checkSnapshots(cfg.Dir, s.Snapshots, first, cfg.Logger); err != nil {
		return err
	}
	snapshots, err := s.Snapshots.List()
	if err != nil {
		return err
	}
	reaches := last
	if len(snapshots) > 0 {
		reaches = max(last, snapshots[0].Index)
	}
	if err := s.mark.check(reaches, cfg.Logger); err != nil {
		return err
	}
	s.mark.reached(last)
	return nil
}

// newestTerm returns the term of the last entry or snapshot, 0 with neither.
func (s *stores) newestTerm() (uint64, error) {
	var newest uint64
	snapshots, err := s.Snapshots.List()
	if err != nil {
		return 0, err
	}
	if len(snapshots) > 0 {
		newest = snapshots[0].Term
	}
	last, err := s.Logs.LastIndex()
	if err != nil || last == 0 {
		return newest, err
	}
	var entry raft.Log
	if err := s.Logs.GetLog(last, &entry); err != nil {
		return 0, err
	}
	return max(newest, entry.Term), nil
}

// logCache is [raft.LogCache] without the big entries.
type logCache struct {
	*raft.LogCache
	store raft.LogStore
}

func newLogCache(store raft.LogStore) (*logCache, error) {
	cache, err := raft.NewLogCache(cachedEntries, store)
	if err != nil {
		return nil, fmt.Errorf("log cache: %w", err)
	}
	return &logCache{LogCache: cache, store: store}, nil
}

// StoreLog implements [raft.LogStore].
func (c *logCache) StoreLog(entry *raft.Log) error {
	return c.StoreLogs([]*raft.Log{entry})
}

// StoreLogs implements [raft.LogStore]. Going past the cache leaves nothing
// stale in it: Raft deletes an entry, which empties the cache, before it
// writes another one at the same index.
func (c *logCache) StoreLogs(entries []*raft.Log) error {
	for _, entry := range entries {
		if len(entry.Data) > maxCachedEntry {
			return c.store.StoreLogs(entries)
		}
	}
	return c.LogCache.StoreLogs(entries)
}
