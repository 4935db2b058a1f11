package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"

	"github.com/gophercloud/gophercloud/v2"
	openstacksdk "github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/endpoints"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/projects"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/regions"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/roles"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/services"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/users"

	"github.com/lockstep-storage/lockstep/scripts/devcluster"
)

// The users of Keystone, all in one project, and their roles there.
const (
	administrator = "alice" // admin
	member        = "bob"   // member
	operator      = "carol" // lockstep_operator
	reader        = "dave"  // lockstep_reader
	outsider      = "erin"  // reader, which is nothing here
	unknown       = "mallory"

	serviceUser    = "lockstep"
	serviceProject = "services"
	usersProject   = "ops"
	domain         = "Default"
)

// cacheSeconds is how long nodes believe an answer of Keystone: longer than commands
// take that are to find it remembered, and much shorter than patience.
const cacheSeconds = 30

// keystone is a real Keystone, and the access of its users: every node is a region
// of its own in the catalog, so that clients find it there.
type keystone struct {
	url      string
	pid      int // of its process, to stop and go on
	password string
	dir      string
	admin    *gophercloud.ServiceClient // Keystone's own administrator
	images   *httptest.Server           // openstack looks for one wherever it makes a volume, and then asks for none
}

// end ends what was started here, if anything was.
func (k *keystone) end() {
	if k != nil {
		k.images.Close()
	}
}

// newKeystone makes the users in the Keystone of the environment, and the files by
// which nodes know it.
func newKeystone(ctx context.Context, dir string) (*keystone, error) {
	pid, err := strconv.Atoi(os.Getenv("KEYSTONE_PID"))
	if err != nil {
		return nil, fmt.Errorf("KEYSTONE_PID: %w (run this by scripts/keystone/run, see make keystone)", err)
	}
	k := &keystone{url: os.Getenv("KEYSTONE_URL"), pid: pid, password: rand.Text(), dir: dir}
	provider, err := k.login(ctx, "admin", os.Getenv("KEYSTONE_PASSWORD"), "admin")
	if err != nil {
		return nil, fmt.Errorf("log in to Keystone: %w", err)
	}
	if k.admin, err = openstacksdk.NewIdentityV3(provider, gophercloud.EndpointOpts{}); err != nil {
		return nil, err
	}
	if err := k.populate(ctx); err != nil {
		return nil, fmt.Errorf("make users: %w", err)
	}
	provider, err = k.login(ctx, administrator, k.password, usersProject)
	if err != nil {
		return nil, fmt.Errorf("log in as %s: %w", administrator, err)
	}
	if err := k.writeFiles(provider.TokenID); err != nil {
		return nil, err
	}
	k.images = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"versions": [{"id": "v2.9", "status": "CURRENT", "links": [{"rel": "self", "href": "http://%s/v2/"}]}]}`, r.Host)
	}))
	return k, nil
}

func (k *keystone) login(ctx context.Context, user, password, project string) (*gophercloud.ProviderClient, error) {
	return openstacksdk.AuthenticatedClient(ctx, gophercloud.AuthOptions{
		IdentityEndpoint: k.url, Username: user, Password: password, DomainName: domain,
		Scope: &gophercloud.AuthScope{ProjectName: project, DomainName: domain},
	})
}

// populate makes projects, users and the roles that Keystone does not have.
func (k *keystone) populate(ctx context.Context) error {
	known, err := k.roleIDs(ctx)
	if err != nil {
		return err
	}
	for project, members := range map[string]map[string]string{
		serviceProject: {serviceUser: "service"},
		usersProject: {
			administrator: "admin", member: "member", operator: "lockstep_operator", reader: "lockstep_reader", outsider: "reader",
		},
	} {
		p, err := projects.Create(ctx, k.admin, projects.CreateOpts{Name: project, DomainID: "default"}).Extract()
		if err != nil {
			return err
		}
		for name, role := range members {
			u, err := users.Create(ctx, k.admin, users.CreateOpts{Name: name, Password: k.password, DomainID: "default"}).Extract()
			if err != nil {
				return err
			}
			if err := roles.Assign(ctx, k.admin, known[role], roles.AssignOpts{UserID: u.ID, ProjectID: p.ID}).ExtractErr(); err != nil {
				return err
			}
		}
	}
	return nil
}

// roleIDs returns the ids of roles by name, once those are there that not every Keystone
// has.
func (k *keystone) roleIDs(ctx context.Context) (map[string]string, error) {
	pages, err := roles.List(k.admin, nil).AllPages(ctx)
	if err != nil {
		return nil, err
	}
	all, err := roles.ExtractRoles(pages)
	if err != nil {
		return nil, err
	}
	known := map[string]string{}
	for _, r := range all {
		known[r.Name] = r.ID
	}
	for _, name := range []string{"service", "lockstep_operator", "lockstep_reader"} {
		if known[name] != "" {
			continue
		}
		r, err := roles.Create(ctx, k.admin, roles.CreateOpts{Name: name}).Extract()
		if err != nil {
			return nil, err
		}
		known[name] = r.ID
	}
	return known, nil
}

func (k *keystone) path(name string) string { return filepath.Join(k.dir, name) }

// writeFiles writes what the nodes read, and the token with which lockstep dev asks
// them.
func (k *keystone) writeFiles(token string) error {
	auth := fmt.Sprintf(`mode: keystone
