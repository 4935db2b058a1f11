package client_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-storage/lockstep/api/client"
)

// parrot answers everything with the same, in pieces of any size, and counts.
type parrot struct {
	status int
	header http.Header
	body   []byte
	asked  int
}

func (p *parrot) RoundTrip(r *http.Request) (*http.Response, error) {
	p.asked++
	body := io.NopCloser(&trickle{bytes.NewReader(p.body)})
	return &http.Response{StatusCode: p.status, Header: p.header, Body: body, Request: r}, nil
}

// trickle reads less than it is asked for.
type trickle struct{ r io.Reader }

func (t *trickle) Read(p []byte) (int, error) {
	return t.r.Read(p[:min(len(p), 1+rand.N(1<<rand.N(20)))])
}

func (p *parrot) client(t *testing.T) *client.Client {
	t.Helper()
	c, err := client.New([]string{"node"}, client.Options{Patience: -1, HTTP: &http.Client{Transport: p}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// asks reads everything that a client can read, from a node that may answer anything.
func asks(ctx context.Context, c *client.Client) (errs []error) {
	note := func(err error) { errs = append(errs, err) }
	_, err := c.Status(ctx)
	note(err)
	_, err = c.Peers(ctx)
	note(err)
	_, err = c.Cluster(ctx, "a@b")
	note(err)
	_, err = c.AllClusters(ctx, client.Stale)
	note(err)
	_, err = c.Services(ctx)
	note(err)
	_, err = c.Clusters(ctx)
	note(err)
	f, err := c.Failover(ctx, "f")
	note(err)
	_ = f.Finished()
	_, err = c.CreateVolume(ctx, client.VolumeRequest{Name: "v", Size: 1})
	note(err)
	_, err = c.Snapshot(ctx, "s")
	note(err)
	for _, err = range c.Volumes(ctx) {
		if err != nil {
			note(err)
		}
	}
	for _, err = range c.Failovers(ctx, "") {
		if err != nil {
			note(err)
		}
	}
	for _, err = range c.Snapshots(ctx) {
		if err != nil {
			note(err)
		}
	}
	return errs
}

// A client takes any answer: it ends, and a refusal has a status, a text of sensible
// length, and a time to wait that is one.
func FuzzAnswers(f *testing.F) {
	for _, body := range []string{
		"", "null", "[]", "{}", `{"volumes": [{"id": "v", "size": 1}], "volumes_links": [{"rel": "next"}]}`,
		`{"failovers": [], "next": "x"}`, `{"snapshots": [{"id": "s"}], "snapshots_links": [{"rel": "next"}]}`,
		`{"badRequest": {"code": 400, "message": "No."}}`, `{"a": {"message": "a"}, "b": {"message": "b"}}`,
		`{"title": "Conflict", "detail": "no", "code": "conflict", "field": "f", "value": [1], "allowed": ["a", "b"]}`, "<html>",
	} {
		f.Add(200, "1", []byte(body))
		f.Add(400, "NaN", []byte(body))
		f.Add(503, "-1", []byte(body))
	}
	f.Fuzz(func(t *testing.T, status int, after string, body []byte) {
		if status < 200 || status > 599 || status/100 == 3 || len(body) > 64<<10 {
			t.Skip("not what HTTP is about")
		}
		p := &parrot{status: status, header: http.Header{"Retry-After": {after}, "Content-Type": {"application/json"}}, body: body}
		errs := asks(t.Context(), p.client(t))
		if p.asked > 30 {
			t.Errorf("asked %d times", p.asked)
		}
		again := asks(t.Context(), p.client(t))
		for i, err := range errs {
			if err != nil && (i >= len(again) || again[i] == nil || again[i].Error() != err.Error()) {
				t.Errorf("the same answer is another error: %v, %v", errs, again)
			}
			refused, ok := errors.AsType[*client.Error](err)
			if ok != (status >= 400 && err != nil) {
				t.Errorf("status %d is %v", status, err)
			}
			if ok && (refused.Status != status || refused.Error() == "" || refused.RetryAfter < 0 || refused.RetryAfter > time.Hour) {
				t.Errorf("a refusal with %d is %+v", status, refused)
			}
		}
	})
}

// The events of any stream are within bounds, and come to an end.
func FuzzEvents(f *testing.F) {
	for _, body := range []string{
		"", "\n\n", "id: 1\nevent: cluster\ndata: {}\n\n", "id: 2\ndata: {\ndata: }\n\n: comment\n\nid: 1\ndata: x\n\n",
		"id: -1\n", "id: 99999999999999999999999\n", "data\n\n", "data: " + strings.Repeat("x", 70_000) + "\n\n", strings.Repeat("data: x\n", 100), "\r\n",
	} {
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body string) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		p := &parrot{status: 200, header: http.Header{}, body: []byte(body)}
		c, err := client.New([]string{"node"}, client.Options{HTTP: &http.Client{Transport: once{p, cancel}}})
		if err != nil {
			t.Fatal(err)
		}
		events := 0
		for e, err := range c.Events(ctx, 0) {
			if err != nil {
				t.Errorf("a stream that breaks is taken up again: %v", err)
			}
			if len(e.Data) == 0 || len(e.Data) > len(body) {
				t.Errorf("an event of %q has the data %q", body, e.Data)
			}
			events++
		}
		if ends := strings.Count(strings.ReplaceAll(body, "\r\n", "\n"), "\n"); events > ends {
			t.Errorf("%d events in %d lines", events, ends)
		}
	})
}

// once has a parrot answer once: all is done when nobody reads its answer any more.
type once struct {
	p    *parrot
	done func()
}

func (o once) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := o.p.RoundTrip(r)
	if err == nil {
		resp.Body = closing{resp.Body, o.done}
	}
	return resp, err
}

type closing struct {
	io.Reader

	done func()
}

func (c closing) Close() error {
	c.done()
	return nil
}

// An event is no longer than a client has room for, however its data come.
func TestEventsAreBounded(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	line := "data: " + strings.Repeat("x", 1<<20) + "\n"
	p := &parrot{status: 200, header: http.Header{}, body: []byte(strings.Repeat(line, 6) + "\n")}
	c, err := client.New([]string{"node"}, client.Options{HTTP: &http.Client{Transport: once{p, cancel}}})
	if err != nil {
		t.Fatal(err)
	}
	for e, err := range c.Events(ctx, 0) {
		t.Errorf("an event of %d bytes, %v", len(e.Data), err)
	}
}
