// Calls an agent through a Node client. Usage: main.js HOST PORT [TOKEN CA CERTIFICATE KEY], over HTTPS with the latter four.
"use strict";

const assert = require("assert");
const fs = require("fs");
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

// What an agent that asks for tokens and certificates says to others.
async function refused(protection) {
  const get = ({ token, ...rest }) => {
    const consul = new Consul({ ...rest, defaults: token ? { token } : undefined });
    return consul.kv.get("node/kv/a");
  };
  const { token, ca, cert, key, ...rest } = protection;
  const without = { ...rest, ca, cert, key };
  await assert.rejects(get(without), { statusCode: 403 });
  await assert.rejects(get({ ...without, token: "wrong" }), { statusCode: 403 });
  await assert.rejects(get({ ...rest, token, cert, key }), /unable to verify|self.signed certificate/);
  await assert.rejects(get({ ...rest, token, ca }), /certificate required|ECONNRESET|EPIPE|socket hang up/);
}

async function main() {
  const [host, port, token, ...files] = process.argv.slice(2);
  let how = { host, port };
  if (token) {
    const [ca, cert, key] = files.map((file) => fs.readFileSync(file));
    how = { host, port, secure: true, token, ca, cert, key };
    await refused(how);
    console.log("refused: ok");
  }
  const consul = new Consul({ ...how, defaults: token ? { token } : undefined });
  for (const [name, part] of Object.entries(parts)) {
    await part(consul);
    console.log(`${name}: ok`);
  }
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
