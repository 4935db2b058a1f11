package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/spf13/cobra"

	"github.com/lockstep-storage/lockstep/api/auth"
	"github.com/lockstep-storage/lockstep/cmd/internal/tlsfiles"
)

// tokenVariable is the environment variable with the token of who asks. There is
// no flag for it: what is in a command line, every user of a machine can read.
const tokenVariable = "LOCKSTEP_TOKEN"

// keystoneTimeout bounds a login.
const keystoneTimeout = 10 * time.Second

// findToken returns the token to ask with: that of --token-file, of the
// environment, or one of the Keystone that the environment names as for
// OpenStack's own commands. None is no error.
func (a *app) findToken(ctx context.Context) (string, error) {
	if a.tokenFile != "" {
		content, err := tlsfiles.ReadSecret(a.tokenFile)
		if err != nil {
			return "", fmt.Errorf("--token-file: %w", err)
		}
		return checkToken("--token-file", strings.TrimSpace(string(content)))
	}
	if token := os.Getenv(tokenVariable); token != "" {
		return checkToken(tokenVariable, token)
	}
	if os.Getenv("OS_AUTH_URL") == "" || strings.Contains(os.Getenv("OS_AUTH_TYPE"), "noauth") {
		return "", nil
	}
	ctx, cancel := context.WithTimeout(ctx, keystoneTimeout)
	defer cancel()
	options, err := keystoneOptions()
	if err != nil {
		return "", fmt.Errorf("log in to Keystone as OS_* says: %w", err)
	}
	provider, err := openstack.AuthenticatedClient(ctx, options)
	if err != nil {
		return "", fmt.Errorf("log in to Keystone at OS_AUTH_URL: %w", err)
	}
	return provider.TokenID, nil
}

// keystoneOptions reads what OpenStack's commands have in their environment. The
// library knows one domain for all, OS_DOMAIN_*; an openrc file of today has one for
// the user and one for the project.
func keystoneOptions() (gophercloud.AuthOptions, error) {
	first := func(names ...string) string {
		for _, name := range names {
			if value := os.Getenv(name); value != "" {
				return value
			}
		}
		return ""
	}
	if first("OS_USER_DOMAIN_ID", "OS_USER_DOMAIN_NAME", "OS_PROJECT_DOMAIN_ID", "OS_PROJECT_DOMAIN_NAME") == "" {
		return openstack.AuthOptionsFromEnv()
	}
	o := gophercloud.AuthOptions{
		IdentityEndpoint: first("OS_AUTH_URL"), UserID: first("OS_USER_ID", "OS_USERID"), Password: first("OS_PASSWORD"),
		Scope: &gophercloud.AuthScope{ProjectID: first("OS_PROJECT_ID", "OS_TENANT_ID")},
	}
	if o.UserID == "" {
		o.Username = first("OS_USERNAME")
		if o.DomainID = first("OS_USER_DOMAIN_ID", "OS_DOMAIN_ID"); o.DomainID == "" {
			o.DomainName = first("OS_USER_DOMAIN_NAME", "OS_DOMAIN_NAME")
		}
	}
	if o.Scope.ProjectID == "" {
		o.Scope.ProjectName = first("OS_PROJECT_NAME", "OS_TENANT_NAME")
		if o.Scope.DomainID = first("OS_PROJECT_DOMAIN_ID", "OS_DOMAIN_ID"); o.Scope.DomainID == "" {
			o.Scope.DomainName = first("OS_PROJECT_DOMAIN_NAME", "OS_DOMAIN_NAME")
		}
	}
	for _, needed := range [][2]string{
		{"OS_USERNAME", o.Username + o.UserID}, {"OS_PASSWORD", o.Password}, {"OS_PROJECT_NAME", o.Scope.ProjectName + o.Scope.ProjectID},
	} {
		if needed[1] == "" {
			return o, fmt.Errorf("%s is missing", needed[0])
		}
	}
	return o, nil
}

// checkToken never says what the token is.
func checkToken(from, token string) (string, error) {
	if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", fmt.Errorf("%s: must be one token, without spaces", from)
	}
	return token, nil
}

func (a *app) token() *cobra.Command {
	return parent("token", "Make tokens for users of the API", a.tokenCreate())
}

// createdToken is a token that is shown once.
type createdToken struct {
	Token string     `json:"token"`
	Entry auth.Entry `json:"entry"`
}

func (a *app) tokenCreate() *cobra.Command {
	var user, project string
	var roles []string
	var days int
	cmd := &cobra.Command{
		Use: "create --user NAME --role ROLES", Short: "Make a token, and its line for the file of tokens", Args: cobra.NoArgs,
		Long: `Make a token and print it, this once, with the line that makes nodes know it: add
that under "tokens:" in the file that auth.tokens names, on every node. Nodes read the
file again by themselves. The line proves the token and does not tell it.`,
		RunE: func(*cobra.Command, []string) error {
			var expires time.Time
			if days < 0 {
				return usage("--days %d: must not be negative", days)
			}
			if days > 0 {
				expires = time.Now().AddDate(0, 0, days)
			}
			token, entry, err := auth.NewToken(user, project, roles, expires)
			if err != nil {
				return usage("%w", err)
			}
			return a.show(createdToken{token, entry}, func(w io.Writer) error {
				line, err := json.Marshal(entry) // which is YAML, too
				if err != nil {
					return err
				}
				_, err = fmt.Fprintf(w, "token, shown this once:\n\n%s\n\nline for the file of tokens, below \"tokens:\":\n\n- %s\n", token, line)
				return err
			})
		},
	}
	cmd.Flags().StringVar(&user, "user", "", "who has it, for the records (required)")
	cmd.Flags().StringVar(&project, "project", "admin", "project whose volumes are theirs")
	cmd.Flags().StringSliceVar(&roles, "role", nil, "a comma list of "+strings.Join(auth.Roles(), ", ")+" (required)")
	cmd.Flags().IntVar(&days, "days", 0, "how long it is good; 0: until its line is gone")
	mustHave(cmd, "user", "role")
	return cmd
}

func (a *app) policy() *cobra.Command {
	var path string
	list := &cobra.Command{
		Use: "list", Short: "Show which roles may do what", Args: cobra.NoArgs,
		Long: `Show which roles may do what, as nodes see it: by default, or with a file that
auth.policies names. Such a file has names of policies with lists of roles:

  volume:failover_host: [admin]
  lockstep:status: [admin, operator, reader, member]`,
		RunE: func(*cobra.Command, []string) error {
			policies := auth.DefaultPolicies()
			if path != "" {
				var err error
				if policies, err = auth.ReadPolicies(path); err != nil {
					return err
				}
			}
			rules := policies.Rules()
			return a.show(rules, func(w io.Writer) error {
				t := table{header: []string{"POLICY", "ROLES"}}
				for _, name := range slices.Sorted(maps.Keys(rules)) {
					t.add(name, strings.Join(rules[name], ", "))
				}
				return t.print(w)
			})
		},
	}
	list.Flags().StringVar(&path, "file", "", "file of policies to check and show")
	return parent("policy", "Show who may do what", list)
}

// credentials finds the token once for all clients of a command.
func (a *app) credentials(ctx context.Context) error {
	token, err := a.findToken(ctx)
	a.apiToken = cmp.Or(token, a.apiToken)
	if err != nil && errors.Is(ctx.Err(), context.Canceled) {
		return context.Cause(ctx)
	}
	return err
}
