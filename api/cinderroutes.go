package api

import (
	"net/http"
	"slices"
)

// cinderRoutes is the route table of Cinder's API.
func (s *Server) cinderRoutes() []route {
	return slices.Concat(s.serviceRoutes(), s.volumeRoutes(), s.snapshotRoutes(), s.typeRoutes(), s.groupRoutes(), s.quotaRoutes())
}

// serviceRoutes are about what runs, and about failovers.
func (s *Server) serviceRoutes() []route {
	const get, put = http.MethodGet, http.MethodPut
	return []route{
		{method: get, path: "/v3", handle: s.redirectToVersions},
		{method: get, path: "/v3/", handle: s.v3Versions},
		{method: get, path: "/v3/extensions", handle: s.listExtensions},
		{method: get, path: "/v3/extensions/:alias", handle: s.showExtension},
		{method: get, path: "/v3/os-services", handle: s.listServices},
		{method: put, path: "/v3/os-services/:action", handle: s.actOnServices},
		{method: get, path: "/v3/clusters", since: withClusters, handle: s.listClusters},
		{method: get, path: "/v3/clusters/:name", since: withClusters, handle: s.showCluster},
		{method: put, path: "/v3/clusters/:action", since: withClusters, handle: s.actOnCluster},
	}
}

// volumeRoutes are about volumes and their attachments.
func (s *Server) volumeRoutes() []route {
	const get, put, post, del = http.MethodGet, http.MethodPut, http.MethodPost, http.MethodDelete
	volumeMetadata := metadataOf{s, s.describedVolume}
	return []route{
		{method: get, path: "/v3/volumes", handle: s.listVolumes},
		{method: post, path: "/v3/volumes", handle: s.createVolume},
		{method: get, path: "/v3/volumes/:id", handle: s.showVolume},
		{method: del, path: "/v3/volumes/:id", handle: s.deleteVolume},
		{method: put, path: "/v3/volumes/:id", handle: s.updateVolume},
		{method: post, path: "/v3/volumes/:id/action", handle: s.actOnVolume},
		{method: get, path: "/v3/manageable_volumes", since: withManageable, handle: s.listManageable},
		{method: get, path: "/v3/manageable_volumes/detail", since: withManageable, handle: s.detailManageable},
		{method: post, path: "/v3/manageable_volumes", since: withManageable, handle: s.manageVolume},
		{method: get, path: "/v3/os-volume-manage", handle: s.listManageable},
		{method: get, path: "/v3/os-volume-manage/detail", handle: s.detailManageable},
		{method: post, path: "/v3/os-volume-manage", handle: s.manageVolume},
		{method: get, path: "/v3/volumes/:id/metadata", handle: volumeMetadata.show},
		{method: post, path: "/v3/volumes/:id/metadata", handle: volumeMetadata.merge},
		{method: put, path: "/v3/volumes/:id/metadata", handle: volumeMetadata.replace},
		{method: get, path: "/v3/volumes/:id/metadata/:key", handle: volumeMetadata.showItem},
		{method: put, path: "/v3/volumes/:id/metadata/:key", handle: volumeMetadata.setItem},
		{method: del, path: "/v3/volumes/:id/metadata/:key", handle: volumeMetadata.dropItem},
		{method: get, path: "/v3/attachments", since: withAttachments, handle: s.listAttachments},
		{method: post, path: "/v3/attachments", since: withAttachments, handle: s.createAttachment},
		{method: get, path: "/v3/attachments/:id", since: withAttachments, handle: s.showAttachment},
		{method: put, path: "/v3/attachments/:id", since: withAttachments, handle: s.updateAttachment},
		{method: del, path: "/v3/attachments/:id", since: withAttachments, handle: s.deleteAttachment},
		{method: post, path: "/v3/attachments/:id/action", since: withAttachComplete, handle: s.completeAttachment},
	}
}

// snapshotRoutes are about snapshots.
func (s *Server) snapshotRoutes() []route {
	const get, put, post, del = http.MethodGet, http.MethodPut, http.MethodPost, http.MethodDelete
	snapshotMetadata := metadataOf{s, s.describedSnapshot}
	return []route{
		{method: put, path: "/v3/snapshots/:id", handle: s.updateSnapshot},
		{method: post, path: "/v3/snapshots/:id/action", handle: s.actOnSnapshot},
		{method: get, path: "/v3/manageable_snapshots", since: withManageable, handle: s.listManageableSnapshots},
		{method: get, path: "/v3/manageable_snapshots/detail", since: withManageable, handle: s.listManageableSnapshots},
		{method: get, path: "/v3/snapshots/:id/metadata", handle: snapshotMetadata.show},
		{method: post, path: "/v3/snapshots/:id/metadata", handle: snapshotMetadata.merge},
		{method: put, path: "/v3/snapshots/:id/metadata", handle: snapshotMetadata.replace},
		{method: get, path: "/v3/snapshots/:id/metadata/:key", handle: snapshotMetadata.showItem},
		{method: put, path: "/v3/snapshots/:id/metadata/:key", handle: snapshotMetadata.setItem},
		{method: del, path: "/v3/snapshots/:id/metadata/:key", handle: snapshotMetadata.dropItem},
		{method: get, path: "/v3/snapshots", handle: s.listSnapshots},
		{method: post, path: "/v3/snapshots", handle: s.createSnapshot},
		{method: get, path: "/v3/snapshots/:id", handle: s.showSnapshot},
		{method: del, path: "/v3/snapshots/:id", handle: s.deleteSnapshot},
	}
}

