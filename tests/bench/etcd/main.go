// The peer that the benchmark measures against: etcd's server, and a load on it through etcd's own client.
//
// `etcd-bench serve ARGS` is etcd with etcd's flags. `etcd-bench load FLAGS` drives a cluster and prints one line of
// JSON. etcd's own `benchmark` tool cannot be a dependency: it is not published as a module.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() {
	verb := ""
	if len(os.Args) > 1 {
		verb = os.Args[1]
	}
	switch verb {
	case "serve":
		etcdmain.Main(append([]string{"etcd"}, os.Args[2:]...))
	case "load":
		load(os.Args[2:])
	case "leads":
		leads(os.Args[2:])
	case "fill":
		fill(os.Args[2:])
	default:
		os.Stderr.WriteString("usage: etcd-bench serve|load|fill|leads FLAGS\n")
		os.Exit(2)
	}
}
