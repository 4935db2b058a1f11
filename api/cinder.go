package api

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/lockstep-storage/lockstep/fsm"
)

// microversion is the minor number of a version of Cinder's API; the major one is 3.
type microversion int

// The microversions of Cinder's API that this package serves, and those in which
// something changes.
const (
	maxMicroversion microversion = 70

	withClusters          microversion = 7
	withGroups            microversion = 13
	withManageable        microversion = 8
	withManageCluster     microversion = 16
	withManageableCluster microversion = 17
	withReplication       microversion = 26
	withAttachments       microversion = 27
	withPoolFilters       microversion = 28
	withSnapshotMetadata  microversion = 22
	withSnapshotNameSort  microversion = 30
	withForcedDelete      microversion = 23
	withMetadataTag       microversion = 15
	withLogLevels         microversion = 32
	withLikeFilters       microversion = 34
	withAttachComplete    microversion = 44
	withAttachMode        microversion = 54
	withSummary           microversion = 12
	withSummaryMetadata   microversion = 36
	withExtendInUse       microversion = 42
	withCount             microversion = 45
	withImageFilter       microversion = 4
	withTimeFilters       microversion = 60
	withProviderID        microversion = 21
	withServiceUUID       microversion = 48
	withBackendState      microversion = 49
	withStrictBodies      microversion = 53
	withClusterName       microversion = 61
	withVolumeTypeID      microversion = 63
	withConsumesQuota     microversion = 65
	withoutForcedSnapshot microversion = 66
	withLimitsOfProject   microversion = 39
	withSnapshotUser      microversion = 41
	withSnapshotGroup     microversion = 14
	withGroupFilter       microversion = 10
	withGroupTypes        microversion = 11
	withGroupSnapshots    microversion = 14
	withGroupReset        microversion = 20
	withGroupVolumes      microversion = 25
	withGroupReplication  microversion = 38
	withGroupProject      microversion = 58
)

const (
	headerVersion   = "OpenStack-API-Version"
	headerComputeID = "X-Compute-Request-Id"
	headerRequestID = "X-Openstack-Request-Id"
)

// cinder answers one exchange of Cinder's API: it looks at the token, the
// microversion and the project before it calls the handler.
func (s *Server) cinder(x *exchange, rt route) error {
	if ok, err := s.identify(x); err != nil || !ok {
		return err
	}
	x.Header().Set(headerComputeID, "req-"+x.id)
	if err := x.negotiate(); err != nil {
		return err
	}
	if x.segment != "" && x.segment != x.project {
		return newFault(http.StatusBadRequest, "Malformed request url")
	}
	if x.version < rt.since {
		return newFault(http.StatusNotFound, msgNoResource)
	}
	return s.plain(x, rt)
}

// identify finds out who asks. Without an authenticator it may have answered
// itself.
func (s *Server) identify(x *exchange) (ok bool, err error) {
	if s.cfg.Authenticator == nil && !x.identified() {
		return false, nil
	}
	x.Header().Set(headerRequestID, "req-"+x.id)
	err = s.authenticate(x)
	return err == nil, err
}

// identified looks at the token. Like Cinder's noauth it takes any token for what
// it says, and answers a request without one with the token to use.
func (x *exchange) identified() bool {
	x.Header().Set(headerRequestID, "req-"+x.id)
	if token, ok := x.r.Header["X-Auth-Token"]; ok {
		if !strings.Contains(token[0], ":") {
			x.project = x.user
		}
		return true
	}
	user, project := x.r.Header.Get("X-Auth-User"), x.r.Header.Get("X-Auth-Project-Id")
	if user == "" {
		user = "admin"
	}
	if project == "" {
		project = "admin"
	}
	x.Header().Set("X-Auth-Token", user+":"+project)
	x.Header().Set("X-Server-Management-Url", strings.TrimRight(x.base()+x.path, "/"))
	x.Header().Set("Content-Type", typeText)
	x.WriteHeader(http.StatusNoContent)
	return false
}

