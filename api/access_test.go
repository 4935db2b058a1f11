package api_test

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-storage/lockstep/api"
	"github.com/lockstep-storage/lockstep/api/auth"
	"github.com/lockstep-storage/lockstep/fsm"
)

var updateAccess = flag.Bool("update-access", false, "write testdata/access.txt anew")

const (
	ourProject   = "5f1e0c0d3a4b4c6d8e9fa0b1c2d3e4f5"
	theirProject = "aaaabbbbccccddddeeeeffff00001111"
	theirVolume  = "1218fb84-e06d-4229-80e3-cede4a9791f2"
	ourVolume    = "1218fb84-e06d-4229-80e3-cede4a9791f3"
)

// people are callers by their tokens.
type people map[string]auth.Caller

func (p people) Authenticate(_ context.Context, token string) (auth.Caller, error) {
	if token == "down" {
		return auth.Caller{}, auth.ErrUnavailable
	}
	caller, ok := p[token]
	if !ok {
		return auth.Caller{}, fmt.Errorf("look: %w", auth.ErrUnauthorized)
	}
	return caller, nil
}

func (people) Challenge() string { return `Keystone uri="http://keystone:5000/v3"` }

// everyRole is one caller for each role, called as it, and one without any.
func everyRole() people {
	p := people{"none": {User: "none", Project: ourProject}}
	for _, role := range auth.Roles() {
		p[role] = auth.Caller{User: role, Project: ourProject, Roles: []string{role}}
	}
	return p
}

