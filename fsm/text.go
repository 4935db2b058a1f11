package fsm

import (
	"cmp"
	"strconv"
	"strings"
)

func compare(a, b string) int { return cmp.Compare(a, b) }

// list names what is allowed, for people.
func list(names []string) string {
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = strconv.Quote(n)
	}
	return strings.Join(quoted, ", ")
}
