package auth

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/tokens"
)

const (
	// keystoneTimeout bounds one look at Keystone.
	keystoneTimeout = 5 * time.Second
	// keystoneAtOnce bounds looks under way: what a flood of bad tokens can
	// make of this node.
	keystoneAtOnce = 32
	// maxKeystoneToken bounds a token, in bytes: Fernet tokens have some 250,
	// signed ones a few thousand.
	maxKeystoneToken = 16 << 10
)

// KeystoneConfig says how to ask Keystone. Fields without a default are required.
type KeystoneConfig struct {
	AuthURL   string // of Keystone, as in https://keystone.example.org:5000/v3
	PublicURL string // that clients are told; default AuthURL

	Username      string                 // of the service account, which may validate tokens
	UserDomain    string                 // its domain's name
	Project       string                 // that it is scoped to
	ProjectDomain string                 // the domain's name
	Password      func() (string, error) // asked for at each login

	Roles map[string][]string // what a role of Keystone is here; default KeystoneRoles
	TTL   time.Duration       // how long an answer is believed; 0: not at all
	Size  int                 // answers remembered at most; default 4096
	HTTP  *http.Client        // default: one without a proxy's surprises
}

// KeystoneRoles is what Keystone's roles are here unless told otherwise. Those that
// Keystone does not make by itself begin with lockstep_.
func KeystoneRoles() map[string][]string {
	return map[string][]string{
		"admin": {RoleAdmin}, "member": {RoleMember}, "lockstep_operator": {RoleOperator}, "lockstep_reader": {RoleReader},
	}
}

func (c *KeystoneConfig) complete() error {
	var errs []error
	for field, value := range map[string]string{
		"auth_url": c.AuthURL, "username": c.Username, "user_domain": c.UserDomain, "project": c.Project, "project_domain": c.ProjectDomain,
	} {
		if value == "" {
			errs = append(errs, fmt.Errorf("keystone: %s is missing", field))
		}
	}
	if c.Password == nil {
		errs = append(errs, errors.New("keystone: password is missing"))
	}
	if c.PublicURL == "" {
		c.PublicURL = c.AuthURL
	}
	if c.Roles == nil {
		c.Roles = KeystoneRoles()
	}
	if c.Size == 0 {
		c.Size = maxRecent
	}
	if c.HTTP == nil {
		c.HTTP = &http.Client{}
	}
	return errors.Join(errs...)
}

// Keystone knows the callers that a Keystone (v3) knows.
type Keystone struct {
	cfg   KeystoneConfig
	slots chan struct{}

	mu      sync.Mutex
	service *gophercloud.ServiceClient // nil until the service account has logged in
	cache   map[[sha256.Size]byte]answer
}

// answer is what Keystone said about a token.
type answer struct {
	caller Caller
	err    error // ErrUnauthorized or nil
	until  time.Time
}

var _ Authenticator = (*Keystone)(nil)

// NewKeystone returns an authenticator that has not asked Keystone anything yet:
// a node starts without it.
func NewKeystone(cfg KeystoneConfig) (*Keystone, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	return &Keystone{cfg: cfg, slots: make(chan struct{}, keystoneAtOnce), cache: make(map[[sha256.Size]byte]answer)}, nil
}

// Challenge implements [Authenticator], as keystonemiddleware does.
func (k *Keystone) Challenge() string { return fmt.Sprintf("Keystone uri=%q", k.cfg.PublicURL) }

// Authenticate implements [Authenticator]. A token that Keystone has revoked is
// still good here for as long as answers are believed.
func (k *Keystone) Authenticate(ctx context.Context, token string) (Caller, error) {
	if token == "" || len(token) > maxKeystoneToken || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return Caller{}, ErrUnauthorized
	}
	sum := sha256.Sum256([]byte(token))
	if a, ok := k.remembered(sum); ok {
		return a.caller, a.err
	}
	ctx, cancel := context.WithTimeout(ctx, keystoneTimeout)
	defer cancel()
	select {
	case k.slots <- struct{}{}:
		defer func() { <-k.slots }()
	case <-ctx.Done():
		return Caller{}, fmt.Errorf("%w: %w", ErrUnavailable, context.Cause(ctx))
	}
	a, err := k.ask(ctx, token)
	if err != nil {
		return Caller{}, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	k.remember(sum, a)
	return a.caller, a.err
}

// ask returns Keystone's answer. The error is about Keystone, or about the service
// account.
func (k *Keystone) ask(ctx context.Context, token string) (answer, error) {
	service, err := k.login(ctx)
	if err != nil {
		return answer{}, err
	}
	result := tokens.Get(ctx, service, token)
	switch {
	case gophercloud.ResponseCodeIs(result.Err, http.StatusNotFound):
		return answer{err: ErrUnauthorized, until: time.Now().Add(k.cfg.TTL)}, nil
	case result.Err != nil:
		if _, unheard := errors.AsType[*url.Error](result.Err); !unheard {
			k.logout(service) // a new login may help: with another password, at another Keystone
		}
		return answer{}, fmt.Errorf("validate a token: %w", unsaid(result.Err))
	}
	return k.read(result)
}

