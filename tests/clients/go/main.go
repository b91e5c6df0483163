// Calls an agent through Consul's own Go client, and says what did not come out as it should.
//
// Usage: clients ADDRESS (host:port of an agent's HTTP API)
package main

import (
	"bytes"
	"fmt"
	"os"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/serf/coordinate"
)

// Every part is told apart in the output, and one that fails does not keep the others from being tried.
var parts = []struct {
	name string
	run  func(*api.Client) error
}{
	{"kv", kv},
	{"txn", txn},
	{"sessions and locks", locks},
	{"semaphore", semaphore},
	{"catalog and health", catalog},
	{"blocking", blocking},
	{"status and operator", operator},
	{"prepared queries", queries},
	{"snapshot", snapshot},
	{"events", events},
	{"coordinates", coordinates},
	{"config entries", configEntries},
	{"intentions", intentions},
	{"connect", connect},
}

func main() {
	client, err := api.NewClient(&api.Config{Address: os.Args[1]})
	if err != nil {
		fmt.Println("client:", err)
		os.Exit(1)
	}
	failed := false
	for _, part := range parts {
		if err := part.run(client); err != nil {
			fmt.Printf("%s: %v\n", part.name, err)
			failed = true
			continue
		}
		fmt.Printf("%s: ok\n", part.name)
	}
	if failed {
		os.Exit(1)
	}
}

func want(what string, got, wanted any) error {
	if fmt.Sprint(got) != fmt.Sprint(wanted) {
		return fmt.Errorf("%s is %v instead of %v", what, got, wanted)
	}
	return nil
}

func kv(client *api.Client) error {
	kv := client.KV()
	if _, err := kv.Put(&api.KVPair{Key: "go/a", Value: []byte("1"), Flags: 42}, nil); err != nil {
		return err
	}
	pair, meta, err := kv.Get("go/a", nil)
	if err != nil {
		return err
	}
	if err := want("the value", string(pair.Value), "1"); err != nil {
		return err
	}
	if err := want("the index", meta.LastIndex, pair.ModifyIndex); err != nil {
		return err
	}
	pair.Value = []byte("2")
	if ok, _, err := kv.CAS(pair, nil); err != nil || !ok {
		return fmt.Errorf("CAS: %v, %v", ok, err)
	}
	if ok, _, err := kv.CAS(pair, nil); err != nil || ok {
		return fmt.Errorf("CAS with an old index: %v, %v", ok, err)
	}
	keys, _, err := kv.Keys("go/", "/", nil)
	if err != nil {
		return err
	}
	if err := want("keys", keys, []string{"go/a"}); err != nil {
		return err
	}
	if absent, _, err := kv.Get("go/none", nil); err != nil || absent != nil {
		return fmt.Errorf("an absent key: %v, %v", absent, err)
	}
	if _, err := kv.DeleteTree("go/", nil); err != nil {
		return err
	}
	pairs, _, err := kv.List("go/", nil)
	if err != nil {
		return err
	}
	return want("what is left", len(pairs), 0)
}

func txn(client *api.Client) error {
	ok, response, _, err := client.KV().Txn(api.KVTxnOps{
		{Verb: api.KVSet, Key: "txn/a", Value: []byte("1")},
		{Verb: api.KVGet, Key: "txn/a"},
	}, nil)
	if err != nil || !ok {
		return fmt.Errorf("transaction: %v, %v", ok, err)
	}
	if err := want("the value", string(response.Results[1].Value), "1"); err != nil {
		return err
	}
	ok, response, _, err = client.KV().Txn(api.KVTxnOps{{Verb: api.KVGet, Key: "txn/none"}}, nil)
	if err != nil || ok {
		return fmt.Errorf("a transaction that fails: %v, %v", ok, err)
	}
	if err := want("the error", response.Errors[0].What, `key "txn/none" doesn't exist`); err != nil {
		return err
	}
	node := &api.NodeTxnOp{Verb: api.NodeSet, Node: api.Node{Node: "go-node", Address: "10.1.1.1"}}
	service := &api.ServiceTxnOp{
		Verb: api.ServiceSet, Node: "go-node",
		Service: api.AgentService{ID: "go1", Service: "go", Port: 99},
	}
	check := &api.CheckTxnOp{
		Verb:  api.CheckSet,
		Check: api.HealthCheck{Node: "go-node", CheckID: "c1", Name: "c", Status: "passing", ServiceID: "go1"},
	}
	ok, all, _, err := client.Txn().Txn(api.TxnOps{{Node: node}, {Service: service}, {Check: check}}, nil)
	if err != nil || !ok {
		return fmt.Errorf("rows of the catalog: %v, %v, %v", ok, all, err)
	}
	// Consul answers with a service of a node here, of which this type of the client shows the id.
	if err := want("the service", all.Results[1].Service.ID, "go1"); err != nil {
		return err
	}
	return want("the check", all.Results[2].Check.ServiceName, "go")
}

