package fsm

// Directory is which data directory a node works on, and in which start. A node
// that has lost its directory has lost its votes and what it acknowledged: it is
// not the node that the others know, whatever its name.
type Directory struct {
	ID    string `cbor:"1,keyasint,omitempty"` // random, made with the directory
	Start uint64 `cbor:"2,keyasint,omitempty"` // grows by one with every start
	Nonce string `cbor:"3,keyasint,omitempty"` // random, of this start
}

// Follows reports whether d may be what has become of known: the same directory,
// in the same start or in a later one. A directory that was restored from a copy
// is in an earlier start, or in one that has been used up.
func (d Directory) Follows(known Directory) bool {
	if known.ID == "" {
		return true
	}
	return d.ID == known.ID && (d.Start > known.Start || d.Start == known.Start && d.Nonce == known.Nonce)
}
