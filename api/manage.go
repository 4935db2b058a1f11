package api

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/lockstep-storage/lockstep/fsm"
)

// Existing is something on the storage of a cluster that could be adopted.
type Existing struct {
	Reference string `json:"reference"`
	SizeGiB   int64  `json:"size_gib"`
	Unsafe    string `json:"unsafe,omitempty"` // why it must not be adopted; empty if it may be
}

const msgUnavailable = "Service is unavailable at this time."

// listManageable answers GET manageable_volumes.
func (s *Server) listManageable(x *exchange) error { return s.manageableList(x, manageable.summary) }

// detailManageable answers GET manageable_volumes/detail.
func (s *Server) detailManageable(x *exchange) error { return s.manageableList(x, manageable.detail) }

func (s *Server) manageableList(x *exchange, view func(manageable) map[string]any) error {
	q, err := x.manageableQuery()
	if err != nil {
		return err
	}
	svc, err := s.manager(x, q.host, q.cluster)
	if err != nil {
		return err
	}
	found, err := s.cfg.Manageable(x.r.Context(), svc.Group())
	if err != nil {
		return fmt.Errorf("list what could be adopted by %s: %w", svc.Group(), err)
	}
	rows := manageableRows(s.node.Clone(), svc.Group(), found)
	if rows, err = q.page(rows); err != nil {
		return err
	}
	out := make([]any, 0, len(rows))
	for _, row := range rows {
		out = append(out, view(row))
	}
	x.json(http.StatusOK, typeJSON, map[string]any{"manageable-volumes": out})
	return nil
}

// manageable is one row of the list: what could be adopted, or has been.
type manageable struct {
	Existing

	volume string // that it is by now; empty if it is none
}

// manageableRows are what the driver has found, and what it no longer finds since it
// was adopted and is at the site in use.
func manageableRows(state *fsm.State, group string, found []Existing) []manageable {
	rows := make([]manageable, 0, len(found))
	for _, e := range found {
		rows = append(rows, manageable{Existing: e})
	}
	cl, _ := state.Cluster(group)
	for v := range state.Volumes(0) {
		here := v.Cluster == group || v.Cluster == "" && v.Host == group
		if here && v.Reference != "" && v.Size > 0 && (v.Replicated || v.BackendID == cl.ActiveBackendID) {
			rows = append(rows, manageable{Existing{Reference: v.Reference, SizeGiB: v.Size, Unsafe: "already managed"}, v.ID})
		}
	}
	return rows
}

func (m manageable) summary() map[string]any {
	return map[string]any{"reference": map[string]string{"source-name": m.Reference}, "size": m.SizeGiB, "safe_to_manage": m.Unsafe == ""}
}

func (m manageable) detail() map[string]any {
	row := m.summary()
	row["reason_not_safe"], row["cinder_id"], row["extra_info"] = orNull(m.Unsafe), orNull(m.volume), nil
	return row
}

// manageableQuery is which part of the list is asked for.
type manageableQuery struct {
	host, cluster string
	marker        string
	limit, offset int
	orders        []order
}

func (x *exchange) manageableQuery() (q manageableQuery, err error) {
	if q.host, q.cluster, err = x.hostOrCluster(x.query.Get("host"), x.query.Get("cluster"), withManageableCluster); err != nil {
		return q, err
	}
	q.marker = x.query.Get("marker")
	if q.limit, err = x.number("limit", maxLimit); err != nil {
		return q, err
	}
	if q.offset, err = x.number("offset", 0); err != nil {
		return q, err
	}
	q.limit = min(q.limit, maxLimit)
	if q.orders, err = x.ordersBy("reference", func(key, dir string) error {
		switch {
		case key != "reference" && key != "size":
			return fieldFault("sort", cut(key), "Invalid sort keys passed: "+cut(key), "reference", "size")
		case dir != "asc" && dir != "desc":
			return fieldFault("sort", cut(dir), "Invalid sort dirs passed: "+cut(dir), "asc", "desc")
		}
		return nil
	}); err != nil {
		return q, err
	}
	return q, nil
}

// hostOrCluster returns the one of both that is given. Clusters are looked at since
// a microversion.
func (x *exchange) hostOrCluster(host, cluster string, since microversion) (string, string, error) {
	message := "One and only one of cluster and host must be set."
	if x.version < since {
		cluster, message = "", "Host field is missing."
	}
	if (host == "") == (cluster == "") {
		return "", "", badRequest("%s%s", prefixInvalid, message)
	}
	return host, cluster, nil
}

