//! `/v1/txn`

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hyper::StatusCode;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::blocking::{check_scope, options};
use super::body::{Response, Value};
use super::catalog::bodies::{CheckBody, ServiceBody};
use super::catalog::unexpected;
use super::error::Error;
use super::json;
use super::request::Request;
use super::session::parse_id;
use super::views::{CheckView, NodeService};
use super::{Api, Server};
use crate::node::{Consistency, Reply};
use crate::state::{
    Answer, Command, KvCommand, KvEntry, KvOp, KvRead, KvWrite, Node, Outcome, Query, RowVerb,
    TxnError, TxnOp, TxnResult,
};

/// Operations in one transaction.
const OPS_MAX: usize = 128;

/// Runs a transaction: through the log, or as a read if it changes nothing.
pub(super) async fn handle<A: Api>(
    server: &Server<A>,
    mut request: Request,
) -> Result<Response, Error> {
    let settings = server.settings();
    check_scope(settings, &request.params)?;
    let value_max = settings.kv_max_value_size;
    let limit = settings.txn_max_req_len.max(value_max);
    let body = request.body(limit).await.map_err(|error| {
        let text = error.text.replace("#kv_max_value_size", "#txn_max_req_len");
        Error {
            text: text.into(),
            ..error
        }
    })?;
    let bodies: Vec<OpBody> = json::parse(&body)
        .map_err(|reason| Error::bad_request(format!("Failed to parse body: {reason}")))?;
    let ops = read_ops(bodies, value_max)?;
    let (ops, errors) = check_ops(ops, server.datacenter());
    if !errors.is_empty() {
        return Ok(failed(server, &request, &errors, None));
    }
    if ops.iter().all(TxnOp::is_read) {
        return read(server, &request, ops).await;
    }
    match server.propose(Command::Txn(ops)).await? {
        Outcome::Txn(results) => Ok(done(server, &request, &results, None)),
        Outcome::TxnFailed(errors) => Ok(failed(server, &request, &errors, None)),
        Outcome::Error { text, .. } => Err(Error::internal(text)),
        _ => Err(unexpected()),
    }
}

/// A transaction does not block, so `index` and `wait` mean nothing to it, and it shows no index to wait for.
async fn read<A: Api>(
    server: &Server<A>,
    request: &Request,
    ops: Vec<TxnOp>,
) -> Result<Response, Error> {
    let mut options = options(server.settings(), server.random(), &request.params)?;
    (options.min_index, options.wait) = Default::default();
    let consistency = options.consistency;
    let reply = server.api().read(Query::Txn(ops), options).await?;
    let meta = Meta::of(&reply, consistency);
    let Answer::Txn(answer) = reply.answer else {
        return Err(unexpected());
    };
    let known = if reply.known_leader { "true" } else { "false" };
    let last_contact = Value::Number(meta.last_contact_ms());
    let mut response = match answer {
        Ok(results) => done(server, request, &results, Some(meta)),
        Err(errors) => failed(server, request, &errors, Some(meta)),
    };
    response.set("X-Consul-Knownleader", Value::Static(known));
    response.set("X-Consul-Lastcontact", last_contact);
    Ok(response)
}

fn done<A: Api>(
    server: &Server<A>,
    request: &Request,
    results: &[TxnResult],
    meta: Option<Meta>,
) -> Response {
    let reply = ReplyView {
        results: Some(results.iter().map(ResultView::of).collect()),
        errors: None,
        meta,
    };
    server.json(&request.params, &reply)
}

fn failed<A: Api>(
    server: &Server<A>,
    request: &Request,
    errors: &[TxnError],
    meta: Option<Meta>,
) -> Response {
    let errors = errors.iter().map(|error| ErrorView {
        op_index: error.op_index,
        what: &error.what,
    });
    let reply = ReplyView {
        results: None,
        errors: Some(errors.collect()),
        meta,
    };
    let mut response = server.json(&request.params, &reply);
    response.status = StatusCode::CONFLICT;
    response
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ReplyView<'a> {
    results: Option<Vec<ResultView<'a>>>,
    errors: Option<Vec<ErrorView<'a>>>,
    #[serde(flatten)]
    meta: Option<Meta>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ErrorView<'a> {
    op_index: usize,
    what: &'a str,
}

/// What a read says beside its results.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Meta {
    index: u64,
    /// Nanoseconds.
    last_contact: u64,
    known_leader: bool,
    consistency_level: &'static str,
}

