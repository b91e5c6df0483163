package main

import (
	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/serf/coordinate"
)

func coordinates(client *api.Client) {
	self := one(client.Agent().NodeName())
	for _, node := range []string{"go-near", "go-far"} {
		defer register(client, node, "10.1.1.4", &api.AgentService{Service: "go-place"})()
	}
	at := func(node string, x float64) {
		place := coordinate.NewCoordinate(coordinate.DefaultConfig())
		place.Vec[0] = x
		one(client.Coordinate().Update(&api.CoordinateEntry{Node: node, Coord: place}, nil))
	}
	at("go-near", 7)
	at("go-far", -9)
	// What was told is written with others some time later, and agents tell of themselves when they have measured.
	var index uint64
	places := map[string]*coordinate.Coordinate{}
	for places["go-near"] == nil || places["go-far"] == nil || places[self] == nil {
		entries, meta, err := client.Coordinate().Nodes(&api.QueryOptions{WaitIndex: index})
		check(err)
		index = meta.LastIndex
		for _, entry := range entries {
			places[entry.Node] = entry.Coord
		}
	}
	want("the place", places["go-near"].Vec[0], 7.0)
	want("whether the own place is one", places[self].IsValid() && places[self].IsCompatibleWith(places["go-near"]), true)
	for near, first := range map[string]string{"go-near": "go-near", "go-far": "go-far"} {
		entries := read(client.Health().Service("go-place", "", false, &api.QueryOptions{Near: near}))
		want("the nearest to "+near, entries[0].Node.Node, first)
		nodes := read(client.Catalog().Nodes(&api.QueryOptions{Near: near}))
		want("the nearest node to "+near, nodes[0].Node, first)
	}
	want("one node's place", read(client.Coordinate().Node("go-far", nil))[0].Coord.Vec[0], -9.0)
	refused("the place of a node that is unknown", third(client.Coordinate().Node("go-none", nil)))
	datacenters := one(client.Coordinate().Datacenters())
	want("the datacenter", datacenters[0].Datacenter, "dc1")
	// Servers measure each other slowly there, so the others may still be unknown.
	want("whether there are servers with a place", len(datacenters[0].Coordinates) > 0, true)
}
