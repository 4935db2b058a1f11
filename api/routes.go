package api

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/julienschmidt/httprouter"
)

// handler answers one exchange, or says why not.
type handler func(x *exchange) error

// route is one line of a route table.
type route struct {
	method, path string
	since        microversion // of Cinder's API; 0 means always
	waits        bool         // for a change, as long as the client wants
	handle       handler
}

// routes returns the router of everything the server answers. In Cinder's API the
// project has been taken out of the path already.
func (s *Server) routes() *httprouter.Router {
	router := &httprouter.Router{HandleMethodNotAllowed: true, HandleOPTIONS: true}
	router.GlobalOPTIONS = s.unrouted(s.options)
	router.MethodNotAllowed = s.unrouted(s.methodNotAllowed)
	router.NotFound = s.unrouted(s.notFound)
	for _, rt := range s.allRoutes() {
		surface := s.plain
		if inCinder(rt.path) {
			surface = s.cinder
		}
		router.Handle(rt.method, rt.path, s.adapt(rt, surface))
	}
	return router
}

// allRoutes are the routes of all surfaces: what is not here is not served.
func (s *Server) allRoutes() []route {
	return slices.Concat(s.plainRoutes(), s.v1Routes(), s.cinderRoutes())
}

// plainRoutes are for machines: monitors, peers, and clients that ask for versions.
func (s *Server) plainRoutes() []route {
	return []route{
		{method: http.MethodGet, path: "/", handle: s.rootVersions},
		{method: http.MethodGet, path: "/livez", handle: s.livez},
		{method: http.MethodGet, path: "/readyz", handle: s.readyz},
		{method: http.MethodGet, path: "/healthcheck", handle: s.healthcheck},
		{method: http.MethodHead, path: "/healthcheck", handle: s.healthcheck},
		{method: http.MethodGet, path: "/metrics", handle: s.showMetrics},
		{method: http.MethodPost, path: "/internal/v1/:method", handle: s.answerPeer},
	}
}

// adapt turns a route into what the router calls.
func (s *Server) adapt(rt route, surface func(*exchange, route) error) httprouter.Handle {
	return func(w http.ResponseWriter, r *http.Request, params httprouter.Params) {
		x, ok := w.(*exchange)
		if !ok {
			http.Error(w, msgInternal, http.StatusInternalServerError)
			return
		}
		x.r, x.params, x.route = r, params, rt.path
		if err := surface(x, rt); err != nil {
			s.refuse(x, err)
		}
	}
}

// unrouted turns what answers a request without a route into what the router
// calls.
func (s *Server) unrouted(answer func(*exchange)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if x, ok := w.(*exchange); ok {
			answer(x)
		}
	})
}

// plain calls the handler if who asks may do that, with the time that a request
// has unless it waits.
func (s *Server) plain(x *exchange, rt route) error {
	policies, err := s.authorize(x, rt)
	if err != nil {
		return err
	}
	if rt.waits {
		return s.whileAllowed(x, policies, func() error { return rt.handle(x) })
	}
	return x.within(s.cfg.RequestTimeout, func() error { return rt.handle(x) })
}

// within calls do with a deadline on the request.
func (x *exchange) within(limit time.Duration, do func() error) error {
	whole := x.r
	defer func() { x.r = whole }()
	ctx, cancel := context.WithTimeout(whole.Context(), limit)
	defer cancel()
	x.r = whole.WithContext(ctx)
	return do()
}

// inCinder reports whether a path belongs to Cinder's API.
func inCinder(path string) bool { return path == "/v3" || strings.HasPrefix(path, "/v3/") }

// options answers OPTIONS with nothing but yes, in Cinder's API only to those who say
// who they are.
func (s *Server) options(x *exchange) {
	x.Header().Del("Allow")
	x.Header().Set(headerRequestID, "req-"+x.id)
	if inCinder(x.r.URL.Path) {
		if ok, err := s.identify(x); err != nil {
			s.refuse(x, err)
			return
		} else if !ok {
			return
		}
	}
	x.WriteHeader(http.StatusOK)
}

// methodNotAllowed answers when the path has other methods. Cinder says then that
// there is no such resource.
func (s *Server) methodNotAllowed(x *exchange) {
	if !inCinder(x.r.URL.Path) {
		s.refuse(x, newFault(http.StatusMethodNotAllowed, "%s is not allowed here; allowed: %s", x.r.Method, x.Header().Get("Allow")))
		return
	}
	x.Header().Del("Allow")
	if !x.routed() {
		s.notFound(x)
		return
	}
	missing := func(*exchange) error { return newFault(http.StatusNotFound, msgNoResource) }
	if err := s.cinder(x, route{handle: missing}); err != nil {
		s.refuse(x, err)
	}
}

// routed reports whether Cinder has a route for what is asked, be there a handler or
// not: each of its collections and records has the same ones.
func (x *exchange) routed() bool {
	path := strings.TrimPrefix(x.r.URL.Path, "/v3/")
	if x.segment != "" {
		path = strings.TrimPrefix(path, x.segment+"/")
	}
	steps := strings.Split(path, "/")
	switch {
	case len(steps)%2 == 0:
		return slices.Contains([]string{http.MethodGet, http.MethodPut, http.MethodDelete}, x.r.Method)
	case len(steps) > 1 && steps[len(steps)-1] == "action":
		return x.r.Method == http.MethodPost
	}
	return x.r.Method == http.MethodGet || x.r.Method == http.MethodPost
}

// notFound answers when there is no such path.
func (s *Server) notFound(x *exchange) {
	path := x.r.URL.Path
	if strings.HasPrefix(path, "/v1/") || strings.HasPrefix(path, "/internal/") {
		s.refuse(x, newFault(http.StatusNotFound, "There is no route %s.", path))
		return
	}
	x.Header().Set(headerRequestID, "req-"+x.id)
	if inCinder(path) {
		if ok, err := s.identify(x); err != nil {
			s.refuse(x, err)
			return
		} else if !ok {
			return
		}
	}
	if x.r.Method == http.MethodHead { // for which Cinder writes no JSON
		x.bytes(http.StatusNotFound, typeHTML, nil)
		return
	}
	x.json(http.StatusNotFound, typeJSON, map[string]string{
		"message": "The resource could not be found.<br /><br />\n\n\n", "code": "404 Not Found", "title": "Not Found",
	})
}
