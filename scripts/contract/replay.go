package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/lockstep-storage/lockstep/scripts/devcluster"
)

const (
	project    = "5f1e0c0d3a4b4c6d8e9fa0b1c2d3e4f5"
	adminToken = "admin:" + project
)

// replayer replays one sequence.
type replayer struct {
	o        options
	progress io.Writer
	dir      string
	seq      sequence
	listed   deviations
	rep      *report

	d     *deployment
	fresh bool // nothing was asked of the deployment yet
	parts int  // deployments so far
	ids   *pairs
	unmet string // why the state that a step asked for cannot be reached
}

// replay replays all sequences.
func replay(ctx context.Context, o options, progress io.Writer) (rep *report, err error) {
	sequences, err := loadSequences(o.recorded)
	if err != nil {
		return nil, err
	}
	listed, err := loadDeviations(o.deviations)
	if err != nil {
		return nil, err
	}
	dir := o.dir
	if dir == "" {
		if dir, err = os.MkdirTemp("", "lockstep-contract-"); err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	}
	rep = &report{begin: time.Now()}
	for _, seq := range sequences {
		r := &replayer{o: o, progress: progress, dir: filepath.Join(dir, seq.name), seq: seq, listed: listed, rep: rep, ids: newPairs()}
		if err := r.run(ctx); err != nil {
			return nil, err
		}
	}
	rep.took = time.Since(rep.begin)
	rep.unused = listed.unused(rep, o.only)
	return rep, nil
}

func (r *replayer) run(ctx context.Context) (err error) {
	defer func() { err = errors.Join(err, r.d.end()) }()
	last := len(r.seq.steps)
	for last > 0 && !r.wanted(r.seq.steps[last-1]) {
		last-- // what follows the last exchange that is to be reported
	}
	for i, st := range r.seq.steps[:last] {
		if err := r.step(ctx, st); err != nil {
			return fmt.Errorf("%s, step %d: %w", r.seq.name, i+1, err)
		}
		if (i+1)*10/last > i*10/last {
			fmt.Fprintf(r.progress, "contract: %s %d%%, %d differ\n", r.seq.name, (i+1)*100/last, r.rep.failed)
		}
	}
	return nil
}

func (r *replayer) wanted(st step) bool {
	return st.Case != "" && r.o.only.MatchString(r.seq.title(st.Case))
}

func (r *replayer) step(ctx context.Context, st step) error {
	switch {
	case st.Reset:
		return r.reset(ctx)
	case st.Settle:
		return devcluster.Await(ctx, "no cluster is failing over", func() error { return r.settled(ctx) })
	case st.SettleVolumes:
		return devcluster.Await(ctx, "no volume changes", func() error { return r.volumesSettled(ctx) })
	case st.WaitSeconds > 0:
		return wait(ctx, time.Duration(st.WaitSeconds*float64(time.Second)))
	case st.ForceState != nil:
		return r.reach(ctx, st.ForceState)
	case st.Call != nil:
		return r.call(ctx, st.Call)
	case st.Case != "":
		return r.compare(ctx, st)
	}
	return nil // a note
}

// reset makes the state pristine, by a new deployment.
func (r *replayer) reset(ctx context.Context) error {
	r.unmet = ""
	if r.d != nil && r.fresh {
		return nil
	}
	if err := r.start(ctx); err != nil {
		return err
	}
	// lockstep dev makes a volume type for convenience, which Cinder does not.
	var types struct {
		All []struct {
			ID, Name string
		} `json:"volume_types"`
	}
	if err := r.d.look(ctx, "/v3/"+project+"/types?is_public=None", &types); err != nil {
		return err
	}
	for _, t := range types.All {
		if t.Name == "__DEFAULT__" {
			continue
		}
		a, err := r.d.send(ctx, http.MethodDelete, "/v3/"+project+"/types/"+t.ID, [][2]string{{"X-Auth-Token", adminToken}}, nil)
		if err != nil || a.Status/100 != 2 {
			return fmt.Errorf("delete type %s: %d %s: %w", t.Name, a.Status, a.Body, err)
		}
	}
	return nil
}

func (r *replayer) start(ctx context.Context, extra ...string) error {
	if err := r.d.end(); err != nil {
		return err
	}
	r.parts++
	r.fresh = true
	dir := filepath.Join(r.dir, fmt.Sprintf("%02d", r.parts))
	var err error
	r.d, err = startDeployment(ctx, r.o.binary, dir, extra...)
	return err
}

