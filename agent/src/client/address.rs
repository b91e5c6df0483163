//! Where an agent's HTTP API is, as people write it. Pure.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Default port of the HTTP API.
const HTTP_PORT: u16 = 8500;
/// Port of the HTTPS API where none is given: the one that Consul's documentation gives it.
const HTTPS_PORT: u16 = 8501;

/// Where an agent's HTTP API listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A host name or an address, without brackets, and a port.
    Tcp {
        /// Name or address.
        host: String,
        /// Port.
        port: u16,
    },
    /// The same, and TLS is spoken there.
    Tls {
        /// Name or address.
        host: String,
        /// Port.
        port: u16,
    },
    /// A Unix socket.
    Unix(PathBuf),
}

impl Address {
    /// The same place with TLS, which a Unix socket has none of.
    #[must_use]
    pub(super) fn secured(self) -> Self {
        match self {
            Address::Tcp { host, port } => Address::Tls { host, port },
            other => other,
        }
    }
}

/// Why an address cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Not one of the forms that are understood.
    #[error(
        "invalid address {address:?}: {reason}; expected HOST:PORT, http://HOST:PORT, https://HOST:PORT or unix://PATH"
    )]
    Invalid {
        /// As given.
        address: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A token or password with characters that cannot be sent.
    #[error("the value for the header {name} has characters that cannot be sent")]
    Header {
        /// The header.
        name: &'static str,
    },
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let invalid = |reason| AddressError::Invalid {
            address: text.to_owned(),
            reason,
        };
        if let Some(path) = text.strip_prefix("unix://") {
            return match path {
                "" => Err(invalid("it has no path")),
                path => Ok(Address::Unix(path.into())),
            };
        }
        let (rest, secured) = match text.strip_prefix("https://") {
            Some(rest) => (rest, true),
            None => (text.strip_prefix("http://").unwrap_or(text), false),
        };
        if rest.contains("://") {
            return Err(invalid("unknown scheme"));
        }
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let default = if secured { HTTPS_PORT } else { HTTP_PORT };
        let split = split_port(rest, default);
        let (host, port) = split.ok_or_else(|| invalid("the port is not a number"))?;
        if host.is_empty() || host.contains(|c: char| c.is_whitespace() || "/?#@".contains(c)) {
            return Err(invalid("it has no usable host"));
        }
        let host = host.to_owned();
        Ok(match secured {
            true => Address::Tls { host, port },
            false => Address::Tcp { host, port },
        })
    }
}

/// Host without brackets, and port; a lone IPv6 address has no port.
fn split_port(text: &str, default: u16) -> Option<(&str, u16)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, after) = rest.split_once(']')?;
        return match after.strip_prefix(':') {
            Some(port) => Some((host, port.parse().ok()?)),
            None if after.is_empty() => Some((host, default)),
            None => None,
        };
    }
    match text.split_once(':') {
        Some((_, port)) if port.contains(':') => Some((text, default)),
        Some(("", port)) => Some(("127.0.0.1", port.parse().ok()?)),
        Some((host, port)) => Some((host, port.parse().ok()?)),
        None => Some((text, default)),
    }
}

impl Address {
    /// `HOST:PORT`, with brackets around an IPv6 address.
    fn host_and_port(host: &str, port: u16) -> String {
        match host.contains(':') {
            true => format!("[{host}]:{port}"),
            false => format!("{host}:{port}"),
        }
    }

    /// The value of the `Host` header.
    pub(super) fn host_header(&self) -> String {
        match self {
            Address::Tcp { host, port } | Address::Tls { host, port } => {
                Self::host_and_port(host, *port)
            }
            Address::Unix(_) => "localhost".to_owned(),
        }
    }

    /// What stands before the path in a URL.
    pub(super) fn base_url(&self) -> String {
        match self {
            Address::Tcp { host, port } => format!("http://{}", Self::host_and_port(host, *port)),
            Address::Tls { host, port } => format!("https://{}", Self::host_and_port(host, *port)),
            Address::Unix(path) => format!("unix://{}", path.display()),
        }
    }

    /// How Go names it when a connection fails.
    pub(super) fn place(&self) -> String {
        match self {
            Address::Tcp { host, port } | Address::Tls { host, port } => {
                format!("tcp {}", Self::host_and_port(host, *port))
            }
            Address::Unix(path) => format!("unix {}", path.display()),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.base_url())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_people_write_them() {
        let tcp = |host: &str, port| {
            Ok(Address::Tcp {
                host: host.into(),
                port,
            })
        };
        let tls = |host: &str, port| {
            Ok(Address::Tls {
                host: host.into(),
                port,
            })
        };
        for (text, wanted) in [
            ("127.0.0.1:8500", tcp("127.0.0.1", 8500)),
            ("127.0.0.1", tcp("127.0.0.1", 8500)),
            (":8501", tcp("127.0.0.1", 8501)),
            ("http://consul.local:80/", tcp("consul.local", 80)),
            ("https://[::1]", tls("::1", 8501)),
            ("https://a.b:1/", tls("a.b", 1)),
            ("[::1]:8500", tcp("::1", 8500)),
            ("::1", tcp("::1", 8500)),
            (
                "unix:///run/a.sock",
                Ok(Address::Unix("/run/a.sock".into())),
            ),
        ] {
            assert_eq!(text.parse::<Address>(), wanted, "{text}");
        }
    }

    #[test]
    fn unusable_addresses_are_refused_with_a_sentence() {
        for (text, wanted) in [
            (
                "a:b",
                "invalid address \"a:b\": the port is not a number; expected HOST:PORT, http://HOST:PORT, https://HOST:PORT or unix://PATH",
            ),
            (
                "ftp://a",
                "invalid address \"ftp://a\": unknown scheme; expected HOST:PORT, http://HOST:PORT, https://HOST:PORT or unix://PATH",
            ),
            (
                "",
                "invalid address \"\": it has no usable host; expected HOST:PORT, http://HOST:PORT, https://HOST:PORT or unix://PATH",
            ),
        ] {
            assert_eq!(
                text.parse::<Address>().expect_err("unusable").to_string(),
                wanted
            );
        }
    }
}
