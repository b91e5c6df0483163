package main

import (
	"github.com/hashicorp/consul/api"
)

func events(client *api.Client) {
	events := client.Event()
	self := one(client.Agent().NodeName())
	fire := func(node string) string {
		event := &api.UserEvent{Name: "go-deploy", Payload: []byte("v2"), NodeFilter: node}
		return read(events.Fire(event, nil))
	}
	first := fire("")
	var index uint64
	var id string
	// Gossip comes when it comes; other clients may be firing too.
	for id != first {
		list, meta, err := events.List("go-deploy", &api.QueryOptions{WaitIndex: index})
		check(err)
		if index = meta.LastIndex; len(list) == 0 {
			continue
		}
		last := list[len(list)-1]
		id = last.ID
		want("the index", index, events.IDToIndex(id))
		want("the payload", string(last.Payload), "v2")
		want("whether it has a time", last.LTime > 0, true)
	}
	// Not for this node, so that the one behind it is the next here.
	elsewhere := fire("^nobody$")
	next := fire("^" + self + "$")
	list := read(events.List("go-deploy", &api.QueryOptions{WaitIndex: index}))
	for _, event := range list {
		want("whether an event for another node is listed", event.ID == elsewhere, false)
	}
	want("the next event", list[len(list)-1].ID, next)
	refused("a filter of tags without one of services", third(events.Fire(&api.UserEvent{Name: "x", TagFilter: "x"}, nil)))
}
