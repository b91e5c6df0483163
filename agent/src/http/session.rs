//! `/v1/session/`

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::Instant;
use uuid::Uuid;

use super::blocking::{check_scope, read};
use super::body::Response;
use super::catalog::{named, unexpected};
use super::error::Error;
use super::json;
use super::request::Request;
use super::{Api, Server, Settings};
use crate::duration;
use crate::state::{Answer, Behavior, Command, Outcome, Query, SERF_HEALTH, ServiceCheck, Session};

/// How long keys refuse new locks after a session was invalidated, if nothing else is said.
const LOCK_DELAY: Duration = Duration::from_secs(15);
/// The longest TTL.
const TTL_MAX: Duration = Duration::from_secs(24 * 3600);
/// Numbers below this are taken for seconds, though nanoseconds are meant to be sent.
const LOCK_DELAY_NANOSECONDS_MIN: u64 = 1000;

/// A session's id, if the text has the form of one.
pub(super) fn parse_id(text: &str) -> Option<Uuid> {
    // Other spellings of a UUID are not the id that was handed out.
    Uuid::try_parse(text).ok().filter(|_| text.len() == 36)
}

/// Makes a session.
pub(super) async fn create<A: Api>(
    server: &Server<A>,
    mut request: Request,
) -> Result<Response, Error> {
    let settings = server.settings();
    check_scope(settings, &request.params)?;
    let body = request.body(settings.kv_max_value_size).await?;
    let body = if body.is_empty() {
        Creation::default()
    } else {
        json::decode(&body)?
    };
    let session = body.into_session(settings, server.random().uuid())?;
    let outcome = server
        .apply(Command::SessionCreate(Box::new(session)))
        .await?;
    let Outcome::SessionId(id) = outcome else {
        return Err(unexpected());
    };
    #[derive(Serialize)]
    struct Created {
        #[serde(rename = "ID")]
        id: Uuid,
    }
    Ok(server.json(&request.params, &Created { id }))
}

/// Ends a session.
pub(super) async fn destroy<A: Api>(
    server: &Server<A>,
    request: &Request,
    id: String,
) -> Result<Response, Error> {
    check_scope(server.settings(), &request.params)?;
    // What cannot be an id is as unknown as one that nobody has.
    if let Some(id) = parse_id(&named(id, "Missing session")?) {
        server.apply(Command::SessionDestroy { id }).await?;
    }
    Ok(server.json(&request.params, &true))
}

/// Starts a session's TTL anew.
pub(super) async fn renew<A: Api>(
    server: &Server<A>,
    request: &Request,
    id: String,
) -> Result<Response, Error> {
    let text = named(id, "Missing session")?;
    let unknown = || Error::not_found(format!("Session id '{text}' not found"));
    check_scope(server.settings(), &request.params)?;
    let id = parse_id(&text).ok_or_else(unknown)?;
    let started = Instant::now();
    let session = server.api().renew_session(id).await?;
    let took = started.elapsed().as_secs_f64() * 1000.0;
    server.metrics().sample("session.renew", &[], took);
    let session = session.ok_or_else(unknown)?;
    Ok(server.json(&request.params, &[session]))
}

/// One session in a list, or an empty list.
pub(super) async fn info<A: Api>(
    server: &Server<A>,
    request: &Request,
    id: String,
) -> Result<Response, Error> {
    let text = named(id, "Missing session")?;
    // No session has the nil id, so that an impossible one is answered with the headers of an unknown one.
    let id = parse_id(&text).unwrap_or_default();
    list_of(server, request, Query::Session { id }).await
}

/// All sessions.
pub(super) async fn list<A: Api>(server: &Server<A>, request: &Request) -> Result<Response, Error> {
    list_of(server, request, Query::Sessions).await
}

