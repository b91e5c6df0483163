package main

import (
	"encoding/json"
	"strings"

	"github.com/hashicorp/consul/api"
)

func agent(client *api.Client) {
	agent := client.Agent()
	self := one(agent.Self())
	want("the datacenter", self["Config"]["Datacenter"], "dc1")
	name := one(agent.NodeName())
	want("the name", self["Config"]["NodeName"], name)
	want("the member", self["Member"]["Name"], name)
	version := one(agent.Version())
	want("the version", version["HumanVersion"], self["Config"]["Version"])
	host := one(agent.Host())
	for _, of := range []string{"Memory", "CPU", "Host", "Disk", "CollectionTime"} {
		if host[of] == nil {
			fail("nothing of %s in what is told of the machine: %v", of, host)
		}
	}
	check(agent.Reload())

	// What was counted is shown when its ten seconds are over, or while they last.
	metrics := one(agent.Metrics())
	want("whether there is a time", metrics.Timestamp != "", true)
	gauges := map[string]bool{}
	for _, gauge := range metrics.Gauges {
		gauges[gauge.Name] = true
	}
	want("whether there are gauges", len(gauges) > 0, true)
}

func members(client *api.Client) {
	agent := client.Agent()
	servers := map[string]bool{}
	for _, member := range one(agent.Members(false)) {
		if member.Tags["role"] == "consul" {
			servers[member.Name] = true
			want("the status of "+member.Name, api.AgentMember{Status: member.Status}.Status, 1)
			want("the ACL mode of "+member.Name, member.ACLMode(), api.ACLModeDisabled)
			want("whether "+member.Name+" is a server", member.IsConsulServer(), true)
		}
	}
	want("servers", len(servers), 3)
	chosen := one(agent.MembersOpts(api.MembersOpts{Segment: api.AllSegments, Filter: `Tags.role == "node"`}))
	for _, member := range chosen {
		want("the role", member.Tags["role"], "node")
	}
	want("clients", len(chosen), 1)
	refused("a node that nobody knows", agent.ForceLeave("go-nobody"))
}

// monitor reads the log of the agent as text and as JSON, and sees the line that it causes.
func monitor(client *api.Client) {
	agent := client.Agent()
	for format, follow := range map[string]func(string, <-chan struct{}, *api.QueryOptions) (chan string, error){
		"text": agent.Monitor, "json": agent.MonitorJSON,
	} {
		stop := make(chan struct{})
		lines := one(follow("debug", stop, nil))
		one(client.Status().Leader())
		found := ""
		for line := range lines {
			if line == "" {
				fail("the log ended as %s", format)
			}
			if strings.Contains(line, "/v1/status/leader") {
				found = line
				break
			}
		}
		close(stop)
		if format == "json" {
			var fields map[string]any
			check(json.Unmarshal([]byte(found), &fields))
			want("the level", fields["@level"], "debug")
			want("the path", fields["url"], "/v1/status/leader")
		}
		// The reader looks at `stop` behind the next line only.
		go func() {
			for range lines {
			}
		}()
		one(client.Status().Leader())
	}
	refused("an unknown level", second(agent.Monitor("zz", nil, nil)))
}
