package main

import (
	"context"
	"errors"
	"os"
	"slices"
	"syscall"

	"github.com/gophercloud/gophercloud/v2"
)

// story is the story with users who may not do everything, and with a Keystone that
// comes and goes.
func (k *keystone) story() []stage {
	return slices.Concat([]stage{
		{"let users do what they may", whatUsersMay()},
		{"refuse what they may not", whatUsersMayNot()},
		{"refuse who is unknown", whoIsUnknown()},
	}, story(), k.policyChanges(), k.outage())
}

// forbidden wants a policy's refusal.
func (s step) forbidden(policy string) step {
	return s.refused(403, "Policy doesn't allow "+policy+" to be performed.")
}

func whatUsersMay() []step {
	return []step{
		allAre(cinder("3.26", "service-list --withreplication").as(reader), enabledMember()),
		openstack("3.26", "block storage cluster list -f json").as(operator).count(1).has(row{"Name": clusterName}),
		openstack("3.26", "volume list -f json").as(member).count(0),
		allAre(gopher("services.List", listServices).as(reader), row{"cluster": clusterName, "status": "enabled"}),
		lockstep("cluster show " + clusterName + " -o json").as(reader).shows(row{"name": clusterName}),
	}
}

func whatUsersMayNot() []step {
	const update = "volume_extension:services:update"
	return []step{
		cinder("3.26", "service-list").as(member).forbidden("volume_extension:services:index"),
		openstack("3.26", "volume service list").as(member).forbidden("volume_extension:services:index"),
		openstack("3.26", "block storage cluster show "+clusterName).as(member).forbidden("clusters:get"),
		cinder("3.26", "freeze-host vol1@aa").as(member).forbidden(update),
		cinder("3.26", "freeze-host vol1@aa").as(reader).forbidden(update),
		cinder("3.26", "failover-host vol1@aa --backend_id site-b").as(member).forbidden(update),
		cinder("3.26", "failover-host vol1@aa --backend_id site-b").as(reader).forbidden(update),
		gopher("PUT os-services/failover to site-b", failoverCluster("site-b")).as(reader).forbidden(update),
		cinder("3.32", "service-set-log DEBUG").as(reader).forbidden(update),
		cinder("3.26", "create 1 --name none").as(reader).forbidden("volume:create"),
		openstack("3.26", "volume type create none").as(operator).forbidden("volume_extension:type_create"),
		openstack("3.26", "volume list").as(outsider).forbidden("volume:get_all"),
		lockstep("failover "+clusterName+" site-b --yes").as(member).fails(3, "lockstep:failovers:create"),
		clusterShows(row{"replication_status": "enabled", "frozen": "False", "status": "enabled"}),
	}
}

func whoIsUnknown() []step {
	return []step{
		cinder("3.26", "service-list").as(unknown).fails(1, "requires authentication"), // says Keystone
		openstack("3.26", "volume service list").withToken("noise").fails(1, "HTTP 401"),
		gopher("services.List", listServices).withToken("noise").fails(1, "Authentication required"),
	}
}

// everywhere takes a step at each node.
func everywhere(s step) []step { return slices.Repeat([]step{s}, len(hosts())) }

// policyChanges: nodes look at their files by themselves.
func (k *keystone) policyChanges() []stage {
	write := func(content string) func() error {
		return func() error { return os.WriteFile(k.path("policies.yaml"), []byte(content), 0o600) }
	}
	list := gopher("services.List", listServices).as(member).until()
	return []stage{
		{"let members see services, and create nothing", []step{happens("change the policies",
			write("volume_extension:services:index: [admin, member]\nvolume:create: [admin]\n"))}},
		{"once nodes have seen that", everywhere(list.count(3))},
		{"what members may then", []step{
			allAre(cinder("3.26", "service-list").as(member), row{"State": "up"}),
			openstack("3.26", "volume create --size 1 none").as(member).forbidden("volume:create"),
			cinder("3.26", "service-list").as(reader).forbidden("volume_extension:services:index"),
		}},
		{"take the changes back", []step{happens("change the policies", write("{}\n"))}},
		{"once nodes have seen that, too", everywhere(list.forbidden("volume_extension:services:index"))},
	}
}

// outage: what nodes have heard of a token they remember for as long as they are
// told to; of any other they cannot say whose it is.
func (k *keystone) outage() []stage {
	const kept, fresh = "{kept}", "{fresh}"
	list := gopher("services.List", listServices)
	down := "Keystone is temporarily unavailable."
	return []stage{
		{"log in twice", []step{gopher("a token to use", keepToken("kept")), gopher("a token to keep", keepToken("fresh"))}},
		{"use one token at every node", everywhere(list.withToken(kept).count(3))},
		{"Keystone goes down", []step{happens("kill -STOP", k.signal(syscall.SIGSTOP))}},
		{"while it is down", slices.Concat(
			everywhere(list.withToken(kept).count(3)),
			[]step{allAre(openstack("3.26", "volume service list --long -f json").withToken(kept), row{"State": "up"})},
			everywhere(list.withToken(fresh).refused(503, down)),
			[]step{openstack("3.26", "volume service list").withToken(fresh).fails(1, "HTTP 503")},
		)},
		{"when nothing is remembered any more", everywhere(list.withToken(kept).refused(503, down).until())},
		{"Keystone comes back", []step{happens("kill -CONT", k.signal(syscall.SIGCONT))}},
		{"after that", append(everywhere(list.withToken(fresh).count(3).until()), allAre(cinder("3.26", "service-list"), row{"State": "up"}))},
	}
}

func (k *keystone) signal(s syscall.Signal) func() error {
	return func() error { return syscall.Kill(k.pid, s) }
}

// keepToken remembers the token that the client has got by logging in.
func keepToken(name string) call {
	return func(_ context.Context, c *gophercloud.ServiceClient, known *memory) (any, error) {
		if c.TokenID == "" {
			return nil, errors.New("the client has no token")
		}
		known.set(name, c.TokenID)
		return nil, nil
	}
}