func locks(client *api.Client) error {
	lock, err := client.LockOpts(&api.LockOptions{Key: "locks/a", SessionTTL: "10s"})
	if err != nil {
		return err
	}
	lost, err := lock.Lock(nil)
	if err != nil {
		return err
	}
	other, err := client.LockOpts(&api.LockOptions{Key: "locks/a", LockTryOnce: true, LockWaitTime: time.Second})
	if err != nil {
		return err
	}
	if second, err := other.Lock(nil); err != nil || second != nil {
		return fmt.Errorf("a lock that is held was given again: %v, %v", second, err)
	}
	select {
	case <-lost:
		return fmt.Errorf("the lock was lost")
	default:
	}
	if err := lock.Unlock(); err != nil {
		return err
	}
	if err := lock.Destroy(); err != nil {
		return err
	}
	id, _, err := client.Session().Create(&api.SessionEntry{TTL: "10s", Behavior: api.SessionBehaviorDelete}, nil)
	if err != nil {
		return err
	}
	if entry, _, err := client.Session().Renew(id, nil); err != nil || entry == nil {
		return fmt.Errorf("renewal: %v, %v", entry, err)
	}
	if info, _, err := client.Session().Info(id, nil); err != nil || info.TTL != "10s" {
		return fmt.Errorf("info: %v, %v", info, err)
	}
	_, err = client.Session().Destroy(id, nil)
	return err
}

func semaphore(client *api.Client) error {
	semaphore, err := client.SemaphorePrefix("semaphores/a", 2)
	if err != nil {
		return err
	}
	if _, err := semaphore.Acquire(nil); err != nil {
		return err
	}
	return semaphore.Release()
}

func catalog(client *api.Client) error {
	registration := &api.CatalogRegistration{
		Node: "go-web", Address: "10.1.1.2",
		Service: &api.AgentService{ID: "web1", Service: "go-web", Port: 80, Tags: []string{"v1"}},
		Checks: api.HealthChecks{{
			Node: "go-web", CheckID: "c", Name: "c", Status: "passing", ServiceID: "web1",
		}},
	}
	if _, err := client.Catalog().Register(registration, nil); err != nil {
		return err
	}
	entries, _, err := client.Health().Service("go-web", "v1", true, nil)
	if err != nil {
		return err
	}
	if err := want("healthy instances", len(entries), 1); err != nil {
		return err
	}
	if err := want("the port", entries[0].Service.Port, 80); err != nil {
		return err
	}
	services, _, err := client.Catalog().Services(nil)
	if err != nil {
		return err
	}
	if err := want("the tags", services["go-web"], []string{"v1"}); err != nil {
		return err
	}
	node, _, err := client.Catalog().Node("go-web", nil)
	if err != nil {
		return err
	}
	if err := want("services of the node", len(node.Services), 1); err != nil {
		return err
	}
	checks, _, err := client.Health().State(api.HealthAny, nil)
	if err != nil || len(checks) < 2 {
		return fmt.Errorf("checks: %v, %v", checks, err)
	}
	datacenters, err := client.Catalog().Datacenters()
	if err != nil {
		return err
	}
	if err := want("datacenters", datacenters, []string{"dc1"}); err != nil {
		return err
	}
	_, err = client.Catalog().Deregister(&api.CatalogDeregistration{Node: "go-web"}, nil)
	return err
}

func blocking(client *api.Client) error {
	kv := client.KV()
	if _, err := kv.Put(&api.KVPair{Key: "blocking", Value: []byte("1")}, nil); err != nil {
		return err
	}
	_, meta, err := kv.Get("blocking", nil)
	if err != nil {
		return err
	}
	woken := make(chan error, 1)
	go func() {
		pair, _, err := kv.Get("blocking", &api.QueryOptions{WaitIndex: meta.LastIndex, WaitTime: 10 * time.Minute})
		if err == nil {
			err = want("the value", string(pair.Value), "2")
		}
		woken <- err
	}()
	if _, err := kv.Put(&api.KVPair{Key: "blocking", Value: []byte("2")}, nil); err != nil {
		return err
	}
	return <-woken
}

