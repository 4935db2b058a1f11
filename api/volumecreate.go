package api

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/lockstep-storage/lockstep/fsm"
)

// createVolume answers POST volumes. What cannot be served is refused with the
// reason, rather than accepted and then put in error.
func (s *Server) createVolume(x *exchange) error {
	v, err := s.volumeAsked(x)
	if err != nil {
		return err
	}
	if err := s.look(x); err != nil {
		return err
	}
	up, _, err := s.presence(x)
	if err != nil {
		return err
	}
	state := s.node.Clone() // a View must not ask which services are here
	src, err := s.source(x, state, &v)
	if err != nil {
		return err
	}
	if err := x.checkGroup(state, &v); err != nil {
		return err
	}
	volType, err := wantedType(state, cmp.Or(v.VolumeType, defaultTypeName))
	if err != nil {
		return err
	}
	v.VolumeType, v.Replicated = volType.Name, volType.Replicated()
	v.Multiattach = slices.Contains(volType.ExtraSpecs, fsm.KeyValue{Key: "multiattach", Value: "<is> True"})
	near, err := x.groupFor(state, &v, &volType)
	if err != nil {
		return err
	}
	if err := s.placeNear(state, &v, cmp.Or(near, src), &volType, up); err != nil {
		return err
	}
	ids, err := x.identities()
	if err != nil {
		return err
	}
	v.ID, v.Status = ids.of("volume"), fsm.StatusCreating
	err = s.commit(x, ids, v.ID, fsm.CreateVolume{Volume: v})
	if err != nil {
		return groupRefusal(sourceRefusal(fmt.Errorf("create volume: %w", err)))
	}
	s.answerCreated(x, v)
	return nil
}

// answerCreated answers with a volume that is to be made.
func (s *Server) answerCreated(x *exchange, v fsm.Volume) {
	var row map[string]any
	s.node.View(func(state *fsm.State) {
		if created, ok := state.Volume(v.ID); ok {
			v = created
		}
		row = x.volumeRow(state, &v)
	})
	if x.version >= withServiceUUID {
		row["shared_targets"] = true
	}
	if x.version >= withClusterName && x.admin {
		row["cluster_name"] = nil // Cinder's scheduler has not chosen one yet
	}
	x.json(http.StatusAccepted, typeJSON, map[string]any{"volume": row})
}

const msgMultiattach = "multiattach parameter has been removed. The default behavior is to use multiattach enabled volume types." +
	" Contact your administrator to create a multiattach enabled volume type and use it to create multiattach volumes."

// volumeAsked returns the volume that the body asks for.
func (s *Server) volumeAsked(x *exchange) (fsm.Volume, error) {
	body, err := s.validSince(x, "volume_create", withStrictBodies)
	if err != nil {
		return fsm.Volume{}, err
	}
	asked := body.sub("volume")
	if err := s.checkSource(asked); err != nil {
		return fsm.Volume{}, err
	}
	if zone := asked.text("availability_zone"); zone != "" && zone != "nova" {
		return fsm.Volume{}, fieldFault("availability_zone", zone, fmt.Sprintf("Availability zone '%s' is invalid.", zone), "nova")
	}
	var size int64
	if asked.has("size") {
		if size, err = asked.size("size"); err != nil {
			return fsm.Volume{}, err
		}
	}
	if multiattach, err := asked.flag("multiattach", "false"); err != nil || multiattach {
		return fsm.Volume{}, cmp.Or(err, badRequest(msgMultiattach))
	}
	name, err := asked.short("name")
	if err != nil {
		return fsm.Volume{}, err
	}
	description, err := asked.short("description")
	if err != nil {
		return fsm.Volume{}, err
	}
	pairs, err := asked.metadata("metadata")
	if err != nil {
		return fsm.Volume{}, err
	}
	return fsm.Volume{
		ProjectID: x.project, UserID: x.user, Name: name, Description: description,
		Size: size, VolumeType: asked.text("volume_type"), Metadata: pairs,
		SnapshotID: asked.text("snapshot_id"), SourceVolumeID: asked.text("source_volid"),
		GroupID: cmp.Or(asked.text("group_id"), asked.text("consistencygroup_id")),
	}, nil
}

