//! What agents make of keys, certificates and tokens: as strict as they are, and nothing of a secret anywhere else.

use std::collections::{BTreeMap, BTreeSet};

use agent::tls::digest_of;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::World;
use super::api::{Answer, Call, ok, refuse};

/// What agents know.
#[derive(Default)]
pub(crate) struct Protection {
    /// Digest of the files that each pod has in force, by the pod's UID.
    files: BTreeMap<String, String>,
    /// Names of policies.
    policies: BTreeSet<String>,
    /// Tokens that were made through the API.
    tokens: BTreeSet<String>,
    /// Keys of gossip, and the one that is used. None: agents have the one that they were started with.
    keys: Option<(BTreeSet<String>, String)>,
    /// Management token and recovery token that each pod was started with, by the pod's UID.
    started: BTreeMap<String, [Option<String>; 2]>,
}

impl World {
    fn has_argument(&self, pod: &str, argument: &str) -> bool {
        let pod = self.get("pods", pod);
        let args = pod.and_then(|pod| pod["spec"]["containers"][0]["args"].as_array());
        let mut args = args.into_iter().flatten().filter_map(Value::as_str);
        args.any(|arg| arg.contains(argument))
    }

    /// Whether the agent of that pod listens for HTTPS; where it does for both, for what is asked first.
    pub(super) fn listens(&self, pod: &str) -> Option<bool> {
        self.get("pods", pod)?;
        Some(self.has_argument(pod, "/tls-"))
    }

    /// Whether nothing is being done for the cluster's protection.
    pub(crate) fn rests(&self) -> bool {
        self.cluster()["status"]["security"]["message"].is_null()
    }

    /// A value of a Secret.
    pub(crate) fn secret(&self, name: &str, key: &str) -> Option<String> {
        let text = self.get("secrets", name)?["data"][key].as_str()?;
        String::from_utf8(STANDARD.decode(text).ok()?).ok()
    }

    /// The files that are mounted in that pod.
    fn mounted(&self, pod: &str) -> String {
        let volumes = &self.get("pods", pod).unwrap()["spec"]["volumes"];
        let mut secret = volumes.as_array().into_iter().flatten();
        let secret = secret.find_map(|volume| volume["secret"]["secretName"].as_str());
        let Some(name) = secret else {
            return String::new();
        };
        let text = |key: &str| self.secret(name, key);
        digest_of(text("ca.pem").as_deref(), text("cert.pem").as_deref())
    }

    /// Digest of the files that the agent of that pod has in force: as they were when it was asked first, or told to read
    /// them again.
    pub(super) fn files(&mut self, pod: &str) -> String {
        if !self.has_argument(pod, "/tls-") {
            return String::new();
        }
        let uid = self.get("pods", pod).unwrap()["metadata"]["uid"].to_string();
        let mounted = self.mounted(pod);
        let files = &mut self.protection.files;
        files.entry(uid).or_insert(mounted).clone()
    }

    /// A value of a file of the agents' configuration, in a Secret that they mount.
    fn configured(&self, secret: &str, file: &str, pointer: &str) -> Option<String> {
        let file: Value = serde_json::from_str(&self.secret(secret, file)?).ok()?;
        Some(file.pointer(pointer)?.as_str()?.to_owned())
    }

    fn may(&mut self, pod: &str, call: &Call<'_>) -> bool {
        if !self.has_argument(pod, "/acl-full") {
            return true;
        }
        let server = pod.contains("-server-");
        let mounted = if server {
            "demo-server-secure"
        } else {
            "demo-client-secure"
        };
        let token = |name: &str| format!("/acl/tokens/{name}");
        let recovery = self.configured(mounted, "acl-full.json", &token("agent_recovery"));
        let management = token("initial_management");
        let management = self.configured("demo-server-secure", "acl-full.json", &management);
        let uid = self.get("pods", pod).unwrap()["metadata"]["uid"].to_string();
        let started = &mut self.protection.started;
        let [management, recovery] = started.entry(uid).or_insert([management, recovery]);
        let own = call.path.starts_with("/v1/agent/") && !call.path.contains("force-leave");
        let told = Some(call.token.to_owned());
        if call.path == "/v1/acl/token/self" {
            return self.protection.tokens.contains(call.token);
        }
        told == *management || (own && told == *recovery)
    }

