package main

// table maps hashes to the numbers of states: open addressing in two arrays, 12
// bytes a place.
type table struct {
	keys []uint64
	ids  []uint32
	used int
}

func newTable() table {
	const places = 1 << 16
	return table{keys: make([]uint64, places), ids: make([]uint32, places)}
}

// insert returns the number of a key, and whether it is new, and so gets id.
func (t *table) insert(key uint64, id uint32) (known uint32, isNew bool) {
	if t.used*10 > len(t.keys)*7 {
		t.grow()
	}
	at := t.place(key)
	if t.keys[at] == key {
		return t.ids[at], false
	}
	t.keys[at], t.ids[at] = key, id
	t.used++
	return id, true
}

// place is where a key is, or belongs.
func (t *table) place(key uint64) uint64 {
	mask := uint64(len(t.keys) - 1)
	at := key & mask
	for t.keys[at] != 0 && t.keys[at] != key {
		at = (at + 1) & mask
	}
	return at
}

func (t *table) grow() {
	old := *t
	*t = table{keys: make([]uint64, 2*len(old.keys)), ids: make([]uint32, 2*len(old.ids)), used: old.used}
	for i, key := range old.keys {
		if key != 0 {
			at := t.place(key)
			t.keys[at], t.ids[at] = key, old.ids[i]
		}
	}
}

func (t *table) bytes() int { return len(t.keys) * 12 }
