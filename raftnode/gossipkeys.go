package raftnode

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
)

// checkGossipKeys names what is wrong with keys by their place, never by their
// value.
func checkGossipKeys(keys [][]byte) error {
	for i, key := range keys {
		if n := len(key); n != 16 && n != 24 && n != 32 {
			return fmt.Errorf("gossip key %d of %d bytes: must be 16, 24 or 32 bytes long", i+1, n)
		}
	}
	return nil
}

// setKeys makes keys those that gossip is read with, and the first the one that it
// is written with. At no moment is a message unreadable that both the old and the
// new keys can read.
func (g *gossip) setKeys(keys [][]byte) error {
	if err := checkGossipKeys(keys); err != nil {
		return err
	}
	if (g.keys == nil) != (len(keys) == 0) {
		return errors.New("gossip key: whether gossip is encrypted changes only with a restart")
	}
	if g.keys == nil {
		return nil
	}
	for _, key := range keys {
		if err := g.keys.AddKey(key); err != nil {
			return fmt.Errorf("gossip key: %w", err)
		}
	}
	if err := g.keys.UseKey(keys[0]); err != nil {
		return fmt.Errorf("gossip key: %w", err)
	}
	return g.dropKeys(keys)
}

// dropKeys forgets all keys but those to keep. The ring takes a key out in place,
// under the eyes of its readers, unless it is the last one. A key that is used
// comes first, so using those to keep, the first of them last, lets the others
// sink to the end.
func (g *gossip) dropKeys(keep [][]byte) error {
	unwanted := func(old []byte) bool {
		return !slices.ContainsFunc(keep, func(key []byte) bool { return bytes.Equal(key, old) })
	}
	if !slices.ContainsFunc(g.keys.GetKeys(), unwanted) {
		return nil
	}
	for _, key := range slices.Backward(keep) {
		if err := g.keys.UseKey(key); err != nil {
			return fmt.Errorf("gossip key: %w", err)
		}
	}
	for _, old := range slices.Backward(slices.Clone(g.keys.GetKeys())) {
		if !unwanted(old) {
			return nil // and so are all before it
		}
		if err := g.keys.RemoveKey(old); err != nil {
			return fmt.Errorf("gossip key: %w", err)
		}
	}
	return nil
}
