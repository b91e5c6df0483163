//! The API server: as much of it as the operator uses, and as strict.

use http::request::Parts;
use http::{Method, StatusCode};
use operator::observe::Answers;
use serde_json::{Value, json};

use super::{PLACE, World, turn};

pub(super) type Answer = (StatusCode, String);

/// A call to an agent.
pub(super) struct Call<'a> {
    pub(super) method: &'a Method,
    pub(super) token: &'a str,
    pub(super) path: String,
    pub(super) query: &'a str,
    pub(super) body: &'a [u8],
}

pub(super) fn refuse(status: StatusCode, reason: &str) -> Answer {
    let body = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": reason, "reason": reason, "code": status.as_u16()});
    (status, body.to_string())
}

pub(super) fn ok(value: &Value) -> Answer {
    (StatusCode::OK, value.to_string())
}

/// Later over earlier: objects are joined, everything else is replaced, null takes away.
fn merge(live: &mut Value, patch: &Value) {
    match (live, patch) {
        (Value::Object(live), Value::Object(patch)) => {
            for (key, value) in patch {
                if value.is_null() {
                    live.remove(key);
                } else {
                    merge(live.entry(key.clone()).or_insert(Value::Null), value);
                }
            }
        }
        (live, patch) => *live = patch.clone(),
    }
}

/// `a=b,c in (x,y)`.
fn selected(object: &Value, selector: &str) -> bool {
    let label = |key: &str| {
        object["metadata"]["labels"][key]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    let (exact, sets): (Vec<_>, Vec<_>) = selector
        .split_inclusive(')')
        .flat_map(|part| {
            // A comma inside of brackets separates values, any other one separates terms.
            match part.split_once(" in (") {
                Some((before, values)) => {
                    let (terms, key) = before.rsplit_once(',').unwrap_or(("", before));
                    let mut all: Vec<String> = terms
                        .split(',')
                        .filter(|t| !t.is_empty())
                        .map(str::to_owned)
                        .collect();
                    all.push(format!("{key} in {}", values.trim_end_matches(')')));
                    all
                }
                None => part
                    .split(',')
                    .filter(|t| !t.is_empty())
                    .map(str::to_owned)
                    .collect(),
            }
        })
        .partition(|term| !term.contains(" in "));
    exact.iter().all(|term| {
        term.split_once('=')
            .is_some_and(|(key, value)| label(key) == value)
    }) && sets.iter().all(|term| {
        term.split_once(" in ")
            .is_some_and(|(key, values)| values.split(',').any(|v| v == label(key)))
    })
}

pub(super) fn decode(text: &str) -> String {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let hex: Vec<u8> = bytes.by_ref().take(2).collect();
                let hex = std::str::from_utf8(&hex).unwrap();
                out.push(u8::from_str_radix(hex, 16).unwrap());
            }
            b'+' => out.push(b' '),
            other => out.push(other),
        }
    }
    String::from_utf8(out).unwrap()
}

fn parameter(query: &str, name: &str) -> Option<String> {
    let found = query
        .split('&')
        .find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == name));
    found.map(|(_, value)| decode(value))
}

impl World {
    /// What the call leads to, without any fault.
    pub(super) fn carry_out(&mut self, parts: &Parts, body: &[u8]) -> Answer {
        let path = parts.uri.path().to_owned();
        let query = parts.uri.query().unwrap_or_default().to_owned();
        let segments: Vec<String> = path
            .split('/')
            .filter(|s| !s.is_empty())
            .map(decode)
            .collect();
        let Some(at) = segments.iter().position(|segment| segment == "namespaces") else {
            return refuse(StatusCode::NOT_FOUND, "NotFound");
        };
        let rest: Vec<&str> = segments[at + 2..].iter().map(String::as_str).collect();
        if rest.get(2) == Some(&"proxy") {
            let raw = path.split_once("/proxy").map_or("", |(_, rest)| rest);
            let token = parts.headers.get("x-consul-token");
            let call = Call {
                method: &parts.method,
                token: token.map_or("", |token| token.to_str().unwrap()),
                path: decode(raw),
                query: &query,
                body,
            };
            return self.proxy(rest[1], &call);
        }
        let body: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
        if rest[0] == "events" {
            if parts.method == Method::POST {
                self.events
                    .push(body["reason"].as_str().unwrap_or_default().to_owned());
                return (StatusCode::CREATED, body.to_string());
            }
            return ok(
                &json!({"kind": "EventList", "apiVersion": "v1", "metadata": {}, "items": []}),
            );
        }
        if parts.method == Method::GET {
            self.reads += 1;
            return self.read(&rest, &query);
        }
        let apply = query.contains("fieldManager")
            && parts
                .headers
                .get("content-type")
                .is_some_and(|t| t.to_str().unwrap().contains("apply-patch"));
        self.write(&parts.method, &rest, &body, apply)
    }

