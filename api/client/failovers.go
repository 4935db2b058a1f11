package client

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"
)

// Failover is one attempt to switch a cluster, or a service outside clusters, to
// another site.
type Failover struct {
	ID          string           `json:"id"`
	Cluster     string           `json:"cluster,omitempty"` // or else Host
	Host        string           `json:"host,omitempty"`
	Group       string           `json:"group,omitempty"` // the replication group that is failed over alone
	Target      string           `json:"target"`
	From        string           `json:"from"`
	Mode        string           `json:"mode"`  // forced or planned
	Phase       string           `json:"phase"` // one of the Phase constants
	Attempt     uint64           `json:"attempt"`
	Executor    string           `json:"executor"`
	Reason      string           `json:"reason"`
	RequestedBy string           `json:"requested_by"`
	Error       string           `json:"error"`
	RequestedAt time.Time        `json:"requested_at,omitzero"`
	FinishedAt  time.Time        `json:"finished_at,omitzero"`
	Epoch       uint64           `json:"epoch"` // that the switch led to; 0 before it
	Results     FailoverResults  `json:"results"`
	Index       uint64           `json:"index"` // log index of its last change
	Members     []FailoverMember `json:"members"`
}

// The phases of a failover; the last three are its ends.
const (
	PhaseDraining  = "draining"
	PhasePromoting = "promoting"
	PhaseSwitching = "switching"
	PhaseDone      = "done"
	PhaseFailed    = "failed"
	PhaseAborted   = "aborted"
)

// The modes of a failover.
const (
	Forced  = "forced"  // the site in use is presumed lost
	Planned = "planned" // loses nothing
)

// Subject is the cluster or host that is failing over, or the group of it.
func (f Failover) Subject() string {
	if f.Group != "" {
		return "group " + f.Group + " of " + cmp.Or(f.Cluster, f.Host)
	}
	return cmp.Or(f.Cluster, f.Host)
}

// Finished reports whether the failover has ended, well or not.
func (f Failover) Finished() bool {
	return f.Phase == PhaseDone || f.Phase == PhaseFailed || f.Phase == PhaseAborted
}

// Partial reports whether the failover is done although a volume, or a member that
// is up, did not follow. A member that is down follows when it returns.
func (f Failover) Partial() bool {
	return f.Phase == PhaseDone && (f.Results.Failed > 0 || slices.ContainsFunc(f.Members, FailoverMember.Stayed))
}

// FailoverResults counts the volumes that have a result of their own.
type FailoverResults struct {
	Staged uint64 `json:"staged"`
	Failed uint64 `json:"failed"`
}

// FailoverMember is how far one member has followed.
type FailoverMember struct {
	Host            string    `json:"host"`
	State           string    `json:"state"` // one of the Member constants
	Epoch           uint64    `json:"epoch"`
	ActiveBackendID string    `json:"active_backend_id"`
	Error           string    `json:"error"`
	At              time.Time `json:"at,omitzero"`
	Up              *bool     `json:"up"` // nil when nobody can say
}

// Stayed reports whether the member did not follow although it could have.
func (m FailoverMember) Stayed() bool {
	return m.State == MemberError || m.State != MemberSwitched && m.Up != nil && *m.Up
}

// The states of a member in a failover.
const (
	MemberWaiting  = "waiting"
	MemberDrained  = "drained"
	MemberSwitched = "switched"
	MemberError    = "error"
)

// FailoverRequest asks for a failover of exactly one of Cluster and Host, or of one
// replication group there alone. One whose volumes are attached is refused unless
// AllowAttached says otherwise.
type FailoverRequest struct {
	Cluster       string `json:"cluster,omitempty"`
	Host          string `json:"host,omitempty"`
	Group         string `json:"group,omitempty"` // id
	AllowAttached bool   `json:"allow_attached_volume,omitempty"`
	BackendID     string `json:"backend_id,omitempty"` // may be empty if there is only one target
	Mode          string `json:"mode,omitempty"`
	Reason        string `json:"reason,omitempty"`
}

