//! What defaults depend on: the host's name and addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::path::PathBuf;

/// Facts about the machine that the defaults of a configuration are made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// The host's name; empty when unknown.
    pub hostname: String,
    /// Private IPv4 addresses (RFC 1918, RFC 6598) of its interfaces, sorted.
    pub private_ipv4: Vec<Ipv4Addr>,
    /// Public IPv6 addresses of its interfaces, sorted.
    pub public_ipv6: Vec<Ipv6Addr>,
    /// A folder that does not exist yet, for an agent whose data need not outlive it.
    pub temporary_dir: PathBuf,
}

impl Machine {
    /// Asks the machine that this process runs on.
    pub fn detect() -> Self {
        let hostname = rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned();
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let mut ipv4 = local_ipv4(&read("/proc/net/fib_trie"));
        if ipv4.is_empty() {
            ipv4.extend(outgoing_ipv4());
        }
        ipv4.retain(is_private);
        let mut ipv6 = local_ipv6(&read("/proc/net/if_inet6"));
        ipv6.retain(is_public);
        Self {
            hostname,
            private_ipv4: ipv4,
            public_ipv6: ipv6,
            temporary_dir: std::env::temp_dir().join(format!("agent-dev-{}", std::process::id())),
        }
    }
}

/// Addresses that Linux lists as local: a host route follows each in the table.
fn local_ipv4(fib_trie: &str) -> Vec<Ipv4Addr> {
    let mut found = Vec::new();
    let mut last: Option<Ipv4Addr> = None;
    for line in fib_trie.lines() {
        let line = line.trim();
        if let Some(address) = line.strip_prefix("|-- ") {
            last = address.parse().ok();
        } else if line.starts_with("/32 host LOCAL") {
            found.extend(last);
        }
    }
    found.sort();
    found.dedup();
    found
}

/// Addresses of Linux's table of interfaces: 32 hexadecimal digits, then index, prefix, scope, flags, name.
fn local_ipv6(if_inet6: &str) -> Vec<Ipv6Addr> {
    let mut found: Vec<_> = if_inet6
        .lines()
        .filter_map(|line| u128::from_str_radix(line.split(' ').next()?, 16).ok())
        .map(Ipv6Addr::from)
        .collect();
    found.sort();
    found.dedup();
    found
}

/// Where there is no such table: the address that the system would send from. Connecting a datagram socket sends nothing.
fn outgoing_ipv4() -> Option<Ipv4Addr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    // TEST-NET-1 (RFC 5737): routed like any other address, owned by nobody.
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    match socket.local_addr().ok()?.ip() {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}

fn is_private(address: &Ipv4Addr) -> bool {
    let [a, b, ..] = address.octets();
    address.is_private() || (a == 100 && (64..128).contains(&b))
}

fn is_public(address: &Ipv6Addr) -> bool {
    address.segments()[0] & 0xe000 == 0x2000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_addresses_are_read_from_the_route_table() {
        let table = "Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 10.2.0.0/16 2 0 2
        |-- 10.2.0.0
           /16 link UNICAST
        |-- 10.2.0.15
           /32 host LOCAL
        |-- 10.2.255.255
           /32 link BROADCAST
     |-- 127.0.0.1
        /32 host LOCAL
Local:
        |-- 10.2.0.15
           /32 host LOCAL
";
        let wanted = [Ipv4Addr::new(10, 2, 0, 15), Ipv4Addr::LOCALHOST];
        assert_eq!(local_ipv4(table), wanted);
        assert!(is_private(&wanted[0]) && !is_private(&wanted[1]));
        assert!(is_private(&Ipv4Addr::new(100, 64, 0, 1)));
        assert!(!is_private(&Ipv4Addr::new(100, 128, 0, 1)));
    }

    #[test]
    fn ipv6_addresses_are_read_from_the_interface_table() {
        let table = "00000000000000000000000000000001 01 80 10 80       lo
20010db8000000000000000000000005 02 40 00 80     eth0
fe800000000000000042acfffe110002 02 40 20 80     eth0\n";
        let public: Vec<_> = local_ipv6(table).into_iter().filter(is_public).collect();
        assert_eq!(public, ["2001:db8::5".parse::<Ipv6Addr>().expect("valid")]);
    }
}
