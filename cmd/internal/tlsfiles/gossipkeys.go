package tlsfiles

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"fmt"
)

// gossipKeySize chooses AES-256.
const gossipKeySize = 32

// ReadGossipKeys reads the keys of gossip: one a line, in base64, the first to
// write with, all to read with. Lines that begin with # say nothing.
func ReadGossipKeys(path string) ([][]byte, error) {
	content, err := ReadSecret(path)
	if err != nil {
		return nil, err
	}
	keys, err := parseGossipKeys(content)
	if err != nil {
		return nil, fmt.Errorf("%s:%w", path, err)
	}
	return keys, nil
}

// parseGossipKeys never says what is in a line: it may be a key but for one
// letter.
func parseGossipKeys(content []byte) (keys [][]byte, err error) {
	line := 0
	for text := range bytes.Lines(content) {
		line++
		text = bytes.TrimSpace(text)
		if len(text) == 0 || text[0] == '#' {
			continue
		}
		key, err := base64.StdEncoding.Strict().DecodeString(string(text))
		if err != nil || len(key) != gossipKeySize {
			return nil, fmt.Errorf("%d: must be %d bytes in base64, as 'lockstep tls gossip-key create' makes them", line, gossipKeySize)
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("1: has no key: 'lockstep tls gossip-key create' makes one")
	}
	return keys, nil
}

func newGossipKey() string {
	key := make([]byte, gossipKeySize)
	_, _ = rand.Read(key) // never fails, says its documentation
	return base64.StdEncoding.EncodeToString(key)
}