// groupFor returns a place in the cluster of the group that a new volume is to join; nil
// if there is none. The command says what is wrong with a source elsewhere.
func (x *exchange) groupFor(state *fsm.State, v *fsm.Volume, t *fsm.VolumeType) (*fsm.Volume, error) {
	if v.GroupID == "" {
		return nil, nil
	}
	g, _ := state.Group(v.GroupID)
	if !slices.Contains(g.VolumeTypes, t.ID) {
		return nil, badRequest("%sInvalid volume_type provided: %s (requested type must be supported by this group).", prefixInvalid, t.ID)
	}
	return &fsm.Volume{Cluster: g.Cluster}, nil
}

// checkGroup refuses a group that there is not, and a volume in a group that asks for
// no type.
func (x *exchange) checkGroup(state *fsm.State, v *fsm.Volume) error {
	if v.GroupID == "" {
		return nil
	}
	if g, ok := state.Group(v.GroupID); !ok || !x.sees(g.ProjectID) {
		return noGroup(v.GroupID)
	}
	if v.VolumeType == "" {
		return badRequest("%svolume_type must be provided when creating a volume in a group.", prefixInvalid)
	}
	return nil
}

// checkSource refuses what volumes are not made from here.
func (s *Server) checkSource(asked object) error {
	if id := asked.text("backup_id"); id != "" { // there are none
		return newFault(http.StatusNotFound, "Backup %s could not be found.", id)
	}
	for _, name := range []string{"imageRef", "image_id"} {
		if asked.text(name) != "" {
			return fieldFault(name, asked.text(name), "Invalid image identifier or unable to access requested image.")
		}
	}
	return nil
}

// sourceRefusal says in Cinder's words why a volume cannot be made of what it should.
func sourceRefusal(err error) error {
	if r, ok := refusedFor(err, fsm.ErrConflict); ok && (r.Field == "snapshot_id" || r.Field == "source_volid") {
		return badRequest("%s", r.Message)
	}
	return err
}

// source completes what a new volume takes from the snapshot or volume that it is
// made of: its size and type, unless others are asked for, and where it is made.
func (s *Server) source(x *exchange, state *fsm.State, v *fsm.Volume) (*fsm.Volume, error) {
	from, size := v.SourceVolumeID, int64(0)
	if v.SnapshotID != "" {
		sn, ok := state.Snapshot(v.SnapshotID)
		if !ok || !x.sees(sn.ProjectID) {
			return nil, noSnapshot(v.SnapshotID)
		}
		if err := sn.CheckSource(); err != nil {
			return nil, sourceRefusal(err)
		}
		from, size = sn.VolumeID, sn.Size
	}
	if from == "" {
		if v.Size == 0 {
			return nil, newFault(http.StatusBadRequest, msgMalformed)
		}
		return nil, nil
	}
	src, ok := state.Volume(from)
	if !ok || !x.sees(src.ProjectID) {
		return nil, noVolume(from)
	}
	if v.SnapshotID == "" {
		if err := src.CheckSource(); err != nil {
			return nil, sourceRefusal(err)
		}
	}
	v.Size = cmp.Or(v.Size, size, src.Size)
	v.VolumeType = cmp.Or(v.VolumeType, src.VolumeType)
	return &src, nil
}

// short returns a name or a description, which has an older name, too, without the
// white space around it.
func (o object) short(field string) (string, error) {
	text := strings.TrimSpace(cmp.Or(o.text(field), o.text("display_"+field)))
	if n := utf8.RuneCountInString(text); n > 255 {
		return "", fieldFault(field, cut(text), fmt.Sprintf("%s%s has %d characters, more than 255.", prefixInvalid, field, n), "up to 255 characters")
	}
	return text, nil
}

// maxPairs is how many entries a record's metadata may have.
const maxPairs = 128

