package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"
)

// What config entries are made to: chains, gateways, addresses of services, what proxies are told.
func mesh(client *api.Client) error {
	entries := client.ConfigEntries()
	splitter := &api.ServiceSplitterConfigEntry{Kind: api.ServiceSplitter, Name: "mesh-web", Splits: []api.ServiceSplit{
		{Weight: 33.33}, {Weight: 66.67, Service: "mesh-api"},
	}}
	_, _, err := entries.Set(splitter, nil)
	refused := `discovery chain "mesh-web" uses a protocol "tcp" that does not permit advanced routing or splitting behavior`
	if err == nil || !strings.Contains(err.Error(), refused) {
		return fmt.Errorf("a splitter without a protocol: %v", err)
	}
	all := []api.ConfigEntry{
		&api.ServiceConfigEntry{Kind: api.ServiceDefaults, Name: "mesh-web", Protocol: "http", Meta: map[string]string{"by": "go"}},
		&api.ServiceConfigEntry{Kind: api.ServiceDefaults, Name: "mesh-api", Protocol: "http"},
		splitter,
		&api.ServiceResolverConfigEntry{
			Kind: api.ServiceResolver, Name: "mesh-api", ConnectTimeout: 7 * time.Second,
			Failover: map[string]api.ServiceResolverFailover{"*": {Service: "mesh-web"}},
		},
		&api.IngressGatewayConfigEntry{Kind: api.IngressGateway, Name: "mesh-in", Listeners: []api.IngressListener{
			{Port: 8080, Protocol: "http", Services: []api.IngressService{{Name: "mesh-web", Hosts: []string{"web.example.com"}}}},
		}},
		&api.ExportedServicesConfigEntry{Name: "default", Services: []api.ExportedService{
			{Name: "mesh-api", Consumers: []api.ServiceConsumer{{Peer: "east"}}},
		}},
	}
	for _, entry := range all {
		if ok, _, err := entries.Set(entry, nil); err != nil || !ok {
			return fmt.Errorf("set %s: %v, %v", entry.GetKind(), ok, err)
		}
	}
	for _, part := range []func(*api.Client) error{meshChain, meshGateways, meshProxies} {
		if err := part(client); err != nil {
			return err
		}
	}
	exported, _, err := client.ExportedServices(nil)
	if err != nil {
		return err
	}
	want("what is exported", exported, []api.ResolvedExportedService{
		{Service: "mesh-api", Consumers: api.ResolvedConsumers{Peers: []string{"east"}}},
	})
	if _, err := entries.Delete(api.ServiceDefaults, "mesh-web", nil); err == nil {
		return fmt.Errorf("a protocol that a splitter needs was deleted")
	}
	for at := len(all) - 1; at >= 0; at-- {
		if _, err := entries.Delete(all[at].GetKind(), all[at].GetName(), nil); err != nil {
			return err
		}
	}
	_, err = client.Catalog().Deregister(&api.CatalogDeregistration{Node: "mesh-node"}, nil)
	return err
}

func meshChain(client *api.Client) error {
	found, meta, err := client.DiscoveryChain().Get("mesh-web", nil, nil)
	if err != nil {
		return err
	}
	chain := found.Chain
	if meta.LastIndex == 0 || chain.Default || chain.Protocol != "http" || chain.ServiceMeta["by"] != "go" {
		return fmt.Errorf("the chain at %d: %+v", meta.LastIndex, chain)
	}
	first := chain.Nodes[chain.StartNode]
	want("the first node", first.Type, api.DiscoveryGraphNodeTypeSplitter)
	want("the weight", first.Splits[1].Weight, float32(66.67))
	resolver := chain.Nodes[first.Splits[1].NextNode].Resolver
	want("the timeout", resolver.ConnectTimeout, 7*time.Second)
	want("failover", resolver.Failover.Targets, []string{"mesh-web.default.default.dc1"})
	target := chain.Targets[resolver.Target]
	want("the target", target.Service, "mesh-api")
	options := &api.DiscoveryChainOptions{
		OverrideProtocol: "tcp", OverrideConnectTimeout: 3 * time.Second,
		OverrideMeshGateway: api.MeshGatewayConfig{Mode: api.MeshGatewayModeLocal},
	}
	found, _, err = client.DiscoveryChain().Get("mesh-web", options, nil)
	if err != nil {
		return err
	}
	chain = found.Chain
	target = chain.Targets[chain.Nodes[chain.StartNode].Resolver.Target]
	if chain.Protocol != "tcp" || len(chain.CustomizationHash) != 8 || target.MeshGateway.Mode != api.MeshGatewayModeLocal {
		return fmt.Errorf("the chain with overrides: %+v, %+v", chain, target)
	}
	want("the timeout that was asked for", target.ConnectTimeout, 3*time.Second)
	return nil
}

