package main

import (
	"time"

	"github.com/hashicorp/consul/api"
)

func status(client *api.Client) {
	stale := &api.QueryOptions{AllowStale: true}
	leader := one(client.Status().Leader())
	peers := one(client.Status().Peers())
	want("peers", len(peers), 3)
	known := false
	for _, peer := range peers {
		known = known || peer == leader
	}
	want("whether the leader is a peer", known, true)
	want("the leader, stale", one(client.Status().LeaderWithQueryOptions(stale)), leader)
	want("the peers, stale", len(one(client.Status().PeersWithQueryOptions(stale))), 3)
}

func raft(client *api.Client) {
	operator := client.Operator()
	leader := one(client.Status().Leader())
	configuration := one(operator.RaftGetConfiguration(nil))
	want("servers", len(configuration.Servers), 3)
	for _, server := range configuration.Servers {
		want("whether "+server.Node+" votes", server.Voter, true)
		want("whether "+server.Node+" leads", server.Leader, server.Address == leader)
		want("the protocol", server.ProtocolVersion, "3")
	}
	text := refused("an unknown address", operator.RaftRemovePeerByAddress("10.9.9.9:8300", nil))
	want("the refusal", text, `Unexpected response code: 500 (address "10.9.9.9:8300" was not found in the Raft configuration)`)
	text = refused("an unknown id", operator.RaftRemovePeerByID("none", nil))
	want("the refusal", text, `Unexpected response code: 500 (id "none" was not found in the Raft configuration)`)
}

func autopilot(client *api.Client) {
	operator := client.Operator()
	before := one(operator.AutopilotGetConfiguration(nil))
	want("the time to be stable", before.ServerStabilizationTime.Duration() >= 0, true)
	changed := *before
	changed.MaxTrailingLogs, changed.LastContactThreshold = 251, api.NewReadableDuration(700*time.Millisecond)
	check(operator.AutopilotSetConfiguration(&changed, nil))
	after := one(operator.AutopilotGetConfiguration(nil))
	want("the logs", after.MaxTrailingLogs, 251)
	want("the threshold", after.LastContactThreshold.Duration(), 700*time.Millisecond)
	want("CAS with an old index", one(operator.AutopilotCASConfiguration(before, nil)), false)
	before.ModifyIndex = after.ModifyIndex
	want("CAS", one(operator.AutopilotCASConfiguration(before, nil)), true)

	health := one(operator.AutopilotServerHealth(nil))
	want("servers", len(health.Servers), 3)
	want("the failures tolerated", health.FailureTolerance, 1)
	want("whether all are well", health.Healthy, true)
	state := one(operator.AutopilotState(nil))
	want("voters", len(state.Voters), 3)
	want("the leader's status", state.Servers[state.Leader].Status, api.AutopilotServerLeader)
	want("its kind", state.Servers[state.Leader].NodeType, api.AutopilotTypeVoter)
}