func operator(client *api.Client) error {
	leader, err := client.Status().Leader()
	if err != nil || leader == "" {
		return fmt.Errorf("leader: %q, %v", leader, err)
	}
	configuration, err := client.Operator().RaftGetConfiguration(nil)
	if err != nil {
		return err
	}
	if err := want("servers", len(configuration.Servers), 3); err != nil {
		return err
	}
	if _, err := client.Operator().AutopilotServerHealth(nil); err != nil {
		return err
	}
	self, err := client.Agent().Self()
	if err != nil {
		return err
	}
	if err := want("the datacenter", self["Config"]["Datacenter"], "dc1"); err != nil {
		return err
	}
	members, err := client.Agent().Members(false)
	if err != nil {
		return err
	}
	if len(members) < 3 {
		return fmt.Errorf("members: %v", members)
	}
	_, err = client.Agent().Metrics()
	return err
}

func queries(client *api.Client) error {
	registration := &api.CatalogRegistration{
		Node: "go-query", Address: "10.1.1.3",
		Service: &api.AgentService{Service: "go-query", Port: 80},
	}
	if _, err := client.Catalog().Register(registration, nil); err != nil {
		return err
	}
	query := &api.PreparedQueryDefinition{
		Name:    "go-query-name",
		Service: api.ServiceQuery{Service: "go-query"},
		DNS:     api.QueryDNSOptions{TTL: "5s"},
	}
	id, _, err := client.PreparedQuery().Create(query, nil)
	if err != nil {
		return err
	}
	defer client.PreparedQuery().Delete(id, nil)
	found, _, err := client.PreparedQuery().Execute("go-query-name", nil)
	if err != nil {
		return err
	}
	if err := want("instances", len(found.Nodes), 1); err != nil {
		return err
	}
	query.ID = id
	query.Service.OnlyPassing = true
	if _, err := client.PreparedQuery().Update(query, nil); err != nil {
		return err
	}
	shown, _, err := client.PreparedQuery().Get(id, nil)
	if err != nil {
		return err
	}
	return want("OnlyPassing", shown[0].Service.OnlyPassing, true)
}

func snapshot(client *api.Client) error {
	if _, err := client.KV().Put(&api.KVPair{Key: "snapshot", Value: []byte("1")}, nil); err != nil {
		return err
	}
	saved, _, err := client.Snapshot().Save(nil)
	if err != nil {
		return err
	}
	defer saved.Close()
	var archive bytes.Buffer
	if _, err := archive.ReadFrom(saved); err != nil {
		return err
	}
	if _, err := client.KV().Put(&api.KVPair{Key: "snapshot", Value: []byte("2")}, nil); err != nil {
		return err
	}
	if err := client.Snapshot().Restore(nil, &archive); err != nil {
		return err
	}
	pair, _, err := client.KV().Get("snapshot", nil)
	if err != nil {
		return err
	}
	return want("the restored value", string(pair.Value), "1")
}

func events(client *api.Client) error {
	self, err := client.Agent().NodeName()
	if err != nil {
		return err
	}
	fire := func(node string) (string, error) {
		event := &api.UserEvent{Name: "go-deploy", Payload: []byte("v2"), NodeFilter: node}
		id, _, err := client.Event().Fire(event, nil)
		return id, err
	}
	first, err := fire("")
	if err != nil {
		return err
	}
	var index uint64
	var id string
	// Gossip comes when it comes; other clients may be firing too.
	for id != first {
		list, meta, err := client.Event().List("go-deploy", &api.QueryOptions{WaitIndex: index})
		if err != nil {
			return err
		}
		if index = meta.LastIndex; len(list) == 0 {
			continue
		}
		last := list[len(list)-1]
		id = last.ID
		if err := want("the index", index, client.Event().IDToIndex(id)); err != nil {
			return err
		}
		if err := want("the payload", string(last.Payload), "v2"); err != nil {
			return err
		}
		if last.LTime == 0 {
			return fmt.Errorf("an event without a time: %v", last)
		}
	}
	// Not for this node, so that the one behind it is the next here.
	elsewhere, err := fire("^nobody$")
	if err != nil {
		return err
	}
	second, err := fire("^" + self + "$")
	if err != nil {
		return err
	}
	list, _, err := client.Event().List("go-deploy", &api.QueryOptions{WaitIndex: index})
	if err != nil {
		return err
	}
	for _, event := range list {
		if event.ID == elsewhere {
			return fmt.Errorf("an event for another node: %v", event)
		}
	}
	if err := want("the next event", list[len(list)-1].ID, second); err != nil {
		return err
	}
	_, _, err = client.Event().Fire(&api.UserEvent{Name: "x", TagFilter: "x"}, nil)
	if err == nil {
		return fmt.Errorf("a filter of tags without one of services was taken")
	}
	return nil
}