// page returns the rows that are asked for. The marker is a reference, as JSON.
func (q *manageableQuery) page(rows []manageable) ([]manageable, error) {
	slices.SortStableFunc(rows, q.compare)
	begin := 0
	if q.marker != "" {
		var want map[string]string
		if err := json.Unmarshal([]byte(q.marker), &want); err != nil {
			return nil, fieldFault("marker", cut(q.marker), fmt.Sprintf("%smarker %s can not be analysed, please use json like format", prefixInvalid, cut(q.marker)))
		}
		at := slices.IndexFunc(rows, func(m manageable) bool { return len(want) == 1 && want["source-name"] == m.Reference })
		if at < 0 {
			return nil, fieldFault("marker", cut(q.marker), fmt.Sprintf("%smarker not found: %s", prefixInvalid, cut(pyStr(json.RawMessage(q.marker)))))
		}
		begin = at + 1
	}
	begin = min(begin+q.offset, len(rows))
	return rows[begin:min(begin+q.limit, len(rows))], nil
}

func (q *manageableQuery) compare(a, b manageable) int {
	for _, o := range q.orders {
		c := cmp.Compare(a.SizeGiB, b.SizeGiB)
		if o.key == "reference" {
			c = cmp.Compare(a.Reference, b.Reference)
		}
		if o.desc {
			c = -c
		}
		if c != 0 {
			return c
		}
	}
	return 0
}

// manager returns the service that is to adopt something: the one that is named, or
// one of a cluster that serves.
func (s *Server) manager(x *exchange, host, cluster string) (svc fsm.Service, err error) {
	if err := s.look(x); err != nil {
		return svc, err
	}
	up, _, err := s.presence(x)
	if err != nil {
		return svc, err
	}
	local := ""
	if cluster != "" {
		local = s.cfg.Local(withoutPool(cluster))
	}
	known := false
	var disabled bool
	s.node.View(func(state *fsm.State) {
		if host != "" {
			svc, known = state.Service(withoutPool(host))
		} else {
			svc, known = memberUp(state, withoutPool(cluster), local, up)
		}
		cl, _ := state.Cluster(svc.Group())
		disabled = svc.Disabled && (svc.Cluster == "" || cl.Disabled)
	})
	switch {
	case !known && host != "":
		return svc, newFault(http.StatusNotFound, "Service cinder-volume could not be found on host %s.", cut(withoutPool(host)))
	case !known:
		return svc, newFault(http.StatusNotFound, "Service cinder-volume could not be found.")
	case disabled || !up[svc.Host].Up:
		return svc, badRequest(msgUnavailable)
	}
	return svc, nil
}

// memberUp returns a member of a cluster: this node's, else one that is up, else any.
func memberUp(state *fsm.State, cluster, local string, up map[string]Presence) (found fsm.Service, ok bool) {
	for svc := range state.Members(cluster) {
		if svc.Cluster != cluster {
			continue // a service outside clusters is none
		}
		if !ok || svc.Host == local || up[svc.Host].Up && !up[found.Host].Up {
			found, ok = svc, true
		}
		if svc.Host == local {
			break
		}
	}
	return found, ok
}

// manageVolume answers POST manageable_volumes: what is on the storage becomes a
// volume. A reference that names nothing ends as a volume in error.
func (s *Server) manageVolume(x *exchange) error {
	body, err := s.validSince(x, "volume_manage", withManageCluster)
	if err != nil {
		return err
	}
	asked := body.sub("volume")
	host, cluster, err := x.hostOrCluster(asked.text("host"), asked.text("cluster"), withManageCluster)
	if err != nil {
		return err
	}
	v, err := s.volumeManaged(x, asked)
	if err != nil {
		return err
	}
	svc, err := s.manager(x, host, cluster)
	if f, ok := errors.AsType[*fault](err); ok && f.status == http.StatusNotFound { // Cinder has other words for it here
		if host != "" {
			return badRequest("Host '%s' not found", cut(host))
		}
		return badRequest("Cluster '%s' not found", cut(cluster))
	}
	if err != nil {
		return err
	}
	ids, err := x.identities()
	if err != nil {
		return err
	}
	v.ID, v.Host, v.Status = ids.of("volume"), svc.Host, fsm.StatusCreating
	if err := s.commit(x, ids, v.ID, fsm.ManageVolume{Volume: v}); err != nil {
		return fmt.Errorf("manage volume: %w", err)
	}
	var row map[string]any
	s.node.View(func(state *fsm.State) {
		if created, ok := state.Volume(v.ID); ok {
			v.CreatedAt = created.CreatedAt
		}
		row = x.legacyVolumeRow(state, &v)
	})
	x.json(http.StatusAccepted, typeJSON, map[string]any{"volume": row})
	return nil
}

