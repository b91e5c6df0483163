// Discovers services of an agent as Prometheus does, and says what did not come out as it should.
//
// Usage: discovery ADDRESS (host:port of an agent's HTTP API)
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/discovery"
	"github.com/prometheus/prometheus/discovery/consul"
	"github.com/prometheus/prometheus/discovery/targetgroup"
)

// How often a check goes to and fro.
const flaps = 20

func main() {
	defer func() {
		if why := recover(); why != nil {
			fmt.Println("discovery:", why)
			os.Exit(1)
		}
	}()
	client, err := api.NewClient(&api.Config{Address: os.Args[1]})
	check(err)
	everything := start(os.Args[1], func(*consul.SDConfig) {})
	chosen := start(os.Args[1], func(config *consul.SDConfig) {
		config.ServiceTags, config.NodeMeta = []string{"v2"}, map[string]string{"rack": "r1"}
	})
	appear(client, everything, chosen)
	fmt.Println("services that appear: ok")
	flap(client, everything)
	fmt.Println("services that flap: ok")
	vanish(client, everything, chosen)
	fmt.Println("services that vanish: ok")
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

// groups is what a discovery says from time to time: the targets of each service.
type groups struct {
	news chan []*targetgroup.Group
	now  map[string][]model.LabelSet
}

func start(address string, adapt func(*consul.SDConfig)) *groups {
	config := consul.DefaultSDConfig
	config.Server = address
	// What Prometheus waits between two blocking queries.
	config.RefreshInterval = model.Duration(10 * time.Millisecond)
	adapt(&config)
	registry := prometheus.NewRegistry()
	metrics := config.NewDiscovererMetrics(registry, discovery.NewRefreshMetrics(registry))
	check(metrics.Register())
	discoverer, err := config.NewDiscoverer(discovery.DiscovererOptions{Metrics: metrics})
	check(err)
	found := &groups{news: make(chan []*targetgroup.Group), now: map[string][]model.LabelSet{}}
	go discoverer.Run(context.Background(), found.news)
	return found
}

// until reads news until a condition holds.
func (g *groups) until(what string, holds func() bool) {
	patience := time.After(5 * time.Minute)
	for !holds() {
		select {
		case news := <-g.news:
			for _, group := range news {
				var targets []model.LabelSet
				for _, target := range group.Targets {
					targets = append(targets, group.Labels.Merge(target))
				}
				g.now[group.Source] = targets
			}
		case <-patience:
			panic(fmt.Sprintf("it never came to this: %s; there is %v", what, g.now))
		}
	}
}

// only is the labels of a service's one target.
func (g *groups) only(service string) model.LabelSet {
	if len(g.now[service]) != 1 {
		return nil
	}
	return g.now[service][0]
}

func own(version string) *api.AgentServiceRegistration {
	return &api.AgentServiceRegistration{
		ID: "prom-own1", Name: "prom-own", Port: 9100, Tags: []string{"v1", "metrics"},
		Meta:  map[string]string{"version": version, "odd-name": "x"},
		Check: &api.AgentServiceCheck{CheckID: "prom-check", TTL: "1h", Status: "passing"},
	}
}

func appear(client *api.Client, everything, chosen *groups) {
	check(client.Agent().ServiceRegister(own("1")))
	remote := &api.CatalogRegistration{
		Node: "prom-node", Address: "10.3.0.1", NodeMeta: map[string]string{"rack": "r1"},
		TaggedAddresses: map[string]string{"wan": "192.0.2.1"},
		Service:         &api.AgentService{ID: "far1", Service: "prom-far", Address: "10.3.0.9", Port: 9200, Tags: []string{"v2"}},
	}
	_, err := client.Catalog().Register(remote, nil)
	check(err)

	everything.until("the agent's service is found", func() bool {
		return everything.only("prom-own")["__meta_consul_health"] == "passing"
	})
	self, err := client.Agent().Self()
	check(err)
	address := model.LabelValue(self["Member"]["Addr"].(string))
	labels := everything.only("prom-own")
	for name, wanted := range map[model.LabelName]model.LabelValue{
		"__address__":                             address + ":9100",
		"__meta_consul_address":                   address,
		"__meta_consul_dc":                        "dc1",
		"__meta_consul_node":                      model.LabelValue(self["Config"]["NodeName"].(string)),
		"__meta_consul_service":                   "prom-own",
		"__meta_consul_service_id":                "prom-own1",
		"__meta_consul_service_port":              "9100",
		"__meta_consul_service_address":           "",
		"__meta_consul_tags":                      ",v1,metrics,",
		"__meta_consul_service_metadata_version":  "1",
		"__meta_consul_service_metadata_odd_name": "x",
	} {
		same(labels, name, wanted)
	}
	everything.until("the remote service is found", func() bool { return everything.only("prom-far") != nil })
	labels = everything.only("prom-far")
	for name, wanted := range map[model.LabelName]model.LabelValue{
		"__address__":                      "10.3.0.9:9200",
		"__meta_consul_address":            "10.3.0.1",
		"__meta_consul_service_address":    "10.3.0.9",
		"__meta_consul_metadata_rack":      "r1",
		"__meta_consul_tagged_address_wan": "192.0.2.1",
		"__meta_consul_node":               "prom-node",
	} {
		same(labels, name, wanted)
	}
	everything.until("the servers' own service is found", func() bool { return len(everything.now["consul"]) == 3 })
	chosen.until("the service with the tag is found", func() bool { return chosen.only("prom-far") != nil })
	for service, targets := range chosen.now {
		if service != "prom-far" && len(targets) > 0 {
			panic(fmt.Sprintf("found without the tag or the meta: %v", chosen.now))
		}
	}
}

func same(labels model.LabelSet, name model.LabelName, wanted model.LabelValue) {
	if labels[name] != wanted {
		panic(fmt.Sprintf("%s is %q instead of %q in %v", name, labels[name], wanted, labels))
	}
}

// flap makes a check go to and fro: whatever is missed on the way, the last state is seen.
func flap(client *api.Client, everything *groups) {
	for range flaps {
		check(client.Agent().FailTTL("prom-check", "gone"))
		check(client.Agent().PassTTL("prom-check", "back"))
	}
	check(client.Agent().FailTTL("prom-check", "gone"))
	everything.until("it is critical", func() bool {
		return everything.only("prom-own")["__meta_consul_health"] == "critical"
	})
	check(client.Agent().PassTTL("prom-check", "back"))
	everything.until("it is passing", func() bool {
		return everything.only("prom-own")["__meta_consul_health"] == "passing"
	})
	// Gone and back at once, changed.
	check(client.Agent().ServiceDeregister("prom-own1"))
	check(client.Agent().ServiceRegister(own("2")))
	everything.until("the new version is there", func() bool {
		return everything.only("prom-own")["__meta_consul_service_metadata_version"] == "2"
	})
}

func vanish(client *api.Client, everything, chosen *groups) {
	check(client.Agent().ServiceDeregister("prom-own1"))
	_, err := client.Catalog().Deregister(&api.CatalogDeregistration{Node: "prom-node"}, nil)
	check(err)
	everything.until("both are gone", func() bool {
		return len(everything.now["prom-own"]) == 0 && len(everything.now["prom-far"]) == 0
	})
	chosen.until("the chosen one is gone", func() bool { return len(chosen.now["prom-far"]) == 0 })
}
