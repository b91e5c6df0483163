//! Work that takes long, away from the thread that answers heartbeats.

use std::io;

/// Does `work` on a thread for such work, or right here where there may be no threads (a simulated disk).
///
/// Not cancel safe: dropped, the work goes on to its end.
pub(crate) async fn off_loop<T: Send + 'static>(
    threads: bool,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    if threads {
        tokio::task::spawn_blocking(work)
            .await
            .map_err(io::Error::other)
    } else {
        Ok(work())
    }
}