// base returns the URL of the server as the client knows it.
func (x *exchange) base() string {
	scheme := "http"
	if x.r.TLS != nil {
		scheme = "https"
	}
	return scheme + "://" + x.r.Host
}

// negotiate finds the microversion that the request asks for.
func (x *exchange) negotiate() error {
	headers, asked := x.r.Header[http.CanonicalHeaderKey(headerVersion)]
	if !asked {
		x.setVersion(0)
		return nil
	}
	version := ""
	for part := range strings.SplitSeq(headers[0], ",") {
		if !strings.Contains(part, "volume") { // Cinder takes volumev3, too
			continue
		}
		if words := strings.Fields(part); len(words) == 2 {
			version = words[1]
		}
		break
	}
	switch version {
	case "":
		return newFault(http.StatusBadRequest, msgMalformed)
	case "latest":
		x.setVersion(maxMicroversion)
		return nil
	}
	major, minor, ok := parseVersion(version)
	if !ok {
		return newFault(http.StatusBadRequest, "API Version String %s is of invalid format. Must be of format MajorNum.MinorNum.", version)
	}
	if major < 3 || major > 3 || minor > int(maxMicroversion) {
		if major >= 3 {
			x.Header().Set(headerVersion, "volume "+version)
			x.Header().Set("Vary", headerVersion)
		}
		return newFault(http.StatusNotAcceptable, "Version %s is not supported by the API. Minimum is 3.0 and maximum is 3.%d.", version, maxMicroversion)
	}
	x.setVersion(microversion(minor))
	return nil
}

func (x *exchange) setVersion(v microversion) {
	x.version = v
	x.Header().Set(headerVersion, fmt.Sprintf("volume 3.%d", v))
	x.Header().Set("Vary", headerVersion)
}

// parseVersion takes what Cinder takes: two numbers without leading zeros, the
// first of them not zero.
func parseVersion(text string) (major, minor int, ok bool) {
	a, b, ok := strings.Cut(text, ".")
	if !ok || a == "" || a[0] == '0' || len(b) > 1 && b[0] == '0' || strings.Trim(a+b, "0123456789") != "" {
		return 0, 0, false
	}
	major, errMajor := strconv.Atoi(a)
	minor, errMinor := strconv.Atoi(b)
	return major, minor, errMajor == nil && errMinor == nil
}

// versions is the one version that Cinder's API has.
func (x *exchange) versions() map[string]any {
	return map[string]any{"versions": []any{map[string]any{
		"id": "v3.0", "status": "CURRENT", "version": fmt.Sprintf("3.%d", maxMicroversion), "min_version": "3.0",
		"updated": "2022-08-31T00:00:00Z",
		"links": []any{
			map[string]string{"rel": "describedby", "type": "text/html", "href": "https://docs.openstack.org/"},
			map[string]string{"rel": "self", "href": x.base() + "/v3/"},
		},
		"media-types": []any{map[string]string{"base": typeJSON, "type": "application/vnd.openstack.volume+json;version=3"}},
	}}}
}

// rootVersions answers GET /.
func (s *Server) rootVersions(x *exchange) error {
	x.Header().Set(headerComputeID, "req-"+x.id)
	x.Header().Set(headerRequestID, "req-"+x.id)
	if err := x.negotiate(); err != nil {
		return err
	}
	x.json(http.StatusMultipleChoices, typeJSON, x.versions())
	return nil
}

func (s *Server) redirectToVersions(x *exchange) error {
	x.Header().Del(headerVersion)
	x.Header().Del("Vary")
	x.Header().Set("Location", x.base()+"/v3/")
	x.empty(http.StatusFound, "text/plain; charset=utf8")
	return nil
}

func (s *Server) v3Versions(x *exchange) error {
	x.json(http.StatusOK, typeJSON, x.versions())
	return nil
}

// stamp writes a time as Cinder does, nil for none.
func stamp(t fsm.Time) any {
	if t == 0 {
		return nil
	}
	return t.Time().Format("2006-01-02T15:04:05.000000")
}

// orNull writes an empty string as null.
func orNull(text string) any {
	if text == "" {
		return nil
	}
	return text
}
