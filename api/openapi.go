package api

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/lockstep-storage/lockstep/api/auth"
	"github.com/lockstep-storage/lockstep/api/openapi"
)

const typeOpenAPI = "application/openapi+json"

// description is the OpenAPI document of the API.
type description struct {
	text []byte
	etag string
}

// describe makes the description of what this server serves. It is the same on
// every node with the same release: it says nothing of the deployment.
func (s *Server) describe() (description, error) {
	requests, err := fs.Sub(schemaFiles, "schemas")
	if err != nil {
		return description{}, fmt.Errorf("openapi: %w", err)
	}
	routes := s.allRoutes()
	doc, err := openapi.Build(openapi.Source{Requests: requests, Route: func(method, path string) (openapi.Facts, bool) {
		return s.facts(routes, method, path)
	}})
	if err != nil {
		return description{}, fmt.Errorf("openapi: %w", err)
	}
	text, err := json.Marshal(doc)
	if err != nil {
		return description{}, fmt.Errorf("openapi: %w", err)
	}
	sum := sha256.Sum256(text)
	return description{text: text, etag: `"` + hex.EncodeToString(sum[:16]) + `"`}, nil
}

// showDescription answers GET /v1/openapi.json.
func (s *Server) showDescription(x *exchange) error {
	d, err := s.described()
	if err != nil {
		return err
	}
	h := x.Header()
	h.Set("Etag", d.etag)
	h.Set("Vary", "Accept")
	h.Set("Cache-Control", "no-cache") // until the tag says that it is another one
	if slices.Contains(strings.FieldsFunc(x.r.Header.Get("If-None-Match"), func(r rune) bool { return r == ',' || r == ' ' }), d.etag) {
		x.WriteHeader(http.StatusNotModified)
		return nil
	}
	x.bytes(http.StatusOK, prefer(x.r.Header.Values("Accept"), typeJSON, typeOpenAPI), d.text)
	return nil
}

// facts returns what is known of the operation with a path in the notation of
// OpenAPI.
func (s *Server) facts(routes []route, method, path string) (openapi.Facts, bool) {
	rt, params, ok := routeOf(routes, method, path)
	if !ok {
		return openapi.Facts{}, false
	}
	a := s.access[rt.method+" "+rt.path]
	f := openapi.Facts{Public: a.public, Policies: a.policies}
	if rt.since > 0 {
		f.Since = fmt.Sprintf("3.%d", rt.since)
	}
	switch {
	case a.list != nil && slices.Contains(slices.Collect(maps.Values(params)), "detail"):
		f.Policies = a.list
	case a.inPath != nil:
		if f.Policies, ok = a.inPath[params["action"]]; !ok {
			return openapi.Facts{}, false
		}
	case a.inBody != nil:
		f.Actions = a.inBody
		return f, true
	}
	rules := auth.DefaultPolicies()
	for _, role := range auth.Roles() {
		if !slices.ContainsFunc(f.Policies, func(policy string) bool { return !rules.Allows(policy, []string{role}) }) {
			f.Roles = append(f.Roles, role)
		}
	}
	return f, true
}

// routeOf returns the route that serves a path, and what its parameters are there.
// A parameter of OpenAPI, {id}, is only the parameter :id of the router.
func routeOf(routes []route, method, path string) (found route, params map[string]string, ok bool) {
	for _, rt := range routes {
		if p, matches := fill(rt.path, path); matches && rt.method == method && (!ok || len(p) < len(params)) {
			found, params, ok = rt, p, true
		}
	}
	return found, params, ok
}

func fill(pattern, path string) (params map[string]string, ok bool) {
	parts, segments := strings.Split(pattern, "/"), strings.Split(path, "/")
	if len(parts) != len(segments) {
		return nil, false
	}
	params = map[string]string{}
	for i, part := range parts {
		name, isParam := strings.CutPrefix(part, ":")
		switch {
		case !isParam && part != segments[i], isParam && strings.HasPrefix(segments[i], "{") && segments[i] != "{"+name+"}":
			return nil, false
		case isParam:
			params[name] = segments[i]
		}
	}
	return params, true
}
