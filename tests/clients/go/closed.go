package main

import (
	"context"

	"github.com/hashicorp/consul/api"
)

// What is answered of features that are not in use: in Consul's words, so that tools which look for them know.
func closed(client *api.Client) {
	agent := client.Agent()
	for what, set := range map[string]func(string, *api.WriteOptions) (*api.WriteMeta, error){
		"the default token": agent.UpdateDefaultACLToken, "the agent's token": agent.UpdateAgentACLToken,
		"the recovery token": agent.UpdateAgentRecoveryACLToken, "the old recovery token": agent.UpdateAgentMasterACLToken,
		"the replication token": agent.UpdateReplicationACLToken, "the token of DNS": agent.UpdateDNSToken,
		"the token of files": agent.UpdateConfigFileRegistrationToken,
	} {
		_, err := set("x", nil)
		has(what, err, "ACL support disabled")
	}

	operator := client.Operator()
	_, err := operator.KeyringList(nil)
	has("the keyring", err, "Keyring is empty (encryption not enabled)")
	has("a new key", operator.KeyringInstall("HS5lJ+XuTlYKWaeGYyG+/A==", nil), "(encryption not enabled)")
	has("another key", operator.KeyringUse("HS5lJ+XuTlYKWaeGYyG+/A==", nil), "(encryption not enabled)")
	has("one key less", operator.KeyringRemove("HS5lJ+XuTlYKWaeGYyG+/A==", nil), "(encryption not enabled)")

	usage := read(operator.Usage(nil)).Usage["dc1"]
	if usage.Nodes < 4 || usage.Services < 1 {
		fail("usage is %+v", usage)
	}

	context, done := context.WithCancel(context.Background())
	defer done()
	stream := one(agent.MetricsStream(context))
	buffer := make([]byte, 1)
	one(stream.Read(buffer))
	want("how metrics begin", string(buffer), "{")
	check(stream.Close())
}
