package main

import (
	"time"

	"github.com/hashicorp/consul/api"
)

func health(client *api.Client) {
	health := client.Health()
	service := &api.AgentService{ID: "h1", Service: "go-health", Tags: []string{"v1", "v2"}, Port: 1}
	checks := []*api.HealthCheck{
		{Node: "go-health", CheckID: "n", Name: "of the node", Status: api.HealthPassing},
		{
			Node: "go-health", CheckID: "s", Name: "of the service", Status: api.HealthWarning, ServiceID: "h1",
			Output: "slow", Notes: "why", Definition: api.HealthCheckDefinition{
				HTTP: "http://10.1.1.7/", IntervalDuration: 10 * time.Second, TimeoutDuration: time.Second,
			},
		},
	}
	defer register(client, "go-health", "10.1.1.7", service, checks...)()

	of := read(health.Node("go-health", nil))
	want("checks of the node", len(of), 2)
	want("the worst of them", of.AggregatedStatus(), api.HealthWarning)
	found := read(health.Checks("go-health", nil))
	want("checks of the service", len(found), 1)
	want("the check", []string{found[0].CheckID, found[0].Output, found[0].Notes, found[0].ServiceName},
		[]string{"s", "slow", "why", "go-health"})
	want("its interval", found[0].Definition.IntervalDuration, 10*time.Second)
	want("its tags", found[0].ServiceTags, []string{"v1", "v2"})

	want("all instances", len(read(health.Service("go-health", "v1", false, nil))), 1)
	want("those that pass", len(read(health.Service("go-health", "v1", true, nil))), 0)
	both := []string{"v1", "v2"}
	entries := read(health.ServiceMultipleTags("go-health", both, false, nil))
	want("instances with both tags", len(entries), 1)
	want("checks beside the instance", entries[0].Checks.AggregatedStatus(), api.HealthWarning)
	want("with another tag", len(read(health.ServiceMultipleTags("go-health", []string{"v1", "v3"}, false, nil))), 0)
	filter := &api.QueryOptions{Filter: `Checks.Status == "critical"`}
	want("critical instances", len(read(health.Service("go-health", "", false, filter))), 0)

	warnings := read(health.State(api.HealthWarning, &api.QueryOptions{Filter: `Node == "go-health"`}))
	want("warnings", len(warnings), 1)
	if all := read(health.State(api.HealthAny, nil)); len(all) < 5 {
		fail("all checks: %v", all)
	}
	refused("a filter that is none", third(health.State(api.HealthAny, &api.QueryOptions{Filter: "a =="})))

	// A blocking query hears of the recovery.
	_, meta, err := health.Service("go-health", "", true, nil)
	check(err)
	well := make(chan int, 1)
	go func() {
		index := meta.LastIndex
		for {
			entries, meta, err := health.Service("go-health", "", true, &api.QueryOptions{WaitIndex: index})
			if err != nil || len(entries) > 0 {
				well <- len(entries)
				return
			}
			index = meta.LastIndex
		}
	}()
	checks[1].Status = api.HealthPassing
	register(client, "go-health", "10.1.1.7", service, checks...)
	want("instances that recovered", <-well, 1)
}
