package api

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/lockstep-storage/lockstep/api/auth"
	"github.com/lockstep-storage/lockstep/fsm"
)

// Codes of refusals that are about who asks.
const (
	codeUnauthorized fsm.Code = "unauthorized"         // nobody knows who asks
	codeForbidden    fsm.Code = "forbidden"            // a policy does not allow it
	codeIdentity     fsm.Code = "identity_unavailable" // who asks cannot be found out now
)

const (
	msgUnauthorized = "Authentication required"
	msgIdentity     = "Keystone is temporarily unavailable."
)

// access is what a route asks of who uses it. One without a line in the table is
// refused when the server is made.
type access struct {
	public   bool                // for everyone, known or not
	policies []string            // all of which must allow it, in this order
	list     []string            // the same where the path says detail instead of an id: it is a list
	inPath   map[string][]string // the same by the action in the path
	inBody   map[string][]string // the same by the action that the body names
}

// checkAccess says which routes have no line in the table, and which lines name a
// policy that there is none of.
func checkAccess(routes []route) error {
	var errs []error
	table, known := accessTable(), auth.DefaultPolicies()
	for _, rt := range routes {
		a, ok := table[rt.method+" "+rt.path]
		if !ok || !a.public && len(a.all()) == 0 {
			errs = append(errs, fmt.Errorf("api: route %s %s: no policy says who may use it: add it to accessTable", rt.method, rt.path))
		}
		for _, policy := range a.all() {
			if !known.Known(policy) {
				errs = append(errs, fmt.Errorf("api: route %s %s: policy %q is not known", rt.method, rt.path, policy))
			}
		}
	}
	return errors.Join(errs...)
}

// all returns every policy that the route may ask for.
func (a access) all() []string {
	all := slices.Concat(a.policies, a.list)
	for _, by := range []map[string][]string{a.inPath, a.inBody} {
		for _, policies := range by {
			all = append(all, policies...)
		}
	}
	return all
}

// unnamedAction is asked for when an action is not in the table: the handler will
// refuse it, and if it should not, then only who may do everything gets there.
func unnamedAction() []string { return []string{auth.PolicyAllProjects} }

// authenticate finds out who asks, once.
func (s *Server) authenticate(x *exchange) error {
	if x.known {
		return nil
	}
	if s.cfg.Authenticator == nil {
		s.believe(x)
		return nil
	}
	token := x.r.Header.Get("X-Auth-Token")
	if bearer, ok := strings.CutPrefix(x.r.Header.Get("Authorization"), "Bearer "); ok && token == "" {
		token = bearer
	}
	caller, err := auth.Caller{}, errors.New("there is no token")
	if token != "" {
		caller, err = s.cfg.Authenticator.Authenticate(x.r.Context(), token)
	}
	if errors.Is(err, auth.ErrUnavailable) {
		s.log.Warn("it cannot be found out who asks", "request", x.id, "error", err)
		return unavailable()
	}
	if err != nil {
		x.Header().Set("WWW-Authenticate", s.cfg.Authenticator.Challenge())
		return unauthorized()
	}
	x.user, x.project = caller.User, caller.Project
	x.token, x.until = token, caller.Until
	s.is(x, caller.Roles...)
	return nil
}

// is makes the caller one with these roles.
func (s *Server) is(x *exchange, roles ...string) {
	x.known, x.roles, x.rules = true, roles, s.cfg.Policies()
	x.admin = x.rules.Allows(auth.PolicyAllProjects, x.roles)
}

// believe takes callers for who they say they are: noauth. Then everyone may do
// everything, unless it is known who the administrators are: the others are members.
func (s *Server) believe(x *exchange) {
	switch {
	case s.cfg.Admin == nil:
		x.known, x.admin = true, true
	case s.cfg.Admin(x.user):
		s.is(x, auth.RoleAdmin)
	default:
		s.is(x, auth.RoleMember)
	}
}

func unauthorized() error {
	return &fault{status: http.StatusUnauthorized, Refusal: fsm.Refusal{Code: codeUnauthorized, Message: msgUnauthorized}}
}

func unavailable() error {
	return &fault{status: http.StatusServiceUnavailable, Refusal: fsm.Refusal{Code: codeIdentity, Message: msgIdentity}}
}

// authorize says why a request may not be handled, or which policies let it.
func (s *Server) authorize(x *exchange, rt route) (policies []string, err error) {
	a := s.access[rt.method+" "+rt.path]
	if a.public {
		return nil, nil
	}
	if err := s.authenticate(x); err != nil {
		return nil, err
	}
	if x.rules == nil { // everyone may do everything
		return nil, nil
	}
	policies = a.policies
	id := x.params.ByName("id") + x.params.ByName("name")
	switch {
	case a.list != nil && id == "detail":
		policies = a.list
	case a.inPath != nil:
		policies, _ = byAction(a.inPath, []string{x.params.ByName("action")})
	case a.inBody != nil:
		actions, err := s.actions(x)
		if err != nil {
			return nil, err
		}
		var named bool
		if policies, named = byAction(a.inBody, actions); !named && x.allowed(policies...) != nil {
			return nil, s.noSuchAction(x) // which Cinder says to whoever asks
		}
	case len(policies) == 0: // there is no such route
		policies = []string{auth.PolicyAny}
	}
	return policies, x.allowed(policies...)
}

// byAction returns the policies of all actions that are named, and whether all of them
// are in the table, and there are any.
func byAction(table map[string][]string, actions []string) (policies []string, named bool) {
	if len(actions) == 0 {
		return unnamedAction(), false
	}
	named = true
	for _, action := range actions {
		of, ok := table[action]
		if !ok {
			of, named = unnamedAction(), false
		}
		policies = append(policies, of...)
	}
	return policies, named
}

// noSuchAction says what is wrong with a body that names no action, or one that there
// is not.
func (s *Server) noSuchAction(x *exchange) error {
	name, _, err := x.action(s.cfg.RequestTimeout)
	return cmp.Or(err, noAction(name))
}

// actions returns the names of all fields of the body.
func (s *Server) actions(x *exchange) ([]string, error) {
	raw, err := x.read(maxBody, s.cfg.RequestTimeout)
	if err != nil {
		return nil, err
	}
	var fields map[string]json.RawMessage
	_ = json.Unmarshal(raw, &fields) // the handler says what is wrong with it
	var names []string
	for name := range fields {
		names = append(names, name)
	}
	slices.Sort(names)
	return names, nil
}
