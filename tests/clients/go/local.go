package main

import (
	"context"

	"github.com/hashicorp/consul/api"
)

func services(client *api.Client) {
	agent := client.Agent()
	web := &api.AgentServiceRegistration{
		ID: "go-own1", Name: "go-own", Port: 80, Tags: []string{"v1"}, Meta: map[string]string{"version": "1"},
		Weights: &api.AgentWeights{Passing: 3, Warning: 1},
		Checks: api.AgentServiceChecks{
			{CheckID: "go-a", TTL: "1h", Status: api.HealthPassing},
			{CheckID: "go-b", TTL: "1h", Status: api.HealthPassing},
		},
	}
	check(agent.ServiceRegister(web))
	service, meta, err := agent.Service("go-own1", nil)
	check(err)
	want("the service", []any{service.Service, service.Port, service.Tags, service.Weights.Passing}, []any{"go-own", 80, []string{"v1"}, 3})
	want("its hash", meta.LastContentHash, service.ContentHash)
	text := refused("an unknown service", third(agent.Service("go-none", nil)))
	want("the refusal", text, "Unexpected response code: 404 (unknown service ID: go-none)")

	// A blocking query on the hash.
	changed := make(chan string, 1)
	go func() {
		service, _, err := agent.Service("go-own1", &api.QueryOptions{WaitHash: meta.LastContentHash})
		if err != nil {
			changed <- err.Error()
			return
		}
		changed <- service.Meta["version"]
	}()
	web.Meta["version"], web.Checks = "2", web.Checks[:1]
	opts := api.ServiceRegisterOpts{ReplaceExistingChecks: true}.WithContext(context.Background())
	check(agent.ServiceRegisterOpts(web, opts))
	want("the version that the query woke with", <-changed, "2")
	want("checks that are left", len(one(agent.ChecksWithFilter(`ServiceID == "go-own1"`))), 1)

	want("own services", one(agent.Services())["go-own1"].Meta["version"], "2")
	want("those of a version", len(one(agent.ServicesWithFilter(`Meta.version == "2"`))), 1)
	none := one(agent.ServicesWithFilterOpts(`Meta.version == "3"`, &api.QueryOptions{}))
	want("those of another", len(none), 0)
	refused("a filter that is none", second(agent.ServicesWithFilter("a ==")))

	// The catalog follows.
	var index uint64
	for found := false; !found; {
		rows, meta, err := client.Catalog().Service("go-own", "", &api.QueryOptions{WaitIndex: index})
		check(err)
		index = meta.LastIndex
		found = len(rows) == 1 && rows[0].ServiceMeta["version"] == "2"
	}

	status, info, err := agent.AgentHealthServiceByID("go-own1")
	check(err)
	want("the health", status, api.HealthPassing)
	want("its service", info.Service.Service, "go-own")
	check(agent.WarnTTL("go-a", "slow"))
	status, infos, err := agent.AgentHealthServiceByName("go-own")
	check(err)
	want("the health", status, api.HealthWarning)
	want("why", infos[0].Checks[0].Output, "slow")
	check(agent.FailTTL("go-a", "gone"))
	status, _, err = agent.AgentHealthServiceByNameOpts("go-own", nil)
	check(err)
	want("the health", status, api.HealthCritical)
	status, none2, err := agent.AgentHealthServiceByIDOpts("go-none", nil)
	check(err)
	want("the health of nothing", []any{status, none2 == nil}, []any{api.HealthCritical, true})

	check(agent.ServiceDeregister("go-own1"))
	want("what is left", len(one(agent.ServicesWithFilter(`Service == "go-own"`))), 0)
	want("checks that are left", len(one(agent.ChecksWithFilter(`ServiceID == "go-own1"`))), 0)
	check(agent.ServiceRegister(&api.AgentServiceRegistration{Name: "go-own"}))
	check(agent.ServiceDeregisterOpts("go-own", nil))
	text = refused("an unknown service", agent.ServiceDeregister("go-own"))
	want("the refusal", text, `Unexpected response code: 404 (Unknown service ID "go-own". Ensure that the service ID is passed, not the service name.)`)
}

