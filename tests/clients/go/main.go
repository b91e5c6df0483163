// Calls an agent through Consul's own Go client, and says what did not come out as it should.
//
// Usage:
//
//	clients calls ADDRESS            every call that changes nobody's membership
//	clients membership ADDRESS...    those that do: see membership.go
//	clients acl ADDRESS              tokens, of an agent that asks for them and has none yet
//	clients protected ADDRESS...     calls over HTTPS with a token: see protected.go
//	clients methods FILE             which methods of the client were run: see methods.go
package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/hashicorp/consul/api"
)

// Every part is told apart in the output, and one that fails does not keep the others from being tried.
var parts = []part{
	{"kv", kv},
	{"txn", txn},
	{"sessions", sessions},
	{"locks", locks},
	{"locks that are lost", lostLocks},
	{"semaphores", semaphores},
	{"catalog", catalog},
	{"proxies", proxies},
	{"health", health},
	{"blocking", blocking},
	{"raw", raw},
	{"status", status},
	{"raft", raft},
	{"autopilot", autopilot},
	{"agent", agent},
	{"members", members},
	{"monitor", monitor},
	{"services of the agent", services},
	{"checks of the agent", checks},
	{"maintenance", maintenance},
	{"prepared queries", queries},
	{"snapshot", snapshot},
	{"events", events},
	{"coordinates", coordinates},
	{"config entries", configEntries},
	{"intentions", intentions},
	{"intentions by their ends", intentionsByEnds},
	{"mesh", whole(mesh)},
	{"connect", whole(connect)},
	{"what is not in use", closed},
	{"what the client refuses by itself", refusals},
}

type part struct {
	name string
	run  func(*api.Client)
}

func main() {
	if len(os.Args) < 3 {
		fmt.Println("usage: clients calls|membership|acl|protected|methods ...")
		os.Exit(2)
	}
	well := true
	switch rest := os.Args[2:]; os.Args[1] {
	case "calls":
		client := dial(rest[0])
		for _, part := range parts {
			well = try(part.name, func() { part.run(client) }) && well
		}
	case "membership":
		well = try("membership", func() { membership(rest) })
	case "acl":
		well = try("tokens", func() { acl(rest[0]) })
	case "protected":
		well = protected(rest)
	case "methods":
		well = try("methods", func() { methods(rest[0]) })
	default:
		well = try("arguments", func() { fail("no such part: %s", os.Args[1]) })
	}
	if !well {
		os.Exit(1)
	}
}

// failure is what the helpers below end a part with.
type failure struct{ text string }

// try runs a part to its end, and prints what came of it.
func try(name string, run func()) (well bool) {
	defer func() {
		switch stopped := recover().(type) {
		case nil:
			fmt.Printf("%s: ok\n", name)
			well = true
		case failure:
			fmt.Printf("%s: %s\n", name, stopped.text)
		default:
			panic(stopped)
		}
	}()
	run()
	return
}

func dial(address string) *api.Client {
	return one(api.NewClient(&api.Config{Address: address}))
}

func fail(format string, arguments ...any) {
	panic(failure{fmt.Sprintf(format, arguments...)})
}

func check(err error) {
	if err != nil {
		fail("%v", err)
	}
}

// whole is a part that says by an error what did not come out.
func whole(run func(*api.Client) error) func(*api.Client) {
	return func(client *api.Client) { check(run(client)) }
}

// one is the value of a call that must succeed.
func one[T any](value T, err error) T {
	check(err)
	return value
}

// read is the same for calls that tell of the answer, too.
func read[T, M any](value T, _ M, err error) T {
	check(err)
	return value
}

// refused is the text of the error of a call that must not succeed.
func refused(what string, err error) string {
	if err == nil {
		fail("%s was taken", what)
	}
	return err.Error()
}

func want(what string, got, wanted any) {
	if fmt.Sprint(got) != fmt.Sprint(wanted) {
		fail("%s is %v instead of %v", what, got, wanted)
	}
}

// has wants a part of an error's text.
func has(what string, err error, part string) {
	if text := refused(what, err); !strings.Contains(text, part) {
		fail("%s: %q has no %q", what, text, part)
	}
}
