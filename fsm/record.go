package fsm

// record is a [Volume] as the state keeps it. What few volumes have is apart, and
// what is derived is left out, so that a million volumes take a third less memory.
type record struct {
	id, name, location        string
	project, user, volumeType string // shared by many, as are the following
	host, cluster, backend    string
	status                    VolumeStatus
	size                      int64
	created, updated          Time
	index                     uint64
	rare                      *rare // nil if all of it is empty
	replicated                bool
}

// rare is the part of a record that most volumes do not have.
type rare struct {
	description    string
	previousStatus VolumeStatus
	extendedStatus string
	driverData     string
	providerID     string
	metadata       []KeyValue
	failedEpoch    uint64
	rarer          *rarer
}

// rarer is what few of these volumes have.
type rarer struct {
	snapshotID, sourceVolumeID string
	migrationStatus            string
	group                      string // shared by few
	adminMetadata              []KeyValue
	reference                  string
	bootable, multiattach      bool
	nominal                    bool
}

// packRarer returns nil if all of it is empty.
func packRarer(v *Volume) *rarer {
	if v.SnapshotID == "" && v.SourceVolumeID == "" && v.MigrationStatus == "" && v.GroupID == "" && len(v.AdminMetadata) == 0 && !v.Bootable && !v.Multiattach &&
		v.Reference == "" && !v.Nominal {
		return nil
	}
	return &rarer{
		snapshotID: v.SnapshotID, sourceVolumeID: v.SourceVolumeID, migrationStatus: v.MigrationStatus, group: v.GroupID,
		adminMetadata: v.AdminMetadata, bootable: v.Bootable, multiattach: v.Multiattach, reference: v.Reference, nominal: v.Nominal,
	}
}

// pack returns the record of v.
func pack(v *Volume) *record {
	r := &record{
		id: v.ID, name: v.Name, location: v.ProviderLocation,
		project: v.ProjectID, user: v.UserID, volumeType: v.VolumeType,
		host: v.Host, cluster: v.Cluster, backend: v.BackendID,
		status: v.Status, size: v.Size, replicated: v.Replicated,
		created: v.CreatedAt, updated: v.UpdatedAt, index: v.Index,
	}
	more := packRarer(v)
	if more != nil || v.Description != "" || v.PreviousStatus != "" || v.ReplicationExtendedStatus != "" ||
		v.ReplicationDriverData != "" || v.ProviderID != "" || len(v.Metadata) > 0 || v.FailedEpoch != 0 {
		r.rare = &rare{
			description: v.Description, previousStatus: v.PreviousStatus, extendedStatus: v.ReplicationExtendedStatus,
			driverData: v.ReplicationDriverData, providerID: v.ProviderID, metadata: v.Metadata, failedEpoch: v.FailedEpoch,
			rarer: more,
		}
	}
	return r
}

// unpack is the inverse of pack.
func (r *record) unpack() Volume {
	v := Volume{
		ID: r.id, Name: r.name, ProviderLocation: r.location,
		ProjectID: r.project, UserID: r.user, VolumeType: r.volumeType,
		Host: r.host, Cluster: r.cluster, BackendID: r.backend,
		Status: r.status, Size: r.size, Replicated: r.replicated,
		CreatedAt: r.created, UpdatedAt: r.updated, Index: r.index,
	}
	if r.rare == nil {
		return v
	}
	v.Description, v.PreviousStatus, v.ReplicationExtendedStatus = r.rare.description, r.rare.previousStatus, r.rare.extendedStatus
	v.ReplicationDriverData, v.ProviderID = r.rare.driverData, r.rare.providerID
	v.Metadata, v.FailedEpoch = r.rare.metadata, r.rare.failedEpoch
	if more := r.rare.rarer; more != nil {
		v.SnapshotID, v.SourceVolumeID, v.MigrationStatus = more.snapshotID, more.sourceVolumeID, more.migrationStatus
		v.GroupID = more.group
		v.AdminMetadata, v.Bootable, v.Multiattach = more.adminMetadata, more.bootable, more.multiattach
		v.Reference, v.Nominal = more.reference, more.nominal
	}
	return v
}

// stored returns the volume that is stored under an id, without what follows from
// its cluster.
func (s *State) stored(id string) (Volume, bool) {
	r, ok := s.volumes.Get(id)
	if !ok {
		return Volume{}, false
	}
	return r.unpack(), true
}
