package api

import (
	"slices"
)

// Uses are what can be asked of a route: its method, its pattern, and for routes
// with actions each of them and where it stands.
type Use struct {
	Method, Path, Action string
	InBody               bool
	Public               bool
}

// Uses lists what the router serves, from the tables that it is made of.
func (s *Server) Uses() (all []Use) {
	for _, rt := range s.allRoutes() {
		a := s.access[rt.method+" "+rt.path]
		u := Use{Method: rt.method, Path: rt.path, Public: a.public}
		for action := range a.inPath {
			u.Action = action
			all = append(all, u)
		}
		for action := range a.inBody {
			u.Action, u.InBody = action, true
			all = append(all, u)
		}
		if u.Action == "" || a.list != nil {
			u.Action, u.InBody = "", false
			all = append(all, u)
		}
	}
	slices.SortFunc(all, func(a, b Use) int {
		return slices.Compare([]string{a.Path, a.Method, a.Action}, []string{b.Path, b.Method, b.Action})
	})
	return all
}

// CheckAccess is what New makes of routes.
func CheckAccess(patterns ...string) error {
	var routes []route
	for _, p := range patterns {
		routes = append(routes, route{method: "GET", path: p})
	}
	return checkAccess(routes)
}

// Description is what GET /v1/openapi.json answers.
func (s *Server) Description() ([]byte, error) {
	d, err := s.described()
	return d.text, err
}
