"""Calls an agent through a Python client.

Usage: main.py HOST PORT [TOKEN CA CERTIFICATE KEY], over HTTPS with the latter four.
"""

import sys
import threading

import consul
import requests


def kv(client):
    assert client.kv.put("py/kv/a", "1", flags=7)
    index, entry = client.kv.get("py/kv/a")
    assert entry["Value"] == b"1" and entry["Flags"] == 7, entry
    assert not client.kv.put("py/kv/a", "2", cas=int(index) + 1)
    assert client.kv.put("py/kv/a", "2", cas=entry["ModifyIndex"])
    assert client.kv.get("py/kv/", keys=True)[1] == ["py/kv/a"]
    assert client.kv.get("py/none")[1] is None


def blocking(client):
    client.kv.put("py/blocking", "1")
    index, _ = client.kv.get("py/blocking")
    found = []

    def wait():
        found.append(client.kv.get("py/blocking", index=index, wait="10m")[1]["Value"])

    waiter = threading.Thread(target=wait)
    waiter.start()
    client.kv.put("py/blocking", "2")
    waiter.join()
    assert found == [b"2"], found


def txn(client):
    results = client.txn.put(
        [
            {"KV": {"Verb": "set", "Key": "py/txn", "Value": "MQ=="}},
            {"KV": {"Verb": "get", "Key": "py/txn"}},
        ]
    )
    assert results["Results"][1]["KV"]["Value"] == "MQ==", results


def sessions(client):
    session = client.session.create(ttl=10, behavior="delete", lock_delay=0)
    assert client.kv.put("py/lock", "x", acquire=session)
    assert client.kv.get("py/lock")[1]["Session"] == session
    client.session.renew(session)
    client.session.destroy(session)
    assert client.kv.get("py/lock")[1] is None


def catalog(client):
    client.catalog.register(
        "py-node", "10.2.2.2", service={"Service": "py-web", "Port": 80, "Tags": ["v1"]}
    )
    _, nodes = client.health.service("py-web", passing=True, tag="v1")
    assert [entry["Node"]["Node"] for entry in nodes] == ["py-node"], nodes
    assert "py-web" in client.catalog.services()[1]
    client.catalog.deregister("py-node")
    assert client.catalog.service("py-web")[1] == []


def status(client):
    assert client.status.leader()
    assert len(client.status.peers()) == 3


def itself(client):
    assert client.agent.self()["Config"]["Datacenter"] == "dc1"


def refused(host, port, ca, certificate):
    """What an agent that asks for tokens and certificates says to others."""

    def get(**how):
        client = consul.Consul(host=host, port=port, scheme="https", **how)
        return client.kv.get("py/kv/a")

    for token, reason in ((None, "Permission denied"), ("wrong", "ACL not found")):
        try:
            get(token=token, verify=ca, cert=certificate)
            raise AssertionError(f"taken with the token {token}")
        except consul.ACLPermissionDenied as error:
            assert reason in str(error), error
    try:
        get(cert=certificate)
        raise AssertionError("it trusts a stranger")
    except requests.exceptions.SSLError as error:
        assert "CERTIFICATE_VERIFY_FAILED" in str(error), error
    try:
        get(verify=ca)
        raise AssertionError("taken without a certificate")
    except requests.exceptions.ConnectionError:
        pass


def main():
    host, port, *protection = sys.argv[1:]
    port = int(port)
    how = {}
    parts = [kv, blocking, txn, sessions, catalog, status, itself]
    if protection:
        token, ca, certificate, key = protection
        refused(host, port, ca, (certificate, key))
        print("refused: ok")
        how = {"scheme": "https", "token": token, "verify": ca, "cert": (certificate, key)}
        # With these this client sends no token.
        parts.remove(txn)
        parts.remove(itself)
    client = consul.Consul(host=host, port=port, **how)
    for part in parts:
        part(client)
        print(f"{part.__name__}: ok")


main()
