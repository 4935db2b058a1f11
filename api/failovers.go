package api

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/lockstep-storage/lockstep/fsm"
)

const (
	headerIndex = "X-Lockstep-Index"

	defaultFailovers = 100             // in a list
	maxWait          = 5 * time.Minute // of a blocking read
)

// failoverMember is the part of one member in a failover.
type failoverMember struct {
	Host string `json:"host"`
	site
	State fsm.MemberState `json:"state"`
	Error string          `json:"error"`
	At    *time.Time      `json:"at"`
	Up    *bool           `json:"up"` // null when nobody can say
}

// failoverView is a failover of /v1.
type failoverView struct {
	ID          string           `json:"id"`
	Cluster     string           `json:"cluster,omitempty"`
	Host        string           `json:"host,omitempty"`  // of a service outside clusters
	Group       string           `json:"group,omitempty"` // of the cluster, that is failed over alone
	Target      string           `json:"target"`
	From        string           `json:"from"`
	Mode        fsm.Mode         `json:"mode"`
	Phase       fsm.Phase        `json:"phase"`
	Attempt     uint64           `json:"attempt"`
	Executor    string           `json:"executor"`
	Reason      string           `json:"reason"`
	RequestedBy string           `json:"requested_by"`
	Error       string           `json:"error"`
	RequestedAt *time.Time       `json:"requested_at"`
	FinishedAt  *time.Time       `json:"finished_at"`
	Epoch       uint64           `json:"epoch"`
	Results     failoverResults  `json:"results"`
	Members     []failoverMember `json:"members"`
	Index       uint64           `json:"index"`
}

// failoverResults counts the volumes with a result of their own.
type failoverResults struct {
	Staged uint64 `json:"staged"`
	Failed uint64 `json:"failed"`
}

func (t truth) failover(state *fsm.State, f *fsm.Failover) failoverView {
	v := failoverView{
		ID: f.ID, Cluster: f.Cluster, Group: f.Group, Target: f.Target, From: f.From, Mode: f.Mode, Phase: f.Phase, Attempt: f.Attempt,
		Executor: f.Executor, Reason: f.Reason, RequestedBy: f.RequestedBy, Error: f.Error,
		RequestedAt: when(f.RequestedAt), FinishedAt: when(f.FinishedAt), Epoch: f.Epoch,
		Results: failoverResults{Staged: f.Results, Failed: f.FailedCount}, Members: []failoverMember{}, Index: f.Index,
	}
	if cl, ok := state.Cluster(f.Cluster); ok && cl.Single {
		v.Cluster, v.Host = "", f.Cluster
	}
	for _, m := range f.Members {
		svc, _ := state.Service(m.Host)
		v.Members = append(v.Members, failoverMember{
			Host: m.Host, State: m.State, Error: m.Error, At: when(m.At), Up: t.isUp(m.Host),
			site: site{Epoch: svc.Reported.Epoch, ActiveBackendID: svc.Reported.ActiveBackendID},
		})
	}
	return v
}

func noCluster(state *fsm.State, field, name string) error {
	var allowed []string
	for cl := range state.Clusters() {
		if len(allowed) < 100 {
			allowed = append(allowed, cl.Name)
		}
	}
	return &fsm.Refusal{
		Code: fsm.ErrNotFound, Message: fmt.Sprintf("%s %q could not be found", field, name), Field: field, Value: name, Allowed: allowed,
	}
}

func noFailover(id string) error {
	return &fsm.Refusal{Code: fsm.ErrNotFound, Message: fmt.Sprintf("failover %q could not be found", id), Field: "id", Value: id}
}

// requestFailover answers POST /v1/failovers.
func (s *Server) requestFailover(x *exchange) error {
	body, err := s.valid(x, "failover_request")
	if err != nil {
		return err
	}
	cmd := fsm.RequestFailover{
		Group: body.text("group"), Target: body.text("backend_id"), Mode: fsm.Mode(body.text("mode")), Reason: body.text("reason"), RequestedBy: x.user,
	}
	if cmd.Attached, err = body.flag("allow_attached_volume", "false"); err != nil {
		return err
	}
	if cmd.Mode == "" {
		cmd.Mode = fsm.Forced
		if cmd.Target == fsm.DefaultBackendID {
			cmd.Mode = fsm.Planned
		}
	}
	if err := s.look(x); err != nil {
		return err
	}
	if cmd.Cluster, err = s.subject(body.text("cluster"), body.text("host")); err != nil {
		return err
	}
	if err := s.groupIn(cmd.Cluster, cmd.Group); err != nil {
		return err
	}
	ids, err := x.identities()
	if err != nil {
		return err
	}
	cmd.ID = ids.of("failover " + cmd.Cluster)
	if err := s.commit(x, ids, cmd.Cluster, cmd); err != nil {
		return err
	}
	return s.accepted(x, cmd.ID)
}

// subject returns the one cluster that cluster or host means.
func (s *Server) subject(cluster, host string) (name string, err error) {
	if (cluster == "") == (host == "") {
		return "", &fsm.Refusal{
			Code: fsm.ErrInvalid, Message: "exactly one of cluster and host must be given", Field: "cluster", Value: cluster, Allowed: []string{"cluster", "host"},
		}
	}
	s.node.View(func(state *fsm.State) {
		if cluster != "" {
			if _, ok := state.Cluster(cluster); !ok {
				err = noCluster(state, "cluster", cluster)
			}
			name = cluster
			return
		}
		switch found := onHost(state, host); len(found) {
		case 0:
			err = noCluster(state, "host", host)
		case 1:
			name = found[0].Name
		default:
			r := &fsm.Refusal{Code: fsm.ErrInvalid, Message: fmt.Sprintf("host %q has services of %d clusters: name one", host, len(found)), Field: "host", Value: host}
			for _, cl := range found {
				r.Allowed = append(r.Allowed, cl.Name)
			}
			err = r
		}
	})
	return name, err
}

