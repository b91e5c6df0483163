package main

import (
	"time"

	"github.com/hashicorp/consul/api"
)

// membership is given a client agent, another one that has joined nobody, the name of a client that was killed, and
// the name of a server that was killed.
func membership(rest []string) {
	if len(rest) != 4 {
		fail("wanted: ADDRESS ALONE FAILED-CLIENT FAILED-SERVER")
	}
	client, alone := dial(rest[0]), dial(rest[1])
	joinAndLeave(client, alone)
	forceLeave(client, rest[2])
	handOver(client)
	removePeer(client, rest[3])
}

// until waits for a condition that a change of members brings about: gossip has no index to wait for.
func until(what string, holds func() bool) {
	for end := time.Now().Add(2 * time.Minute); !holds(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			fail("it never came to this: %s", what)
		}
	}
}

// standing is the status of a member by name; 0 for none.
func standing(client *api.Client, name string) int {
	for _, member := range one(client.Agent().Members(false)) {
		if member.Name == name {
			return member.Status
		}
	}
	return 0
}

func joinAndLeave(client, alone *api.Client) {
	name := one(alone.Agent().NodeName())
	self := one(alone.Agent().Self())["Member"]["Addr"].(string)
	want("what is known of a stranger", standing(client, name), 0)
	check(client.Agent().Join(self, false))
	until("it is a member", func() bool { return standing(client, name) == 1 })
	until("it sees all", func() bool { return len(one(alone.Agent().Members(false))) >= 5 })
	refused("joining nobody", client.Agent().Join("127.255.255.254:1", false))
	check(alone.Agent().Leave())
	until("it has left", func() bool { return standing(client, name) == 3 })
	check(client.Agent().ForceLeavePrune(name))
	until("it is forgotten", func() bool { return standing(client, name) == 0 })
}

func forceLeave(client *api.Client, failed string) {
	until("it has failed", func() bool { return standing(client, failed) == 4 })
	check(client.Agent().ForceLeave(failed))
	until("it has left", func() bool { return standing(client, failed) == 3 })
	check(client.Agent().ForceLeaveOpts(failed, api.ForceLeaveOpts{Prune: true}))
	until("it is forgotten", func() bool { return standing(client, failed) == 0 })
}

func handOver(client *api.Client) {
	before := one(client.Status().Leader())
	want("handing over", one(client.Operator().RaftLeaderTransfer("", nil)).Success, true)
	until("another leads", func() bool {
		leader := one(client.Status().Leader())
		return leader != "" && leader != before
	})
}

func removePeer(client *api.Client, failed string) {
	operator := client.Operator()
	seat := func() *api.RaftServer {
		for _, server := range one(operator.RaftGetConfiguration(nil)).Servers {
			if server.Node == failed {
				return server
			}
		}
		return nil
	}
	server := seat()
	if server == nil {
		fail("%s is no peer", failed)
	}
	// For the leader, which takes in again whoever it sees alive: others may know it before.
	until("it has failed", func() bool {
		for _, health := range one(operator.AutopilotServerHealth(nil)).Servers {
			if health.Name == failed {
				return health.SerfStatus == "failed"
			}
		}
		return false
	})
	check(operator.RaftRemovePeerByID(server.ID, nil))
	want("whether it is a peer yet", seat() != nil, false)
	refused("removing it again", operator.RaftRemovePeerByAddress(server.Address, nil))
}
