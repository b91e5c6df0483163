// Calls an agent through a Node client. Usage: main.js HOST PORT
"use strict";

const assert = require("assert");
const Consul = require("consul");

const parts = {
  async kv(consul) {
    assert(await consul.kv.set("node/kv/a", "1"));
    const entry = await consul.kv.get("node/kv/a");
    assert.strictEqual(entry.Value, "1");
    assert(!(await consul.kv.set({ key: "node/kv/a", value: "2", cas: "1" })));
    assert.deepStrictEqual(await consul.kv.keys("node/kv/"), ["node/kv/a"]);
    await consul.kv.del("node/kv/a");
    assert.strictEqual(await consul.kv.get("node/kv/a"), undefined);
  },

  async transaction(consul) {
    const done = await consul.transaction.create([
      { KV: { Verb: "set", Key: "node/txn", Value: "MQ==" } },
      { KV: { Verb: "get", Key: "node/txn" } },
    ]);
    assert.strictEqual(done.Results[1].KV.Value, "MQ==");
  },

  async session(consul) {
    const session = await consul.session.create({ ttl: "10s", lockdelay: "0s" });
    assert(await consul.kv.set({ key: "node/lock", value: "x", acquire: session.ID }));
    await consul.session.renew(session.ID);
    await consul.session.destroy(session.ID);
  },

  async watch(consul) {
    await consul.kv.set("node/watch", "1");
    const watch = consul.watch({ method: consul.kv.get, options: { key: "node/watch" } });
    await new Promise((resolve, reject) => {
      watch.on("error", reject);
      watch.on("change", (entry) => {
        if (entry.Value === "2") return resolve();
        consul.kv.set("node/watch", "2").catch(reject);
      });
    });
    watch.end();
  },

  async status(consul) {
    assert(await consul.status.leader());
    assert.strictEqual((await consul.status.peers()).length, 3);
    assert((await consul.catalog.node.list()).length >= 3);
    assert((await consul.agent.members()).length >= 3);
  },
};

async function main() {
  const [host, port] = process.argv.slice(2);
  const consul = new Consul({ host, port });
  for (const [name, part] of Object.entries(parts)) {
    await part(consul);
    console.log(`${name}: ok`);
  }
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