    fn read(&self, rest: &[&str], query: &str) -> Answer {
        let objects = self.seen();
        if let Some(name) = rest.get(1) {
            return match objects.get(&(rest[0].to_owned(), (*name).to_owned())) {
                Some(object) => ok(object),
                None => refuse(StatusCode::NOT_FOUND, "NotFound"),
            };
        }
        let selector = parameter(query, "labelSelector").unwrap_or_default();
        let mut items: Vec<_> = objects
            .iter()
            .filter(|((plural, _), object)| plural == rest[0] && selected(object, &selector))
            .map(|(_, object)| object.clone())
            .collect();
        // As the real one: the elements of a list of a built-in kind do not say what they are.
        let built_in = !rest[0].starts_with("consul");
        for item in items.iter_mut().filter_map(Value::as_object_mut) {
            if !built_in {
                continue;
            }
            item.remove("kind");
            item.remove("apiVersion");
        }
        ok(&json!({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": items}))
    }

    fn write(&mut self, method: &Method, rest: &[&str], body: &Value, apply: bool) -> Answer {
        let plural = rest[0];
        match (method.as_str(), rest.get(1), rest.get(2)) {
            ("POST", None, _) => {
                let name = body["metadata"]["name"].as_str().unwrap().to_owned();
                if self.get(plural, &name).is_some() {
                    return refuse(StatusCode::CONFLICT, "AlreadyExists");
                }
                self.store(plural, &name, body.clone());
                (
                    StatusCode::CREATED,
                    self.get(plural, &name).unwrap().to_string(),
                )
            }
            ("POST", Some(name), Some(&"eviction")) => self.evict(name, body),
            ("PUT", Some(name), Some(&"status")) => self.put_status(plural, name, body),
            ("PATCH", Some(name), None) => self.patch(plural, name, body, apply),
            ("DELETE", Some(name), None) => self.delete(plural, name, body),
            _ => refuse(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed"),
        }
    }

    /// Makes an object, with what the API server gives it.
    pub(crate) fn store(&mut self, plural: &str, name: &str, mut object: Value) {
        self.made += 1;
        self.version += 1;
        let metadata = &mut object["metadata"];
        metadata["uid"] = json!(format!("{0:08}-0000-0000-0000-{0:012}", self.made));
        metadata["resourceVersion"] = json!(self.version.to_string());
        if metadata["generation"].is_null() {
            metadata["generation"] = json!(1);
        }
        metadata["namespace"] = json!(PLACE.0);
        assert!(
            plural != "statefulsets"
                || !turn::has_flag(&object["spec"]["template"])
                || self.agents.formed == 0,
            "a set with the flag is made although a cluster was formed"
        );
        self.objects
            .insert((plural.to_owned(), name.to_owned()), object);
    }

    fn patch(&mut self, plural: &str, name: &str, body: &Value, apply: bool) -> Answer {
        if self.get(plural, name).is_none() {
            if !apply {
                return refuse(StatusCode::NOT_FOUND, "NotFound");
            }
            assert!(
                !turn::has_flag(&body["spec"]["template"]),
                "the flag is applied"
            );
            self.store(plural, name, body.clone());
            return ok(self.get(plural, name).unwrap());
        }
        assert!(
            !apply || !turn::has_flag(&body["spec"]["template"]),
            "the flag is applied"
        );
        self.check_scaled(plural, body);
        self.version += 1;
        let version = self.version.to_string();
        let object = self.edit(plural, name);
        let uid = &body["metadata"]["uid"];
        if !uid.is_null() && *uid != object["metadata"]["uid"] {
            return refuse(StatusCode::CONFLICT, "Conflict");
        }
        let seen = &body["metadata"]["resourceVersion"];
        if !seen.is_null() && *seen != object["metadata"]["resourceVersion"] {
            return refuse(StatusCode::CONFLICT, "Conflict");
        }
        let before = object.clone();
        if apply && (plural == "configmaps" || plural == "secrets") {
            // What its only manager does not apply any more goes.
            object["data"] = body["data"].clone();
        }
        merge(object, body);
        if *object == before {
            return ok(&before);
        }
        object["metadata"]["resourceVersion"] = json!(version);
        if object["spec"] != before["spec"] {
            object["metadata"]["generation"] =
                json!(before["metadata"]["generation"].as_i64().unwrap() + 1);
        }
        if plural == "statefulsets" {
            assert_eq!(
                object["spec"]["volumeClaimTemplates"], before["spec"]["volumeClaimTemplates"],
                "claims of a set cannot change"
            );
        }
        ok(&object.clone())
    }

    /// Whoever is scaled away was removed from the peers before.
    fn check_scaled(&self, plural: &str, body: &Value) {
        let Some(replicas) = body["spec"]["replicas"].as_u64() else {
            return;
        };
        if plural != "statefulsets" || body["metadata"]["name"] != "demo-server" {
            return;
        }
        let now = self
            .get(plural, "demo-server")
            .and_then(|set| set["spec"]["replicas"].as_u64());
        for number in replicas..now.unwrap_or(0) {
            let pod = format!("demo-server-{number}");
            assert!(
                !self.agents.counts(&pod),
                "{pod} is a voter that runs, and is scaled away"
            );
        }
    }

    fn put_status(&mut self, plural: &str, name: &str, body: &Value) -> Answer {
        let Some(object) = self.get(plural, name) else {
            return refuse(StatusCode::NOT_FOUND, "NotFound");
        };
        if object["metadata"]["resourceVersion"] != body["metadata"]["resourceVersion"]
            || object["metadata"]["uid"] != body["metadata"]["uid"]
        {
            return refuse(StatusCode::CONFLICT, "Conflict");
        }
        let id = &object["status"]["clusterID"];
        if !id.is_null() && *id != body["status"]["clusterID"] {
            return refuse(
                StatusCode::UNPROCESSABLE_ENTITY,
                "clusterID is written once",
            );
        }
        let latch = &object["status"]["jobUID"];
        if plural == "consulrestores" && !latch.is_null() && *latch != body["status"]["jobUID"] {
            return refuse(StatusCode::UNPROCESSABLE_ENTITY, "jobUID is written once");
        }
        let ended = |phase: &Value| *phase == "Completed" || *phase == "Failed";
        for (before, after) in [
            (&object["status"]["phase"], &body["status"]["phase"]),
            (
                &object["status"]["restored"]["phase"],
                &body["status"]["restored"]["phase"],
            ),
        ] {
            assert!(!ended(before) || before == after, "what has ended goes on");
        }
        self.version += 1;
        let version = self.version.to_string();
        let object = self.edit(plural, name);
        object["status"] = body["status"].clone();
        object["metadata"]["resourceVersion"] = json!(version);
        ok(&object.clone())
    }

    fn delete(&mut self, plural: &str, name: &str, body: &Value) -> Answer {
        let Some(object) = self.get(plural, name).cloned() else {
            return refuse(StatusCode::NOT_FOUND, "NotFound");
        };
        assert_ne!(
            plural, "persistentvolumeclaims",
            "the operator deletes no volumes"
        );
        for key in ["uid", "resourceVersion"] {
            let wanted = &body["preconditions"][key];
            if !wanted.is_null() && *wanted != object["metadata"][key] {
                return refuse(StatusCode::CONFLICT, "Conflict");
            }
        }
        match plural {
            // The condition that it is as it was seen is said where nobody is to be missed.
            "pods" => {
                let as_seen = !body["preconditions"]["resourceVersion"].is_null();
                self.terminate(name, as_seen);
            }
            "statefulsets" => {
                assert_eq!(body["propagationPolicy"], "Foreground");
                self.edit(plural, name)["metadata"]["deletionTimestamp"] = json!(turn::NOW);
            }
            _ => {
                self.remove(plural, name);
            }
        }
        ok(&object)
    }

    pub(super) fn evict(&mut self, name: &str, body: &Value) -> Answer {
        let Some(pod) = self.get("pods", name).cloned() else {
            return refuse(StatusCode::NOT_FOUND, "NotFound");
        };
        let uid = &body["deleteOptions"]["preconditions"]["uid"];
        if *uid != pod["metadata"]["uid"] {
            return refuse(StatusCode::CONFLICT, "Conflict");
        }
        let allowed = self
            .get("poddisruptionbudgets", "demo-server")
            .and_then(|pdb| pdb["spec"]["maxUnavailable"].as_u64());
        let wanted = self
            .get("statefulsets", "demo-server")
            .and_then(|set| set["spec"]["replicas"].as_u64())
            .unwrap_or(0);
        let servers = self.list("pods").filter(|pod| self.is_ready(pod));
        // One that is not ready is no loss, but goes only where the budget holds without it.
        let left = servers.count() as u64 - u64::from(self.is_ready(&pod));
        if left + allowed.unwrap_or(0) < wanted {
            return refuse(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests");
        }
        self.terminate(name, true);
        (StatusCode::CREATED, body.to_string())
    }

    fn proxy(&mut self, target: &str, call: &Call<'_>) -> Answer {
        let (https, target) = match target.strip_prefix("https:") {
            Some(target) => (true, target),
            None => (false, target),
        };
        let (pod, port) = target.rsplit_once(':').unwrap();
        let pod = pod.to_owned();
        if port != if https { "8501" } else { "8500" } || self.listens(&pod) != Some(https) {
            return refuse(StatusCode::SERVICE_UNAVAILABLE, "connection refused");
        }
        let Some(answers) = self.agents.ask(&pod) else {
            return refuse(StatusCode::SERVICE_UNAVAILABLE, "no endpoints available");
        };
        if let Some(answer) = self.protection(&pod, call) {
            return answer;
        }
        let id = parameter(call.query, "id").unwrap_or_default();
        let body = (*call.method != Method::GET).then_some(call.body);
        match call.path.as_str() {
            "/v1/agent/self" => {
                let mut own = turn::own(&pod, &answers);
                own["Stats"]["tls"] = json!({"files_sha256": self.files(&pod)});
                return ok(&own);
            }
            "/v1/agent/members" => return ok(&turn::members(&answers)),
            "/v1/operator/raft/configuration" => return ok(&turn::configuration(&answers)),
            "/v1/operator/autopilot/configuration" => return self.autopilot(&pod, &answers, body),
            "/v1/agent/leave" => self.agents.tell_leave(&pod),
            "/v1/operator/raft/transfer-leader" => self.agents.tell_transfer(&pod, &id),
            path => match (
                path.strip_prefix("/v1/agent/join/"),
                path.strip_prefix("/v1/agent/force-leave/"),
            ) {
                (Some(address), _) => {
                    let to = self
                        .list("pods")
                        .find(|other| other["status"]["podIP"] == address);
                    let to = to.map(|other| other["metadata"]["name"].as_str().unwrap().to_owned());
                    let Some(to) = to else {
                        return refuse(StatusCode::INTERNAL_SERVER_ERROR, "connection refused");
                    };
                    self.agents.tell_join(&pod, &to);
                }
                (None, Some(name)) => self.agents.tell_forget(name, &pod),
                (None, None) => panic!("nobody answers {path}"),
            },
        }
        (StatusCode::OK, String::new())
    }

    fn autopilot(&mut self, pod: &str, answers: &Answers, body: Option<&[u8]>) -> Answer {
        let Some(body) = body else {
            let set = answers.min_quorum.unwrap_or(0);
            return ok(&json!({"CleanupDeadServers": true, "MinQuorum": set, "ModifyIndex": 7}));
        };
        let body: Value = serde_json::from_slice(body).unwrap();
        assert_eq!(body["CleanupDeadServers"], true, "another setting is lost");
        let servers = u32::try_from(body["MinQuorum"].as_u64().unwrap()).unwrap();
        self.agents.tell_min_quorum(pod, servers);
        (StatusCode::OK, "true".to_owned())
    }
}