// metadata returns a field that maps keys to strings or null, as a schema has said.
func (o object) metadata(name string) ([]fsm.KeyValue, error) {
	if !o.has(name) {
		return nil, nil
	}
	obj := o.sub(name)
	if len(obj) > maxPairs {
		return nil, fieldFault(name, fmt.Sprint(len(obj)), fmt.Sprintf("%s%s has %d entries, more than %d.", prefixInvalid, name, len(obj), maxPairs))
	}
	return obj.pairs(), nil
}

// placeNear chooses the service that is to create a volume: one of the cluster of
// its source, if it has one.
func (s *Server) placeNear(state *fsm.State, v, src *fsm.Volume, t *fsm.VolumeType, up map[string]Presence) (err error) {
	if src == nil {
		v.Host, err = s.place(state, up, t)
		return err
	}
	group := src.Cluster
	if group == "" {
		group = src.Host
	}
	if cl, ok := state.Cluster(group); ok {
		hosts := servingIn(state, &cl, up)
		if v.Host = s.cfg.Local(group); !slices.Contains(hosts, v.Host) && len(hosts) > 0 {
			v.Host = hosts[0]
		}
	}
	if v.Host == "" {
		v.Host = src.Host // the command says why it cannot serve
	}
	return nil
}

// place chooses the service that is to create a volume: one of this node if it
// can, else the first that can. All of types must be fit for its cluster.
func (s *Server) place(state *fsm.State, up map[string]Presence, types ...*fsm.VolumeType) (string, error) {
	var first string
	var reasons []string
	for cl := range state.Clusters() {
		if reason := unfitForAny(state, &cl, types); reason != "" {
			reasons = append(reasons, cl.Name+" "+reason)
			continue
		}
		hosts := servingIn(state, &cl, up)
		switch local := s.cfg.Local(cl.Name); {
		case len(hosts) == 0:
			reasons = append(reasons, cl.Name+" has no service that is up and enabled")
		case slices.Contains(hosts, local):
			return local, nil
		case first == "":
			first = hosts[0]
		}
	}
	if first != "" {
		return first, nil
	}
	if reasons == nil {
		reasons = []string{"there are no services"}
	}
	return "", badRequest("%sNo valid backend was found: %s.", prefixInvalid, cut(strings.Join(reasons, "; ")))
}

// servingIn returns the hosts of the members of a cluster that can do work.
func servingIn(state *fsm.State, cl *fsm.Cluster, up map[string]Presence) []string {
	var hosts []string
	for svc := range state.Members(cl.Name) {
		if up[svc.Host].Up && !svc.Disabled && !refuses(cl, &svc) {
			hosts = append(hosts, svc.Host)
		}
	}
	return hosts
}

// unfitForAny says why a cluster cannot have new volumes of all of types.
func unfitForAny(state *fsm.State, cl *fsm.Cluster, types []*fsm.VolumeType) string {
	for _, t := range types {
		if reason := unfit(state, cl, t); reason != "" {
			return reason
		}
	}
	return ""
}

// otherBackend says that volumes of a type belong to another backend than that of a
// cluster or service.
func otherBackend(group string, t *fsm.VolumeType) string {
	_, backend, _ := strings.Cut(group, "@")
	for _, kv := range t.ExtraSpecs {
		if kv.Key == "volume_backend_name" && kv.Value != backend {
			return fmt.Sprintf("is not of backend %q", kv.Value)
		}
	}
	return ""
}

// unfit says why a cluster cannot have a new volume of a type.
func unfit(state *fsm.State, cl *fsm.Cluster, t *fsm.VolumeType) string {
	if reason := otherBackend(cl.Name, t); reason != "" {
		return reason
	}
	f, unfinished := state.Unfinished(cl.Name)
	switch {
	case unfinished && f.Phase != fsm.Switching:
		return "is failing over: failover " + f.ID
	case cl.Held:
		return "is held: its last failover failed with its outcome unknown"
	case cl.Frozen:
		return "is frozen"
	case cl.Disabled:
		return strings.TrimSuffix("is disabled: "+cl.DisabledReason, ": ")
	case t.Replicated() && len(state.Targets(cl.Name)) == 0:
		return "has no replication targets"
	}
	return ""
}
