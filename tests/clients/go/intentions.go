package main

import (
	"github.com/hashicorp/consul/api"
)

func intentions(client *api.Client) {
	connect := client.Connect()
	intention := &api.Intention{
		SourceName: "go-web", DestinationName: "go-db", SourceType: api.IntentionSourceConsul,
		Action: api.IntentionActionAllow, Meta: map[string]string{"by": "go"},
	}
	//lint:ignore SA1019 what old programs call must be answered, too
	id := read(connect.IntentionCreate(intention, nil))
	found := read(connect.IntentionGet(id, nil))
	want("the precedence", found.Precedence, 9)
	want("the meta", found.Meta["by"], "go")
	want("whether there is a time", found.CreatedAt.IsZero(), false)
	found.Action = api.IntentionActionDeny
	one(connect.IntentionUpdate(found, nil))
	allowed := func(source string) bool {
		return read(connect.IntentionCheck(&api.IntentionCheck{Source: source, Destination: "go-db"}, nil))
	}
	want("whether go-web may", allowed("go-web"), false)
	all := &api.Intention{SourceName: "*", DestinationName: "go-db", Action: api.IntentionActionAllow}
	one(connect.IntentionUpsert(all, nil))
	want("whether another may", allowed("go-other"), true)
	match := &api.IntentionMatch{By: api.IntentionMatchDestination, Names: []string{"go-db"}}
	matches := read(connect.IntentionMatch(match, nil))["go-db"]
	want("what matches, the closest first", []string{matches[0].SourceName, matches[1].SourceName}, []string{"go-web", "*"})
	want("all", len(read(connect.Intentions(&api.QueryOptions{Filter: `DestinationName == "go-db"`}))), 2)
	one(connect.IntentionDelete(id, nil))
	if gone := read(connect.IntentionGet(id, nil)); gone != nil {
		fail("an intention that was deleted: %v", gone)
	}
	one(connect.IntentionDeleteExact("*", "go-db", nil))
}

func intentionsByEnds(client *api.Client) {
	connect := client.Connect()
	http := &api.ServiceConfigEntry{Kind: api.ServiceDefaults, Name: "go-db", Protocol: "http"}
	one(connect.IntentionUpsert(&api.Intention{SourceName: "go-a", DestinationName: "go-b", Action: "deny"}, nil))
	want("the action", read(connect.IntentionGetExact("go-a", "go-b", nil)).Action, api.IntentionActionDeny)
	want("the protocol's entry", read(client.ConfigEntries().Set(http, nil)), true)
	permissions := &api.Intention{SourceName: "go-a", DestinationName: "go-db", Permissions: []*api.IntentionPermission{
		{Action: "allow", HTTP: &api.IntentionHTTPPermission{PathPrefix: "/v1", Methods: []string{"GET"}}},
	}}
	one(connect.IntentionUpsert(permissions, nil))
	found := read(connect.IntentionGetExact("go-a", "go-db", nil))
	want("the permission", found.Permissions[0].HTTP.PathPrefix, "/v1")
	for _, to := range []string{"go-b", "go-db"} {
		one(connect.IntentionDeleteExact("go-a", to, nil))
		if gone := read(connect.IntentionGetExact("go-a", to, nil)); gone != nil {
			fail("an intention that was deleted: %v", gone)
		}
	}
	one(client.ConfigEntries().Delete(api.ServiceDefaults, "go-db", nil))
}
