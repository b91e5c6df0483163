package main

import (
	"bytes"
	"strings"

	"github.com/hashicorp/consul/api"
)

func snapshot(client *api.Client) {
	put := func(value string) { one(client.KV().Put(&api.KVPair{Key: "snapshot", Value: []byte(value)}, nil)) }
	put("1")
	saved, meta, err := client.Snapshot().Save(nil)
	check(err)
	defer saved.Close()
	want("whether there is an index", meta.LastIndex > 0, true)
	var archive bytes.Buffer
	one(archive.ReadFrom(saved))
	put("2")
	check(client.Snapshot().Restore(nil, &archive))
	want("the restored value", string(read(client.KV().Get("snapshot", nil)).Value), "1")
	refused("what is no snapshot", client.Snapshot().Restore(nil, strings.NewReader("not an archive")))
	want("the value after a refusal", string(read(client.KV().Get("snapshot", nil)).Value), "1")
}
