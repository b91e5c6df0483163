//! Where the API listens: TCP addresses and Unix sockets.

use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use futures::future::{BoxFuture, FutureExt as _};
use tokio::net::UnixListener;

use crate::config::HttpAddress;
use crate::env::{BoxStream, Listener, Net};

/// The API cannot be reached where it should be.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} for HTTP: {source}")]
pub struct BindError {
    /// Where.
    pub address: HttpAddress,
    /// What the system said.
    pub source: io::Error,
}

/// Listens on every address.
///
/// # Errors
/// At the first one that cannot be had; the others are given up.
pub async fn bind(
    net: &dyn Net,
    addresses: &[HttpAddress],
) -> Result<Vec<Box<dyn Listener>>, BindError> {
    let mut listeners = Vec::with_capacity(addresses.len());
    for address in addresses {
        let listener = match address {
            HttpAddress::Tcp(at) => net.listen(*at).await,
            HttpAddress::Unix(path) => {
                UnixSocket::bind(path).map(|socket| Box::new(socket) as Box<dyn Listener>)
            }
        };
        listeners.push(listener.map_err(|source| BindError {
            address: address.clone(),
            source,
        })?);
    }
    Ok(listeners)
}

/// A listening Unix socket. Its file is removed when it is dropped.
pub struct UnixSocket {
    listener: UnixListener,
    path: PathBuf,
}

/// Stands for the other end of a Unix socket, which has no address.
pub(super) const NO_ADDRESS: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0);

impl UnixSocket {
    /// Listens on `path`, in place of a socket that an earlier process left behind.
    ///
    /// # Errors
    /// When the folder does not allow it, when something that is no socket has this name, or when somebody answers
    /// there.
    pub fn bind(path: &Path) -> io::Result<Self> {
        use std::os::unix::fs::FileTypeExt as _;
        match std::fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => {
                return Err(io::Error::from(io::ErrorKind::AlreadyExists));
            }
            Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
                return Err(io::Error::from(io::ErrorKind::AddrInUse));
            }
            Ok(_) => std::fs::remove_file(path)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        Ok(Self {
            listener: UnixListener::bind(path)?,
            path: path.to_owned(),
        })
    }
}

impl Listener for UnixSocket {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxStream, SocketAddr)>> {
        async move {
            let (stream, _) = self.listener.accept().await?;
            Ok((Box::new(stream) as BoxStream, NO_ADDRESS))
        }
        .boxed()
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(NO_ADDRESS)
    }
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        // Left behind it would only be replaced at the next start.
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_in_use_is_named() {
        use crate::env::RealNet;
        let any = [HttpAddress::Tcp(SocketAddr::from(([127, 0, 0, 1], 0)))];
        let listeners = bind(&RealNet, &any).await.unwrap();
        let taken = listeners[0].local_addr().unwrap();
        let error = bind(&RealNet, &[HttpAddress::Tcp(taken)]).await;
        let text = error.map(drop).unwrap_err().to_string();
        let expected = format!("cannot listen on {taken} for HTTP: Address already in use");
        assert!(text.starts_with(&expected), "{text}");
    }

    #[tokio::test]
    async fn a_socket_replaces_a_dead_one_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.sock");
        let kind = |result: io::Result<UnixSocket>| result.map(drop).unwrap_err().kind();
        // Dropped without its file being removed, as by a crash.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let first = UnixSocket::bind(&path).unwrap();
        assert_eq!(kind(UnixSocket::bind(&path)), io::ErrorKind::AddrInUse);
        drop(first);
        assert!(!path.exists());
        std::fs::write(&path, "precious").unwrap();
        assert_eq!(kind(UnixSocket::bind(&path)), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    }
}