// volumeManaged returns the volume that the body asks for.
func (s *Server) volumeManaged(x *exchange, asked object) (v fsm.Volume, err error) {
	v = fsm.Volume{
		ProjectID: x.project, UserID: x.user, Name: strings.TrimSpace(asked.text("name")), Description: strings.TrimSpace(asked.text("description")),
		Metadata: asked.sub("metadata").pairs(), Reference: asked.reference("ref"),
	}
	if v.Bootable, err = asked.flag("bootable", "false"); err != nil {
		return v, err
	}
	if az := asked.text("availability_zone"); az != "" && az != zone {
		return v, fieldFault("availability_zone", az, fmt.Sprintf("Availability zone '%s' is invalid.", cut(az)), zone)
	}
	if err := s.look(x); err != nil {
		return v, err
	}
	wanted := cmp.Or(asked.text("volume_type"), defaultTypeName)
	managed := false
	known := false
	s.node.View(func(state *fsm.State) {
		if id, ok := strings.CutPrefix(v.Reference, "volume-"); ok && uuid.Validate(id) == nil {
			_, managed = state.Volume(id)
		}
		var t fsm.VolumeType
		t, known = volumeType(state, wanted)
		v.VolumeType, v.Replicated = t.Name, t.Replicated()
	})
	switch {
	case !known:
		return v, fieldFault("volume_type", wanted, fmt.Sprintf("Invalid volume type: Cannot find requested '%s' volume type", cut(wanted)))
	case managed:
		return v, badRequest("Invalid volume: Unable to manage existing volume. The volume is already managed")
	}
	return v, nil
}

// reference returns what names something on the storage. What has no source-name is
// no reference, but it is the driver that says so: the volume ends in error.
func (o object) reference(name string) string {
	if source := o.sub(name).text("source-name"); source != "" {
		return source
	}
	if text := o.text(name); text != "" {
		return text
	}
	return string(o[name])
}

// unmanageVolume answers os-unmanage: the volume is forgotten, and stays on the
// storage.
func (s *Server) unmanageVolume(x *exchange, host string, v *fsm.Volume, _ object) error {
	if err := s.deletion(s.act(x, v.ID, fsm.UnmanageVolume{ID: v.ID, Host: host}), v); err != nil {
		return err
	}
	x.empty(http.StatusAccepted, typeHTML)
	return nil
}

const msgRetype = "Invalid volume: Retype needs volume to be in available or in-use state, not be part of an active migration or a consistency group," +
	" requested type has to be different that the one from the volume, and for in-use volumes front-end qos specs cannot change."

// retypeVolume answers os-retype. Volumes do not move: whatever the policy of
// migration is, a type that the volume's backend cannot serve is refused.
func (s *Server) retypeVolume(x *exchange, host string, v *fsm.Volume, args object) error {
	var t fsm.VolumeType
	var err error
	mismatch := ""
	s.node.View(func(state *fsm.State) {
		if t, err = wantedType(state, args.text("new_type")); err == nil {
			mismatch = otherBackend(v.Host, &t)
		}
	})
	if err != nil {
		return err
	}
	if mismatch != "" {
		return badRequest("%sNo valid backend was found: %s %s.", prefixInvalid, cmp.Or(v.Cluster, v.Host), mismatch)
	}
	err = s.acted(x, v, fsm.RetypeVolume{ID: v.ID, Type: t.Name, Host: host})
	if r, ok := refusedFor(err, fsm.ErrConflict); ok && (r.Field == "status" || r.Field == "new_type" && t.Name == v.VolumeType) {
		return badRequest(msgRetype)
	}
	return err
}

// listManageableSnapshots answers GET manageable_snapshots and its detail: no driver
// here adopts snapshots, so there are none.
func (s *Server) listManageableSnapshots(x *exchange) error {
	q, err := x.manageableQuery()
	if err != nil {
		return err
	}
	if _, err := s.manager(x, q.host, q.cluster); err != nil {
		return err
	}
	x.json(http.StatusOK, typeJSON, map[string]any{"manageable-snapshots": []any{}})
	return nil
}