// read turns a token's description into a caller.
func (k *Keystone) read(result tokens.GetResult) (answer, error) {
	var body struct {
		Expires time.Time      `json:"expires_at"`
		User    tokens.User    `json:"user"`
		Project tokens.Project `json:"project"`
		Roles   []tokens.Role  `json:"roles"`
	}
	if err := result.ExtractInto(&body); err != nil {
		return answer{}, fmt.Errorf("read the description of a token: %w", err)
	}
	now := time.Now()
	if body.User.ID == "" || !now.Before(body.Expires) {
		return answer{err: ErrUnauthorized, until: now.Add(k.cfg.TTL)}, nil
	}
	a := answer{caller: Caller{User: body.User.ID, Project: body.Project.ID, Until: body.Expires}, until: now.Add(k.cfg.TTL)}
	if body.Expires.Before(a.until) {
		a.until = body.Expires
	}
	for _, role := range body.Roles {
		for _, ours := range k.cfg.Roles[role.Name] {
			if !slices.Contains(a.caller.Roles, ours) {
				a.caller.Roles = append(a.caller.Roles, ours)
			}
		}
	}
	return a, nil
}

// login returns a client that is logged in as the service account. It logs in
// again by itself when its own token ends.
func (k *Keystone) login(ctx context.Context) (*gophercloud.ServiceClient, error) {
	k.mu.Lock()
	service := k.service
	k.mu.Unlock()
	if service != nil {
		return service, nil
	}
	password, err := k.cfg.Password()
	if err != nil {
		return nil, fmt.Errorf("log in as %q: %w", k.cfg.Username, err)
	}
	provider, err := openstack.NewClient(k.cfg.AuthURL)
	if err != nil {
		return nil, fmt.Errorf("keystone at %s: %w", k.cfg.AuthURL, err)
	}
	provider.HTTPClient = *k.cfg.HTTP
	err = openstack.Authenticate(ctx, provider, gophercloud.AuthOptions{
		IdentityEndpoint: k.cfg.AuthURL, Username: k.cfg.Username, Password: password, DomainName: k.cfg.UserDomain,
		Scope: &gophercloud.AuthScope{ProjectName: k.cfg.Project, DomainName: k.cfg.ProjectDomain}, AllowReauth: true,
	})
	if err != nil {
		return nil, fmt.Errorf("log in as %q: %w", k.cfg.Username, unsaid(err))
	}
	service, err = openstack.NewIdentityV3(provider, gophercloud.EndpointOpts{})
	if err != nil {
		return nil, fmt.Errorf("keystone at %s: %w", k.cfg.AuthURL, err)
	}
	// The catalog may name an address that this node does not reach.
	service.Endpoint = strings.TrimSuffix(strings.TrimRight(k.cfg.AuthURL, "/"), "/v3") + "/v3/"
	k.mu.Lock()
	defer k.mu.Unlock()
	k.service = service
	return service, nil
}

func (k *Keystone) logout(service *gophercloud.ServiceClient) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.service == service {
		k.service = nil
	}
}

// unsaid keeps what Keystone wrote out of errors: it may repeat what it was sent.
// What the network says may be known.
func unsaid(err error) error {
	if answered, ok := errors.AsType[gophercloud.ErrUnexpectedResponseCode](err); ok {
		return fmt.Errorf("keystone answered %d", answered.Actual)
	}
	if network, ok := errors.AsType[*url.Error](err); ok {
		return network
	}
	return errors.New("keystone does not let the service account in")
}

func (k *Keystone) remembered(sum [sha256.Size]byte) (answer, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	a, ok := k.cache[sum]
	if ok && !time.Now().Before(a.until) {
		delete(k.cache, sum)
		return answer{}, false
	}
	return a, ok
}

// remember keeps an answer. When there is no room, it first forgets those whose
// time is over, and then any.
func (k *Keystone) remember(sum [sha256.Size]byte, a answer) {
	now := time.Now()
	k.mu.Lock()
	defer k.mu.Unlock()
	if !now.Before(a.until) {
		return
	}
	if len(k.cache) >= k.cfg.Size {
		for other, old := range k.cache {
			if !now.Before(old.until) {
				delete(k.cache, other)
			}
		}
	}
	for other := range k.cache {
		if len(k.cache) < k.cfg.Size {
			break
		}
		delete(k.cache, other)
	}
	k.cache[sum] = a
}
