//! The runtimes that a node lives in.

use std::io;
use std::thread::JoinHandle;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;

/// The runtime of everything but Raft: HTTP, gossip, duties. One thread is enough for them, and cheap.
pub(super) fn main() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

/// A thread with a runtime of its own, for Raft and the server port: no load of requests can hold up a heartbeat
/// there. It ends when this is dropped.
pub(super) struct RaftThread {
    handle: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl RaftThread {
    pub(super) fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("raft".into())
            .spawn(move || {
                raise_priority();
                // An error only says that the other end is gone, which means the same.
                let _ = runtime.block_on(stopped);
            })?;
        Ok(Self {
            handle,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    pub(super) fn handle(&self) -> Handle {
        self.handle.clone()
    }
}

impl Drop for RaftThread {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been printed by itself.
            let _ = thread.join();
        }
    }
}

/// Nice value of the Raft thread, and of the log's writer, which inherits it: they are to run before request handlers,
/// here and in neighbours, when the processors are all busy. Most of their time they wait.
const RAFT_NICE: i32 = -10;

/// Raises the calling thread's priority, where the process may. On Linux "this process" means this thread.
fn raise_priority() {
    if let Err(error) = rustix::process::setpriority_process(None, RAFT_NICE) {
        tracing::debug!(target: "raft", "the Raft thread keeps its priority, for lack of CAP_SYS_NICE: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_raft_thread_runs_tasks_until_it_is_dropped() {
        let raft = RaftThread::start().expect("a thread");
        let name = raft
            .handle()
            .spawn(async { std::thread::current().name().map(str::to_owned) });
        let name = main()
            .expect("a runtime")
            .block_on(name)
            .expect("the task ends");
        assert_eq!(name.as_deref(), Some("raft"));
        let (kept, dropped) = std::sync::mpsc::channel::<()>();
        raft.handle().spawn(async move {
            let _kept = kept;
            std::future::pending::<()>().await;
        });
        drop(raft);
        assert!(dropped.recv().is_err(), "its tasks are gone with it");
    }
}
