package fsm

import (
	"cmp"
	"iter"

	"github.com/tidwall/btree"
)

// deref turns the answer of a tree of records into a value that its caller may
// keep.
func deref[V any](v *V, _ bool) (V, bool) {
	if v == nil {
		var zero V
		return zero, false
	}
	return *v, true
}

// values yields the records of a tree in the order of their keys.
func values[K cmp.Ordered, V any](m *btree.Map[K, *V]) iter.Seq[V] {
	return func(yield func(V) bool) {
		m.Scan(func(_ K, v *V) bool { return yield(*v) })
	}
}

// newestFirst yields what order lists before the index before, newest first. A
// before of zero starts with the newest.
func newestFirst[V any](order *btree.Map[uint64, string], get func(string) (V, bool), before uint64) iter.Seq[V] {
	return func(yield func(V) bool) {
		visit := func(_ uint64, id string) bool {
			v, ok := get(id)
			return !ok || yield(v)
		}
		if before == 0 {
			order.Reverse(visit)
			return
		}
		order.Descend(before-1, visit)
	}
}
