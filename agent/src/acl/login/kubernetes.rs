//! What Kubernetes is asked about a service account's token, and what it answers.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Identity, Place};

/// Names of what is known of an identity.
pub(super) const VARIABLES: [&str; 3] = [
    "serviceaccount.namespace",
    "serviceaccount.name",
    "serviceaccount.uid",
];

/// By which a service account asks for another service's name.
const SERVICE_NAME: &str = "consul.hashicorp.com/service-name";

/// A service account, as Kubernetes vouches for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reviewed {
    /// Its namespace.
    pub namespace: String,
    /// Its name, or the one that it asks for.
    pub name: String,
    /// Its UID.
    pub uid: String,
}

/// Where a bearer token is reviewed, and what is sent there.
pub fn review(api: &Place, bearer: &str) -> (Place, Vec<u8>) {
    let place = api.below("/apis/authentication.k8s.io/v1/tokenreviews");
    let body = json!({
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "spec": { "token": bearer },
    });
    (place, body.to_string().into_bytes())
}

/// Reads the answer to [`review`].
///
/// # Errors
/// Why Kubernetes does not vouch for the bearer token.
pub fn read_review(answer: &[u8]) -> Result<Reviewed, String> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Answer {
        status: Status,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Status {
        authenticated: bool,
        user: User,
        error: String,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct User {
        username: String,
        uid: String,
    }
    let answer: Answer = serde_json::from_slice(answer)
        .map_err(|error| format!("Kubernetes' review of it cannot be read: {error}"))?;
    let Status {
        authenticated,
        user,
        error,
    } = answer.status;
    match (authenticated, error.as_str()) {
        (true, "") => {}
        (_, "") => return Err("Kubernetes does not know it".to_owned()),
        (_, error) => return Err(format!("Kubernetes refuses it: {error}")),
    }
    let parts: Vec<_> = user.username.split(':').collect();
    match parts.as_slice() {
        ["system", "serviceaccount", namespace, name] if is_plain(namespace) && is_plain(name) => {
            Ok(Reviewed {
                namespace: (*namespace).to_owned(),
                name: (*name).to_owned(),
                uid: user.uid,
            })
        }
        _ => Err(format!(
            "it is of {:?}, which is no service account",
            user.username
        )),
    }
}

/// Names of Kubernetes, which may stand in a path as they are.
fn is_plain(name: &str) -> bool {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    !name.is_empty() && name != "." && name != ".." && name.chars().all(good)
}

/// Where the service account itself is.
pub fn path_of_account(api: &Place, account: &Reviewed) -> Place {
    let Reviewed {
        namespace, name, ..
    } = account;
    api.below(&format!(
        "/api/v1/namespaces/{namespace}/serviceaccounts/{name}"
    ))
}

/// The name that a service account asks for.
///
/// # Errors
/// When the answer is no service account.
pub fn annotation(answer: &[u8]) -> Result<Option<String>, String> {
    let answer: Value = serde_json::from_slice(answer)
        .map_err(|error| format!("its service account cannot be read: {error}"))?;
    let annotations = &answer["metadata"]["annotations"];
    let name = annotations[SERVICE_NAME].as_str().unwrap_or("");
    Ok((!name.is_empty()).then(|| name.to_owned()))
}

impl From<Reviewed> for Identity {
    fn from(account: Reviewed) -> Self {
        let Reviewed {
            namespace,
            name,
            uid,
        } = account;
        let fields = json!({
            "serviceaccount": { "namespace": namespace, "name": name, "uid": uid },
        });
        let values = [namespace, name, uid];
        let names = VARIABLES.map(str::to_owned);
        Self {
            fields,
            variables: BTreeMap::from_iter(names.into_iter().zip(values)),
        }
    }
}
