package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"sort"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Puts of one transaction of fill: etcd's default limit.
const batch = 128

// What a load reached. Latencies are in microseconds.
type result struct {
	Requests int     `json:"requests"`
	Errors   int     `json:"errors"`
	Seconds  float64 `json:"seconds"`
	Median   int64   `json:"p50"`
	P99      int64   `json:"p99"`
	P999     int64   `json:"p999"`
}

func key(n int) string { return fmt.Sprintf("bench/%07d", n) }

func fail(err error) {
	fmt.Fprintln(os.Stderr, "etcd-bench:", err)
	os.Exit(1)
}

func connect(endpoint string) *clientv3.Client {
	client, err := clientv3.New(clientv3.Config{Endpoints: strings.Split(endpoint, ","), DialTimeout: 10 * time.Second})
	if err != nil {
		fail(err)
	}
	return client
}

// Asks for one thing over and over on every connection, each waiting for its answer before the next request.
func load(args []string) {
	flags := flag.NewFlagSet("load", flag.ExitOnError)
	endpoint := flags.String("endpoint", "", "which server")
	op := flags.String("op", "put", "put, get (linearizable) or serializable")
	connections := flags.Int("connections", 64, "connections, with one request each at a time")
	seconds := flags.Float64("seconds", 3, "how long")
	keys := flags.Int("keys", 20000, "how many keys are gone through")
	size := flags.Int("size", 128, "bytes of a value")
	flags.Parse(args)

	clients := make([]*clientv3.Client, *connections)
	for i := range clients {
		clients[i] = connect(*endpoint)
		// Opens the connection, so that the load does not count it.
		if _, err := clients[i].Get(context.Background(), "bench/", clientv3.WithSerializable()); err != nil {
			fail(err)
		}
	}
	value := strings.Repeat("x", *size)
	var request func(*clientv3.Client, string) error
	switch *op {
	case "put":
		request = func(c *clientv3.Client, key string) error {
			_, err := c.Put(context.Background(), key, value)
			return err
		}
	case "get":
		request = func(c *clientv3.Client, key string) error {
			_, err := c.Get(context.Background(), key)
			return err
		}
	case "serializable":
		request = func(c *clientv3.Client, key string) error {
			_, err := c.Get(context.Background(), key, clientv3.WithSerializable())
			return err
		}
	default:
		fail(fmt.Errorf("unknown -op %q", *op))
	}
	taken := make([][]int64, *connections)
	failed := make([]int, *connections)
	start := time.Now()
	end := start.Add(time.Duration(*seconds * float64(time.Second)))
	var running sync.WaitGroup
	for i, client := range clients {
		running.Add(1)
		go func() {
			defer running.Done()
			for n, began := i, time.Now(); began.Before(end); n += *connections {
				err := request(client, key(n%*keys))
				now := time.Now()
				if err != nil {
					failed[i]++
				} else {
					taken[i] = append(taken[i], now.Sub(began).Microseconds())
				}
				began = now
			}
		}()
	}
	running.Wait()
	report(time.Since(start), taken, failed)
}

func report(took time.Duration, taken [][]int64, failed []int) {
	var all []int64
	errors := 0
	for i := range taken {
		all = append(all, taken[i]...)
		errors += failed[i]
	}
	sort.Slice(all, func(a, b int) bool { return all[a] < all[b] })
	at := func(part float64) int64 {
		if len(all) == 0 {
			return 0
		}
		return all[min(int(float64(len(all))*part), len(all)-1)]
	}
	out, err := json.Marshal(result{len(all), errors, took.Seconds(), at(0.5), at(0.99), at(0.999)})
	if err != nil {
		fail(err)
	}
	fmt.Println(string(out))
}

// Puts a range of keys, many in a transaction.
func fill(args []string) {
	flags := flag.NewFlagSet("fill", flag.ExitOnError)
	endpoint := flags.String("endpoint", "", "which server")
	from := flags.Int("from", 0, "first key")
	to := flags.Int("to", 20000, "after the last key")
	size := flags.Int("size", 128, "bytes of a value")
	flags.Parse(args)
	client := connect(*endpoint)
	value := strings.Repeat("x", *size)
	work := make(chan int)
	var running sync.WaitGroup
	for range 16 {
		running.Add(1)
		go func() {
			defer running.Done()
			for first := range work {
				var puts []clientv3.Op
				for n := first; n < min(first+batch, *to); n++ {
					puts = append(puts, clientv3.OpPut(key(n), value))
				}
				if _, err := client.Txn(context.Background()).Then(puts...).Commit(); err != nil {
					fail(err)
				}
			}
		}()
	}
	for first := *from; first < *to; first += batch {
		work <- first
	}
	close(work)
	running.Wait()
}

// Ends with 0 if the server leads.
func leads(args []string) {
	flags := flag.NewFlagSet("leads", flag.ExitOnError)
	endpoint := flags.String("endpoint", "", "which server")
	flags.Parse(args)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	status, err := connect(*endpoint).Status(ctx, *endpoint)
	if err != nil {
		fail(err)
	}
	if status.Leader != status.Header.MemberId {
		fail(fmt.Errorf("%s does not lead", *endpoint))
	}
}
