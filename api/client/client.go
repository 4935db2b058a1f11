package client

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
)

// DefaultAddress is where a node listens unless told otherwise.
const DefaultAddress = "http://127.0.0.1:9776"

const (
	// maxAnswer bounds the answer to one request, in bytes.
	maxAnswer = 64 << 20
	// microversion is the newest of Cinder's API that this client understands.
	microversion = "volume 3.70"
)

// Options are what nearly all callers leave at their defaults.
type Options struct {
	// Project and User are whose volumes the Cinder calls are about. Default
	// "admin" for both.
	Project, User string

	// Token proves who asks. Empty: nothing does, and Project and User are
	// believed.
	Token string

	// TLS is for addresses with https, of which an address without a scheme is
	// one if it is set. It is not for HTTP.
	TLS *tls.Config

	// HTTP makes the requests. Default: a client of its own that keeps
	// connections open.
	HTTP *http.Client

	// Patience is for how long a call is repeated while the nodes answer that
	// nobody leads. The context may end it earlier. Default 10 s; negative for
	// one round.
	Patience time.Duration

	// Attempt is how long one node may take to answer one request, beyond what
	// a blocking read asks for, before the next is asked. A context that ends
	// soon shortens it, so that every node is asked in time. Default 5 s.
	Attempt time.Duration
}

// Client asks a deployment. It is safe for concurrent use.
type Client struct {
	addrs     []string
	opts      Options
	preferred atomic.Int64 // index of the address that answered last
}

// New returns a client of the nodes at addrs, each host:port or a base URL; with
// none, of [DefaultAddress]. It connects to nothing yet.
func New(addrs []string, opts Options) (*Client, error) {
	if len(addrs) == 0 {
		addrs = []string{DefaultAddress}
	}
	c := &Client{opts: opts}
	for _, addr := range addrs {
		base, err := baseURL(addr, opts.TLS != nil)
		if err != nil {
			return nil, err
		}
		c.addrs = append(c.addrs, base)
	}
	defaultTo(&c.opts.Project, "admin")
	defaultTo(&c.opts.User, "admin")
	defaultTo(&c.opts.Patience, 10*time.Second)
	defaultTo(&c.opts.Attempt, 5*time.Second)
	if c.opts.HTTP == nil {
		c.opts.HTTP = &http.Client{Transport: &http.Transport{
			MaxIdleConnsPerHost: 16, IdleConnTimeout: time.Minute, ResponseHeaderTimeout: 0,
			TLSClientConfig: opts.TLS,
		}}
	}
	return c, nil
}

func defaultTo[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func baseURL(addr string, secure bool) (string, error) {
	full := strings.TrimSpace(addr)
	if !strings.Contains(full, "://") {
		full = map[bool]string{false: "http://", true: "https://"}[secure] + full
	}
	u, err := url.Parse(full)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return "", fmt.Errorf("address %q: must be host:port, http://host:port or https://host:port", addr)
	}
	return strings.TrimRight(full, "/"), nil
}

// Address is the base URL of the node that answered last.
func (c *Client) Address() string { return c.addrs[c.at(0)] }

func (c *Client) at(offset int) int {
	return (int(c.preferred.Load()) + offset) % len(c.addrs)
}

// prefer makes an address the first to be asked from now on.
func (c *Client) prefer(at int) { c.preferred.Store(int64(at)) }

// request is one call, to be made at any node.
type request struct {
	method string
	path   string // escaped
	query  url.Values
	body   any
	header http.Header
	wait   time.Duration // that a blocking read may take
}

// idempotent gives a changing request a key that stays the same when repeated.
func idempotent(key string) http.Header {
	if key == "" {
		key = uuid.NewString()
	}
	return http.Header{"Idempotency-Key": {key}}
}

// do makes the request at one node after the other until one answers it, and
// decodes the answer into out unless that is nil. A 503 is repeated as it asks
// for, until the context or the patience ends.
func (c *Client) do(ctx context.Context, r request, out any) error {
	body, err := encode(r.body)
	if err != nil {
		return err
	}
	deadline := time.Now().Add(c.opts.Patience)
	var last error // what a node said when it was last asked
	for {
		answer, err := c.round(ctx, r, body)
		if err == nil {
			return decode(answer, out)
		}
		refused, ok := errors.AsType[*Error](err)
		switch {
		case !ok && ctx.Err() != nil && last != nil:
			return last
		case !ok || !refused.Temporary() || !time.Now().Add(refused.RetryAfter).Before(deadline):
			return err
		}
		last = err
		if pause(ctx, max(refused.RetryAfter, minPause)) != nil {
			return err
		}
	}
}

