//go:build keystone

package auth_test

import (
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/projects"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/roles"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/tokens"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/users"
	"github.com/gophercloud/gophercloud/v2/pagination"

	"github.com/lockstep-storage/lockstep/api/auth"
)

// realKeystone is the Keystone that scripts/keystone/run has started.
type realKeystone struct {
	t     *testing.T
	url   string
	admin *gophercloud.ServiceClient
	roles map[string]string // ids by name
}

// must returns a function that returns its first argument, or ends the test.
func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// login returns a client with a token of a user in a project of the same domain.
func (k *realKeystone) login(user, password, project string) *gophercloud.ServiceClient {
	k.t.Helper()
	provider, err := openstack.AuthenticatedClient(k.t.Context(), gophercloud.AuthOptions{
		IdentityEndpoint: k.url, Username: user, Password: password, DomainName: "Default",
		Scope: &gophercloud.AuthScope{ProjectName: project, DomainName: "Default"},
		// Only the administrator's client outlives its token.
		AllowReauth: user == "admin",
	})
	if err != nil {
		k.t.Fatal(err)
	}
	return must[*gophercloud.ServiceClient](k.t)(openstack.NewIdentityV3(provider, gophercloud.EndpointOpts{}))
}

// role returns the id of a role, which it makes if Keystone has none of that name.
func (k *realKeystone) role(name string) string {
	k.t.Helper()
	if k.roles == nil {
		k.roles = map[string]string{}
		pages := must[pagination.Page](k.t)(roles.List(k.admin, nil).AllPages(k.t.Context()))
		for _, r := range must[[]roles.Role](k.t)(roles.ExtractRoles(pages)) {
			k.roles[r.Name] = r.ID
		}
	}
	if k.roles[name] == "" {
		k.roles[name] = must[*roles.Role](k.t)(roles.Create(k.t.Context(), k.admin, roles.CreateOpts{Name: name}).Extract()).ID
	}
	return k.roles[name]
}

func (k *realKeystone) project(name string) string {
	k.t.Helper()
	return must[*projects.Project](k.t)(projects.Create(k.t.Context(), k.admin, projects.CreateOpts{Name: name, DomainID: "default"}).Extract()).ID
}

// user makes a user, called as its password, with roles in a project.
func (k *realKeystone) user(name, project string, with ...string) string {
	k.t.Helper()
	id := must[*users.User](k.t)(users.Create(k.t.Context(), k.admin, users.CreateOpts{Name: name, Password: name, DomainID: "default"}).Extract()).ID
	for _, role := range with {
		if err := roles.Assign(k.t.Context(), k.admin, k.role(role), roles.AssignOpts{UserID: id, ProjectID: project}).ExtractErr(); err != nil {
			k.t.Fatal(err)
		}
	}
	return id
}

// authenticator returns one that asks Keystone at url, as the user lockstep.
func (k *realKeystone) authenticator(url string, ttl time.Duration) *auth.Keystone {
	k.t.Helper()
	return must[*auth.Keystone](k.t)(auth.NewKeystone(auth.KeystoneConfig{
		AuthURL: url, Username: "lockstep", UserDomain: "Default", Project: "services", ProjectDomain: "Default",
		Password: func() (string, error) { return "lockstep", nil }, TTL: ttl,
	}))
}

// A real Keystone: who its users are, and what becomes of their tokens when they
// end, are revoked, or when Keystone is down.
func TestARealKeystone(t *testing.T) {
	k := &realKeystone{t: t, url: os.Getenv("KEYSTONE_URL")}
	k.admin = k.login("admin", os.Getenv("KEYSTONE_PASSWORD"), "admin")
	services, mine := k.project("services"), k.project("mine")
	k.user("lockstep", services, "service")
	ids := map[string]string{}
	for user, with := range map[string][]string{
		"alice": {"admin", "member"}, "bob": {"member"}, "carol": {"lockstep_operator"}, "dave": {"lockstep_reader"}, "erin": {"reader"},
	} {
		ids[user] = k.user(user, mine, with...)
	}
	for name, story := range map[string]func(*realKeystone){
		"knows its users by their roles": func(k *realKeystone) { k.knowsUsers(ids, mine) },
		"takes nobody's tokens":          (*realKeystone).takesNoNoise,
		"hears of a revoked token":       (*realKeystone).hearsOfRevocation,
		"can be down":                    (*realKeystone).canBeDown,
		"ends tokens in time":            func(k *realKeystone) { k.endsTokens(ids["alice"]) },
	} {
		t.Run(name, func(t *testing.T) {
			of := *k
			of.t = t
			story(&of)
		})
	}
}

