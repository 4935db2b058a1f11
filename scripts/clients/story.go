package main

// The names of the story.
const (
	clusterName = "mycluster@aa"
	server      = "b0f4c1a4-8a0c-4b52-9d5b-6b6f2c4f5e11" // of a virtual machine that does not exist
)

func hosts() []string { return []string{"vol1@aa", "vol2@aa", "vol3@aa"} }

// story is all that the clients do, in order.
func story() []stage {
	return []stage{
		{"look at the services", lookAtServices()},
		{"say more in a log", []step{cinder("3.32", "service-set-log DEBUG --binary cinder-volume --server vol2@aa").silent().more()}},
		{"look at the levels", lookAtLevels()},
		{"look at the clusters", lookAtClusters()},
		{"look with openstack and gophercloud", lookOtherwise()},
		{"make types", makeTypes()},
		{"create volumes", createVolumes()},
		{"wait for the volumes", awaitVolumes()},
		{"snapshot and extend", useVolumes()},
		{"wait for that", awaitUse()},
		{"attach", []step{cinder("3.27", "attachment-create web "+server).
			shows(row{"volume_id": "{web}", "instance": server, "status": "reserved"}).saves("attachment", "id")}},
		{"refuse what is in use", refuseInUse()},
		{"detach", []step{cinder("3.27", "attachment-delete {attachment}").silent()}},
		{"freeze", []step{cinder("3.26", "freeze-host vol1@aa").silent().as(operator)}},
		{"while it is frozen", whileFrozen()},
		{"thaw", []step{openstack("3.26", "volume host set --enable vol2@aa").silent().as(operator)}},
		{"after the thaw", membersAre(enabledMember())},
		{"freeze with openstack", []step{openstack("3.26", "volume host set --disable vol2@aa").silent().more()}},
		{"thaw with cinder", []step{cinder("3.26", "thaw-host vol3@aa").silent().more()}},
		{"disable a service", disableService()},
		{"after that", []step{afterDisabling()}},
		{"enable the service", []step{cinder("3.26", "service-enable vol1@aa cinder-volume").has(row{"Host": "vol1@aa", "Binary": "cinder-volume", "Status": "enabled"}).more()}},
		{"disable the cluster", []step{cinder("3.26", "cluster-disable "+clusterName+" --reason maintenance").shows(row{"name": clusterName, "status": "disabled"}).more()}},
		{"after disabling it", []step{clusterShows(row{"status": "disabled", "disabled_reason": "maintenance"}).more()}},
		{"enable the cluster", enableCluster()},
		{"after enabling it", []step{clusterShows(row{"status": "enabled", "disabled_reason": "None"}).more()}},
		{"fail over what cannot be", refuseFailovers()},
		{"fail over by host", []step{cinder("3.26", "failover-host vol1@aa --backend_id site-b").silent().as(operator)}},
		{"find the failover", findFailover("site-b")},
		{"while it fails over", whileFailingOver()},
		{"watch it", []step{lockstep("failovers watch {failover} --timeout 1m -o json").shows(row{"phase": "done", "target": "site-b"}).as(reader)}},
		{"after the failover", afterFailover("site-b")},
		{"enable it there", []step{cinder("3.26", "cluster-enable "+clusterName).shows(row{"name": clusterName, "status": "enabled"}).as(operator)}},
		{"work at the other site", workAtOther()},
		{"fail back by host", []step{cinder("3.0", "failover-host vol2@aa --backend_id default").silent().as(operator)}},
		{"after the failback", afterFailback()},
		{"fail over by cluster", []step{gopher("PUT os-services/failover to site-c", failoverCluster("site-c")).more()}},
		{"find it", long(findFailover("site-c"))},
		{"while the cluster fails over", whileClusterFailsOver()},
		{"watch that", []step{lockstep("failovers watch {failover} --timeout 1m -o json").shows(row{"phase": "done", "target": "site-c"}).more()}},
		{"after the cluster's failover", long(afterFailover("site-c"))},
		{"fail back by cluster", []step{gopher("PUT os-services/failover to default", failoverCluster("default")).more()}},
		{"after that failback", long(afterFailback())},
		{"delete snapshots", deleteSnapshots()},
		{"no snapshot is left", []step{cinder("3.26", "snapshot-list").count(0).until()}},
		{"delete volumes", deleteVolumes()},
		{"no volume is left", []step{openstack("3.26", "volume list -f json").count(0).until()}},
		{"delete types", deleteTypes()},
		{"nothing is left", nothingIsLeft()},
	}
}

