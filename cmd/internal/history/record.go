package history

import (
	"slices"
	"sync"
	"time"

	"github.com/lockstep-storage/lockstep/fsm"
)

// Kind is what a client can ask for.
type Kind string

// The operations.
const (
	CreateVolume    Kind = "create volume"
	DeleteVolume    Kind = "delete volume"
	ExtendVolume    Kind = "extend volume"
	ReadVolume      Kind = "read volume"
	CreateSnapshot  Kind = "create snapshot"
	DeleteSnapshot  Kind = "delete snapshot"
	ReadSnapshot    Kind = "read snapshot"
	RequestFailover Kind = "request failover"
	AbortFailover   Kind = "abort failover"
	ReadFailover    Kind = "read failover"
	SetFrozen       Kind = "set frozen"
	ReadCluster     Kind = "read cluster"
)

// reads reports whether an operation of kind k changes nothing.
func (k Kind) reads() bool {
	switch k {
	case ReadVolume, ReadSnapshot, ReadFailover, ReadCluster:
		return true
	case CreateVolume, DeleteVolume, ExtendVolume, CreateSnapshot, DeleteSnapshot, RequestFailover, AbortFailover, SetFrozen:
	}
	return false
}

// Request is what a client asks for.
type Request struct {
	Kind    Kind   `json:"kind"`
	Cluster string `json:"cluster,omitempty"` // of RequestFailover, SetFrozen and ReadCluster
	ID      string `json:"id,omitempty"`      // of the volume, the snapshot or the failover; never used for two things
	Size    int64  `json:"size,omitempty"`    // GiB: of CreateVolume and ExtendVolume
	Target  string `json:"target,omitempty"`  // of RequestFailover; never empty
	Frozen  bool   `json:"frozen,omitempty"`  // of SetFrozen
}

// Answer is what a client knows of the end of a request. Exactly one of Unknown,
// a refusal's Code, and neither, which is success, holds. The zero values of the
// other fields mean that the client has not seen them.
type Answer struct {
	Unknown bool     `json:"unknown,omitempty"` // it may take effect later, have done so, or never do
	Code    fsm.Code `json:"code,omitempty"`    // of the refusal

	Status   string    `json:"status,omitempty"`   // of a volume or snapshot; replication_status of a cluster
	Size     int64     `json:"size,omitempty"`     // of a volume, GiB
	Epoch    uint64    `json:"epoch,omitempty"`    // of a cluster
	Active   string    `json:"active,omitempty"`   // active_backend_id of a cluster
	Frozen   *bool     `json:"frozen,omitempty"`   // of a cluster
	Failover string    `json:"failover,omitempty"` // the latest failover of a cluster that changed something
	Phase    fsm.Phase `json:"phase,omitempty"`    // of a failover
}

// Operation is one request with its answer.
type Operation struct {
	Client  int           `json:"client"`
	Request Request       `json:"request"`
	Answer  Answer        `json:"answer"`
	Begin   time.Duration `json:"begin"` // since the history began, on one clock for all clients
	End     time.Duration `json:"end"`   // meaningless if the answer is Unknown
	Note    string        `json:"note,omitempty"`

	void bool
}

// Recorder collects operations of many clients. It is safe for concurrent use.
type Recorder struct {
	now func() time.Duration

	mu         sync.Mutex
	operations []Operation
}

// NewRecorder returns a recorder that reads the time since the history began from
// now, which must never go back.
func NewRecorder(now func() time.Duration) *Recorder { return &Recorder{now: now} }

// Begin notes that a client makes a request. The answer counts as unknown until the
// client has it.
func (r *Recorder) Begin(client int, request Request) *Pending {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.operations = append(r.operations, Operation{
		Client: client, Request: request, Answer: Answer{Unknown: true}, Begin: r.now(),
	})
	return &Pending{r: r, at: len(r.operations) - 1}
}

// Pending is a request whose end has yet to be noted.
type Pending struct {
	r  *Recorder
	at int
}

// End notes the answer that the client has got now.
func (p *Pending) End(a Answer) { p.Settle(a, 0, p.r.now()) }

// Settle notes what is known otherwise of a request that had no answer: which it
// would have been, a time before which it had no effect yet, and one at which it had it
// already. To judge a history with many unknown outcomes takes exponential time.
func (p *Pending) Settle(a Answer, from, by time.Duration) {
	p.r.mu.Lock()
	defer p.r.mu.Unlock()
	op := &p.r.operations[p.at]
	op.Answer, op.Begin, op.End = a, max(op.Begin, from), by
}

// Void notes that a request that had no answer has had no effect, and never will.
func (p *Pending) Void() {
	p.r.mu.Lock()
	defer p.r.mu.Unlock()
	p.r.operations[p.at].void = true
}

// Operations returns what has been recorded so far, in the order of the requests.
func (r *Recorder) Operations() []Operation {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(r.operations), func(op Operation) bool { return op.void })
}
