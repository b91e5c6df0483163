package main

import (
	"time"

	"github.com/hashicorp/consul/api"
)

func configEntries(client *api.Client) {
	entries := client.ConfigEntries()
	resolver := &api.ServiceResolverConfigEntry{
		Kind: api.ServiceResolver, Name: "go-web", DefaultSubset: "v1", ConnectTimeout: 15 * time.Second,
		Subsets: map[string]api.ServiceResolverSubset{"v1": {Filter: "Service.Meta.version == v1"}},
		Meta:    map[string]string{"by": "go"},
	}
	want("set", read(entries.Set(resolver, nil)), true)
	found, meta, err := entries.Get(api.ServiceResolver, "go-web", nil)
	check(err)
	entry := found.(*api.ServiceResolverConfigEntry)
	want("the timeout", entry.ConnectTimeout, 15*time.Second)
	want("the subset", entry.Subsets["v1"].Filter, resolver.Subsets["v1"].Filter)
	want("the index", meta.LastIndex, entry.ModifyIndex)
	want("CAS with an old index", read(entries.CAS(entry, entry.ModifyIndex-1, nil)), false)
	entry.ConnectTimeout = 16 * time.Second
	want("CAS", read(entries.CAS(entry, entry.ModifyIndex, nil)), true)
	// Routers and splitters need a protocol of requests.
	proxies := &api.ProxyConfigEntry{
		Kind: api.ProxyDefaults, Name: api.ProxyConfigGlobal, Config: map[string]interface{}{"x_Y": 1.0, "protocol": "http"},
	}
	want("set "+proxies.Kind, read(entries.Set(proxies, nil)), true)
	others := []api.ConfigEntry{
		&api.ServiceConfigEntry{Kind: api.ServiceDefaults, Name: "go-web", Protocol: "http"},
		&api.MeshConfigEntry{TransparentProxy: api.TransparentProxyMeshConfig{MeshDestinationsOnly: true}},
		&api.ServiceRouterConfigEntry{Kind: api.ServiceRouter, Name: "go-web", Routes: []api.ServiceRoute{{
			Match:       &api.ServiceRouteMatch{HTTP: &api.ServiceRouteHTTPMatch{PathPrefix: "/a", Methods: []string{"GET"}}},
			Destination: &api.ServiceRouteDestination{Service: "b", RequestTimeout: time.Minute},
		}}},
		&api.ServiceSplitterConfigEntry{Kind: api.ServiceSplitter, Name: "go-web", Splits: []api.ServiceSplit{
			{Weight: 90}, {Weight: 10, Service: "b"},
		}},
		&api.IngressGatewayConfigEntry{Kind: api.IngressGateway, Name: "go-in", Listeners: []api.IngressListener{
			{Port: 80, Protocol: "http", Services: []api.IngressService{{Name: "*"}}},
		}},
		&api.TerminatingGatewayConfigEntry{Kind: api.TerminatingGateway, Name: "go-out", Services: []api.LinkedService{{Name: "b"}}},
		&api.ExportedServicesConfigEntry{Name: "default", Services: []api.ExportedService{
			{Name: "b", Consumers: []api.ServiceConsumer{{Peer: "east"}}},
		}},
		&api.APIGatewayConfigEntry{Kind: api.APIGateway, Name: "go-api", Listeners: []api.APIGatewayListener{
			{Name: "a", Port: 80, Protocol: "http"},
		}},
		&api.HTTPRouteConfigEntry{Kind: api.HTTPRoute, Name: "go-http", Rules: []api.HTTPRouteRule{
			{Services: []api.HTTPService{{Name: "b", Weight: 1}}},
		}},
		&api.TCPRouteConfigEntry{Kind: api.TCPRoute, Name: "go-tcp", Services: []api.TCPService{{Name: "b"}}},
		&api.FileSystemCertificateConfigEntry{Kind: api.FileSystemCertificate, Name: "go-file", Certificate: "/c", PrivateKey: "/k"},
		&api.JWTProviderConfigEntry{Kind: api.JWTProvider, Name: "go-jwt", JSONWebKeySet: &api.JSONWebKeySet{
			Remote: &api.RemoteJWKS{URI: "https://example.com", CacheDuration: time.Minute},
		}},
		&api.RateLimitIPConfigEntry{Kind: api.RateLimitIPConfig, Name: "go-limit", Mode: "permissive", ReadRate: 5},
		proxies,
	}
	for _, entry := range others {
		kind, name := entry.GetKind(), entry.GetName()
		want("set "+kind, read(entries.Set(entry, nil)), true)
		list := read(entries.List(kind, nil))
		want("how many there are of "+kind, len(list), 1)
		want("the name of a "+kind, list[0].GetName(), name)
		want("the kind of a "+kind, read(entries.Get(kind, name, nil)).GetKind(), kind)
		one(entries.Delete(kind, name, nil))
		want("what is left of "+kind, len(read(entries.List(kind, nil))), 0)
	}
	current := read(entries.Get(api.ServiceResolver, "go-web", nil))
	old := read(entries.DeleteCAS(api.ServiceResolver, "go-web", entry.ModifyIndex, nil))
	want("a deletion with an old index", old, false)
	index := current.GetModifyIndex()
	want("a deletion", read(entries.DeleteCAS(api.ServiceResolver, "go-web", index, nil)), true)
	refused("reading an entry that was deleted", third(entries.Get(api.ServiceResolver, "go-web", nil)))
	wrong := &api.ServiceSplitterConfigEntry{Kind: api.ServiceSplitter, Name: "go-web"}
	refused("a splitter without splits", third(entries.Set(wrong, nil)))
}
