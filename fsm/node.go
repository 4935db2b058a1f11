package fsm

import (
	"fmt"
	"iter"
	"time"
)

// Node is one Lockstep process.
type Node struct {
	ID        string `cbor:"1,keyasint"`
	Raft      string `cbor:"2,keyasint,omitempty"` // address of its Raft transport
	API       string `cbor:"3,keyasint,omitempty"` // base URL of its HTTP API
	Gossip    string `cbor:"4,keyasint,omitempty"` // address of its gossip
	Release   string `cbor:"5,keyasint,omitempty"` // version of its build
	Format    uint8  `cbor:"6,keyasint,omitempty"` // newest log format that it reads
	CreatedAt Time   `cbor:"7,keyasint,omitempty"`
	UpdatedAt Time   `cbor:"8,keyasint,omitempty"`
	Index     uint64 `cbor:"9,keyasint,omitempty"` // of its last change

	// LeaseSpan is how long after one of its services has asked for a lease calls
	// made under it may still run. Leaders differ in what they are configured
	// with; this tells each of them how long it has to wait for this node.
	LeaseSpan time.Duration `cbor:"10,keyasint,omitempty"`

	Directory Directory `cbor:"11,keyasint,omitzero"`
}

// Node returns the node with the given id.
func (s *State) Node(id string) (Node, bool) { return deref(s.nodes.Get(id)) }

// Nodes yields all nodes by id.
func (s *State) Nodes() iter.Seq[Node] { return values(&s.nodes) }

// RegisterNode says that a node is there, and how it is reached. Repeating it
// is harmless. The span of its leases grows at once, but is shortened only when no
// lease that an earlier run of the node was granted can matter any more. It is
// refused with another data directory than the node's own, unless a leader has
// taken the node out of Raft and says which one it replaces.
type RegisterNode struct {
	Node     Node          `cbor:"1,keyasint"`
	Running  time.Duration `cbor:"2,keyasint,omitempty"` // for how long the present run has lasted, at least
	Replaces string        `cbor:"3,keyasint,omitempty"` // the ID of the directory that the node has lost
}

func (RegisterNode) kind() Kind { return kindRegisterNode }

func (c RegisterNode) apply(s *State, m Meta) error {
	n := c.Node
	if err := checkName("node", n.ID); err != nil {
		return err
	}
	if n.LeaseSpan < 0 {
		return refuseField(ErrInvalid, "lease_span", n.LeaseSpan.String(), "a lease cannot end before it was asked for")
	}
	n.CreatedAt, n.UpdatedAt, n.Index = m.At, m.At, m.Index
	if old, ok := s.nodes.Get(n.ID); ok {
		n.CreatedAt = old.CreatedAt
		if !n.Directory.Follows(old.Directory) && (c.Replaces == "" || c.Replaces != old.Directory.ID) {
			return refuseField(ErrConflict, "node", n.ID, fmt.Sprintf("node %q has the data directory %s, start %d, not %s, start %d",
				n.ID, old.Directory.ID, old.Directory.Start, n.Directory.ID, n.Directory.Start))
		}
		if c.Running < old.LeaseSpan {
			n.LeaseSpan = max(n.LeaseSpan, old.LeaseSpan)
		}
	}
	s.nodes.Set(n.ID, &n)
	return nil
}

// RemoveNode forgets a node that has left for good. It is refused while the
// node still has services.
type RemoveNode struct {
	ID string `cbor:"1,keyasint"`
}

func (RemoveNode) kind() Kind { return kindRemoveNode }

func (c RemoveNode) apply(s *State, _ Meta) error {
	if _, ok := s.nodes.Get(c.ID); !ok {
		return refuseField(ErrNotFound, "node", c.ID, fmt.Sprintf("node %q could not be found", c.ID))
	}
	for svc := range s.Services() {
		if svc.Node == c.ID {
			return refuseField(ErrConflict, "node", c.ID,
				fmt.Sprintf("node %q still has the service %q: delete it first", c.ID, svc.Host))
		}
	}
	s.nodes.Delete(c.ID)
	return nil
}

// checkName refuses names that would not survive a URL, a file name or a log.
func checkName(field, name string) error {
	if name == "" || len(name) > 255 {
		return refuseField(ErrInvalid, field, name, fmt.Sprintf("%s must have 1 to 255 characters, not %d", field, len(name)))
	}
	for _, r := range name {
		if r <= ' ' || r == '/' || r == 0x7f || r == '\ufffd' {
			return refuseField(ErrInvalid, field, name, fmt.Sprintf("%s %q must have no space, slash or control character", field, name))
		}
	}
	return nil
}
