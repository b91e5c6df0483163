package main

import (
	"time"

	"github.com/hashicorp/consul/api"
)

func sessions(client *api.Client) {
	sessions := client.Session()
	self := one(client.Agent().NodeName())
	id := read(sessions.Create(&api.SessionEntry{Name: "go", TTL: "10s", Behavior: api.SessionBehaviorDelete}, nil))
	want("a renewed session", read(sessions.Renew(id, nil)).ID, id)
	info := read(sessions.Info(id, nil))
	want("the TTL", info.TTL, "10s")
	want("the name", info.Name, "go")
	want("the node", info.Node, self)
	want("the lock delay", info.LockDelay, 15*time.Second)
	want("the checks", info.NodeChecks, []string{"serfHealth"})
	bare := read(sessions.CreateNoChecks(&api.SessionEntry{LockDelay: time.Second}, nil))
	want("checks of a session without any", len(read(sessions.Info(bare, nil)).NodeChecks), 0)
	for what, list := range map[string][]*api.SessionEntry{
		"all sessions":      read(sessions.List(nil)),
		"those of the node": read(sessions.Node(self, nil)),
	} {
		found := map[string]bool{}
		for _, entry := range list {
			found[entry.ID] = true
		}
		want(what, found[id] && found[bare], true)
	}

	one(client.KV().Put(&api.KVPair{Key: "go-held"}, nil))
	held := &api.KVPair{Key: "go-held", Session: id}
	want("acquired", read(client.KV().Acquire(held, nil)), true)
	want("acquired by another", read(client.KV().Acquire(&api.KVPair{Key: "go-held", Session: bare}, nil)), false)
	want("the holder", read(client.KV().Get("go-held", nil)).Session, id)
	want("released", read(client.KV().Release(held, nil)), true)
	want("acquired anew", read(client.KV().Acquire(held, nil)), true)

	done := make(chan struct{})
	renewed := make(chan error, 1)
	go func() { renewed <- sessions.RenewPeriodic("10s", bare, nil, done) }()
	close(done)
	// It destroys the session when it is told to end.
	check(<-renewed)
	if left := read(sessions.Info(bare, nil)); left != nil {
		fail("a session that was destroyed: %v", left)
	}
	one(sessions.Destroy(id, nil))
	if left := read(client.KV().Get("go-held", nil)); left != nil {
		fail("the key of a session that deletes: %v", left)
	}
	if gone := read(sessions.Renew(id, nil)); gone != nil {
		fail("a session that was destroyed was renewed: %v", gone)
	}
	text := refused("a TTL of 1 s", third(sessions.Create(&api.SessionEntry{TTL: "1s"}, nil)))
	want("the refusal", text, "Unexpected response code: 500 (Invalid Session TTL '1000000000', must be between [10s=24h0m0s])")
}

func locks(client *api.Client) {
	lock := one(client.LockOpts(&api.LockOptions{Key: "locks/a", SessionTTL: "10s"}))
	lost := one(lock.Lock(nil))
	other := one(client.LockOpts(&api.LockOptions{Key: "locks/a", LockTryOnce: true, LockWaitTime: time.Second}))
	if again := one(other.Lock(nil)); again != nil {
		fail("a lock that is held was given again")
	}
	select {
	case <-lost:
		fail("the lock was lost")
	default:
	}
	want("destroying a lock in use", other.Destroy(), api.ErrLockInUse)

	// Whoever waits gets it when it is free.
	waiter := one(client.LockKey("locks/a"))
	got := make(chan error, 1)
	go func() { got <- second(waiter.Lock(nil)) }()
	check(lock.Unlock())
	check(<-got)
	check(waiter.Unlock())
	check(lock.Destroy())
}

// Whoever holds a lock is told when its session ends.
func lostLocks(client *api.Client) {
	session := read(client.Session().Create(&api.SessionEntry{TTL: "10s"}, nil))
	lock := one(client.LockOpts(&api.LockOptions{Key: "locks/b", Session: session}))
	lost := one(lock.Lock(nil))
	one(client.Session().Destroy(session, nil))
	<-lost
	check(lock.Unlock())
	want("unlocking again", lock.Unlock(), api.ErrLockNotHeld)
}

func semaphores(client *api.Client) {
	semaphore := one(client.SemaphorePrefix("semaphores/a", 2))
	one(semaphore.Acquire(nil))
	two := one(client.SemaphoreOpts(&api.SemaphoreOptions{Prefix: "semaphores/a", Limit: 2}))
	one(two.Acquire(nil))
	three := one(client.SemaphoreOpts(&api.SemaphoreOptions{
		Prefix: "semaphores/a", Limit: 2, SemaphoreTryOnce: true, SemaphoreWaitTime: time.Millisecond,
	}))
	if slot := one(three.Acquire(nil)); slot != nil {
		fail("a third of two places was given")
	}
	check(semaphore.Release())
	if slot := one(three.Acquire(nil)); slot == nil {
		fail("a place that is free was not given")
	}
	want("destroying a semaphore in use", semaphore.Destroy(), api.ErrSemaphoreInUse)
	check(two.Release())
	check(three.Release())
	check(semaphore.Destroy())
	want("what is left of it", len(read(client.KV().List("semaphores/a/", nil))), 0)
}
