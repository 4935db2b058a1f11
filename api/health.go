package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

const (
	typeText      = "text/plain; charset=UTF-8"
	mediaText     = "text/plain"
	mediaHTML     = "text/html"
	healthyReason = "OK"
)

// livez answers as long as the process answers.
func (s *Server) livez(x *exchange) error {
	x.bytes(http.StatusOK, typeText, []byte("ok\n"))
	return nil
}

// readyz answers 200 when the node has caught up and its services know the
// committed sites.
func (s *Server) readyz(x *exchange) error {
	if err := s.whyNotReady(); err != nil {
		return newFault(http.StatusServiceUnavailable, "not ready: %v", err)
	}
	return s.livez(x)
}

func (s *Server) whyNotReady() error {
	if s.cfg.Ready != nil {
		return s.cfg.Ready()
	}
	if !s.node.Status().Ready {
		return errors.New("the node has not caught up, or a local service has not been told the committed site")
	}
	return nil
}

// healthcheck answers GET and HEAD /healthcheck as the middleware that Cinder
// takes for it, oslo.middleware, does: load balancers are set up for that. It says
// what readyz says.
func (s *Server) healthcheck(x *exchange) error {
	x.Header().Set(headerRequestID, "req-"+x.id)
	status, reason := http.StatusOK, healthyReason
	if err := s.whyNotReady(); err != nil {
		status, reason = http.StatusServiceUnavailable, err.Error()
	}
	if x.r.Method == http.MethodHead {
		if status == http.StatusOK {
			status = http.StatusNoContent
		}
		x.bytes(status, typeText, nil)
		return nil
	}
	switch prefer(x.r.Header.Values("Accept"), mediaText, mediaHTML, typeJSON) {
	case mediaHTML:
		x.bytes(status, typeHTML, []byte(healthPage(reason)))
	case typeJSON:
		return x.healthJSON(status, reason)
	default:
		x.bytes(status, typeText, []byte(reason))
	}
	return nil
}

// healthJSON answers as Python writes JSON, indented and without an end of line.
func (x *exchange) healthJSON(status int, reason string) error {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "    ")
	if err := enc.Encode(map[string]any{"detailed": false, "reasons": []string{reason}}); err != nil {
		return fmt.Errorf("encode %q: %w", reason, err)
	}
	x.bytes(status, typeJSON, bytes.TrimSuffix(buf.Bytes(), []byte("\n")))
	return nil
}

// healthPage is the page of the middleware, blank lines included.
func healthPage(reason string) string {
	return "<HTML>\n<HEAD><TITLE>Healthcheck Status</TITLE></HEAD>\n<BODY>\n\n<H2>Result of 1 checks:</H2>\n" +
		"<TABLE bgcolor=\"#ffffff\" border=\"1\">\n<TBODY>\n<TR>\n\n<TH>\nReason\n</TH>\n</TR>\n<TR>\n\n    <TD>" + html.EscapeString(reason) +
		"</TD>\n\n</TR>\n</TBODY>\n</TABLE>\n<HR></HR>\n\n</BODY>\n</HTML>"
}

// prefer returns the media type that the Accept headers of a request like best of
// those on offer: the first of them where several are liked as much, or none is.
func prefer(accept []string, offers ...string) string {
	ranges := strings.Split(strings.Join(accept, ","), ",")
	best, most := offers[0], 0.0
	for _, offer := range offers {
		if q := quality(ranges, offer); q > most {
			best, most = offer, q
		}
	}
	return best
}

// quality returns how much a media type is liked, from 0 to 1. Of the ranges that
// it is in, the narrowest counts.
func quality(ranges []string, media string) float64 {
	general, _, _ := strings.Cut(media, "/")
	widths := []string{media, general + "/*", "*/*"}
	q, width := 0.0, len(widths)
	for _, text := range ranges {
		is, params, err := mime.ParseMediaType(text)
		at := slices.Index(widths, is)
		if err != nil || at < 0 || at >= width {
			continue
		}
		q, width = 1, at
		if given, ok := params["q"]; ok {
			q, _ = strconv.ParseFloat(given, 64) // what is no number is not liked
		}
	}
	return q
}
