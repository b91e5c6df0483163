//! What is put into force: in the Secrets that agents mount, and at the agents.

use http::Method;
use k8s_openapi::api::core::v1::Secret;
use serde_json::json;

use super::super::{Error, Kube, objects};
use crate::crd::Stage;
use crate::observe::Observed;
use crate::plan::View;
use crate::secure::{self, KeyOp, Next};

/// Policies of the tokens that the operator makes.
const POLICIES: [(&str, &str, &str); 2] = [
    (
        "consul-operator-agents",
        "Agents of this cluster register themselves and their services' checks",
        "node_prefix \"\" { policy = \"write\" }\nservice_prefix \"\" { policy = \"read\" }",
    ),
    (
        "consul-operator-dns",
        "Agents of this cluster answer DNS",
        "node_prefix \"\" { policy = \"read\" }\nservice_prefix \"\" { policy = \"read\" }\nquery_prefix \"\" { policy = \"read\" }",
    ),
];

impl Kube {
    /// What agents see of the vault.
    pub(in super::super) async fn converge_secrets(&self) -> Result<(), Error> {
        let Some(vault) = &self.vault else {
            return Ok(());
        };
        let api = self.api::<Secret>();
        for server in [true, false] {
            let object = objects::secure(&self.cluster, vault, server);
            let live = api.get_opt(object.name()).await?;
            let live = live.map(|live| serde_json::to_value(live).unwrap_or_default());
            if live.is_none_or(|live| live["data"] != object.value["data"]) {
                self.put(&object).await?;
            }
        }
        Ok(())
    }

    /// Does it. What is only waited for is no effect.
    pub(super) async fn do_next(&self, next: &Next, observed: &Observed) -> Result<(), Error> {
        match next {
            Next::Rest | Next::Wait(_) => Ok(()),
            Next::Keep(vault, _) => self.keep_vault(vault).await,
            Next::MakeTokens => self.make_tokens(observed).await,
            Next::Keyring(op, key) => {
                let method = match op {
                    KeyOp::Install => Method::POST,
                    KeyOp::Use => Method::PUT,
                    KeyOp::Remove => Method::DELETE,
                };
                let body = json!({"Key": key}).to_string();
                self.lead_call(observed, method, "/v1/operator/keyring", body)
                    .await
                    .map(drop)
            }
            Next::Reload(agents) => {
                self.check_lead()?;
                let mut targets = self.targets();
                targets.extend(self.daemons(&self.daemon_pods().await?));
                for target in targets.iter().filter(|t| agents.contains(&t.node)) {
                    let agents = &self.shared.agents;
                    // Whoever does not do it now is asked again at the next look.
                    if let Err(error) = agents.tell(target, Method::PUT, "/v1/agent/reload").await {
                        tracing::debug!(%error, "not reloaded");
                    }
                }
                Ok(())
            }
        }
    }

    /// The tokens of agents and of DNS, with their policies. Done again, it changes nothing.
    async fn make_tokens(&self, observed: &Observed) -> Result<(), Error> {
        let Some(vault) = &self.vault else {
            return Ok(());
        };
        let secrets = [&vault.tokens.agent, &vault.tokens.dns];
        for ((name, description, rules), secret) in POLICIES.into_iter().zip(secrets) {
            let known = format!("/v1/acl/policy/name/{name}");
            let found = self
                .lead_call(observed, Method::GET, &known, String::new())
                .await;
            if found.is_err() {
                let policy = json!({"Name": name, "Description": description, "Rules": rules});
                self.lead_call(observed, Method::PUT, "/v1/acl/policy", policy.to_string())
                    .await?;
            }
            let path = "/v1/acl/token/self";
            let own = self.ask_leader(observed, Method::GET, path, String::new(), Some(secret));
            if own.await.is_err() {
                let token = json!({
                    "SecretID": secret,
                    "Description": description,
                    "Policies": [{"Name": name}],
                });
                self.lead_call(observed, Method::PUT, "/v1/acl/token", token.to_string())
                    .await?;
            }
        }
        Ok(())
    }

    /// A call to the leader, with the management token.
    async fn lead_call(
        &self,
        observed: &Observed,
        method: Method,
        path: &str,
        body: String,
    ) -> Result<String, Error> {
        self.check_lead()?;
        let management = self
            .vault
            .as_ref()
            .map(|vault| vault.tokens.management.clone());
        self.ask_leader(observed, method, path, body, management.as_deref())
            .await
    }

    /// The same with another token, or none; also where nothing may be changed.
    pub(super) async fn ask_leader(
        &self,
        observed: &Observed,
        method: Method,
        path: &str,
        body: String,
        token: Option<&str>,
    ) -> Result<String, Error> {
        let view = View::new(&self.desired, observed);
        let leader = view.leader.map(|leader| leader.seat.name.clone());
        let targets = self.targets();
        let found = targets
            .iter()
            .find(|target| Some(&target.node) == leader.as_ref());
        let Some(target) = found else {
            return Err(Error::Changed("nobody leads any more".to_owned()));
        };
        let token = token.filter(|_| secure::stages(&self.cluster).acl > Stage::Disabled);
        let said = self.shared.agents.call(target, method, path, body, token);
        Ok(said.await?)
    }
}