func meshGateways(client *api.Client) error {
	services, _, err := client.Catalog().GatewayServices("mesh-in", nil)
	if err != nil {
		return err
	}
	if len(services) != 1 {
		return fmt.Errorf("services of the gateway: %v", services)
	}
	one := services[0]
	if one.Gateway.Name != "mesh-in" || one.Service.Name != "mesh-web" || one.GatewayKind != api.ServiceKindIngressGateway || one.Port != 8080 {
		return fmt.Errorf("the gateway's service: %+v", one)
	}
	gateway := &api.CatalogRegistration{
		Node: "mesh-node", Address: "10.3.3.3",
		Service: &api.AgentService{Kind: api.ServiceKindIngressGateway, ID: "mesh-in-1", Service: "mesh-in", Port: 8080},
	}
	if _, err := client.Catalog().Register(gateway, nil); err != nil {
		return err
	}
	found, _, err := client.Health().Ingress("mesh-web", false, nil)
	if err != nil || len(found) != 1 {
		return fmt.Errorf("gateways for the service: %v, %v", found, err)
	}
	want("the gateway", found[0].Service.ID, "mesh-in-1")
	return nil
}

func meshProxies(client *api.Client) error {
	sidecar := &api.CatalogRegistration{
		Node: "mesh-node", Address: "10.3.3.3",
		Service: &api.AgentService{
			Kind: api.ServiceKindConnectProxy, ID: "mesh-web-proxy", Service: "mesh-web-proxy", Port: 20000,
			Proxy: &api.AgentServiceConnectProxyConfig{
				DestinationServiceName: "mesh-web",
				Upstreams:              []api.Upstream{{DestinationName: "mesh-api", LocalBindPort: 9000}},
			},
		},
	}
	if _, err := client.Catalog().Register(sidecar, nil); err != nil {
		return err
	}
	found, _, err := client.Health().Connect("mesh-web", "", false, &api.QueryOptions{MergeCentralConfig: true})
	if err != nil || len(found) != 1 {
		return fmt.Errorf("proxies of the service: %v, %v", found, err)
	}
	proxy := found[0].Service.Proxy
	want("the protocol", proxy.Config["protocol"], "http")
	want("the upstream's protocol", proxy.Upstreams[0].Config["protocol"], "http")
	virtual := found[0].Service.TaggedAddresses["consul-virtual"]
	if !strings.HasPrefix(virtual.Address, "240.") || virtual.Port != 20000 {
		return fmt.Errorf("the address that stands for the service: %+v", virtual)
	}
	given, _, err := client.Internal().AssignServiceVirtualIP(context.Background(), "mesh-web", []string{"10.99.0.1"}, nil)
	if err != nil || !given.ServiceFound || len(given.UnassignedFrom) != 0 {
		return fmt.Errorf("further addresses: %+v, %v", given, err)
	}
	given, _, err = client.Internal().AssignServiceVirtualIP(context.Background(), "mesh-api", []string{"10.99.0.1"}, nil)
	if err != nil || len(given.UnassignedFrom) != 1 || given.UnassignedFrom[0].ServiceName.Name != "mesh-web" {
		return fmt.Errorf("addresses of another: %+v, %v", given, err)
	}
	return nil
}
