package main

func whileFrozen() []step {
	frozen := enabledMember().with(row{"Status": "disabled", "Frozen": "True", "Disabled Reason": "frozen"})
	return []step{
		allAre(cinder("3.26", "service-list --withreplication"), frozen),
		clusterShows(row{"frozen": "True", "status": "enabled", "disabled_reason": "None"}).more(),
		cinder("3.26", "freeze-host vol3@aa").refused(400, "Invalid input received: frozen in "+clusterName+" must be False to failover."),
		cinder("3.26", "freeze-host "+clusterName).refused(400, "No service found with host="+clusterName).more(),
		cinder("3.26", "create 1 --name none").refused(400, "Invalid input received: No valid backend was found: "+clusterName+" is frozen."),
		openstack("3.26", "volume set --size 3 web").
			fails(1, "Failed to set volume size: Invalid input received: Modification operations are not allowed on frozen storage backends. (HTTP 400)").more(),
	}
}

func disableService() []step {
	return []step{openstack("3.26", "volume service set --disable --disable-reason because vol1@aa cinder-volume").silent().more()}
}

func afterDisabling() step {
	return openstack("3.26", "volume service list --long -f json").count(3).
		has(row{"Host": "vol1@aa", "Status": "disabled", "State": "up", "Disabled Reason": "because"}).
		has(row{"Host": "vol2@aa", "Status": "enabled", "Disabled Reason": "null"}).more()
}

// enableCluster: the openstack of this release does what it is asked, and then fails
// over the answer, Cinder's as ours.
func enableCluster() []step {
	s := openstack("3.26", "block storage cluster set --enable "+clusterName).says("'" + clusterName + "', 'cinder-volume', 'up', 'enabled'").more()
	s.exit = 1
	return []step{s, cinder("3.26", "cluster-enable nope").refused(404, "Cluster {'binary': 'cinder-volume', 'name': 'nope'} could not be found.").more()}
}

func refuseFailovers() []step {
	return []step{
		cinder("3.26", "failover-host vol1@aa --backend_id site-x").
			refused(400, `Invalid input received: backend_id "site-x" is not a site of "`+clusterName+`": it has "default", "site-b", "site-c"`),
		cinder("3.26", "failover-host "+clusterName+" --backend_id site-b").refused(400, "No service found with host="+clusterName).more(),
		openstack("3.26", "volume host failover --volume-backend site-b vol1@aa").ends(2).says("is not an openstack command").more(),
		clusterShows(row{"replication_status": "enabled", "active_backend_id": "None", "status": "enabled"}),
	}
}

// findFailover remembers the id of the failover that goes on.
func findFailover(target string) []step {
	s := lockstep("failovers list -o json").has(row{"target": target, "phase": "promoting"}).until()
	return []step{s.and(func(o output, known *memory) error {
		rows, err := o.rows()
		if err == nil {
			known.set("failover", rows[0]["id"]) // they are newest first
		}
		return err
	})}
}

// underWay is what who asks for more is told.
func underWay(target string) string {
	return `failover {failover} of "` + clusterName + `" to "` + target + `" is promoting: wait for it, or abort it`
}

func whileFailingOver() []step {
	going := row{"Replication Status": "failing-over", "Active Backend ID": "-", "State": "up"}
	return []step{
		cinder("3.26", "failover-host vol2@aa --backend_id site-c").
			refused(400, "Invalid input received: replication_status in "+clusterName+" must be ['enabled', 'failed-over'] and must be up to failover. "+underWay("site-b")),
		allAre(cinder("3.26", "service-list --withreplication"), going),
		openstack("3.26", "volume set --size 3 web").fails(1, "Failed to set volume size: Invalid input received: "+underWay("site-b")),
	}
}

func whileClusterFailsOver() []step {
	return []step{
		gopher("PUT os-services/failover to site-b", failoverCluster("site-b")).
			refused(400, "Invalid input received: replication_status in "+clusterName+" must be ['enabled', 'failed-over'] and must be up to failover. "+underWay("site-c")).more(),
		gopher("services.List", listServices).count(3).has(row{"host": "vol1@aa", "replication_status": "failing-over"}).more(),
		openstack("3.26", "block storage cluster show "+clusterName+" -f json").shows(row{"Replication Status": "failing-over", "State": "up"}).more(),
	}
}

// afterFailover: ordinary volumes are lost with the primary site.
func afterFailover(site string) []step {
	there := enabledMember().with(row{"Status": "disabled", "Replication Status": "failed-over", "Active Backend ID": site, "Disabled Reason": "failed-over"})
	return []step{
		allAre(cinder("3.26", "service-list --withreplication"), there),
		clusterShows(row{"replication_status": "failed-over", "active_backend_id": site, "status": "disabled", "disabled_reason": "failed-over"}).more(),
		openstack("3.26", "block storage cluster show "+clusterName+" -f json").shows(row{"Replication Status": "failed-over", "Active Backend ID": site}).more(),
		openstack("3.26", "volume list --long -f json").has(row{"Name": "db", "Status": "available"}).has(row{"Name": "web", "Status": "error"}),
		cinder("3.26", "show db").shows(row{"status": "available", "replication_status": "failed-over"}).more(),
		gopher("GET clusters/detail?replication_status=failed-over", listClusters("?replication_status=failed-over&active_backend_id="+site)).
			count(1).has(row{"name": clusterName, "active_backend_id": site}),
		gopher("services.List", listServices).has(row{"host": "vol3@aa", "replication_status": "failed-over", "active_backend_id": site}).more(),
	}
}

func workAtOther() []step {
	return []step{openstack("3.26", "volume create --size 1 --type gold born -f json").shows(row{"status": "creating"})}
}

func afterFailback() []step {
	here := enabledMember().with(row{"Active Backend ID": "", "Disabled Reason": ""}) // as Cinder leaves them, not as at the start
	return []step{
		allAre(cinder("3.26", "service-list --withreplication"), here).until(),
		openstack("3.26", "volume list --long -f json").has(row{"Name": "db", "Status": "available"}).
			has(row{"Name": "web", "Status": "available", "Size": "2"}).has(row{"Name": "born", "Status": "available"}).until(),
		cinder("3.26", "show db").shows(row{"status": "available", "replication_status": "enabled"}).until().more(),
	}
}
