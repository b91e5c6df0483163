//! Waits for an agent that takes no connections yet.
//!
//! A job asks the Service of the servers that are ready, and is started with them: which node knows of the first
//! ready server a moment later than the job's own is a matter of chance, and a job has one try.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::client::{Error, Response};

/// How long a job waits until the agent takes connections.
const WITHIN: Duration = Duration::from_secs(30);
/// Between two tries to connect.
const PAUSE: Duration = Duration::from_millis(500);

/// The answer to the request that `send` sends. For a job (`is_job`) it is sent again for 30 s, but only while no
/// connection was made: what may have arrived is never sent twice.
///
/// # Errors
/// The last one.
pub(super) async fn answer<F>(is_job: bool, mut send: impl FnMut() -> F) -> Result<Response, Error>
where
    F: Future<Output = Result<Response, Error>>,
{
    let deadline = Instant::now() + WITHIN;
    loop {
        let started = Instant::now();
        match send().await {
            Err(Error::Connect { .. }) if is_job && started + PAUSE < deadline => {
                sleep_until(started + PAUSE).await;
            }
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Client;
    use crate::client::tests::Script;

    /// A client of an address where nobody listens.
    async fn nobody() -> Client {
        let listener = (tokio::net::TcpListener::bind("127.0.0.1:0").await).expect("a free port");
        let address = listener.local_addr().expect("bound").to_string();
        drop(listener);
        Client::new(&address).expect("an address")
    }

    /// Asks one client after the other, then the last one for ever; with how many tries that took.
    async fn ask(is_job: bool, clients: &[Client]) -> (Result<Response, Error>, usize) {
        let mut tries = 0;
        let result = answer(is_job, || {
            let client = clients[tries.min(clients.len() - 1)].clone();
            tries += 1;
            async move { client.put("/v1/snapshot", "state").await }
        });
        let result = result.await;
        (result, tries)
    }

    #[tokio::test]
    async fn a_job_waits_for_an_agent_that_takes_no_connections() {
        let script = Script::start(&[(200, "")]).await;
        let there = Client::new(&script.address).expect("an address");
        let (result, tries) = ask(true, &[nobody().await, there]).await;
        assert_eq!(result.expect("an answer").status.as_u16(), 200);
        assert_eq!(tries, 2);
    }

    #[tokio::test]
    async fn a_request_that_may_have_arrived_is_not_sent_again() {
        let script = Script::start(&[(0, ""), (200, "")]).await;
        let there = Client::new(&script.address).expect("an address");
        let (result, tries) = ask(true, &[nobody().await, there]).await;
        assert!(matches!(result, Err(Error::Transport { .. })), "{result:?}");
        assert_eq!(tries, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_job_gives_up_after_half_a_minute() {
        let began = Instant::now();
        let (result, tries) = ask(true, &[nobody().await]).await;
        assert!(matches!(result, Err(Error::Connect { .. })), "{result:?}");
        assert!(tries > 10, "{tries}");
        assert!(began.elapsed() <= WITHIN, "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn a_person_is_told_at_once() {
        let (result, tries) = ask(false, &[nobody().await]).await;
        assert!(matches!(result, Err(Error::Connect { .. })), "{result:?}");
        assert_eq!(tries, 1);
    }
}
