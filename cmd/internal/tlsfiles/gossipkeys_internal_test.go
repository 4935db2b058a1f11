package tlsfiles

import (
	"strings"
	"testing"
)

func FuzzGossipKeys(f *testing.F) {
	f.Add(newGossipKey() + "\n# old\n" + newGossipKey())
	f.Add("\x00\n=")
	f.Fuzz(func(t *testing.T, content string) {
		keys, err := parseGossipKeys([]byte(content))
		if (err == nil) != (len(keys) > 0) || len(keys) > 1+strings.Count(content, "\n") {
			t.Errorf("%d keys, %v", len(keys), err)
		}
		for _, key := range keys {
			if len(key) != gossipKeySize {
				t.Errorf("a key of %d bytes", len(key))
			}
		}
	})
}
