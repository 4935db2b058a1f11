package fsm_test

import (
	"testing"

	"github.com/lockstep-storage/lockstep/fsm"
)

func TestDirectoryFollows(t *testing.T) {
	t.Parallel()
	known := fsm.Directory{ID: "d", Start: 3, Nonce: "n"}
	for name, test := range map[string]struct {
		is   fsm.Directory
		want bool
	}{
		"the same start":                {known, true},
		"a later start":                 {fsm.Directory{ID: "d", Start: 4, Nonce: "m"}, true},
		"an earlier start":              {fsm.Directory{ID: "d", Start: 2, Nonce: "m"}, false},
		"a copy that was started again": {fsm.Directory{ID: "d", Start: 3, Nonce: "m"}, false},
		"another directory":             {fsm.Directory{ID: "e", Start: 9, Nonce: "n"}, false},
		"none":                          {fsm.Directory{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := test.is.Follows(known); got != test.want {
				t.Error(got)
			}
			s := fsm.NewState()
			apply := func(index uint64, is fsm.Directory, replaces string) error {
				return s.Apply(fsm.Meta{Index: index}, fsm.RegisterNode{Node: fsm.Node{ID: "a", Directory: is}, Replaces: replaces})
			}
			if err := apply(1, known, ""); err != nil {
				t.Fatal(err)
			}
			if err := apply(2, test.is, ""); (err == nil) != test.want {
				t.Errorf("registered: %v", err)
			}
			if err := apply(3, fsm.Directory{ID: "e"}, "x"); err == nil {
				t.Error("registered in place of a directory that the node has not")
			}
			if err := apply(4, fsm.Directory{ID: "e"}, "d"); err != nil {
				t.Error(err)
			}
		})
	}
}
