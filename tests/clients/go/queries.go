package main

import (
	"github.com/hashicorp/consul/api"
)

func queries(client *api.Client) {
	queries := client.PreparedQuery()
	service := &api.AgentService{Service: "go-query", Port: 80, Tags: []string{"v1"}}
	defer register(client, "go-query", "10.1.1.3", service)()
	query := &api.PreparedQueryDefinition{
		Name:    "go-query-name",
		Service: api.ServiceQuery{Service: "go-query", Tags: []string{"v1", "!v2"}},
		DNS:     api.QueryDNSOptions{TTL: "5s"},
	}
	id := read(queries.Create(query, nil))
	found := read(queries.Execute("go-query-name", nil))
	want("instances", len(found.Nodes), 1)
	want("what is told beside", []string{found.Service, found.DNS.TTL, found.Datacenter}, []string{"go-query", "5s", "dc1"})
	query.ID = id
	query.Service.OnlyPassing = true
	one(queries.Update(query, nil))
	want("OnlyPassing", read(queries.Get(id, nil))[0].Service.OnlyPassing, true)
	listed := false
	for _, one := range read(queries.List(nil)) {
		listed = listed || one.ID == id
	}
	want("whether it is listed", listed, true)
	template := read(queries.Create(&api.PreparedQueryDefinition{
		Name: "go-t-", Template: api.QueryTemplate{Type: "name_prefix_match", Regexp: "^go-t-(.*)$"},
		Service: api.ServiceQuery{Service: "go-${match(1)}"},
	}, nil))
	want("instances through a template", len(read(queries.Execute("go-t-query", nil)).Nodes), 1)
	one(queries.Delete(template, nil))
	one(queries.Delete(id, nil))
	text := refused("a query that was deleted", third(queries.Execute(id, nil)))
	want("the refusal", text, "Unexpected response code: 404 (Query not found)")
}
