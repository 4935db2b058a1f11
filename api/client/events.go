package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Event is one change, as the event stream tells it.
type Event struct {
	Index uint64          // log index of the change
	Type  string          // failover, cluster or service
	Data  json.RawMessage // the record, in the shape that its own route has
}

// eventPause is how long to wait before asking again for a stream that broke.
const eventPause = 200 * time.Millisecond

// Events yields all changes after a log index (0: from now on) until ctx ends. A
// stream that breaks is taken up again where it ended, at any node. A refusal is
// the last thing it yields.
func (c *Client) Events(ctx context.Context, after uint64) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		for ctx.Err() == nil {
			err := c.stream(ctx, after, func(e Event) bool {
				after = max(after, e.Index)
				return yield(e, nil)
			})
			refused, ok := errors.AsType[*Error](err)
			switch {
			case errors.Is(err, errEnough):
				return
			case ok && !refused.Temporary():
				yield(Event{}, err)
				return
			}
			c.prefer(c.at(1))
			if pause(ctx, eventPause) != nil {
				return
			}
		}
	}
}

// errEnough says that the reader of a stream wants no more.
var errEnough = errors.New("enough")

// stream reads one stream until it breaks.
func (c *Client) stream(ctx context.Context, after uint64, yield func(Event) bool) error {
	r := request{method: http.MethodGet, path: "/v1/events", header: http.Header{"Accept": {"text/event-stream"}}}
	if after > 0 {
		r.header.Set("Last-Event-ID", strconv.FormatUint(after, 10))
	}
	req, err := c.newRequest(ctx, c.Address(), r, nil)
	if err != nil {
		return err
	}
	resp, err := c.opts.HTTP.Do(req)
	if err != nil {
		return asked(c.Address(), err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		body, err := io.ReadAll(io.LimitReader(resp.Body, maxEvent))
		return errors.Join(newError(resp, body), err)
	}
	return readEvents(resp.Body, yield)
}

// maxEvent bounds one line of a stream, and the data of one event, in bytes.
const maxEvent = 4 << 20

// readEvents parses the format of server-sent events, as far as Lockstep uses it.
func readEvents(body io.Reader, yield func(Event) bool) error {
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, maxEvent)
	var e Event
	for lines.Scan() {
		if lines.Text() == "" && len(e.Data) > 0 {
			if !yield(e) {
				return errEnough
			}
			e = Event{}
		}
		if err := e.add(lines.Text()); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read events: %w", err)
	}
	return io.ErrUnexpectedEOF
}

// add takes in a line of the stream.
func (e *Event) add(line string) (err error) {
	name, value, _ := strings.Cut(line, ":")
	value = strings.TrimPrefix(value, " ")
	switch name {
	case "id":
		if e.Index, err = strconv.ParseUint(value, 10, 64); err != nil {
			return fmt.Errorf("event id %q: %w", value, err)
		}
	case "event":
		e.Type = value
	case "data":
		if e.Data = append(e.Data, value...); len(e.Data) > maxEvent {
			return fmt.Errorf("an event has more than %d bytes", maxEvent)
		}
	}
	return nil
}
