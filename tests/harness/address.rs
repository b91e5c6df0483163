use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};

/// Port that marks a block as taken. Nothing else listens on it.
const LOCK_PORT: u16 = 8999;

/// How many addresses of a block are checked for leftovers of an earlier run.
const CHECKED_HOSTS: u8 = 8;

/// The loopback addresses `127.X.Y.1` to `127.X.Y.250`, for one test alone.
///
/// All of 127.0.0.0/8 is the machine itself on Linux, so every server of every test can use the default ports, and
/// tests run side by side. A bound socket is the lock: the kernel gives it back however the test ends.
pub struct Block {
    prefix: [u8; 3],
    _lock: TcpListener,
}

impl Block {
    /// Takes a free block.
    ///
    /// # Panics
    /// When there is none.
    pub fn take() -> Self {
        let start = std::process::id().wrapping_mul(0x9E37_79B9) >> 16;
        for step in 0..0x7F00 {
            // 127.64.0 and up: lower ones are what people use by hand.
            let number = (start + step) % 0xBF00;
            let prefix = [127, 64 + (number >> 8) as u8, number as u8];
            if let Some(block) = Self::try_take(prefix) {
                return block;
            }
        }
        panic!(
            "no free block of loopback addresses: are agents of earlier test runs still running?"
        );
    }

    fn try_take(prefix: [u8; 3]) -> Option<Self> {
        let lock = TcpListener::bind((address(prefix, 254), LOCK_PORT)).ok()?;
        // The lock of a test that was killed is free again, but its agents may have outlived it.
        let free = (1..=CHECKED_HOSTS).all(|host| {
            let ip = address(prefix, host);
            UdpSocket::bind((ip, 8301)).is_ok() && TcpListener::bind((ip, 8500)).is_ok()
        });
        free.then_some(Self {
            prefix,
            _lock: lock,
        })
    }

    /// The address that ends in `host`.
    pub fn ip(&self, host: u8) -> Ipv4Addr {
        address(self.prefix, host)
    }

    /// A socket address of `host`.
    pub fn socket(&self, host: u8, port: u16) -> SocketAddr {
        SocketAddr::from((self.ip(host), port))
    }

    /// `text` with this block's addresses written as in the manual: `127.0.0.N`.
    pub fn as_in_manual(&self, text: &str) -> String {
        let [a, b, c] = self.prefix;
        text.replace(&format!("{a}.{b}.{c}."), "127.0.0.")
    }
}

fn address([a, b, c]: [u8; 3], host: u8) -> Ipv4Addr {
    Ipv4Addr::new(a, b, c, host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_not_handed_out_twice() {
        let first = Block::take();
        let second = Block::take();
        assert_ne!(first.prefix, second.prefix);
        assert!(Block::try_take(first.prefix).is_none());
    }

    #[test]
    fn a_block_with_a_leftover_agent_is_passed_over() {
        let block = Block::take();
        let prefix = block.prefix;
        let _leftover = UdpSocket::bind(block.socket(3, 8301)).expect("free");
        drop(block);
        assert!(Block::try_take(prefix).is_none());
    }

    #[test]
    fn addresses_read_as_in_the_manual() {
        let block = Block::take();
        let line = format!("Added peer {}:8300", block.ip(2));
        assert_eq!(block.as_in_manual(&line), "Added peer 127.0.0.2:8300");
    }
}