func coordinates(client *api.Client) error {
	self, err := client.Agent().NodeName()
	if err != nil {
		return err
	}
	for _, node := range []string{"go-near", "go-far"} {
		registration := &api.CatalogRegistration{
			Node: node, Address: "10.1.1.4", Service: &api.AgentService{Service: "go-place"},
		}
		if _, err := client.Catalog().Register(registration, nil); err != nil {
			return err
		}
	}
	at := func(node string, x float64) error {
		place := coordinate.NewCoordinate(coordinate.DefaultConfig())
		place.Vec[0] = x
		entry := &api.CoordinateEntry{Node: node, Coord: place}
		_, err := client.Coordinate().Update(entry, nil)
		return err
	}
	if err := at("go-near", 7); err != nil {
		return err
	}
	if err := at("go-far", -9); err != nil {
		return err
	}
	// What was told is written with others some time later, and agents tell of themselves when they have measured.
	var index uint64
	places := map[string]*coordinate.Coordinate{}
	for places["go-near"] == nil || places["go-far"] == nil || places[self] == nil {
		entries, meta, err := client.Coordinate().Nodes(&api.QueryOptions{WaitIndex: index})
		if err != nil {
			return err
		}
		index = meta.LastIndex
		for _, entry := range entries {
			places[entry.Node] = entry.Coord
		}
	}
	if err := want("the place", places["go-near"].Vec[0], 7.0); err != nil {
		return err
	}
	if !places[self].IsValid() || !places[self].IsCompatibleWith(places["go-near"]) {
		return fmt.Errorf("no place: %v", places[self])
	}
	for near, first := range map[string]string{"go-near": "go-near", "go-far": "go-far"} {
		entries, _, err := client.Health().Service("go-place", "", false, &api.QueryOptions{Near: near})
		if err != nil {
			return err
		}
		if err := want("the nearest to "+near, entries[0].Node.Node, first); err != nil {
			return err
		}
	}
	one, _, err := client.Coordinate().Node("go-far", nil)
	if err != nil {
		return err
	}
	if err := want("one node's place", one[0].Coord.Vec[0], -9.0); err != nil {
		return err
	}
	datacenters, err := client.Coordinate().Datacenters()
	if err != nil {
		return err
	}
	if err := want("servers with a place", len(datacenters[0].Coordinates), 3); err != nil {
		return err
	}
	for _, node := range []string{"go-near", "go-far"} {
		if _, err := client.Catalog().Deregister(&api.CatalogDeregistration{Node: node}, nil); err != nil {
			return err
		}
	}
	return nil
}