impl Meta {
    fn of(reply: &Reply, consistency: Consistency) -> Self {
        Self {
            index: reply.index.max(1),
            last_contact: u64::try_from(reply.last_contact.as_nanos()).unwrap_or(u64::MAX),
            known_leader: reply.known_leader,
            consistency_level: match consistency {
                Consistency::Default => "leader",
                Consistency::Consistent => "consistent",
                Consistency::Stale => "stale",
            },
        }
    }

    fn last_contact_ms(&self) -> u64 {
        self.last_contact / 1_000_000
    }
}

#[derive(Serialize)]
enum ResultView<'a> {
    #[serde(rename = "KV")]
    Kv(&'a KvEntry),
    Node(&'a Node),
    Service(Box<NodeService<'a>>),
    Check(Box<CheckView<'a>>),
}

impl<'a> ResultView<'a> {
    fn of(result: &'a TxnResult) -> Self {
        match result {
            TxnResult::Kv(entry) => Self::Kv(entry),
            TxnResult::Node(node) => Self::Node(node),
            TxnResult::Service(service) => Self::Service(Box::new(NodeService::of(service))),
            TxnResult::Check(check) => Self::Check(Box::new(CheckView::of(check))),
        }
    }
}

/// Refuses what is too much.
fn read_ops(bodies: Vec<OpBody>, value_max: usize) -> Result<Vec<OpBody>, Error> {
    let too_large = |text: String| Error {
        status: StatusCode::PAYLOAD_TOO_LARGE,
        text: text.into(),
    };
    if bodies.len() > OPS_MAX {
        return Err(too_large(format!(
            "Transaction contains too many operations ({} > {OPS_MAX})",
            bodies.len()
        )));
    }
    for kv in bodies.iter().filter_map(|body| body.kv.as_ref()) {
        let len = base64::decoded_len_estimate(kv.value.len());
        // The estimate is up to two bytes too large, and values at the limit are allowed.
        if len > value_max + 2 {
            return Err(too_large(format!(
                "Value for key {:?} is too large ({len} > {value_max} bytes)",
                kv.key
            )));
        }
    }
    Ok(bodies)
}

/// What can be said without looking at the state.
fn check_ops(bodies: Vec<OpBody>, datacenter: &str) -> (Vec<TxnOp>, Vec<TxnError>) {
    let (mut ops, mut errors) = (Vec::new(), Vec::new());
    for (op_index, body) in bodies.into_iter().enumerate() {
        match body.into_op(datacenter) {
            Ok(op) => ops.push(op),
            Err(what) => errors.push(TxnError { op_index, what }),
        }
    }
    (ops, errors)
}

/// One operation: exactly one of the fields.
#[derive(Deserialize, Default)]
#[serde(default)]
struct OpBody {
    kv: Option<KvBody>,
    node: Option<NodeOpBody>,
    service: Option<ServiceOpBody>,
    check: Option<CheckOpBody>,
    session: Option<SessionOpBody>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct KvBody {
    verb: String,
    key: String,
    /// Base64.
    value: String,
    flags: u64,
    index: u64,
    session: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct NodeOpBody {
    verb: String,
    node: NodeBody,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct NodeBody {
    id: String,
    node: String,
    address: String,
    taggedaddresses: BTreeMap<String, String>,
    meta: BTreeMap<String, String>,
    modifyindex: u64,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ServiceOpBody {
    verb: String,
    node: String,
    service: Indexed<ServiceBody>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct CheckOpBody {
    verb: String,
    check: Indexed<CheckBody>,
}

/// A row with the index at which it was read.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Indexed<T> {
    #[serde(flatten)]
    row: T,
    modifyindex: u64,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct SessionOpBody {
    verb: String,
    session: SessionBody,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct SessionBody {
    id: String,
}

impl OpBody {
    fn into_op(self, datacenter: &str) -> Result<TxnOp, String> {
        let Self {
            kv,
            node,
            service,
            check,
            session,
        } = self;
        if let Some(kv) = kv {
            return kv.into_op();
        }
        if let Some(node) = node {
            return node.into_op(datacenter);
        }
        if let Some(service) = service {
            return service.into_op();
        }
        if let Some(check) = check {
            return check.into_op();
        }
        match session {
            Some(session) => session.into_op(),
            None => Err("the operation names none of KV, Node, Service, Check, Session".to_owned()),
        }
    }
}

impl KvBody {
    fn into_op(self) -> Result<TxnOp, String> {
        let Self {
            verb,
            key,
            value,
            flags,
            index,
            session,
        } = self;
        if key.is_empty() && verb != "delete-tree" {
            return Err("Must provide key".to_owned());
        }
        let value = STANDARD
            .decode(&value)
            .map_err(|error| format!("the value of key {key:?} is not base64: {error}"))?;
        let write = KvWrite {
            value: Bytes::from(value),
            flags,
        };
        let holder = || match session.as_str() {
            "" => Err("missing session".to_owned()),
            text => parse_id(text).ok_or_else(|| format!("invalid session {text:?}")),
        };
        let op = match verb.as_str() {
            "set" => KvOp::Set(write),
            "cas" => KvOp::Cas { write, index },
            "lock" => KvOp::Lock {
                write,
                session: holder()?,
            },
            "unlock" => KvOp::Unlock {
                write,
                session: holder()?,
            },
            "delete" => KvOp::Delete,
            "delete-cas" => KvOp::DeleteCas { index },
            "delete-tree" => KvOp::DeleteTree,
            verb => {
                let read = match verb {
                    "get" => KvRead::Get,
                    "get-or-empty" => KvRead::GetOrEmpty,
                    "get-tree" => KvRead::GetTree,
                    "check-index" => KvRead::CheckIndex(index),
                    "check-session" => KvRead::CheckSession(session),
                    "check-not-exists" => KvRead::CheckNotExists,
                    other => return Err(format!("unknown KV verb {other:?}")),
                };
                return Ok(TxnOp::KvRead { key, read });
            }
        };
        Ok(TxnOp::Kv(KvCommand { key, op }))
    }
}

fn row_verb(verb: &str, index: u64, what: &str) -> Result<RowVerb, String> {
    match verb {
        "get" => Ok(RowVerb::Get),
        "set" => Ok(RowVerb::Set),
        "cas" => Ok(RowVerb::Cas(index)),
        "delete" => Ok(RowVerb::Delete),
        "delete-cas" => Ok(RowVerb::DeleteCas(index)),
        other => Err(format!("unknown {what} verb {other:?}")),
    }
}

impl NodeOpBody {
    fn into_op(self, datacenter: &str) -> Result<TxnOp, String> {
        let Self { verb, node } = self;
        let verb = row_verb(&verb, node.modifyindex, "Node")?;
        if node.node.is_empty() {
            return Err("Must provide node".to_owned());
        }
        let writes = matches!(verb, RowVerb::Set | RowVerb::Cas(_));
        if writes && node.address.is_empty() {
            return Err("Must provide address if SkipNodeUpdate is not set".to_owned());
        }
        let id = match node.id.as_str() {
            "" => None,
            text => Some(Uuid::try_parse(text).map_err(|error| format!("Bad node ID: {error}"))?),
        };
        let node = Box::new(Node {
            id,
            node: node.node,
            address: node.address,
            datacenter: datacenter.to_owned(),
            tagged_addresses: node.taggedaddresses,
            meta: node.meta,
            create_index: 0,
            modify_index: 0,
        });
        Ok(TxnOp::Node { verb, node })
    }
}

impl ServiceOpBody {
    fn into_op(self) -> Result<TxnOp, String> {
        let Self {
            verb,
            node,
            service,
        } = self;
        let verb = row_verb(&verb, service.modifyindex, "Service")?;
        if node.is_empty() {
            return Err("Must provide node".to_owned());
        }
        let service = match verb {
            RowVerb::Set | RowVerb::Cas(_) => service.row.into_row().map_err(text)?,
            // By its id, or by its name where that is the id.
            _ => service.row.into_id().map_err(text)?,
        };
        Ok(TxnOp::Service {
            verb,
            node,
            service: Box::new(service),
        })
    }
}

impl CheckOpBody {
    fn into_op(self) -> Result<TxnOp, String> {
        let Self { verb, check } = self;
        let verb = row_verb(&verb, check.modifyindex, "Check")?;
        let node = check.row.node.clone();
        if node.is_empty() {
            return Err("Must provide node".to_owned());
        }
        let check = Box::new(check.row.into_row(&node).map_err(text)?);
        Ok(TxnOp::Check { verb, check })
    }
}

impl SessionOpBody {
    fn into_op(self) -> Result<TxnOp, String> {
        if self.verb != "delete" {
            return Err(format!("unknown Session verb {:?}", self.verb));
        }
        match parse_id(&self.session.id) {
            Some(id) => Ok(TxnOp::SessionDelete { id }),
            None => Err(format!("invalid session {:?}", self.session.id)),
        }
    }
}

fn text(error: Error) -> String {
    error.text.into_owned()
}