    /// Refusals, and the answers to what is about protection.
    pub(super) fn protection(&mut self, pod: &str, call: &Call<'_>) -> Option<Answer> {
        if !self.may(pod, call) {
            return Some(refuse(StatusCode::FORBIDDEN, "Permission denied"));
        }
        let text = || serde_json::from_slice::<Value>(call.body).unwrap_or_default();
        let said = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
        match (call.method, call.path.as_str()) {
            (&Method::PUT, "/v1/agent/reload") => {
                let uid = self.get("pods", pod).unwrap()["metadata"]["uid"].to_string();
                let mounted = self.mounted(pod);
                self.protection.files.insert(uid, mounted);
            }
            (&Method::GET, "/v1/acl/token/self") => {
                if !self.protection.tokens.contains(call.token) {
                    return Some(refuse(StatusCode::FORBIDDEN, "ACL not found"));
                }
            }
            (&Method::PUT, "/v1/acl/policy") => {
                let name = said(&text(), "Name");
                if !self.protection.policies.insert(name) {
                    let why = "a policy of that name already exists";
                    return Some(refuse(StatusCode::INTERNAL_SERVER_ERROR, why));
                }
            }
            (&Method::PUT, "/v1/acl/token") => {
                let token = text();
                let policy = said(&token["Policies"][0], "Name");
                assert!(self.protection.policies.contains(&policy), "{policy}");
                self.protection.tokens.insert(said(&token, "SecretID"));
            }
            (_, path) if path.starts_with("/v1/acl/policy/name/") => {
                let name = path.rsplit('/').next().unwrap();
                if !self.protection.policies.contains(name) {
                    return Some(refuse(StatusCode::NOT_FOUND, "no such policy"));
                }
            }
            (method, "/v1/operator/keyring") => {
                return Some(self.keyring(method, said(&text(), "Key")));
            }
            _ => return None,
        }
        Some(ok(&json!({})))
    }

    fn keyring(&mut self, method: &Method, key: String) -> Answer {
        let started = self.configured("demo-server-secure", "gossip-full.json", "/encrypt");
        let started = started.unwrap_or_default();
        let nodes = self.list("pods").count();
        let first = || (BTreeSet::from([started.clone()]), started);
        let (keys, primary) = self.protection.keys.get_or_insert_with(first);
        match method.as_str() {
            "POST" => drop(keys.insert(key)),
            "PUT" => {
                assert!(keys.contains(&key), "a key that nobody knows is used");
                *primary = key;
            }
            "DELETE" => {
                assert_ne!(key, *primary, "the key that is used is taken away");
                keys.remove(&key);
            }
            _ => {}
        }
        let all: BTreeMap<_, _> = keys.iter().map(|key| (key, nodes)).collect();
        let primary = BTreeMap::from([(&*primary, nodes)]);
        ok(&json!([{"Keys": all, "PrimaryKeys": primary, "NumNodes": nodes}]))
    }

    /// Nothing of a secret is in any other object, and no event tells of it.
    pub(crate) fn check_secrets(&self) {
        let secrets = [
            "token",
            "agent.token",
            "recovery.token",
            "gossip.key",
            "signer.key",
        ];
        let secrets = secrets.map(|key| self.secret("demo-security", key));
        let secrets: Vec<_> = secrets.into_iter().flatten().collect();
        for ((plural, name), object) in &self.objects {
            if plural == "secrets" {
                continue;
            }
            let text = object.to_string();
            for secret in &secrets {
                let shown = serde_json::to_string(secret).unwrap();
                assert!(
                    !text.contains(shown.trim_matches('"')),
                    "{plural}/{name} shows a secret"
                );
            }
        }
    }
}
