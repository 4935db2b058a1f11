package auth

import (
	"context"
	"errors"
	"time"
)

// The roles. A caller may have several, and may do what any of them allows.
const (
	RoleAdmin    = "admin"    // everything
	RoleOperator = "operator" // runs the deployment: fails over, freezes, enables; sees and changes volumes of all projects
	RoleReader   = "reader"   // looks at everything about the deployment, and at the volumes of its project
	RoleMember   = "member"   // sees and changes the volumes of its project
)

// Roles are all roles.
func Roles() []string { return []string{RoleAdmin, RoleOperator, RoleReader, RoleMember} }

// Caller is who asks.
type Caller struct {
	User    string // for the records of what was asked
	Project string // whose volumes the caller's are
	Roles   []string
	Until   time.Time // when the token ends; zero: not by itself
}

// Authenticator knows callers by their tokens.
type Authenticator interface {
	// Authenticate returns the caller whose token it is. The error wraps
	// [ErrUnauthorized] if it is nobody's, and [ErrUnavailable] if that cannot
	// be found out now. Neither says what the token is.
	Authenticate(ctx context.Context, token string) (Caller, error)

	// Challenge is what a client without a good token is told of how to get one:
	// the value of WWW-Authenticate (RFC 9110, 11.6.1).
	Challenge() string
}

var (
	// ErrUnauthorized is about a token that is nobody's, or no longer good.
	ErrUnauthorized = errors.New("the token is not known or no longer good")
	// ErrUnavailable is about a service that would know the token.
	ErrUnavailable = errors.New("the identity service does not answer")
)