// minPause keeps a client from asking a deployment without a leader in a loop.
const minPause = 50 * time.Millisecond

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// round asks every node once, the one that answered last first. A refusal other
// than 503 is an answer. The error prefers what a node said to what the network
// said.
func (c *Client) round(ctx context.Context, r request, body []byte) ([]byte, error) {
	var refusal, network error
	first := c.at(0)
	for i := range c.addrs {
		at := (first + i) % len(c.addrs)
		answer, err := c.attempt(ctx, c.addrs[at], c.limit(ctx, r, len(c.addrs)-i), body, r)
		refused, ok := errors.AsType[*Error](err)
		switch {
		case err == nil || ok && !refused.Temporary():
			c.prefer(at)
			return answer, err
		case ok:
			refusal = err
		default:
			network = errors.Join(network, err)
		}
		if ctx.Err() != nil {
			break
		}
	}
	if refusal != nil {
		return nil, refusal
	}
	return nil, &UnreachableError{Err: network}
}

// leastAttempt keeps a short context from leaving no node enough time.
const leastAttempt = 500 * time.Millisecond

// limit is how long one node may take when so many are left to ask.
func (c *Client) limit(ctx context.Context, r request, left int) time.Duration {
	limit := c.opts.Attempt + r.wait
	if end, ok := ctx.Deadline(); ok {
		limit = min(limit, max(time.Until(end)/time.Duration(left), leastAttempt))
	}
	return limit
}

func (c *Client) attempt(ctx context.Context, base string, limit time.Duration, body []byte, r request) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, errNoAnswer)
	defer cancel()
	req, err := c.newRequest(ctx, base, r, body)
	if err != nil {
		return nil, err
	}
	resp, err := c.opts.HTTP.Do(req)
	if err != nil {
		return nil, asked(base, err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", base, err)
	}
	if len(answer) > maxAnswer {
		return nil, fmt.Errorf("ask %s: the answer has more than %d bytes", base, maxAnswer)
	}
	if resp.StatusCode >= http.StatusBadRequest {
		return nil, newError(resp, answer)
	}
	return answer, nil
}

// errNoAnswer is why a node is not waited for any longer.
var errNoAnswer = fmt.Errorf("no answer in time: %w", context.DeadlineExceeded)

// asked names the node that did not answer, once.
func asked(base string, err error) error {
	if inner, ok := errors.AsType[*url.Error](err); ok {
		err = inner.Err
	}
	return fmt.Errorf("ask %s: %w", base, err)
}

func (c *Client) newRequest(ctx context.Context, base string, r request, body []byte) (*http.Request, error) {
	target := base + r.path
	if len(r.query) > 0 {
		target += "?" + r.query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, r.method, target, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("request: %w", err)
	}
	maps.Copy(req.Header, r.header)
	req.Header.Set("X-Auth-Token", cmp.Or(c.opts.Token, c.opts.User+":"+c.opts.Project))
	req.Header.Set("OpenStack-API-Version", microversion)
	if req.Header.Get("Accept") == "" {
		req.Header.Set("Accept", "application/json")
	}
	if len(body) > 0 {
		req.Header.Set("Content-Type", "application/json")
	}
	return req, nil
}

func encode(body any) ([]byte, error) {
	if body == nil {
		return nil, nil
	}
	encoded, err := json.Marshal(body)
	if err != nil {
		return nil, fmt.Errorf("encode request: %w", err)
	}
	return encoded, nil
}

func decode(answer []byte, out any) error {
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("decode answer: %w", err)
	}
	return nil
}

// segment escapes a name for use in a path.
func segment(name string) string { return url.PathEscape(name) }

func retryAfter(h http.Header) time.Duration {
	seconds, err := strconv.ParseFloat(h.Get("Retry-After"), 64)
	if err != nil || !(seconds >= 0 && seconds <= 3600) { // NaN is neither
		return 0
	}
	return time.Duration(seconds * float64(time.Second))
}
