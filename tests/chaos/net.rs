//! A network of namespaces: each server in one of its own, a link between every two of them and from each to the
//! clients. Any direction of any link can be cut, without a word to either side.

use std::net::Ipv4Addr;
use std::process::Command;

/// A hardware address that nobody has.
const NOBODY: &str = "02:00:00:00:00:01";

/// Runs `ip` with these words.
///
/// # Panics
/// When it fails: this test needs root and `ip`.
fn ip(words: &str) {
    let output = Command::new("ip").args(words.split(' ')).output();
    let output = output.unwrap_or_else(|e| panic!("cannot run ip (Debian: iproute2): {e}"));
    assert!(
        output.status.success(),
        "ip {words}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The address of a server, by its number; 0 is the clients'.
pub(crate) fn address(number: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, 100 + number as u8)
}

/// The namespace of a server.
pub(crate) fn namespace(number: usize) -> String {
    format!("s{number}")
}

fn link(from: usize, to: usize) -> String {
    format!("v{from}to{to}")
}

/// `-n NAME ` for a server, nothing for the clients, who are where this process is.
fn within(number: usize) -> String {
    match number {
        0 => String::new(),
        number => format!("-n {} ", namespace(number)),
    }
}

/// Makes the network for servers 1 to `servers`, in a namespace of this process alone.
pub(crate) fn make(servers: usize) {
    ip("link set lo up");
    for number in 1..=servers {
        ip(&format!("netns add {}", namespace(number)));
    }
    for number in 0..=servers {
        let within = within(number);
        ip(&format!("{within}link set lo up"));
        ip(&format!("{within}addr add {}/32 dev lo", address(number)));
    }
    for one in 0..=servers {
        for other in one + 1..=servers {
            connect(one, other);
        }
    }
}

fn connect(one: usize, other: usize) {
    let there = match one {
        0 => String::new(),
        number => format!(" netns {}", namespace(number)),
    };
    ip(&format!(
        "link add name {}{there} type veth peer name {} netns {}",
        link(one, other),
        link(other, one),
        namespace(other)
    ));
    for (from, to) in [(one, other), (other, one)] {
        ip(&format!("{}link set {} up", within(from), link(from, to)));
    }
    for (from, to) in [(one, other), (other, one)] {
        ip(&format!(
            "{}route add {}/32 dev {} src {}",
            within(from),
            address(to),
            link(from, to),
            address(from)
        ));
    }
}

/// From now on nothing that `from` sends reaches `to`: it goes to a neighbour that is not there.
pub(crate) fn cut(from: usize, to: usize) {
    ip(&format!(
        "{}neigh replace {} lladdr {NOBODY} dev {} nud permanent",
        within(from),
        address(to),
        link(from, to)
    ));
}

/// What `from` sends reaches `to` again.
pub(crate) fn heal(from: usize, to: usize) {
    ip(&format!(
        "{}neigh del {} dev {}",
        within(from),
        address(to),
        link(from, to)
    ));
}