policies: %q
keystone:
  auth_url: %s
  username: %s
  password_file: %q
  project: %s
  cache_ttl: %ds
`, k.path("policies.yaml"), k.url, serviceUser, k.path("password"), serviceProject, cacheSeconds)
	if err := os.MkdirAll(k.dir, 0o700); err != nil {
		return err
	}
	for name, content := range map[string]string{"auth.yaml": auth, "password": k.password, "token": token, "policies.yaml": "{}\n"} {
		if err := os.WriteFile(k.path(name), []byte(content), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// arguments are those of lockstep dev.
func (k *keystone) arguments() []string {
	return []string{"--auth", k.path("auth.yaml"), "--token-file", k.path("token")}
}

// publish enters the nodes into Keystone's catalog.
func (k *keystone) publish(ctx context.Context, nodes []devcluster.Node) error {
	for _, n := range nodes {
		if _, err := regions.Create(ctx, k.admin, regions.CreateOpts{ID: n.Name}).Extract(); err != nil {
			return fmt.Errorf("make the region %s: %w", n.Name, err)
		}
	}
	for kind, url := range map[string]func(devcluster.Node) string{
		"block-storage": func(n devcluster.Node) string { return n.API + "/v3" },
		"image":         func(devcluster.Node) string { return k.images.URL },
	} {
		service, err := services.Create(ctx, k.admin, services.CreateOpts{Type: kind, Name: kind}).Extract()
		if err != nil {
			return fmt.Errorf("publish %s: %w", kind, err)
		}
		for _, n := range nodes {
			_, err := endpoints.Create(ctx, k.admin, endpoints.CreateOpts{
				Availability: gophercloud.AvailabilityPublic, Region: n.Name, ServiceID: service.ID, URL: url(n),
			}).Extract()
			if err != nil {
				return fmt.Errorf("publish %s of %s: %w", kind, n.Name, err)
			}
		}
	}
	return nil
}

// name returns the name of the user of a step.
func (s step) name() string {
	if s.user == "" {
		return administrator
	}
	return s.user
}

// environment is as users of Keystone have it, but for who has a token already.
func (k *keystone) environment(s step, node devcluster.Node) []string {
	if s.token != "" {
		return []string{"OS_AUTH_TYPE=admin_token", "OS_ENDPOINT=" + node.API + "/v3", "OS_TOKEN=" + s.token}
	}
	return []string{
		"OS_AUTH_URL=" + k.url, "OS_IDENTITY_API_VERSION=3", "OS_REGION_NAME=" + node.Name,
		"OS_USERNAME=" + s.name(), "OS_PASSWORD=" + k.password, "OS_USER_DOMAIN_NAME=" + domain,
		"OS_PROJECT_NAME=" + usersProject, "OS_PROJECT_DOMAIN_NAME=" + domain,
	}
}

func (k *keystone) gopher(ctx context.Context, s step, node devcluster.Node) (*gophercloud.ServiceClient, error) {
	if s.token != "" {
		return &gophercloud.ServiceClient{
			ProviderClient: &gophercloud.ProviderClient{TokenID: s.token}, Endpoint: node.API + "/v3/", Type: "block-storage", Microversion: s.version,
		}, nil
	}
	provider, err := k.login(ctx, s.name(), k.password, usersProject)
	if err != nil {
		return nil, err
	}
	client, err := openstacksdk.NewBlockStorageV3(provider, gophercloud.EndpointOpts{Region: node.Name})
	if err != nil {
		return nil, err
	}
	client.Microversion = s.version
	return client, nil
}