// long leaves all steps out of the short story.
func long(steps []step) []step {
	for i := range steps {
		steps[i] = steps[i].more()
	}
	return steps
}

// enabledMember is how cinder shows a member that serves.
func enabledMember() row {
	return row{
		"Binary": "cinder-volume", "Zone": "nova", "Status": "enabled", "State": "up", "Cluster": clusterName,
		"Replication Status": "enabled", "Active Backend ID": "-", "Frozen": "False", "Disabled Reason": "-",
	}
}

// membersAre says that all members are like one.
func membersAre(like row) []step {
	return []step{allAre(cinder("3.26", "service-list --withreplication"), like)}
}

// allAre wants a list of all members, in which all are like one.
func allAre(s step, like row) step {
	s = s.count(len(hosts()))
	name := "Host"
	if s.client == gopherClient {
		name = "host"
	}
	for _, host := range hosts() {
		s = s.has(like.with(row{name: host}))
	}
	return s
}

// clusterShows is a look at the cluster with cinder.
func clusterShows(want row) step { return cinder("3.26", "cluster-show "+clusterName).shows(want) }

func lookAtServices() []step {
	old := row{}
	for _, name := range []string{"Binary", "Zone", "Status", "State"} {
		old[name] = enabledMember()[name]
	}
	return []step{
		allAre(cinder("3.26", "service-list --withreplication"), enabledMember()),
		allAre(cinder("3.7", "service-list --withreplication"), enabledMember()).more(),
		allAre(cinder("3.0", "service-list"), old).more(),
		cinder("3.0", "service-list --withreplication").fails(1, "ERROR: '--withreplication' argument is only allowed since microversion 3.7.").more(),
		cinder("3.26", "service-list --host vol1@aa --binary cinder-volume").count(1).has(row{"Host": "vol1@aa", "Cluster": clusterName}).more(),
		cinder("3.26", "service-list --binary cinder-backup").count(0).more(),
		cinder("3.32", "service-get-log --binary cinder-volume --prefix lockstep").count(3).has(logLevel("cinder-volume", "vol1@aa", "INFO")).more(),
		cinder("3.26", "get-pools --detail").shows(row{
			"name": clusterName + "#aa", "backend_state": "up", "replication_enabled": "True", "replication_targets": "['site-b', 'site-c']",
		}),
		cinder("3.26", "get-capabilities vol1@aa").shows(row{"vendor_name": "Lockstep", "replication_targets": "['site-b', 'site-c']"}).more(),
		cinder("3.26", "version-list").has(row{"Id": "v3.0", "Status": "CURRENT", "Min Version": "3.0", "Version": "3.70"}).more(),
	}
}

// lookAtLevels also asks for what nobody can do: whoever waits for lines that never come
// wants to know.
func lookAtLevels() []step {
	return []step{
		cinder("3.32", "service-get-log --prefix lockstep").has(logLevel("cinder-volume", "vol2@aa", "DEBUG")).has(logLevel("cinder-volume", "vol3@aa", "INFO")).more(),
		cinder("3.32", "service-get-log --binary cinder-api --server vol2").count(1).has(logLevel("cinder-api", "vol2", "DEBUG")).more(),
		cinder("3.32", "service-set-log DEBUG --binary cinder-volume --server vol9@aa").
			refused(400, `Invalid input received: server "vol9@aa" is not known for this binary; there are vol1@aa, `+clusterName+`, vol2@aa, vol3@aa.`).more(),
	}
}

func logLevel(binary, host, level string) row {
	return row{"Binary": binary, "Host": host, "Prefix": "lockstep", "Level": level}
}