// typeRoutes are about volume types.
func (s *Server) typeRoutes() []route {
	const get, put, post, del = http.MethodGet, http.MethodPut, http.MethodPost, http.MethodDelete
	return []route{
		{method: put, path: "/v3/types/:id", handle: s.updateType},
		{method: post, path: "/v3/types/:id/extra_specs", handle: s.addExtraSpecs},
		{method: get, path: "/v3/types/:id/extra_specs/:key", handle: s.showExtraSpec},
		{method: put, path: "/v3/types/:id/extra_specs/:key", handle: s.setExtraSpec},
		{method: del, path: "/v3/types/:id/extra_specs/:key", handle: s.dropExtraSpec},
		{method: get, path: "/v3/types", handle: s.listTypes},
		{method: post, path: "/v3/types", handle: s.createType},
		{method: get, path: "/v3/types/:id", handle: s.showType},
		{method: del, path: "/v3/types/:id", handle: s.deleteType},
		{method: get, path: "/v3/types/:id/extra_specs", handle: s.showExtraSpecs},
	}
}

// quotaRoutes are about how much there is, and who may have it.
func (s *Server) quotaRoutes() []route {
	const get, put, del = http.MethodGet, http.MethodPut, http.MethodDelete
	return []route{
		{method: get, path: "/v3/limits", handle: s.showLimits},
		{method: get, path: "/v3/os-quota-sets/:project", handle: s.showQuota},
		{method: get, path: "/v3/os-quota-sets/:project/defaults", handle: s.quotaDefaults},
		{method: get, path: "/v3/os-quota-class-sets/:class", handle: s.showQuotaClass},
		{method: put, path: "/v3/os-quota-class-sets/:class", handle: s.updateQuotaClass},
		{method: put, path: "/v3/os-quota-sets/:project", handle: s.updateQuota},
		{method: del, path: "/v3/os-quota-sets/:project", handle: s.deleteQuota},
		{method: get, path: "/v3/scheduler-stats/get_pools", handle: s.listPools},
		{method: get, path: "/v3/capabilities/:host", handle: s.showCapabilities},
		{method: get, path: "/v3/os-availability-zone", handle: s.listZones},
	}
}

// groupRoutes are the routes of groups and group types.
func (s *Server) groupRoutes() []route {
	const get, put, post, del = http.MethodGet, http.MethodPut, http.MethodPost, http.MethodDelete
	return []route{
		{method: get, path: "/v3/group_types", since: withGroupTypes, handle: s.listGroupTypes},
		{method: post, path: "/v3/group_types", since: withGroupTypes, handle: s.createGroupType},
		{method: get, path: "/v3/group_types/:id", since: withGroupTypes, handle: s.showGroupType},
		{method: put, path: "/v3/group_types/:id", since: withGroupTypes, handle: s.updateGroupType},
		{method: del, path: "/v3/group_types/:id", since: withGroupTypes, handle: s.deleteGroupType},
		{method: get, path: "/v3/group_types/:id/group_specs", since: withGroupTypes, handle: s.listGroupSpecs},
		{method: post, path: "/v3/group_types/:id/group_specs", since: withGroupTypes, handle: s.addGroupSpecs},
		{method: get, path: "/v3/group_types/:id/group_specs/:key", since: withGroupTypes, handle: s.showGroupSpec},
		{method: put, path: "/v3/group_types/:id/group_specs/:key", since: withGroupTypes, handle: s.setGroupSpec},
		{method: del, path: "/v3/group_types/:id/group_specs/:key", since: withGroupTypes, handle: s.dropGroupSpec},
		{method: get, path: "/v3/groups", since: withGroups, handle: s.listGroups},
		{method: post, path: "/v3/groups", since: withGroups, handle: s.createGroup},
		{method: get, path: "/v3/groups/:id", since: withGroups, handle: s.showGroup},
		{method: put, path: "/v3/groups/:id", since: withGroups, handle: s.updateGroup},
		{method: post, path: "/v3/groups/:id/action", since: withGroups, handle: s.actOnGroup},
	}
}