// reach brings the clusters into a state that Cinder's rows were given by hand.
func (r *replayer) reach(ctx context.Context, state map[string]string) error {
	r.unmet = ""
	if state["clusters"] == "failing-over" && state["services"] == "failing-over" {
		if err := r.start(ctx, "--promote-delay", "1m"); err != nil {
			return err
		}
		return r.call(ctx, &call{
			Method: "PUT", Path: "/v3/{project}/os-services/failover", Microversion: "3.26",
			Body: []byte(`{"cluster": "mycluster@aa", "backend_id": "site-c"}`),
		})
	}
	r.unmet = fmt.Sprintf("no request leads to clusters %q and services %q", state["clusters"], state["services"])
	return nil
}

func (r *replayer) call(ctx context.Context, c *call) error {
	r.fresh = false
	body := string(c.Body)
	headers := [][2]string{{"X-Auth-Token", adminToken}, {"Content-Type", "application/json"}, {"OpenStack-API-Version", "volume " + c.Microversion}}
	a, err := r.d.send(ctx, c.Method, strings.ReplaceAll(c.Path, "{project}", project), headers, &body)
	if err == nil && a.Status/100 != 2 {
		err = fmt.Errorf("%s %s: %d %s", c.Method, c.Path, a.Status, a.Body)
	}
	return err
}

// settled is an error while a failover goes on or members have not followed it.
func (r *replayer) settled(ctx context.Context) error {
	var clusters struct {
		All []struct {
			Name    string
			Members []struct{ Host, State string }
		} `json:"clusters"`
	}
	if err := r.d.look(ctx, "/v1/clusters", &clusters); err != nil {
		return err
	}
	var failovers struct {
		All []struct{ ID, Phase string } `json:"failovers"`
	}
	if err := r.d.look(ctx, "/v1/failovers", &failovers); err != nil {
		return err
	}
	for _, f := range failovers.All {
		if f.Phase != "done" && f.Phase != "failed" && f.Phase != "aborted" {
			return fmt.Errorf("failover %s is %s", f.ID, f.Phase)
		}
	}
	return nil
}

// volumesSettled is an error while a record of the volumes' side changes.
func (r *replayer) volumesSettled(ctx context.Context) error {
	if err := r.settled(ctx); err != nil { // of a group
		return err
	}
	for _, noun := range []string{"volumes", "snapshots", "groups"} {
		var list map[string][]struct{ ID, Status string }
		a, err := r.d.send(ctx, http.MethodGet, "/v3/"+project+"/"+noun+"/detail?all_tenants=1",
			[][2]string{{"X-Auth-Token", adminToken}, {"OpenStack-API-Version", "volume 3.70"}}, nil)
		if err != nil {
			return err
		}
		if a.Status != 200 || decode(a.Body, &list) != nil {
			continue // reported where the sequence asks for it
		}
		for _, row := range list[noun] {
			switch row.Status {
			case "creating", "deleting", "extending", "detaching", "managing", "unmanaging", "updating", "retyping":
				return fmt.Errorf("%s %s is %s", noun, row.ID, row.Status)
			}
		}
	}
	return nil
}

// compare sends a recorded request and compares the answers.
func (r *replayer) compare(ctx context.Context, st step) error {
	title := r.seq.title(st.Case)
	x, err := r.seq.load(r.o.recorded, st.Case)
	if err != nil {
		return err
	}
	res := result{Name: title, Request: x.Request.Method + " " + x.Request.Path}
	if r.unmet != "" {
		res.Unmet = r.unmet
		r.rep.add(r.listed.judge(res), r.o.only)
		return nil
	}
	if x.Request.Method != http.MethodGet {
		r.fresh = false
	}
	path, body := r.ids.ours(x.Request.Path), x.Request.Body
	if body != nil {
		text := r.ids.ours(*body)
		body = &text
		res.Body = text
	}
	got, err := r.d.send(ctx, x.Request.Method, path, x.Request.Headers, body)
	if err != nil {
		return fmt.Errorf("%s: %w", title, err)
	}
	want := x.answer()
	if want.Body, err = r.listed.without(title, want.Body); err != nil {
		return err
	}
	for _, id := range st.Binds {
		r.ids.bind(created(got.Body), id)
	}
	res.Got, res.Want = got, want
	if isPlaced(x) {
		if res.Differences, err = r.placed(ctx, x, got, want); err != nil {
			return fmt.Errorf("%s: %w", title, err)
		}
	} else {
		res.Differences = compareAnswers(r.ids, got, want)
	}
	r.rep.add(r.listed.judge(res), r.o.only)
	return nil
}

// created returns the id of the record that an answer is about.
func created(body string) string {
	var m map[string]struct {
		ID string `json:"id"`
	}
	_ = decode(body, &m) // an answer about no record has no id
	for _, record := range m {
		return record.ID
	}
	return ""
}

func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
