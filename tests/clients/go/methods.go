package main

import (
	"fmt"
	"os"
	"reflect"
	"regexp"
	"sort"
	"strings"

	"github.com/hashicorp/consul/api"
)

// Why a method of the client is not run here. An entry that ends in a dot stands for every method of that type.
var notRun = map[string]string{
	// What Consul sells, and its community edition does not answer.
	"Namespaces.":               enterprise,
	"Partitions.":               enterprise,
	"Operator.AreaCreate":       enterprise,
	"Operator.AreaDelete":       enterprise,
	"Operator.AreaGet":          enterprise,
	"Operator.AreaJoin":         enterprise,
	"Operator.AreaList":         enterprise,
	"Operator.AreaMembers":      enterprise,
	"Operator.AreaUpdate":       enterprise,
	"Operator.AuditHash":        enterprise,
	"Operator.LicenseGet":       enterprise,
	"Operator.LicenseGetSigned": enterprise,
	"Operator.LicensePut":       enterprise,
	"Operator.LicenseReset":     enterprise,
	"Operator.SegmentList":      enterprise,

	"Debug.": "profiles of the Go runtime, which is not there; 404 as without enable_debug",

	"ACL.Create":              legacy,
	"ACL.Update":              legacy,
	"ACL.Destroy":             legacy,
	"ACL.Clone":               legacy,
	"ACL.Info":                legacy,
	"ACL.List":                legacy,
	"ACL.RulesTranslate":      legacy,
	"ACL.RulesTranslateToken": legacy,
	"ACL.OIDCAuthURL":         enterprise,
	"ACL.OIDCCallback":        enterprise,

	"Peerings.": "cluster peering is off here, and refused as in Consul where it is",
}

const (
	enterprise = "Consul Enterprise"
	legacy     = "tokens of before Consul 1.4, of which it knows no endpoint any more"
)

// What only gives access to the methods of a type, or sets something of the client itself.
var access = regexp.MustCompile(`^Client\.(ACL|Debug|DiscoveryChain|Internal|Namespaces|Partitions|Peerings|Headers|AddHeader|SetHeaders)$`)

// all lists the methods of the client and of everything that it gives out: "KV.Get".
func all() []string {
	var names []string
	client := reflect.TypeOf(&api.Client{})
	types := map[reflect.Type]bool{client: true}
	for at := range client.NumMethod() {
		method := client.Method(at).Type
		for out := range method.NumOut() {
			if given := method.Out(out); given.Kind() == reflect.Pointer && given.Elem().PkgPath() == client.Elem().PkgPath() {
				types[given] = true
			}
		}
	}
	for of := range types {
		// What an answer is made of has no way back to the agent.
		if strings.HasSuffix(of.Elem().Name(), "Meta") {
			continue
		}
		for at := range of.NumMethod() {
			names = append(names, of.Elem().Name()+"."+of.Method(at).Name)
		}
	}
	sort.Strings(names)
	return names
}

// methods compares what was run, as Go's own coverage tells (`go tool covdata func`), with what there is.
func methods(file string) {
	line := regexp.MustCompile(`(?m):\s+\*?(\w+\.\w+)\s+([0-9.]+)%`)
	run := map[string]bool{}
	for _, found := range line.FindAllStringSubmatch(string(one(os.ReadFile(file))), -1) {
		run[found[1]] = run[found[1]] || found[2] != "0.0"
	}
	var wrong []string
	used := map[string]bool{}
	count := map[string]int{}
	for _, name := range all() {
		family, _, _ := strings.Cut(name, ".")
		key := name
		if notRun[key] == "" {
			key = family + "."
		}
		reason := notRun[key]
		used[key] = true
		ran, known := run[name]
		switch {
		case access.MatchString(name):
		case !known:
			wrong = append(wrong, name+": nothing is known of it, was the program built with -cover?")
		case ran && reason != "":
			wrong = append(wrong, name+": is run, but listed as "+reason)
		case !ran && reason == "":
			wrong = append(wrong, name+": is not run, and nothing says why")
		case ran:
			count["run"]++
		default:
			count[reason]++
		}
	}
	for name, reason := range notRun {
		if !used[name] {
			wrong = append(wrong, name+": listed as "+reason+", but there is no such method")
		}
	}
	if len(wrong) > 0 {
		sort.Strings(wrong)
		fail("\n%s", strings.Join(wrong, "\n"))
	}
	fmt.Fprintln(os.Stderr, "methods of the client:", count)
}

// refusals runs what the client answers by itself: calls that Consul has no endpoint for any more.
func refusals(client *api.Client) {
	agent := client.Agent()
	for _, old := range []func(string, *api.WriteOptions) (*api.WriteMeta, error){
		agent.UpdateACLToken, agent.UpdateACLAgentToken, agent.UpdateACLAgentMasterToken, agent.UpdateACLReplicationToken,
	} {
		want("the refusal", second(old("x", nil)), "Legacy ACL Tokens were deprecated in Consul 1.4")
	}
}