func lookAtClusters() []step {
	up := row{"Name": clusterName, "Binary": "cinder-volume", "State": "up", "Status": "enabled"}
	detail := up.with(row{"Num Hosts": "3", "Num Down Hosts": "0", "Disabled Reason": "-"})
	filters := "--binary cinder-volume --is-up True --disabled False --num-hosts 3"
	return []step{
		cinder("3.26", "cluster-list --detail").count(1).has(detail),
		cinder("3.25", "cluster-list --detail").count(1).has(detail).more(),
		cinder("3.7", "cluster-list --detail").count(1).has(detail).more(),
		cinder("3.26", "cluster-list").count(1).has(up).more(),
		cinder("3.70", "cluster-list").count(1).has(up).more(),
		cinder("3.999", "cluster-list").count(1).has(up).says("downgrading to 3.70").more(),
		cinder("3.26", "cluster-list --name "+clusterName+" "+filters+" --num-down-hosts 0").count(1).has(up).more(),
		cinder("3.26", "cluster-list "+filters+" --num-down-hosts 1").count(0).more(),
		cinder("3.6", "cluster-list").fails(2, "invalid choice: 'cluster-list'").more(),
		cinder("3.26", "cluster-list --frozen True").fails(2, "unrecognized arguments: --frozen True").more(),
		clusterShows(row{
			"name": clusterName, "state": "up", "status": "enabled", "num_hosts": "3", "num_down_hosts": "0",
			"replication_status": "enabled", "frozen": "False", "active_backend_id": "None",
		}),
		cinder("3.26", "cluster-show nope").refused(404, "Cluster {'binary': 'cinder-volume', 'name': 'nope'} could not be found."),
		// The client takes the second name for the cluster's, and the first for a binary, at which Cinder does not look.
		cinder("3.26", "cluster-show "+clusterName+" cinder-volume").
			refused(404, "Cluster {'binary': 'cinder-volume', 'name': 'cinder-volume'} could not be found.").more(),
	}
}

func lookOtherwise() []step {
	up := row{"Binary": "cinder-volume", "Zone": "nova", "Status": "enabled", "State": "up", "Disabled Reason": "null"}
	cluster := row{"Name": clusterName, "Binary": "cinder-volume", "State": "up", "Status": "enabled"}
	return []step{
		allAre(openstack("3.26", "volume service list --long -f json"), up),
		allAre(openstack("3.0", "volume service list --long -f json"), up).more(),
		allAre(openstack("3", "volume service list"), row{"Binary": "cinder-volume", "State": "up"}).more(),
		openstack("3.26", "volume service list --host vol1@aa --service cinder-volume -f json").count(1).has(row{"Host": "vol1@aa"}).more(),
		openstack("3.26", "block storage cluster list -f json").count(1).has(cluster).more(),
		openstack("3.26", "block storage cluster list --long -f json").count(1).has(cluster.with(row{"Num Hosts": "3", "Num Down Hosts": "0"})).more(),
		openstack("3.26", "block storage cluster list --cluster "+clusterName+" --binary cinder-volume --up --enabled --num-hosts 3 --num-down-hosts 0 -f json").
			count(1).has(cluster).more(),
		openstack("3.26", "block storage cluster list --down --disabled -f json").count(0).more(),
		openstack("3.26", "block storage cluster show "+clusterName+" -f json").shows(cluster.with(row{
			"Hosts": "3", "Down Hosts": "0", "Replication Status": "enabled", "Frozen": "false", "Active Backend ID": "null",
		})),
		openstack("3.26", "block storage cluster show nope").
			refused(404, "Cluster {'binary': 'cinder-volume', 'name': 'nope'} could not be found.").more(),
		openstack("3.6", "block storage cluster list").fails(1, "--os-volume-api-version 3.7 or greater is required").more(),
		openstack("3.26", "volume list -f json").count(0).more(),
		allAre(gopher("services.List", listServices), row{
			"binary": "cinder-volume", "cluster": clusterName, "state": "up", "status": "enabled", "replication_status": "enabled", "frozen": "false",
		}),
		gopher("GET clusters/detail?replication_status=enabled", listClusters("?replication_status=enabled&frozen=False")).count(1).
			has(row{"name": clusterName, "replication_status": "enabled", "active_backend_id": "null", "frozen": "false"}),
		gopher("GET clusters/detail?replication_status=failed-over", listClusters("?replication_status=failed-over")).count(0).more(),
	}
}