// RequestFailover asks for a failover; it answers as soon as the request is
// committed. A key that was used before returns the failover of that time; an
// empty one stands for a new one.
func (c *Client) RequestFailover(ctx context.Context, r FailoverRequest, key string) (Failover, error) {
	var f Failover
	err := c.do(ctx, request{method: http.MethodPost, path: "/v1/failovers", body: r, header: idempotent(key)}, &f)
	return f, err
}

// AbortFailover ends a failover of which nothing was promoted.
func (c *Client) AbortFailover(ctx context.Context, id string) (Failover, error) {
	var f Failover
	err := c.do(ctx, request{method: http.MethodPost, path: "/v1/failovers/" + segment(id) + "/abort", header: idempotent("")}, &f)
	return f, err
}

// Failover reads one failover.
func (c *Client) Failover(ctx context.Context, id string) (Failover, error) {
	return c.WaitFailover(ctx, id, 0, 0)
}

// WaitFailover reads a failover once it has changed since the log index after,
// has ended, or wait is over.
func (c *Client) WaitFailover(ctx context.Context, id string, after uint64, wait time.Duration) (Failover, error) {
	r := request{method: http.MethodGet, path: "/v1/failovers/" + segment(id), wait: wait}
	if wait > 0 {
		r.query = url.Values{
			"wait":  {fmt.Sprintf("%dms", wait.Milliseconds())},
			"index": {strconv.FormatUint(after, 10)},
		}
	}
	var f Failover
	err := c.do(ctx, r, &f)
	return f, err
}

// longestWait is for how long one blocking read waits.
const longestWait = 10 * time.Second

// FollowFailover yields a failover as it is and then after each change, until it
// has ended. Nodes that go away are no reason to stop while another answers; an
// error is the last thing it yields.
func (c *Client) FollowFailover(ctx context.Context, id string) iter.Seq2[Failover, error] {
	return func(yield func(Failover, error) bool) {
		f, err := c.Failover(ctx, id)
		for err == nil {
			if !yield(f, nil) || f.Finished() {
				return
			}
			f, err = c.changed(ctx, f)
		}
		yield(f, err)
	}
}

// changed waits for the next version of f.
func (c *Client) changed(ctx context.Context, f Failover) (Failover, error) {
	for {
		next, err := c.WaitFailover(ctx, f.ID, f.Index, longestWait)
		if err != nil || next.Index > f.Index || next.Finished() {
			return next, err
		}
	}
}

// Failovers yields the failovers of a cluster, or of all with an empty one, newest
// first, a page at a time. An error is the last thing it yields.
func (c *Client) Failovers(ctx context.Context, cluster string) iter.Seq2[Failover, error] {
	return pages(func(marker string) ([]Failover, string, error) {
		query := url.Values{}
		for name, value := range map[string]string{"cluster": cluster, "marker": marker} {
			if value != "" {
				query.Set(name, value)
			}
		}
		var page struct {
			Failovers []Failover `json:"failovers"`
			Next      string     `json:"next"`
		}
		err := c.do(ctx, request{method: http.MethodGet, path: "/v1/failovers", query: query}, &page)
		return page.Failovers, page.Next, err
	})
}

// pages yields what read returns for one marker after the other, from an empty one
// until an empty one.
func pages[T any](read func(marker string) (page []T, next string, err error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		marker := ""
		for {
			page, next, err := read(marker)
			if err != nil {
				var none T
				yield(none, err)
				return
			}
			for _, item := range page {
				if !yield(item, nil) {
					return
				}
			}
			switch next {
			case "":
				return
			case marker: // it would go on like that for ever
				var none T
				yield(none, fmt.Errorf("the page after %q ends where it begins", marker))
				return
			}
			marker = next
		}
	}
}
