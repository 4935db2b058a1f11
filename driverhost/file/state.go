package file

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/lockstep-storage/lockstep/driverhost"
)

// A role says what a site is for.
type role string

const (
	roleActive    role = "active"    // takes volume calls
	roleOpening   role = "opening"   // a promotion has begun to move replicas
	roleDemoted   role = "demoted"   // was in use: its volumes are still there, read-only
	roleSecondary role = "secondary" // holds replicas
)

// siteState is what the token file of a site holds. It changes only under the
// site's lock.
type siteState struct {
	ID   string `json:"id"`   // random, so that a directory that was replaced is noticed
	Role role   `json:"role"` //

	// Token is the greatest that a call has brought; lower ones are refused.
	Token driverhost.Token `json:"token"`
	// Follows bounds replication from below: a source with a lower token is
	// not, or no longer, the one to follow.
	Follows driverhost.Token `json:"follows"`
	// Opened is the token under which the site was last made the one in use.
	// No site takes a copy from one that was in use before it.
	Opened driverhost.Token `json:"opened"`
	// Failover is the last one that began to promote or to demote this site.
	Failover string `json:"failover,omitempty"`
	// Reserved is set from the start of a promotion until replicas move, or
	// the promotion is undone: meanwhile only sources of its token are taken.
	Reserved bool `json:"reserved,omitempty"`
}

func decodeState(data []byte) (siteState, error) {
	var st siteState
	if err := json.Unmarshal(data, &st); err != nil {
		return siteState{}, fmt.Errorf("damaged: %w", err)
	}
	switch st.Role {
	case roleActive, roleOpening, roleDemoted, roleSecondary:
	default:
		return siteState{}, fmt.Errorf("damaged: role %q is unknown", st.Role)
	}
	if st.ID == "" {
		return siteState{}, fmt.Errorf("damaged: no id")
	}
	return st, nil
}

// opened reports whether volumes may have been opened here.
func (st siteState) opened() bool { return st.Role == roleActive || st.Role == roleOpening }

// admit says whether a volume call with the token may have effect here.
func (st siteState) admit(site string, token driverhost.Token) error {
	switch {
	case token.Less(st.Token):
		return fmt.Errorf("site %s has seen epoch %d claim %d, the call has %d and %d: %w",
			site, st.Token.Epoch, st.Token.Claim, token.Epoch, token.Claim, driverhost.ErrFenced)
	case st.Role == roleActive:
		return nil
	case st.Token.Less(token):
		return fmt.Errorf("site %s is not in use: it is %s", site, st.Role)
	}
	return fmt.Errorf("site %s is %s since epoch %d: %w", site, st.Role, st.Token.Epoch, driverhost.ErrFenced)
}

// admitReplica says whether a source of the token may change replicas here.
func (st siteState) admitReplica(site string, token driverhost.Token) error {
	bound := st.Follows
	if st.Reserved && bound.Less(st.Token) {
		bound = st.Token
	}
	if st.opened() || token.Less(bound) {
		return fmt.Errorf("site %s is %s at epoch %d claim %d and takes no replica of epoch %d claim %d: %w",
			site, st.Role, st.Token.Epoch, st.Token.Claim, token.Epoch, token.Claim, driverhost.ErrFenced)
	}
	return nil
}

// state reads the site's state. Without the lock it may be out of date.
func (s *site) state() (siteState, error) {
	data, err := os.ReadFile(s.file("token"))
	if err != nil {
		return siteState{}, fmt.Errorf("site %s: %w", s.id, err)
	}
	st, err := decodeState(data)
	if err != nil {
		return siteState{}, fmt.Errorf("site %s: %s: %w", s.id, s.file("token"), err)
	}
	return st, nil
}

func (s *site) writeState(st siteState) error {
	data, err := json.Marshal(st)
	if err != nil {
		return err
	}
	return replaceFile(s.file("token"), append(data, '\n'))
}