// groupIn refuses a group that is not of the cluster.
func (s *Server) groupIn(cluster, group string) (err error) {
	s.node.View(func(state *fsm.State) {
		if g, ok := state.Group(group); group != "" && (!ok || g.Cluster != cluster) {
			err = &fsm.Refusal{Code: fsm.ErrNotFound, Message: fmt.Sprintf("group %q could not be found in %q", group, cluster), Field: "group", Value: group}
		}
	})
	return err
}

// accepted answers with a failover that was asked for or aborted.
func (s *Server) accepted(x *exchange, id string) error {
	view, err := s.failoverNow(x, id)
	if err != nil {
		return err
	}
	x.Header().Set("Location", "/v1/failovers/"+id)
	x.Header().Set(headerFailover, id)
	x.json(http.StatusAccepted, typeJSON, view)
	return nil
}

// failoverNow returns a failover as it is here now. What was done must not look
// undone because nobody can say who is up.
func (s *Server) failoverNow(x *exchange, id string) (failoverView, error) {
	t, presenceErr := s.truth(x)
	t.known = t.known && presenceErr == nil
	view, err := failoverView{}, noFailover(id)
	s.node.View(func(state *fsm.State) {
		if f, ok := state.Failover(id); ok {
			view, err = t.failover(state, &f), nil
		}
	})
	x.Header().Set(headerIndex, strconv.FormatUint(view.Index, 10))
	return view, err
}

// abortFailover answers POST /v1/failovers/{id}/abort.
func (s *Server) abortFailover(x *exchange) error {
	id := x.params.ByName("id")
	if err := s.act(x, id, fsm.AbortFailover{ID: id}); err != nil {
		return err
	}
	return s.accepted(x, id)
}

// listFailovers answers GET /v1/failovers, newest first.
func (s *Server) listFailovers(x *exchange) error {
	limit, err := x.number("limit", defaultFailovers)
	if err != nil {
		return err
	}
	if err := s.look(x); err != nil {
		return err
	}
	t, err := s.truth(x)
	if err != nil {
		return err
	}
	limit = min(limit, maxLimit)
	var views []failoverView
	var next string
	s.node.View(func(state *fsm.State) {
		var before uint64
		if marker := x.query.Get("marker"); marker != "" {
			last, ok := state.Failover(marker)
			if !ok {
				err = noFailover(marker)
				return
			}
			before = last.RequestedIn
		}
		views, next = t.failovers(state, before, x.query.Get("cluster"), limit)
	})
	if err != nil {
		return err
	}
	x.json(http.StatusOK, typeJSON, map[string]any{"failovers": views, "next": next})
	return nil
}

// failovers returns up to limit failovers, of a cluster if one is named, and the
// marker of the next page if there is one.
func (t truth) failovers(state *fsm.State, before uint64, cluster string, limit int) (views []failoverView, next string) {
	views = []failoverView{}
	for f := range state.Failovers(before) {
		if cluster != "" && f.Cluster != cluster {
			continue
		}
		if len(views) == limit {
			if limit > 0 {
				next = views[limit-1].ID
			}
			break
		}
		views = append(views, t.failover(state, &f))
	}
	return views, next
}

// showFailover answers GET /v1/failovers/{id}. With wait it answers when the
// record is newer than index or has ended, at the latest after wait.
func (s *Server) showFailover(x *exchange) error {
	wait, index, err := x.blocking()
	if err != nil {
		return err
	}
	id := x.params.ByName("id")
	if err := x.within(s.cfg.RequestTimeout, func() error { return s.look(x) }); err != nil {
		return err
	}
	done := func(state *fsm.State) bool {
		f, ok := state.Failover(id)
		return !ok || f.Phase.Terminal() || f.Index > index
	}
	if wait > 0 {
		s.await(x.r.Context(), wait, done)
	}
	if err := x.refusal(); err != nil {
		return err
	}
	view, err := s.failoverNow(x, id)
	if err != nil {
		return err
	}
	x.json(http.StatusOK, typeJSON, view)
	return nil
}

// blocking returns how long, and for which index, a read waits.
func (x *exchange) blocking() (wait time.Duration, index uint64, err error) {
	if text := x.query.Get("wait"); text != "" {
		wait, err = time.ParseDuration(text)
		if err != nil || wait < 0 || wait > maxWait {
			return 0, 0, fieldFault("wait", text, fmt.Sprintf("wait %q must be a duration from 0s to %s, as in 30s.", text, maxWait), "0s", maxWait.String())
		}
	}
	if text := x.query.Get("index"); text != "" {
		index, err = strconv.ParseUint(text, 10, 64)
		if err != nil {
			return 0, 0, fieldFault("index", text, fmt.Sprintf("index %q must be a whole number that is not negative.", text))
		}
	}
	return wait, index, nil
}

// await returns when the state is done, after wait, or when ctx ends or the server
// stops.
func (s *Server) await(ctx context.Context, wait time.Duration, done func(*fsm.State) bool) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		var ok bool
		changed := s.node.View(func(state *fsm.State) { ok = done(state) })
		if ok {
			return
		}
		select {
		case <-changed:
		case <-timer.C:
			return
		case <-ctx.Done():
			return
		case <-draining(ctx):
			return
		}
	}
}
