//! Which loopback address each agent has for life.

use std::net::Ipv4Addr;

use crate::plan::{MAX_SERVERS, Mode};

/// Address of the first server unless another is asked for: server A of the manual.
pub const BASE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);

/// Addresses from the first server's to the first client's: every possible server has one below.
const CLIENTS_FROM: u32 = 10;
const _: () = assert!(CLIENTS_FROM as usize >= MAX_SERVERS);

/// Most clients that a spec can ask for.
const CLIENTS_MAX: u32 = 200;

/// A base that leaves the loopback network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} is no base for agents: it and the {n} addresses after it must be in 127.0.0.0/8", n = CLIENTS_FROM + CLIENTS_MAX)]
pub struct NotLoopback(pub Ipv4Addr);

/// Checks that all addresses that may be needed are loopback addresses: agents have neither passwords nor encryption here.
///
/// # Errors
/// The base reaches beyond 127.0.0.0/8.
pub fn check(base: Ipv4Addr) -> Result<(), NotLoopback> {
    let last = u32::from(base)
        .checked_add(CLIENTS_FROM + CLIENTS_MAX)
        .map(Ipv4Addr::from);
    if base.is_loopback() && last.is_some_and(|last| last.is_loopback()) {
        Ok(())
    } else {
        Err(NotLoopback(base))
    }
}

/// Address of the server or client of that number: servers from `base` on, clients from ten above.
pub fn address(base: Ipv4Addr, mode: Mode, number: usize) -> Ipv4Addr {
    let offset = u32::try_from(number)
        .unwrap_or(CLIENTS_MAX)
        .min(CLIENTS_MAX);
    let from = match mode {
        Mode::Server => 0,
        Mode::Client => CLIENTS_FROM,
    };
    Ipv4Addr::from(u32::from(base).saturating_add(from + offset))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_where_the_manual_has_them_and_clients_do_not_collide() {
        assert_eq!(address(BASE, Mode::Server, 0), Ipv4Addr::new(127, 0, 0, 1));
        assert_eq!(address(BASE, Mode::Server, 2), Ipv4Addr::new(127, 0, 0, 3));
        assert_eq!(address(BASE, Mode::Client, 0), Ipv4Addr::new(127, 0, 0, 11));
        assert!(address(BASE, Mode::Server, MAX_SERVERS - 1) < address(BASE, Mode::Client, 0));
    }

    #[test]
    fn a_base_outside_loopback_is_refused() {
        assert!(check(BASE).is_ok() && check(Ipv4Addr::new(127, 8, 3, 1)).is_ok());
        for base in [[10, 0, 0, 1], [126, 255, 255, 200], [127, 255, 255, 200]] {
            assert!(check(Ipv4Addr::from(base)).is_err(), "{base:?}");
        }
    }
}
