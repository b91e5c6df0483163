use std::fmt::Write as _;

use super::Standing::{self, Missing, Same};
use super::word;

/// Kinds of names of Consul's DNS: the kind, an example of it in the catalog of the test with `dig`, and the type to ask.
const ROWS: &[(&str, &str, &str, Standing, &str)] = &[
    (
        "`NODE.node[.DC]`",
        "d.node.dc1.consul",
        "A",
        Same,
        "A, AAAA, ANY, TXT of its meta data",
    ),
    (
        "`SERVICE.service[.DC]`",
        "web.service.consul",
        "SRV",
        Same,
        "A, AAAA, SRV, CNAME, ANY; only instances that pass",
    ),
    (
        "`TAG.SERVICE.service[.DC]`",
        "v1.web.service.consul",
        "A",
        Same,
        "",
    ),
    (
        "`_SERVICE._TAG.service[.DC]`",
        "_web._tcp.service.consul",
        "SRV",
        Same,
        "RFC 2782",
    ),
    (
        "`QUERY.query[.DC]`",
        "best.query.consul",
        "A",
        Same,
        "with failover to other datacenters",
    ),
    (
        "`HEX.addr[.DC]`",
        "0a000001.addr.consul",
        "A",
        Same,
        "IPv4 and IPv6",
    ),
    ("the domain itself", "consul", "SOA", Same, "SOA, NS"),
    (
        "reverse names",
        "5.0.0.10.in-addr.arpa",
        "PTR",
        Same,
        "of nodes and services, `ip6.arpa` too",
    ),
    (
        "`SERVICE.connect[.DC]`",
        "web.connect.consul",
        "A",
        Same,
        "proxies and natives of a service",
    ),
    (
        "`SERVICE.ingress[.DC]`",
        "web.ingress.consul",
        "A",
        Same,
        "ingress gateways of a service",
    ),
    (
        "`SERVICE.virtual[.DC]`",
        "web.virtual.consul",
        "A",
        Same,
        "the address that stands for a service of the mesh",
    ),
];

/// Holds every row against a server: `ask` gives the code of an answer, and whether it has records.
#[track_caller]
pub(crate) fn are_as_the_page_says(ask: impl Fn(&str, &str) -> (String, bool)) {
    for (kind, name, of, standing, _) in ROWS {
        let (status, found) = ask(name, of);
        let there = status == "NOERROR" && found;
        assert_eq!(
            there,
            *standing != Missing,
            "{kind}: {name} {of} is {status}"
        );
    }
}

pub(super) fn table(page: &mut String) {
    page.push_str(
        "\n## DNS\nCodes, flags, sections, sizes and settings (`dns_config`, `recursors`) are Consul's; a client \
         agent asks a server each\ntime and keeps no cache.\n\n",
    );
    page.push_str("| name | standing | note |\n| --- | --- | --- |\n");
    for (kind, _, _, standing, note) in ROWS {
        let _ = writeln!(page, "| {kind} | {} | {note} |", word(*standing));
    }
}
