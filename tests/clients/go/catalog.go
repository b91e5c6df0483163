package main

import (
	"slices"

	"github.com/hashicorp/consul/api"
)

// register puts a service on a node of its own; what it gives back takes both away.
func register(client *api.Client, node, address string, service *api.AgentService, checks ...*api.HealthCheck) func() {
	one(client.Catalog().Register(&api.CatalogRegistration{
		Node: node, Address: address, NodeMeta: map[string]string{"by": "go"}, Service: service, Checks: checks,
	}, nil))
	return func() { one(client.Catalog().Deregister(&api.CatalogDeregistration{Node: node}, nil)) }
}

func catalog(client *api.Client) {
	catalog := client.Catalog()
	service := &api.AgentService{
		ID: "web1", Service: "go-web", Port: 80, Tags: []string{"v1", "green"}, Address: "10.1.1.20",
		Meta: map[string]string{"version": "1"}, Weights: api.AgentWeights{Passing: 5, Warning: 2},
		TaggedAddresses: map[string]api.ServiceAddress{"lan": {Address: "10.1.1.21", Port: 81}},
	}
	passing := &api.HealthCheck{Node: "go-web", CheckID: "c", Name: "c", Status: "passing", ServiceID: "web1"}
	clean := register(client, "go-web", "10.1.1.2", service, passing)
	defer clean()

	tags := read(catalog.Services(nil))["go-web"]
	slices.Sort(tags)
	want("the tags", tags, []string{"green", "v1"})
	byMeta := &api.QueryOptions{NodeMeta: map[string]string{"by": "go"}}
	want("services by meta of their nodes", len(read(catalog.Services(byMeta))), 1)
	node := read(catalog.Node("go-web", nil))
	want("services of the node", len(node.Services), 1)
	want("the weights", node.Services["web1"].Weights, api.AgentWeights{Passing: 5, Warning: 2})
	list := read(catalog.NodeServiceList("go-web", nil))
	want("the service of the node", list.Services[0].Service, "go-web")
	want("the node's address", list.Node.Address, "10.1.1.2")
	want("an unknown node", read(catalog.Node("go-none", nil)) == nil, true)
	nodes := read(catalog.Nodes(&api.QueryOptions{Filter: `Node == "go-web"`}))
	want("the nodes", []string{nodes[0].Node, nodes[0].Address, nodes[0].Datacenter}, []string{"go-web", "10.1.1.2", "dc1"})

	found := read(catalog.Service("go-web", "v1", nil))
	want("instances", len(found), 1)
	row := found[0]
	want("the row", []any{row.ServiceID, row.ServiceAddress, row.ServicePort, row.ServiceMeta["version"]},
		[]any{"web1", "10.1.1.20", 80, "1"})
	want("the other address", row.ServiceTaggedAddresses["lan"], api.ServiceAddress{Address: "10.1.1.21", Port: 81})
	both := []string{"v1", "green"}
	want("instances with both tags", len(read(catalog.ServiceMultipleTags("go-web", both, nil))), 1)
	want("instances with another tag", len(read(catalog.ServiceMultipleTags("go-web", []string{"v1", "red"}, nil))), 0)
	want("datacenters", one(catalog.Datacenters()), []string{"dc1"})
	text := refused("a registration without a node", second(catalog.Register(&api.CatalogRegistration{Address: "10.0.0.1"}, nil)))
	want("the refusal", text, "Unexpected response code: 500 (Must provide node)")

	one(catalog.Deregister(&api.CatalogDeregistration{Node: "go-web", ServiceID: "web1"}, nil))
	want("instances that are left", len(read(catalog.Service("go-web", "", nil))), 0)
	want("the node that is left", len(read(catalog.NodeServiceList("go-web", nil)).Services), 0)
}

func proxies(client *api.Client) {
	catalog, health := client.Catalog(), client.Health()
	proxy := &api.AgentService{
		Kind: api.ServiceKindConnectProxy, ID: "go-proxy", Service: "go-proxy", Port: 20000, Tags: []string{"v1", "x"},
		Proxy: &api.AgentServiceConnectProxyConfig{
			DestinationServiceName: "go-behind", DestinationServiceID: "go-behind1",
			Upstreams: []api.Upstream{{DestinationName: "go-db", LocalBindPort: 9191}},
		},
	}
	defer register(client, "go-proxied", "10.1.1.5", proxy)()
	tags := []string{"v1", "x"}
	rows := read(catalog.Connect("go-behind", "v1", nil))
	want("proxies", len(rows), 1)
	want("what is behind the proxy", rows[0].ServiceProxy.DestinationServiceID, "go-behind1")
	want("its upstream", rows[0].ServiceProxy.Upstreams[0].LocalBindPort, 9191)
	want("proxies with both tags", len(read(catalog.ConnectMultipleTags("go-behind", tags, nil))), 1)
	entries := read(health.Connect("go-behind", "x", true, nil))
	want("healthy proxies", entries[0].Service.ID, "go-proxy")
	want("healthy proxies with both tags", len(read(health.ConnectMultipleTags("go-behind", tags, true, nil))), 1)
	want("proxies of another", len(read(health.Connect("go-other", "", false, nil))), 0)
}