// tokensOf writes the callers into a file and returns their tokens by role.
func tokensOf(t *testing.T, p people) (*auth.Tokens, map[string]string) {
	t.Helper()
	var file strings.Builder
	file.WriteString("tokens:\n")
	tokens := map[string]string{}
	for role, caller := range p {
		if role == "none" {
			continue // a file has nobody without a role
		}
		token, e, err := auth.NewToken(caller.User, caller.Project, caller.Roles, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		tokens[role] = token
		fmt.Fprintf(&file, "- {id: %q, user: %q, project: %q, roles: [%s], hash: %q}\n", e.ID, e.User, e.Project, role, e.Hash)
	}
	path := filepath.Join(t.TempDir(), "tokens.yaml")
	if err := os.WriteFile(path, []byte(file.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	known, err := auth.OpenTokens(path)
	if err != nil {
		t.Fatal(err)
	}
	return known, tokens
}

// handler serves one node, which knows its users by authenticator.
func handler(t *testing.T, authenticator auth.Authenticator, more ...func(*api.Config)) (http.Handler, *api.Server) {
	t.Helper()
	n := newNode(t)
	s := newServer(t, n, append(more, func(c *api.Config) { c.Authenticator = authenticator })...)
	for id, project := range map[string]string{ourVolume: ourProject, theirVolume: theirProject} {
		n.do(t, fsm.CreateVolume{Volume: fsm.Volume{ID: id, ProjectID: project, Size: 1, Cluster: clusterAA, Host: "vol1@aa"}})
	}
	return checked(t, s.Handler()), s
}

// use asks for one use of a route and returns the answer.
func use(t *testing.T, h http.Handler, u api.Use, token string) *httptest.ResponseRecorder {
	t.Helper()
	action := cmp.Or(u.Action, "enable")
	path := strings.NewReplacer(":action", action, ":id", ourVolume, ":name", "detail", ":alias", "os-services", ":project", ourProject, ":key", "k", ":host", "vol1@aa", ":method", "term").Replace(u.Path)
	body := "{}"
	if u.InBody {
		body = fmt.Sprintf("{%q: {}}", u.Action)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if u.Path == "/v1/events" {
		ctx, cancel = context.WithTimeout(ctx, 20*time.Millisecond) // it goes on for ever
		defer cancel()
	}
	r := httptest.NewRequestWithContext(ctx, u.Method, path, strings.NewReader(body))
	r.Header.Set("Openstack-Api-Version", "volume 3.70")
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-Lockstep-Deployment", deployment)
	if token != "" {
		r.Header.Set("X-Auth-Token", token)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func (u useName) String() string {
	return strings.TrimSpace(u.Method + " " + u.Path + " " + u.Action)
}

type useName api.Use

// Every route, every role, every way to say who one is: who may use what is in
// testdata/access.txt, for people to read. Routes come from the router itself.
func TestWhoMayUseWhichRoute(t *testing.T) {
	t.Parallel()
	roles := everyRole()
	known, tokens := tokensOf(t, roles)
	keystone, inKeystone := fakeKeystone(t, roles)
	open, server := handler(t, nil)
	believed, _ := handler(t, nil, func(c *api.Config) { c.Admin = func(user string) bool { return user == "root" } })
	byFile, _ := handler(t, known)
	byKeystone, _ := handler(t, keystone)
	var table strings.Builder
	for _, u := range server.Uses() {
		name := useName(u).String()
		if w := use(t, open, u, "anyone:"+ourProject); w.Code == http.StatusUnauthorized || w.Code == http.StatusForbidden {
			t.Errorf("noauth: %s: %d %s", name, w.Code, w.Body)
		}
		for mode, h := range map[string]http.Handler{"tokens": byFile, "keystone": byKeystone} {
			for what, token := range map[string]string{"no token": "", "a token of nobody": "lockstep_0011223344556677_00"} {
				if w := use(t, h, u, token); (w.Code == http.StatusUnauthorized) == u.Public {
					t.Errorf("%s: %s with %s: %d %s", mode, name, what, w.Code, w.Body)
				}
			}
		}
		if w := use(t, byKeystone, u, inKeystone["none"]); (w.Code == http.StatusForbidden) == u.Public {
			t.Errorf("%s without a role: %d %s", name, w.Code, w.Body)
		}
		var may []string
		for _, role := range auth.Roles() {
			w := use(t, byFile, u, tokens[role])
			if w.Code != http.StatusForbidden && w.Code != http.StatusUnauthorized {
				may = append(may, role)
			} else if !strings.Contains(w.Body.String(), "Policy doesn't allow ") {
				t.Errorf("%s by %s: %d %s", name, role, w.Code, w.Body)
			}
			if user := map[string]string{auth.RoleAdmin: "root", auth.RoleMember: "somebody"}[role]; user != "" {
				other := use(t, believed, u, user+":"+ourProject)
				if (other.Code == http.StatusForbidden) != (w.Code == http.StatusForbidden) {
					t.Errorf("%s by %s: %d with a token of the file, %d in noauth", name, role, w.Code, other.Code)
				}
			}
			if other := use(t, byKeystone, u, inKeystone[role]); (other.Code == http.StatusForbidden) != (w.Code == http.StatusForbidden) {
				t.Errorf("%s by %s: %d with a token of the file, %d with one of Keystone", name, role, w.Code, other.Code)
			}
		}
		if u.Public {
			may = []string{"everyone"}
		}
		fmt.Fprintf(&table, "%-62s %s\n", name, strings.Join(may, " "))
	}
	path := filepath.Join("testdata", "access.txt")
	if *updateAccess {
		if err := os.WriteFile(path, []byte(table.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(want) != table.String() {
		t.Errorf("%s differs (run with -update-access and look at the difference):\n%s", path, table.String())
	}
}

func TestARouteThatNobodyIsNamedForIsRefused(t *testing.T) {
	t.Parallel()
	if err := api.CheckAccess("/v3/volumes", "/v1/status", "/livez"); err != nil {
		t.Error(err)
	}
	if err := api.CheckAccess("/v3/volumes", "/v3/forgotten"); err == nil || !strings.Contains(err.Error(), "route GET /v3/forgotten: no policy") {
		t.Errorf("a forgotten route: %v", err)
	}
}

// The words are those that Cinder and keystonemiddleware use: scripts match them.
func TestRefusalsOfWhoAsks(t *testing.T) {
	t.Parallel()
	h, _ := handler(t, everyRole())
	for name, tt := range map[string]struct {
		method, path, token, body string
		status                    int
		contentType, says         string
	}{
		"policy of Cinder":        {"GET", "/v3/os-services", "member", "", 403, "application/json", `{"forbidden":{"code":403,"message":"Policy doesn't allow volume_extension:services:index to be performed."}}`},
		"with the project":        {"POST", "/v3/" + ourProject + "/types", "member", "{}", 403, "application/json", `{"forbidden":{"code":403,"message":"Policy doesn't allow volume_extension:type_create to be performed."}}`},
		"both policies, in order": {"PUT", "/v3/os-services/freeze", "reader", "{}", 403, "application/json", "volume_extension:services:update"},
		"action in the body":      {"POST", "/v3/volumes/" + ourVolume + "/action", "member", `{"os-reset_status":{"status":"error"}}`, 403, "application/json", "volume_extension:volume_admin_actions:reset_status"},
		"one action of two":       {"POST", "/v3/volumes/" + ourVolume + "/action", "member", `{"os-extend":{"new_size":2},"os-reset_status":{}}`, 403, "application/json", "volume_extension:volume_admin_actions:reset_status"},
		"another spelling":        {"POST", "/v3/volumes/" + ourVolume + "/action", "member", `{"OS-RESET_STATUS":{"status":"error"}}`, 400, "application/json", "There is no such action: OS-RESET_STATUS."},
		"no action":               {"POST", "/v3/volumes/" + ourVolume + "/action", "member", `{}`, 400, "application/json", "Malformed request body"},
		"known and unknown":       {"POST", "/v3/volumes/" + ourVolume + "/action", "member", `{"os-extend":{"new_size":2},"os-zzz":{}}`, 400, "application/json", "Malformed request body"},
		"policy of ours":          {"POST", "/v1/failovers", "reader", "{}", 403, "application/problem+json", `"code":"forbidden"`},
		"nobody, Cinder":          {"GET", "/v3/volumes", "", "", 401, "text/html; charset=UTF-8", "Authentication required"},
		"nobody, no such path":    {"GET", "/v3/none", "", "", 401, "text/html; charset=UTF-8", "Authentication required"},
		"nobody, no such method":  {"PATCH", "/v3/volumes", "", "", 401, "text/html; charset=UTF-8", "Authentication required"},
		"noauth's token":          {"GET", "/v3/volumes", "admin:admin", "", 401, "text/html; charset=UTF-8", "Authentication required"},
		"nobody, ours":            {"GET", "/v1/status", "", "", 401, "application/problem+json", `"code":"unauthorized"`},
		"identity down, Cinder":   {"GET", "/v3/volumes", "down", "", 503, "application/json", `"message":"Keystone is temporarily unavailable."`},
		"identity down, ours":     {"GET", "/v1/status", "down", "", 503, "application/problem+json", `"code":"identity_unavailable"`},
		"another project's path":  {"GET", "/v3/" + theirProject + "/volumes", "member", "", 400, "application/json", "Malformed request url"},
	} {
		r := httptest.NewRequestWithContext(t.Context(), tt.method, tt.path, strings.NewReader(tt.body))
		r.Header.Set("Content-Type", "application/json")
		if tt.token != "" {
			r.Header.Set("X-Auth-Token", tt.token)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		challenge := w.Header().Get("Www-Authenticate")
		if w.Code != tt.status || w.Header().Get("Content-Type") != tt.contentType || !strings.Contains(w.Body.String(), tt.says) {
			t.Errorf("%s: %d %s %s", name, w.Code, w.Header().Get("Content-Type"), w.Body)
		}
		if (challenge == `Keystone uri="http://keystone:5000/v3"`) != (tt.status == 401) {
			t.Errorf("%s: WWW-Authenticate %q", name, challenge)
		}
	}
	r := httptest.NewRequestWithContext(t.Context(), "GET", "/v1/status", nil)
	r.Header.Set("Authorization", "Bearer reader")
	w := httptest.NewRecorder()
	if h.ServeHTTP(w, r); w.Code != http.StatusOK {
		t.Errorf("a bearer token: %d %s", w.Code, w.Body)
	}
}

// What belongs to another project does not exist, unless who asks is of all
// projects.
func TestProjectsDoNotSeeEachOther(t *testing.T) {
	t.Parallel()
	h, _ := handler(t, everyRole())
	ask := func(method, path, token, body string) *httptest.ResponseRecorder {
		r := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body))
		r.Header.Set("X-Auth-Token", token)
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w
	}
	missing := "Volume " + theirVolume + " could not be found."
	for _, tt := range []struct{ method, path, body string }{
		{"GET", "/v3/volumes/" + theirVolume, ""},
		{"DELETE", "/v3/volumes/" + theirVolume, ""},
		{"POST", "/v3/volumes/" + theirVolume + "/action", `{"os-extend":{"new_size":3}}`},
		{"POST", "/v3/snapshots", `{"snapshot":{"volume_id":"` + theirVolume + `"}}`},
	} {
		if w := ask(tt.method, tt.path, auth.RoleMember, tt.body); w.Code != 404 || !strings.Contains(w.Body.String(), missing) {
			t.Errorf("%s %s by a member: %d %s", tt.method, tt.path, w.Code, w.Body)
		}
		if w := ask(tt.method, tt.path, auth.RoleOperator, tt.body); strings.Contains(w.Body.String(), "could not be found") {
			t.Errorf("%s %s by an operator: %d %s", tt.method, tt.path, w.Code, w.Body)
		}
	}
	for _, path := range []string{"/v3/volumes", "/v3/volumes?all_tenants=1", "/v3/volumes/detail?all_tenants=1&project_id=" + theirProject} {
		w := ask("GET", path, auth.RoleMember, "")
		if w.Code != 200 || strings.Contains(w.Body.String(), theirVolume) || !strings.Contains(w.Body.String(), ourVolume) {
			t.Errorf("%s by a member: %d %s", path, w.Code, w.Body)
		}
	}
	if w := ask("GET", "/v3/volumes?all_tenants=1", auth.RoleOperator, ""); !strings.Contains(w.Body.String(), theirVolume) {
		t.Errorf("all projects by an operator: %d %s", w.Code, w.Body)
	}
}

func TestPoliciesOfAFile(t *testing.T) {
	t.Parallel()
	policies, err := auth.ParsePolicies("policy.yaml", []byte("volume_extension:services:index: [member]\nlockstep:status: []\n"))
	if err != nil {
		t.Fatal(err)
	}
	s := newServer(t, newNode(t), func(c *api.Config) {
		c.Authenticator, c.Policies = everyRole(), func() *auth.Policies { return policies }
	})
	for path, want := range map[string]map[string]int{
		"/v3/os-services": {auth.RoleMember: 200, auth.RoleAdmin: 403},
		"/v1/status":      {auth.RoleAdmin: 403},
		"/v1/peers":       {auth.RoleAdmin: 200},
	} {
		for role, status := range want {
			r := httptest.NewRequestWithContext(t.Context(), "GET", path, nil)
			r.Header.Set("X-Auth-Token", role)
			w := httptest.NewRecorder()
			if checked(t, s.Handler()).ServeHTTP(w, r); w.Code != status {
				t.Errorf("%s by %s: %d, want %d", path, role, w.Code, status)
			}
		}
	}
	if !slices.Contains(auth.PolicyNames(), "volume:failover_host") || errors.Is(err, auth.ErrUnauthorized) {
		t.Error("names of policies")
	}
}

// fakeKeystone answers like Keystone for one service account and these callers.
func fakeKeystone(t *testing.T, p people) (*auth.Keystone, map[string]string) {
	t.Helper()
	tokens, roles := map[string]string{}, auth.KeystoneRoles()
	for role := range p {
		tokens[role] = "gAAAA-" + role
	}
	named := map[string]string{}
	for theirs, ours := range roles {
		named[ours[0]] = theirs
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v3/auth/tokens", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Subject-Token", "service")
		w.WriteHeader(http.StatusCreated)
		_, _ = fmt.Fprint(w, `{"token":{"expires_at":"2999-01-01T00:00:00.000000Z"}}`)
	})
	mux.HandleFunc("GET /v3/auth/tokens", func(w http.ResponseWriter, r *http.Request) {
		role := strings.TrimPrefix(r.Header.Get("X-Subject-Token"), "gAAAA-")
		caller, ok := p[role]
		if !ok || r.Header.Get("X-Auth-Token") != "service" {
			http.Error(w, "{}", http.StatusNotFound)
			return
		}
		_, _ = fmt.Fprintf(w, `{"token":{"expires_at":"2999-01-01T00:00:00.000000Z","user":{"id":%q},"project":{"id":%q},"roles":[{"name":"other"},{"name":%q}]}}`,
			caller.User, caller.Project, named[role])
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	k, err := auth.NewKeystone(auth.KeystoneConfig{
		AuthURL: server.URL + "/v3", Username: "lockstep", UserDomain: "Default", Project: "service", ProjectDomain: "Default",
		Password: func() (string, error) { return "secret", nil }, TTL: time.Minute,
	})
	if err != nil {
		t.Fatal(err)
	}
	return k, tokens
}
