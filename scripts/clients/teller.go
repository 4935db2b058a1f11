package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/gophercloud/gophercloud/v2"

	"github.com/lockstep-storage/lockstep/scripts/devcluster"
)

const (
	// atOnce is how many commands run at once: Python takes a whole processor.
	atOnce = 3
	// patience is how long a step that is repeated has until it is as expected.
	patience = time.Minute
	// pause is how long it waits in between.
	pause = 300 * time.Millisecond
)

// teller tells the story.
type teller struct {
	access access

	cluster  *devcluster.Cluster
	o        options
	progress io.Writer
	rep      *report
	known    *memory
	told     int // steps so far: each asks the next node
}

// tell goes through the stages until one is not as expected.
func (t *teller) tell(ctx context.Context, stages []stage) {
	for _, st := range stages {
		if !t.o.only.MatchString(st.title) {
			continue
		}
		begin := time.Now()
		results := t.stage(ctx, st)
		t.rep.results = append(t.rep.results, results...)
		if len(results) > 0 {
			fmt.Fprintf(t.progress, "clients: %6.1fs  %s: %d steps in %.1fs\n",
				time.Since(t.rep.begin).Seconds(), st.title, len(results), time.Since(begin).Seconds())
		}
		if !t.rep.ok() && !t.o.goOn {
			break
		}
	}
	t.rep.took = time.Since(t.rep.begin)
}

// stage takes all steps of a stage at once, as far as processors allow.
func (t *teller) stage(ctx context.Context, st stage) []result {
	var results []result
	var steps []step
	for _, s := range st.steps {
		if !s.long || !t.o.short {
			steps = append(steps, s)
			results = append(results, result{Stage: st.title, Client: s.client, Version: s.version, Command: s.command})
		}
	}
	var wg sync.WaitGroup
	slots := make(chan struct{}, atOnce)
	for i, s := range steps {
		node := t.cluster.Nodes[t.told%len(t.cluster.Nodes)]
		t.told++
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			t.step(ctx, s, node, &results[i])
		})
	}
	wg.Wait()
	return results
}

// step takes a step, again and again if it says so.
func (t *teller) step(ctx context.Context, s step, node devcluster.Node, res *result) {
	begin := time.Now()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		res.Times++
		o := t.ask(ctx, s, node)
		err := s.judge(o, t.known)
		res.Seconds = time.Since(begin).Seconds()
		if err == nil {
			return
		}
		ended := !s.again
		if s.again {
			next := time.NewTimer(pause)
			select {
			case <-next.C:
			case <-deadline.C:
				ended = true
			case <-ctx.Done():
				ended = true
			}
			next.Stop()
		}
		if ended {
			if cause := context.Cause(ctx); cause != nil {
				err = fmt.Errorf("%w (%w)", err, cause)
			}
			res.Node, res.Error, res.Stdout, res.Stderr = node.Name, err.Error(), o.stdout, o.stderr
			return
		}
	}
}

// ask uses the client of a step once.
func (t *teller) ask(ctx context.Context, s step, node devcluster.Node) output {
	s.token = t.known.expand(s.token)
	if s.do == nil {
		return t.run(ctx, s, node, split(t.known.expand(s.command)))
	}
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	var client *gophercloud.ServiceClient
	if s.client == gopherClient {
		var err error
		if client, err = t.access.gopher(ctx, s, node); err != nil {
			return output{code: -1, stderr: err.Error()}
		}
	}
	got, err := s.do(ctx, client, t.known)
	if err != nil {
		return output{code: 1, stderr: complain(err)}
	}
	text, err := json.Marshal(got)
	if err != nil {
		return output{code: -1, stderr: err.Error()}
	}
	return output{stdout: string(text)}
}

// complain writes an error of gophercloud as the other clients do theirs.
func complain(err error) string {
	refused, ok := errors.AsType[gophercloud.ErrUnexpectedResponseCode](err)
	if !ok {
		return err.Error()
	}
	var faults map[string]struct{ Message string }
	if json.Unmarshal(refused.Body, &faults) != nil {
		return err.Error()
	}
	for _, f := range faults {
		return fmt.Sprintf("%s (HTTP %d) (Request-ID: %s)", f.Message, refused.Actual,
			refused.ResponseHeader.Get("X-Openstack-Request-Id"))
	}
	return err.Error()
}
