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

// A real Keystone: who its users are, and what becomes of their tokens when they
// end, are revoked, or when Keystone is down.
func TestARealKeystone(t *testing.T) {
	k := &realKeystone{t: t, url: os.Getenv("KEYSTONE_URL")}
	k.admin = k.login("admin", os.Getenv("KEYSTONE_PASSWORD"), "admin")
	services, mine := k.project("services"), k.project("mine")
	k.user("lockstep", services, "service")
	alice := k.user("alice", mine, "admin", "member")
	k.user("bob", mine, "member")
	k.user("carol", mine, "lockstep_operator")
	k.user("dave", mine, "reader")
	const ttl = 3 * time.Second
	known, err := auth.NewKeystone(auth.KeystoneConfig{
		AuthURL: k.url, Username: "lockstep", UserDomain: "Default", Project: "services", ProjectDomain: "Default",
		Password: func() (string, error) { return "lockstep", nil }, TTL: ttl,
	})
	if err != nil {
		t.Fatal(err)
	}
	login := func(user string) string { return k.login(user, user, "mine").TokenID }
	first := login("alice")
	ends := must[*tokens.Token](t)(tokens.Get(t.Context(), k.admin, first).ExtractToken()).ExpiresAt
	for user, want := range map[string]string{"alice": "admin member", "bob": "member", "carol": "operator", "dave": ""} {
		caller, err := known.Authenticate(t.Context(), login(user))
		slices.Sort(caller.Roles)
		if err != nil || strings.Join(caller.Roles, " ") != want || caller.Project != mine {
			t.Errorf("%s is %+v, %v; want %s", user, caller, err, want)
		}
	}
	if caller, err := known.Authenticate(t.Context(), first); err != nil || caller.User != alice {
		t.Errorf("alice is %+v, %v", caller, err)
	}
	for name, token := range map[string]string{"noise": "gAAAAABnoise", "changed": first[:len(first)-4] + "AAAA", "noauth's": "admin:admin"} {
		if caller, err := known.Authenticate(t.Context(), token); !errors.Is(err, auth.ErrUnauthorized) {
			t.Errorf("%s: is %+v, %v", name, caller, err)
		}
	}

	revoked := login("bob")
	if _, err := known.Authenticate(t.Context(), revoked); err != nil {
		t.Error(err)
	}
	if err := tokens.Revoke(t.Context(), k.admin, revoked).Err; err != nil {
		t.Fatal(err)
	}
	await(t, 20*ttl, func() bool {
		_, err := known.Authenticate(t.Context(), revoked)
		return errors.Is(err, auth.ErrUnauthorized)
	})

	pid := must[int](t)(strconv.Atoi(os.Getenv("KEYSTONE_PID")))
	kept, fresh := login("carol"), login("carol")
	if _, err := known.Authenticate(t.Context(), kept); err != nil {
		t.Error(err)
	}
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if _, err := known.Authenticate(t.Context(), kept); err != nil {
		t.Errorf("an answer that is remembered, while Keystone is down: %v", err)
	}
	if _, err := known.Authenticate(t.Context(), fresh); !errors.Is(err, auth.ErrUnavailable) {
		t.Errorf("while Keystone is down: %v", err)
	}
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	await(t, time.Minute, func() bool {
		_, err := known.Authenticate(t.Context(), fresh)
		return err == nil || errors.Is(err, auth.ErrUnauthorized) // it may have ended meanwhile
	})

	// The service account's own token ends with alice's first; it logs in again.
	await(t, time.Until(ends)+time.Minute, func() bool {
		_, err := known.Authenticate(t.Context(), first)
		return errors.Is(err, auth.ErrUnauthorized)
	})
	if time.Now().Before(ends) {
		t.Errorf("alice's token was refused %v before its end", time.Until(ends))
	}
	if caller, err := known.Authenticate(t.Context(), login("alice")); err != nil || caller.User != alice {
		t.Errorf("after the service account's token has ended: %+v, %v", caller, err)
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