func configEntries(client *api.Client) error {
	entries := client.ConfigEntries()
	resolver := &api.ServiceResolverConfigEntry{
		Kind: api.ServiceResolver, Name: "go-web", DefaultSubset: "v1", ConnectTimeout: 15 * time.Second,
		Subsets: map[string]api.ServiceResolverSubset{"v1": {Filter: "Service.Meta.version == v1"}},
		Meta:    map[string]string{"by": "go"},
	}
	if ok, _, err := entries.Set(resolver, nil); err != nil || !ok {
		return fmt.Errorf("set: %v, %v", ok, err)
	}
	found, meta, err := entries.Get(api.ServiceResolver, "go-web", nil)
	if err != nil {
		return err
	}
	read := found.(*api.ServiceResolverConfigEntry)
	if err := want("the timeout", read.ConnectTimeout, 15*time.Second); err != nil {
		return err
	}
	if err := want("the subset", read.Subsets["v1"].Filter, resolver.Subsets["v1"].Filter); err != nil {
		return err
	}
	if err := want("the index", meta.LastIndex, read.ModifyIndex); err != nil {
		return err
	}
	if ok, _, err := entries.CAS(read, read.ModifyIndex-1, nil); err != nil || ok {
		return fmt.Errorf("CAS with an old index: %v, %v", ok, err)
	}
	others := []api.ConfigEntry{
		&api.ServiceConfigEntry{Kind: api.ServiceDefaults, Name: "go-web", Protocol: "http"},
		&api.ProxyConfigEntry{Kind: api.ProxyDefaults, Name: api.ProxyConfigGlobal, Config: map[string]interface{}{"x_Y": 1.0}},
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
	}
	for _, entry := range others {
		if ok, _, err := entries.Set(entry, nil); err != nil || !ok {
			return fmt.Errorf("set %s: %v, %v", entry.GetKind(), ok, err)
		}
		name := entry.GetName()
		list, _, err := entries.List(entry.GetKind(), nil)
		if err != nil || len(list) != 1 || list[0].GetName() != name {
			return fmt.Errorf("list of %s: %v, %v", entry.GetKind(), list, err)
		}
		if _, _, err := entries.Get(entry.GetKind(), name, nil); err != nil {
			return err
		}
		if _, err := entries.Delete(entry.GetKind(), name, nil); err != nil {
			return err
		}
	}
	if ok, _, err := entries.DeleteCAS(api.ServiceResolver, "go-web", read.ModifyIndex, nil); err != nil || !ok {
		return fmt.Errorf("delete: %v, %v", ok, err)
	}
	if _, _, err := entries.Get(api.ServiceResolver, "go-web", nil); err == nil {
		return fmt.Errorf("an entry that was deleted is there")
	}
	wrong := &api.ServiceSplitterConfigEntry{Kind: api.ServiceSplitter, Name: "go-web"}
	if _, _, err := entries.Set(wrong, nil); err == nil {
		return fmt.Errorf("a splitter without splits was taken")
	}
	return nil
}

func intentions(client *api.Client) error {
	connect := client.Connect()
	make := &api.Intention{
		SourceName: "go-web", DestinationName: "go-db", SourceType: api.IntentionSourceConsul,
		Action: api.IntentionActionAllow, Meta: map[string]string{"by": "go"},
	}
	id, _, err := connect.IntentionCreate(make, nil)
	if err != nil {
		return err
	}
	found, _, err := connect.IntentionGet(id, nil)
	if err != nil {
		return err
	}
	if err := want("the precedence", found.Precedence, 9); err != nil {
		return err
	}
	if found.CreatedAt.IsZero() || found.Meta["by"] != "go" {
		return fmt.Errorf("the intention: %v", found)
	}
	found.Action = api.IntentionActionDeny
	if _, err := connect.IntentionUpdate(found, nil); err != nil {
		return err
	}
	check := &api.IntentionCheck{Source: "go-web", Destination: "go-db"}
	if allowed, _, err := connect.IntentionCheck(check, nil); err != nil || allowed {
		return fmt.Errorf("check: %v, %v", allowed, err)
	}
	any := &api.Intention{SourceName: "*", DestinationName: "go-db", Action: api.IntentionActionAllow}
	if _, err := connect.IntentionUpsert(any, nil); err != nil {
		return err
	}
	check.Source = "go-other"
	if allowed, _, err := connect.IntentionCheck(check, nil); err != nil || !allowed {
		return fmt.Errorf("check of another: %v, %v", allowed, err)
	}
	match := &api.IntentionMatch{By: api.IntentionMatchDestination, Names: []string{"go-db"}}
	matches, _, err := connect.IntentionMatch(match, nil)
	if err != nil {
		return err
	}
	if err := want("matches", len(matches["go-db"]), 2); err != nil {
		return err
	}
	all, _, err := connect.Intentions(nil)
	if err != nil || len(all) < 2 {
		return fmt.Errorf("all: %v, %v", all, err)
	}
	if _, err := connect.IntentionDelete(id, nil); err != nil {
		return err
	}
	if _, err := connect.IntentionDeleteExact("*", "go-db", nil); err != nil {
		return err
	}
	gone, _, err := connect.IntentionGetExact("*", "go-db", nil)
	if err != nil || gone != nil {
		return fmt.Errorf("an intention that was deleted: %v, %v", gone, err)
	}
	return nil
}
