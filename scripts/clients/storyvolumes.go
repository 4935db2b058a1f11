package main

func makeTypes() []step {
	return []step{
		openstack("3.26", "volume type create --property 'replication_enabled=<is> True' gold -f json").
			shows(row{"name": "gold", "is_public": "true", "properties": `{"replication_enabled":"<is> True"}`}),
		cinder("3.26", "type-create plain --description ordinary").has(row{"Name": "plain", "Description": "ordinary", "Is_Public": "True"}).more(),
		gopher("volumetypes.Create", createType("silver")).shows(row{"name": "silver"}).more(),
		cinder("3.26", "type-show nope").fails(1, "ERROR: No volumetype with a name or ID of 'nope' exists.").more(),
	}
}

func createVolumes() []step {
	return []step{
		openstack("3.26", "volume create --size 1 --type gold --property tier=1 db -f json").as(member).
			shows(row{"name": "db", "size": "1", "status": "creating", "type": "gold"}).saves("db", "id"),
		// This client reads the volume once more before it shows it: its status may be the next one.
		cinder("3.26", "create 1 --name web").shows(row{"name": "web", "size": "1", "volume_type": "__DEFAULT__"}).saves("web", "id"),
		gopher("volumes.Create", createVolume("log", "gold")).shows(row{"name": "log", "size": "1", "status": "creating"}).saves("log", "id").more(),
		cinder("3.26", "create 0 --name none").refused(400, "Invalid input for field/attribute size. Value: 0. 0 is less than the minimum of 1").more(),
		openstack("3.26", "volume create --size 1 --type nope none").refused(404, "Volume type with name nope could not be found.").more(),
		cinder("3.26", "extra-specs-list").has(row{"Name": "gold", "extra_specs": "{'replication_enabled': '<is> True'}"}).more(),
	}
}

func awaitVolumes() []step {
	return []step{
		openstack("3.26", "volume list --long -f json").
			has(row{"ID": "{db}", "Name": "db", "Status": "available", "Size": "1", "Type": "gold", "Properties": `{"tier":"1"}`}).
			has(row{"ID": "{web}", "Name": "web", "Status": "available", "Type": "__DEFAULT__"}).until(),
		cinder("3.26", "list").has(row{"ID": "{db}", "Status": "available", "Size": "1", "Volume Type": "gold"}).until().more(),
		gopher("volumes.List", listVolumes).count(3).
			has(row{"id": "{log}", "status": "available", "replication_status": "enabled"}).
			has(row{"id": "{web}", "status": "available", "replication_status": "not-capable"}).until().more(),
	}
}

func useVolumes() []step {
	return []step{
		openstack("3.26", "volume snapshot create --volume db before -f json").
			shows(row{"name": "before", "status": "creating", "volume_id": "{db}"}).saves("snapshot", "id"),
		cinder("3.26", "extend web 2").silent(),
		gopher("volumes.ExtendSize", extendVolume("log", 3)).more(),
	}
}

func awaitUse() []step {
	return []step{
		cinder("3.26", "snapshot-show before").shows(row{"id": "{snapshot}", "status": "available", "size": "1", "volume_id": "{db}"}).until(),
		openstack("3.26", "volume show web -f json").shows(row{"id": "{web}", "size": "2", "status": "available"}).until(),
		gopher("volumes.Get", getVolume("log")).shows(row{"size": "3", "status": "available"}).until().more(),
	}
}

func refuseInUse() []step {
	return []step{
		cinder("3.27", "attachment-show {attachment}").shows(row{"id": "{attachment}", "instance": server, "status": "reserved"}).more(),
		cinder("3.26", "delete db").ends(1).says("Delete for volume db failed: Invalid volume: Volume status must be available or error").more(),
		cinder("3.26", "extend db 1").refused(400, "Invalid input received: New size for extend must be greater than current size. (current: 1, extended: 1).").more(),
		cinder("3.26", "extend web 3").refused(400, "Invalid volume: Volume {web} status must be '{'status': 'available'}' to extend, currently reserved.").more(),
		cinder("3.26", "show nope").fails(1, "ERROR: No volume with a name or ID of 'nope' exists.").more(),
	}
}

func deleteSnapshots() []step {
	return []step{
		cinder("3.26", "snapshot-delete before").silent(),
		openstack("3.26", "volume delete nope").fails(1, "Failed to delete volume with name or ID 'nope': No volume with a name or ID of 'nope' exists.").more(),
	}
}

func deleteVolumes() []step {
	return []step{
		openstack("3.26", "volume delete db web born").silent(),
		gopher("volumes.Delete", deleteVolume("log")).more(),
	}
}

func deleteTypes() []step {
	return []step{
		cinder("3.26", "type-delete gold").says("Request to delete volume type gold has been accepted."),
		openstack("3.26", "volume type delete plain silver").silent().more(),
	}
}

func nothingIsLeft() []step {
	return []step{
		openstack("3.26", "volume type list -f json").count(2),
		cinder("3.26", "list").count(0).more(),
		cinder("3.26", "type-list").count(2).has(row{"Name": "__DEFAULT__"}).has(row{"Name": "replicated"}).more(),
	}
}