func checks(client *api.Client) {
	agent := client.Agent()
	ttl := &api.AgentCheckRegistration{
		ID: "go-ttl", Name: "a TTL", Notes: "of go", AgentServiceCheck: api.AgentServiceCheck{TTL: "1h"},
	}
	check(agent.CheckRegister(ttl))
	shown := one(agent.Checks())["go-ttl"]
	want("the check", []string{shown.Status, shown.Notes, shown.Type}, []string{api.HealthCritical, "of go", "ttl"})
	status := func(wanted, output string) {
		found := one(agent.ChecksWithFilterOpts(`CheckID == "go-ttl"`, nil))["go-ttl"]
		want("the status", []string{found.Status, found.Output}, []string{wanted, output})
	}
	check(agent.PassTTL("go-ttl", "well"))
	status(api.HealthPassing, "well")
	check(agent.UpdateTTL("go-ttl", "slow", "warn"))
	status(api.HealthWarning, "slow")
	check(agent.UpdateTTLOpts("go-ttl", "gone", api.HealthCritical, nil))
	status(api.HealthCritical, "gone")
	text := refused("a check that is none", agent.PassTTL("go-none", ""))
	want("the refusal", text, `Unexpected response code: 404 (Unknown check ID "go-none". Ensure that the check ID is passed, not the check name.)`)

	// A check that the agent runs: of its own API, over TCP and HTTP.
	at := "http://" + address(client)
	http := &api.AgentCheckRegistration{ID: "go-http", Name: "itself", AgentServiceCheck: api.AgentServiceCheck{
		HTTP: at + "/v1/status/leader", Interval: "1s", Timeout: "10s", Header: map[string][]string{"X-A": {"b"}},
	}}
	check(agent.CheckRegisterOpts(http, nil))
	var index uint64
	for passing := false; !passing; {
		list, meta, err := client.Health().Node(one(agent.NodeName()), &api.QueryOptions{WaitIndex: index})
		check(err)
		index = meta.LastIndex
		for _, row := range list {
			passing = passing || row.CheckID == "go-http" && row.Status == api.HealthPassing
		}
	}
	check(agent.CheckDeregister("go-http"))
	check(agent.CheckDeregisterOpts("go-ttl", nil))
	want("checks that are left", len(one(agent.ChecksWithFilter(`CheckID matches "^go-"`))), 0)
	bad := &api.AgentCheckRegistration{Name: "go-bad", AgentServiceCheck: api.AgentServiceCheck{HTTP: at}}
	text = refused("a check without an interval", agent.CheckRegister(bad))
	want("the refusal", text, "Unexpected response code: 400 (Invalid check: Interval must be > 0 for Script, HTTP, H2PING, TCP, UDP or OSService checks)")
}

// address is where the client's agent listens, as the agent itself is told.
func address(client *api.Client) string {
	member := one(client.Agent().Self())["Member"]
	return member["Addr"].(string) + ":8500"
}

func maintenance(client *api.Client) {
	agent := client.Agent()
	check(agent.ServiceRegister(&api.AgentServiceRegistration{Name: "go-maintained"}))
	reason := func(id string) string {
		found := one(agent.Checks())[id]
		if found == nil {
			return "not in maintenance"
		}
		return found.Status + ": " + found.Notes
	}
	service, node := "_service_maintenance:go-maintained", "_node_maintenance"
	check(agent.EnableServiceMaintenance("go-maintained", "a repair"))
	want("the service", reason(service), "critical: a repair")
	check(agent.DisableServiceMaintenance("go-maintained"))
	want("the service", reason(service), "not in maintenance")
	check(agent.EnableServiceMaintenanceOpts("go-maintained", "again", nil))
	want("the service", reason(service), "critical: again")
	check(agent.DisableServiceMaintenanceOpts("go-maintained", nil))
	check(agent.EnableNodeMaintenance("a move"))
	want("the node", reason(node), "critical: a move")
	_, info, err := agent.AgentHealthServiceByID("go-maintained")
	check(err)
	want("the health of a service meanwhile", info.AggregatedStatus, api.HealthMaint)
	check(agent.DisableNodeMaintenance())
	want("the node", reason(node), "not in maintenance")
	check(agent.ServiceDeregister("go-maintained"))
	refused("maintenance of what is not there", agent.EnableServiceMaintenance("go-maintained", ""))
}
