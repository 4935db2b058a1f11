package api_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/lockstep-storage/lockstep/api"
)

// What load balancers get that were set up for Cinder.
func TestHealthcheck(t *testing.T) {
	t.Parallel()
	const (
		page = "<HTML>\n<HEAD><TITLE>Healthcheck Status</TITLE></HEAD>\n<BODY>\n\n<H2>Result of 1 checks:</H2>\n" +
			"<TABLE bgcolor=\"#ffffff\" border=\"1\">\n<TBODY>\n<TR>\n\n<TH>\nReason\n</TH>\n</TR>\n<TR>\n\n    <TD>OK</TD>\n\n</TR>\n" +
			"</TBODY>\n</TABLE>\n<HR></HR>\n\n</BODY>\n</HTML>"
		fine = "{\n    \"detailed\": false,\n    \"reasons\": [\n        \"OK\"\n    ]\n}"
		text = "text/plain; charset=UTF-8"
	)
	waiting := errors.New("<vol1@aa> was not told the site")
	for name, tt := range map[string]struct {
		method, accept    string
		reason            error
		status            int
		contentType, body string
	}{
		"text":                     {"GET", "", nil, 200, text, "OK"},
		"anything":                 {"GET", "*/*", nil, 200, text, "OK"},
		"a type that there is not": {"GET", "image/png", nil, 200, text, "OK"},
		"no list of types":         {"GET", "],;q=,", nil, 200, text, "OK"},
		"JSON":                     {"GET", "application/json", nil, 200, "application/json", fine},
		"any application":          {"GET", "application/*", nil, 200, "application/json", fine},
		"a browser":                {"GET", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", nil, 200, "text/html; charset=UTF-8", page},
		"rather JSON":              {"GET", "text/*;q=0.3, application/json;q=0.7, */*;q=0.1", nil, 200, "application/json", fine},
		"not text":                 {"GET", "text/plain;q=0, */*", nil, 200, "text/html; charset=UTF-8", page},
		"only the head":            {"HEAD", "text/html", nil, 204, text, ""},
		"not ready":                {"GET", "", waiting, 503, text, waiting.Error()},
		"not ready, JSON":          {"GET", "application/json", waiting, 503, "application/json", strings.Replace(fine, "OK", waiting.Error(), 1)},
		"not ready, page":          {"GET", "text/html", waiting, 503, "text/html; charset=UTF-8", strings.Replace(page, "OK", "&lt;vol1@aa&gt; was not told the site", 1)},
		"not ready, head":          {"HEAD", "", waiting, 503, text, ""},
	} {
		s := newServer(t, newNode(t), func(c *api.Config) {
			c.Authenticator, c.Ready = everyRole(), func() error { return tt.reason }
		})
		c := &client{t: t, h: checked(t, s.Handler())} // known to nobody
		if tt.accept != "" {
			c = c.with("Accept", tt.accept)
		}
		got := c.do(tt.method, "/healthcheck", nil)
		if got.status != tt.status || got.header.Get("Content-Type") != tt.contentType || string(got.body) != tt.body {
			t.Errorf("%s: got %d %q %q", name, got.status, got.header.Get("Content-Type"), got.body)
		}
		if id := got.header.Get("X-Openstack-Request-Id"); !strings.HasPrefix(id, "req-") {
			t.Errorf("%s: got the request id %q, which Cinder sends there, too", name, id)
		}
	}
	c := newClient(t, newServer(t, newNode(t)))
	wantStatus(t, c.do(http.MethodPost, "/healthcheck", nil), http.StatusMethodNotAllowed)
}
