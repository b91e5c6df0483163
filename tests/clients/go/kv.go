package main

import (
	"time"

	"github.com/hashicorp/consul/api"
)

func kv(client *api.Client) {
	kv := client.KV()
	one(kv.Put(&api.KVPair{Key: "go/a", Value: []byte("1"), Flags: 42}, nil))
	pair, meta, err := kv.Get("go/a", nil)
	check(err)
	want("the value", string(pair.Value), "1")
	want("the flags", pair.Flags, 42)
	want("the index", meta.LastIndex, pair.ModifyIndex)
	want("a known leader", meta.KnownLeader, true)
	pair.Value = []byte("2")
	want("CAS", read(kv.CAS(pair, nil)), true)
	want("CAS with an old index", read(kv.CAS(pair, nil)), false)
	want("keys", read(kv.Keys("go/", "/", nil)), []string{"go/a"})
	if absent := read(kv.Get("go/none", nil)); absent != nil {
		fail("an absent key: %v", absent)
	}
	want("DeleteCAS with an old index", read(kv.DeleteCAS(pair, nil)), false)
	want("DeleteCAS", read(kv.DeleteCAS(read(kv.Get("go/a", nil)), nil)), true)

	// Every byte but the first slash may stand in a key, and any byte in a value.
	odd := &api.KVPair{Key: "go/b c/%2f?é", Value: []byte{0, 255, '\n'}}
	one(kv.Put(odd, nil))
	want("an odd key's value", read(kv.Get(odd.Key, nil)).Value, odd.Value)
	one(kv.Put(&api.KVPair{Key: "go/d"}, nil))
	pairs := read(kv.List("go/", nil))
	want("a list", []string{pairs[0].Key, pairs[1].Key}, []string{odd.Key, "go/d"})
	want("keys up to a separator", read(kv.Keys("", "/", nil))[0][:1] != "", true)
	one(kv.Delete("go/d", nil))
	want("what a deletion leaves", len(read(kv.List("go/", nil))), 1)
	one(kv.DeleteTree("go/", nil))
	want("what is left", len(read(kv.List("go/", nil))), 0)
	want("what is left, consistently", len(read(kv.List("go/", &api.QueryOptions{RequireConsistent: true}))), 0)
	until("nothing is left where a stale read looks", func() bool {
		return len(read(kv.List("go/", &api.QueryOptions{AllowStale: true}))) == 0
	})
	refused("a key that begins with a slash", second(kv.Put(&api.KVPair{Key: "/a"}, nil)))
	refused("an unknown session", third(kv.Acquire(&api.KVPair{Key: "a", Session: "x"}, nil)))
}

func second[T any](_ T, err error) error { return err }

func third[T, M any](_ T, _ M, err error) error { return err }

func txn(client *api.Client) {
	ok, response, _, err := client.KV().Txn(api.KVTxnOps{
		{Verb: api.KVSet, Key: "txn/a", Value: []byte("1")},
		{Verb: api.KVGet, Key: "txn/a"},
	}, nil)
	if err != nil || !ok {
		fail("transaction: %v, %v", ok, err)
	}
	want("the value", string(response.Results[1].Value), "1")
	ok, response, _, err = client.KV().Txn(api.KVTxnOps{{Verb: api.KVGet, Key: "txn/none"}}, nil)
	if err != nil || ok {
		fail("a transaction that fails: %v, %v", ok, err)
	}
	want("the error", response.Errors[0].What, `key "txn/none" doesn't exist`)
	node := &api.NodeTxnOp{Verb: api.NodeSet, Node: api.Node{Node: "go-node", Address: "10.1.1.1"}}
	service := &api.ServiceTxnOp{
		Verb: api.ServiceSet, Node: "go-node",
		Service: api.AgentService{ID: "go1", Service: "go", Port: 99},
	}
	of := &api.CheckTxnOp{
		Verb:  api.CheckSet,
		Check: api.HealthCheck{Node: "go-node", CheckID: "c1", Name: "c", Status: "passing", ServiceID: "go1"},
	}
	ok, all, _, err := client.Txn().Txn(api.TxnOps{{Node: node}, {Service: service}, {Check: of}}, nil)
	if err != nil || !ok {
		fail("rows of the catalog: %v, %v, %v", ok, all, err)
	}
	// Consul answers with a service of a node here, of which this type of the client shows the id.
	want("the service", all.Results[1].Service.ID, "go1")
	want("the check", all.Results[2].Check.ServiceName, "go")
	node.Verb, service.Verb = api.NodeDelete, api.ServiceDelete
	ok, all, _, err = client.Txn().Txn(api.TxnOps{{Service: service}, {Node: node}}, nil)
	if err != nil || !ok {
		fail("deletions: %v, %v, %v", ok, all, err)
	}
	if gone := read(client.Catalog().Node("go-node", nil)); gone != nil {
		fail("a node that was deleted: %v", gone)
	}
}

func blocking(client *api.Client) {
	kv := client.KV()
	one(kv.Put(&api.KVPair{Key: "blocking", Value: []byte("1")}, nil))
	_, meta, err := kv.Get("blocking", nil)
	check(err)
	woken := make(chan string, 1)
	go func() {
		pair, _, err := kv.Get("blocking", &api.QueryOptions{WaitIndex: meta.LastIndex, WaitTime: 10 * time.Minute})
		if err != nil {
			woken <- err.Error()
			return
		}
		woken <- string(pair.Value)
	}()
	one(kv.Put(&api.KVPair{Key: "blocking", Value: []byte("2")}, nil))
	want("the value", <-woken, "2")
	// A wait that nothing ends is over by itself, with the same index.
	_, again, err := kv.Get("blocking", &api.QueryOptions{WaitIndex: meta.LastIndex + 1000000, WaitTime: time.Millisecond})
	check(err)
	if again.LastIndex <= meta.LastIndex {
		fail("the index went from %d to %d", meta.LastIndex, again.LastIndex)
	}
}

func raw(client *api.Client) {
	var answer bool
	one(client.Raw().Write("/v1/kv/go-raw", map[string]int{"a": 1}, &answer, nil))
	want("a raw write", answer, true)
	var pairs []api.KVPair
	one(client.Raw().Query("/v1/kv/go-raw", &pairs, nil))
	want("a raw read", string(pairs[0].Value), "{\"a\":1}\n")
	one(client.Raw().Delete("/v1/kv/go-raw", nil))
	if left := read(client.KV().Get("go-raw", nil)); left != nil {
		fail("after a raw deletion: %v", left)
	}
	var none any
	text := refused("an unknown path", second(client.Raw().Query("/v1/none", &none, nil)))
	want("the refusal", text, "Unexpected response code: 404 (Invalid URL path: not a recognized HTTP API endpoint)")
}
