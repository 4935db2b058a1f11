package raftnode

import (
	"fmt"

	"github.com/hashicorp/raft"
)

// guardedLog reports every write that fails, after which the process ends.
//
// raft-wal takes no entry any more after one that it could not write, and after a
// truncation that it could not finish its files and its memory differ; and what a
// failed fsync has left on the disk nobody knows. Opening the log again looks at
// what is there. An entry that could not be written is acknowledged by nobody.
type guardedLog struct {
	raft.LogStore
	path   string
	failed func(error)
	mark   *tailMark
}

// StoreLog implements [raft.LogStore].
func (g *guardedLog) StoreLog(entry *raft.Log) error { return g.StoreLogs([]*raft.Log{entry}) }

// StoreLogs implements [raft.LogStore].
func (g *guardedLog) StoreLogs(entries []*raft.Log) error {
	for _, entry := range entries {
		entry.Extensions = sumOf(entry)
	}
	err := g.report("write", g.LogStore.StoreLogs(entries))
	if err == nil && len(entries) > 0 {
		g.mark.reached(entries[len(entries)-1].Index)
	}
	return err
}

// GetLog implements [raft.LogStore].
func (g *guardedLog) GetLog(index uint64, entry *raft.Log) error {
	if err := g.LogStore.GetLog(index, entry); err != nil {
		return err
	}
	if err := checkSum(entry); err != nil {
		return fmt.Errorf("entry %d of %s: %w", index, g.path, err)
	}
	return nil
}

// DeleteRange implements [raft.LogStore].
func (g *guardedLog) DeleteRange(first, last uint64) error {
	end, err := g.LastIndex()
	if err == nil && last >= end && first > 0 {
		err = g.mark.lower(first - 1) // before: a mark that is too low does no harm
	}
	if err == nil {
		err = g.LogStore.DeleteRange(first, last)
	}
	return g.report("truncate", err)
}

// IsMonotonic implements [raft.MonotonicLogStore].
func (g *guardedLog) IsMonotonic() bool {
	store, ok := g.LogStore.(raft.MonotonicLogStore)
	return ok && store.IsMonotonic()
}

func (g *guardedLog) report(what string, err error) error {
	if err != nil {
		err = fmt.Errorf("%s log %s: %w", what, g.path, err)
		g.failed(err)
	}
	return err
}

// guardedStable reports every term or vote that cannot be kept. It never returns
// then: Raft would panic. The process is about to end.
type guardedStable struct {
	raft.StableStore
	path   string
	failed func(error)
}

// Set implements [raft.StableStore].
func (g *guardedStable) Set(key, value []byte) error {
	return g.report(key, g.StableStore.Set(key, value))
}

// SetUint64 implements [raft.StableStore].
func (g *guardedStable) SetUint64(key []byte, value uint64) error {
	return g.report(key, g.StableStore.SetUint64(key, value))
}

func (g *guardedStable) report(key []byte, err error) error {
	if err == nil {
		return nil
	}
	g.failed(fmt.Errorf("write %s to %s: %w", key, g.path, err))
	select {}
}
