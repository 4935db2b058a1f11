package api

import "net/http"

// extension is one entry of the list of extensions.
type extension struct {
	Name        string   `json:"name"`
	Alias       string   `json:"alias"`
	Description string   `json:"description"`
	Updated     string   `json:"updated"`
	Links       []string `json:"links"`
}

// extensions are what Cinder lists, in its order: clients look in this list for
// what they may use. Since release 3.0 of its API the list is the same everywhere,
// and says nothing of what is configured.
func extensions() []extension {
	all := []extension{
		{Name: "VolumeImageMetadata", Alias: "os-vol-image-meta", Description: "Show image metadata associated with the volume.", Updated: "2012-12-07T00:00:00+00:00"},
		{Name: "VolumeUnmanage", Alias: "os-volume-unmanage", Description: "Enable volume unmanage operation.", Updated: "2012-05-31T00:00:00+00:00"},
		{Name: "UsedLimits", Alias: "os-used-limits", Description: "Provide data on limited resources that are being used.", Updated: "2013-10-03T00:00:00+00:00"},
		{Name: "AdminActions", Alias: "os-admin-actions", Description: "Enable admin actions.", Updated: "2012-08-25T00:00:00+00:00"},
		{Name: "Cgsnapshots", Alias: "cgsnapshots", Description: "cgsnapshots support.", Updated: "2014-08-18T00:00:00+00:00"},
		{Name: "TypesExtraSpecs", Alias: "os-types-extra-specs", Description: "Type extra specs support.", Updated: "2011-08-24T00:00:00+00:00"},
		{Name: "SnapshotUnmanage", Alias: "os-snapshot-unmanage", Description: "Enable volume unmanage operation.", Updated: "2014-12-31T00:00:00+00:00"},
		{Name: "VolumeTypeEncryption", Alias: "encryption", Description: "Encryption support for volume types.", Updated: "2013-07-01T00:00:00+00:00"},
		{Name: "VolumeEncryptionMetadata", Alias: "os-volume-encryption-metadata", Description: "Volume encryption metadata retrieval support.", Updated: "2013-07-10T00:00:00+00:00"},
		{Name: "Consistencygroups", Alias: "consistencygroups", Description: "consistency groups support.", Updated: "2014-08-18T00:00:00+00:00"},
		{Name: "SnapshotActions", Alias: "os-snapshot-actions", Description: "Enable snapshot manager actions.", Updated: "2013-07-16T00:00:00+00:00"},
		{Name: "Backups", Alias: "backups", Description: "Backups support.", Updated: "2012-12-12T00:00:00+00:00"},
		{Name: "Quotas", Alias: "os-quota-sets", Description: "Quota management support.", Updated: "2011-08-08T00:00:00+00:00"},
		{Name: "VolumeActions", Alias: "os-volume-actions", Description: "Enable volume actions.", Updated: "2012-05-31T00:00:00+00:00"},
		{Name: "QuotaClasses", Alias: "os-quota-class-sets", Description: "Quota classes management support.", Updated: "2012-03-12T00:00:00+00:00"},
		{Name: "AvailabilityZones", Alias: "os-availability-zone", Description: "Describe Availability Zones.", Updated: "2013-06-27T00:00:00+00:00"},
		{Name: "VolumeTypeAccess", Alias: "os-volume-type-access", Description: "Volume type access support.", Updated: "2014-06-26T00:00:00Z"},
		{Name: "Services", Alias: "os-services", Description: "Services support.", Updated: "2012-10-28T00:00:00-00:00"},
		{Name: "Hosts", Alias: "os-hosts", Description: "Admin-only host administration.", Updated: "2011-06-29T00:00:00+00:00"},
		{Name: "TypesManage", Alias: "os-types-manage", Description: "Types manage support.", Updated: "2011-08-24T00:00:00+00:00"},
		{Name: "ExtendedSnapshotAttributes", Alias: "os-extended-snapshot-attributes", Description: "Extended SnapshotAttributes support.", Updated: "2012-06-19T00:00:00+00:00"},
		{Name: "SnapshotManage", Alias: "os-snapshot-manage", Description: "Allows existing backend storage to be 'managed' by Cinder.", Updated: "2014-12-31T00:00:00+00:00"},
		{Name: "Qos_specs_manage", Alias: "qos-specs", Description: "QoS specs support.", Updated: "2013-08-02T00:00:00+00:00"},
		{Name: "VolumeHostAttribute", Alias: "os-vol-host-attr", Description: "Expose host as an attribute of a volume.", Updated: "2011-11-03T00:00:00+00:00"},
		{Name: "Scheduler_stats", Alias: "scheduler-stats", Description: "Scheduler stats support.", Updated: "2014-09-07T00:00:00+00:00"},
		{Name: "VolumeManage", Alias: "os-volume-manage", Description: "Allows existing backend storage to be 'managed' by Cinder.", Updated: "2014-02-10T00:00:00+00:00"},
		{Name: "VolumeMigStatusAttribute", Alias: "os-vol-mig-status-attr", Description: "Expose migration_status as an attribute of a volume.", Updated: "2013-08-08T00:00:00+00:00"},
		{Name: "VolumeTransfer", Alias: "os-volume-transfer", Description: "Volume transfer management support.", Updated: "2013-05-29T00:00:00+00:00"},
		{Name: "VolumeTenantAttribute", Alias: "os-vol-tenant-attr", Description: "Expose the internal project_id as an attribute of a volume.", Updated: "2011-11-03T00:00:00+00:00"},
		{Name: "SchedulerHints", Alias: "OS-SCH-HNT", Description: "Pass arbitrary key/value pairs to the scheduler.", Updated: "2013-04-18T00:00:00+00:00"},
		{Name: "ExtendedServices", Alias: "os-extended-services", Description: "Extended services support.", Updated: "2014-01-10T00:00:00-00:00"},
		{Name: "Capabilities", Alias: "capabilities", Description: "Capabilities support.", Updated: "2015-08-31T00:00:00+00:00"},
	}
	for i := range all {
		all[i].Links = []string{}
	}
	return all
}

func (s *Server) listExtensions(x *exchange) error {
	x.json(http.StatusOK, typeJSON, map[string]any{"extensions": extensions()})
	return nil
}

func (s *Server) showExtension(x *exchange) error {
	for _, e := range extensions() {
		if e.Alias == x.params.ByName("alias") {
			x.json(http.StatusOK, typeJSON, map[string]any{"extension": e})
			return nil
		}
	}
	return newFault(http.StatusNotFound, msgNoResource)
}