func (k *realKeystone) knowsUsers(ids map[string]string, project string) {
	known := k.authenticator(k.url, time.Minute)
	for user, want := range map[string]string{"alice": "admin member", "bob": "member", "carol": "operator", "dave": "reader", "erin": ""} {
		caller, err := known.Authenticate(k.t.Context(), k.login(user, user, "mine").TokenID)
		slices.Sort(caller.Roles)
		if err != nil || caller.User != ids[user] || caller.Project != project || strings.Join(caller.Roles, " ") != want {
			k.t.Errorf("%s is %+v, %v; want %s", user, caller, err, want)
		}
	}
}

func (k *realKeystone) takesNoNoise() {
	known, token := k.authenticator(k.url, time.Minute), k.login("alice", "alice", "mine").TokenID
	for name, token := range map[string]string{"noise": "gAAAAABnoise", "changed": token[:len(token)-4] + "AAAA", "noauth's": "admin:admin"} {
		if caller, err := known.Authenticate(k.t.Context(), token); !errors.Is(err, auth.ErrUnauthorized) {
			k.t.Errorf("%s: is %+v, %v", name, caller, err)
		}
	}
}

func (k *realKeystone) hearsOfRevocation() {
	const ttl = 10 * time.Second
	known, token := k.authenticator(k.url, ttl), k.login("bob", "bob", "mine").TokenID
	if _, err := known.Authenticate(k.t.Context(), token); err != nil {
		k.t.Error(err)
	}
	believed := time.Now()
	if err := tokens.Revoke(k.t.Context(), k.admin, token).Err; err != nil {
		k.t.Fatal(err)
	}
	if _, err := known.Authenticate(k.t.Context(), token); err != nil && time.Since(believed) < ttl {
		k.t.Errorf("an answer that is remembered: %v", err)
	}
	if caller, err := k.authenticator(k.url, ttl).Authenticate(k.t.Context(), token); !errors.Is(err, auth.ErrUnauthorized) {
		k.t.Errorf("who has not asked before: %+v, %v", caller, err)
	}
	await(k.t, ttl+time.Minute, func() bool {
		_, err := known.Authenticate(k.t.Context(), token)
		return errors.Is(err, auth.ErrUnauthorized)
	})
}

func (k *realKeystone) canBeDown() {
	known := k.authenticator(k.url, time.Hour)
	pid := must[int](k.t)(strconv.Atoi(os.Getenv("KEYSTONE_PID")))
	kept, fresh := k.login("carol", "carol", "mine").TokenID, k.login("carol", "carol", "mine").TokenID
	if _, err := known.Authenticate(k.t.Context(), kept); err != nil {
		k.t.Error(err)
	}
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		k.t.Fatal(err)
	}
	if _, err := known.Authenticate(k.t.Context(), kept); err != nil {
		k.t.Errorf("an answer that is remembered, while Keystone is down: %v", err)
	}
	if _, err := known.Authenticate(k.t.Context(), fresh); !errors.Is(err, auth.ErrUnavailable) {
		k.t.Errorf("while Keystone is down: %v", err)
	}
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		k.t.Fatal(err)
	}
	await(k.t, time.Minute, func() bool {
		_, err := known.Authenticate(k.t.Context(), fresh)
		return err == nil
	})
}

// endsTokens asks the server whose tokens end soon, that of the service account
// first of all: it must log in again by itself.
func (k *realKeystone) endsTokens(alice string) {
	short := *k
	short.url = os.Getenv("KEYSTONE_SHORT_URL")
	known := k.authenticator(short.url, time.Hour)
	if _, err := known.Authenticate(k.t.Context(), short.login("alice", "alice", "mine").TokenID); err != nil {
		k.t.Fatal(err)
	}
	last := short.login("alice", "alice", "mine").TokenID // ends later than that of the service account
	ends := must[*tokens.Token](k.t)(tokens.Get(k.t.Context(), k.admin, last).ExtractToken()).ExpiresAt
	if _, err := known.Authenticate(k.t.Context(), last); err != nil && time.Now().Before(ends) {
		k.t.Errorf("before its end: %v", err)
	}
	await(k.t, time.Until(ends)+time.Minute, func() bool {
		_, err := known.Authenticate(k.t.Context(), last)
		return errors.Is(err, auth.ErrUnauthorized)
	})
	if time.Now().Before(ends) {
		k.t.Errorf("alice's token was refused %v before its end", time.Until(ends))
	}
	if caller, err := known.Authenticate(k.t.Context(), k.login("alice", "alice", "mine").TokenID); err != nil || caller.User != alice {
		k.t.Errorf("after the service account's token has ended: %+v, %v", caller, err)
	}
}

// await waits for what Keystone has no signal for.
func await(t *testing.T, within time.Duration, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(within)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("it did not happen within %v", within)
		}
	}
}