/// The sessions of a node.
pub(super) async fn of_node<A: Api>(
    server: &Server<A>,
    request: &Request,
    name: String,
) -> Result<Response, Error> {
    let node = named(name, "Missing node name")?;
    list_of(server, request, Query::NodeSessions { node }).await
}

async fn list_of<A: Api>(
    server: &Server<A>,
    request: &Request,
    query: Query,
) -> Result<Response, Error> {
    let (answer, headers) = read(server, &request.params, query).await?;
    let sessions = match answer {
        Answer::Sessions(sessions) => sessions,
        Answer::Session(session) => session.into_iter().collect(),
        _ => return Err(unexpected()),
    };
    Ok(headers.on(server.json(&request.params, &sessions)))
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Creation {
    name: String,
    node: String,
    lockdelay: Option<Value>,
    behavior: String,
    ttl: String,
    nodechecks: Option<Vec<String>>,
    /// The name of `nodechecks` before Consul 1.7.
    checks: Option<Vec<String>>,
    servicechecks: Option<Vec<ServiceCheckBody>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ServiceCheckBody {
    id: String,
}

impl Creation {
    fn into_session(self, settings: &Settings, id: Uuid) -> Result<Session, Error> {
        let behavior = match self.behavior.as_str() {
            "" | "release" => Behavior::Release,
            "delete" => Behavior::Delete,
            other => {
                return Err(Error::internal(format!(
                    "Invalid Behavior setting '{other}'"
                )));
            }
        };
        check_ttl(&self.ttl, settings.session_ttl_min)?;
        let node_checks = self.nodechecks.or(self.checks);
        let service_checks = self.servicechecks.map(|checks| {
            let checks = checks.into_iter();
            checks
                .map(|check| ServiceCheck {
                    id: check.id,
                    namespace: String::new(),
                })
                .collect()
        });
        Ok(Session {
            id,
            name: self.name,
            node: if self.node.is_empty() {
                settings.node_name.clone()
            } else {
                self.node
            },
            lock_delay: lock_delay(self.lockdelay.as_ref())?,
            behavior,
            ttl: self.ttl,
            node_checks: node_checks.unwrap_or_else(|| vec![SERF_HEALTH.to_owned()]),
            service_checks,
            create_index: 0,
            modify_index: 0,
        })
    }
}

fn check_ttl(ttl: &str, min: Duration) -> Result<(), Error> {
    if ttl.is_empty() {
        return Ok(());
    }
    let parsed = duration::parse(ttl)
        .map_err(|error| Error::internal(format!("Session TTL '{ttl}' invalid: {error}")))?;
    if parsed.is_zero() || (min..=TTL_MAX).contains(&parsed) {
        return Ok(());
    }
    Err(Error::internal(format!(
        "Invalid Session TTL '{}', must be between [{}={}]",
        parsed.as_nanos(),
        duration::print(min),
        duration::print(TTL_MAX)
    )))
}

/// Nanoseconds, from a Go duration or from a number, which is taken for seconds when it is small.
fn lock_delay(value: Option<&Value>) -> Result<u64, Error> {
    let failed = |reason: String| Error::bad_request(format!("Request decode failed: {reason}"));
    let nanoseconds = match value {
        None => return Ok(as_nanoseconds(LOCK_DELAY)),
        Some(Value::String(text)) => {
            as_nanoseconds(duration::parse(text).map_err(|error| failed(error.to_string()))?)
        }
        Some(Value::Number(number)) => {
            // Clients in dynamic languages send 15.0.
            let whole = number.as_f64().filter(|n| (0.0..9.2e18).contains(n));
            let number = number.as_u64().or(whole.map(|n| n as u64));
            number.ok_or_else(|| failed("LockDelay is out of range".into()))?
        }
        Some(_) => return Err(failed("LockDelay is neither a number nor a string".into())),
    };
    Ok(if nanoseconds < LOCK_DELAY_NANOSECONDS_MIN {
        nanoseconds * 1_000_000_000
    } else {
        nanoseconds
    })
}

fn as_nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::tests::settings;

    fn session(body: &str) -> Result<Session, Error> {
        let body: Creation = json::decode(body.as_bytes())?;
        body.into_session(&settings(), Uuid::nil())
    }

    fn refused(body: &str) -> String {
        session(body).unwrap_err().text.into_owned()
    }

    #[test]
    fn the_defaults_are_this_node_its_health_15_seconds_and_release() {
        let session = session("{}").unwrap();
        assert_eq!(session.node, "a");
        assert_eq!(session.node_checks, ["serfHealth"]);
        assert_eq!(session.service_checks, None);
        assert_eq!(session.lock_delay, 15_000_000_000);
        assert_eq!(session.behavior, Behavior::Release);
        assert_eq!(session.ttl, "");
    }

    #[test]
    fn lock_delays_are_seconds_nanoseconds_or_go_durations() {
        let delay =
            |value: &str| session(&format!("{{\"LockDelay\":{value}}}")).map(|s| s.lock_delay);
        assert_eq!(delay("5"), Ok(5_000_000_000));
        assert_eq!(delay("999"), Ok(999_000_000_000));
        assert_eq!(delay("5.0"), Ok(5_000_000_000));
        assert_eq!(delay("1000"), Ok(1000));
        assert_eq!(delay("15000000000"), Ok(15_000_000_000));
        assert_eq!(delay("\"20s\""), Ok(20_000_000_000));
        assert_eq!(delay("\"90s\""), Ok(90_000_000_000));
        assert_eq!(delay("0"), Ok(0));
        assert_eq!(
            delay("\"zz\"").unwrap_err().text,
            "Request decode failed: time: invalid duration \"zz\""
        );
        assert_eq!(
            delay("-1").unwrap_err().text,
            "Request decode failed: LockDelay is out of range"
        );
        assert_eq!(
            delay("true").unwrap_err().text,
            "Request decode failed: LockDelay is neither a number nor a string"
        );
    }

    #[test]
    fn checks_can_be_chosen_or_left_out() {
        let checks = |body: &str| session(body).unwrap().node_checks;
        assert!(checks(r#"{"NodeChecks":[]}"#).is_empty());
        assert_eq!(checks(r#"{"Checks":["a"]}"#), ["a"]);
        assert_eq!(checks(r#"{"NodeChecks":["b"],"Checks":["a"]}"#), ["b"]);
        let session = session(r#"{"ServiceChecks":[{"ID":"service:web"}]}"#).unwrap();
        assert_eq!(session.node_checks, ["serfHealth"]);
        assert_eq!(session.service_checks.unwrap()[0].id, "service:web");
    }

    #[test]
    fn bad_settings_are_refused_in_consuls_words() {
        assert_eq!(
            refused(r#"{"Behavior":"zz"}"#),
            "Invalid Behavior setting 'zz'"
        );
        assert_eq!(
            refused(r#"{"TTL":"5s"}"#),
            "Invalid Session TTL '5000000000', must be between [10s=24h0m0s]"
        );
        assert_eq!(
            refused(r#"{"TTL":"25h"}"#),
            "Invalid Session TTL '90000000000000', must be between [10s=24h0m0s]"
        );
        assert_eq!(
            refused(r#"{"TTL":"zz"}"#),
            "Session TTL 'zz' invalid: time: invalid duration \"zz\""
        );
        for good in ["10s", "24h", "0", ""] {
            session(&format!("{{\"TTL\":\"{good}\"}}")).unwrap();
        }
    }

    #[test]
    fn only_the_form_that_was_handed_out_is_an_id() {
        assert!(parse_id("00000000-0000-0000-0000-000000000001").is_some());
        for other in [
            "",
            "bad",
            "00000000000000000000000000000001",
            "{00000000-0000-0000-0000-000000000001}",
        ] {
            assert_eq!(parse_id(other), None, "{other}");
        }
    }
}
