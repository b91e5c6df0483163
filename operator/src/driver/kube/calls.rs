//! The calls that change something. Each asks first whether this operator still leads.

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::Api;
use kube::api::{
    DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions, PropagationPolicy,
};
use serde_json::{Value, json};

use super::diff::holds;
use super::objects::{Kind, Object};
use super::{Error, Kube, names};
use crate::crd::{ConsulCluster, ConsulClusterStatus};

impl Kube {
    /// Refuses to go on when another operator may lead by now.
    pub(super) fn check_lead(&self) -> Result<(), Error> {
        if (self.shared.leads)() {
            Ok(())
        } else {
            Err(Error::Deposed)
        }
    }

    pub(super) fn dynamic(&self, kind: Kind) -> Api<DynamicObject> {
        Api::namespaced_with(
            self.shared.client.clone(),
            &self.namespace,
            &kind.resource(),
        )
    }

    /// Server-side apply, over what anybody else has set in the same fields.
    pub(super) async fn put(&self, object: &Object) -> Result<DynamicObject, Error> {
        self.check_lead()?;
        let params = PatchParams::apply(names::MANAGER).force();
        let api = self.dynamic(object.kind);
        let patch = Patch::Apply(&object.value);
        let stored = api.patch(object.name(), &params, &patch).await?;
        tracing::debug!(kind = ?object.kind, name = object.name(), "applied");
        Ok(stored)
    }

    /// The same of a set of pods, whose lists are then ours alone. An apply takes away only what an apply has set: what was
    /// set at the creation of the set, or by a hand, would stay in them for ever.
    pub(super) async fn put_set(&self, object: &Object) -> Result<(), Error> {
        let stored = self.put(object).await?;
        let live = serde_json::to_value(&stored).unwrap_or_default();
        if holds(&live, &object.value) {
            return Ok(());
        }
        let pod = &object.value["spec"]["template"]["spec"];
        let patch = json!({
            "metadata": {"uid": stored.metadata.uid, "resourceVersion": stored.metadata.resource_version},
            "spec": {"template": {"spec": {"containers": pod["containers"], "volumes": pod["volumes"]}}},
        });
        let params = PatchParams {
            field_manager: Some(names::MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let api = self.dynamic(object.kind);
        api.patch(object.name(), &params, &Patch::Merge(&patch))
            .await?;
        tracing::debug!(kind = ?object.kind, name = object.name(), "lists replaced");
        Ok(())
    }

    /// Creates; false: there is one of that name already, and it was not touched.
    pub(super) async fn create(&self, object: &Object) -> Result<bool, Error> {
        self.check_lead()?;
        let value: DynamicObject = serde_json::from_value(object.value.clone())
            .map_err(|e| Error::Api(Box::new(kube::Error::SerdeError(e))))?;
        let params = PostParams {
            field_manager: Some(names::MANAGER.to_owned()),
            ..PostParams::default()
        };
        match self.dynamic(object.kind).create(&params, &value).await {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Deletes the very object that was seen. One that is gone is as good.
    pub(super) async fn delete(
        &self,
        kind: Kind,
        name: &str,
        uid: Option<&String>,
        propagation: PropagationPolicy,
    ) -> Result<(), Error> {
        self.check_lead()?;
        let params = DeleteParams {
            propagation_policy: Some(propagation),
            preconditions: uid.map(|uid| Preconditions {
                uid: Some(uid.clone()),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        match self.dynamic(kind).delete(name, &params).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Evicts the very pod that was seen: its going counts against the same budget as a drain's. One whose container
    /// does not run is deleted, as there is nothing to be protected.
    pub(super) async fn remove_pod(&self, pod: &Pod, down: bool) -> Result<(), Error> {
        self.check_lead()?;
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let done = if down {
            let params = DeleteParams {
                preconditions: Some(Preconditions {
                    uid: pod.metadata.uid.clone(),
                    // Whoever changed it meanwhile may have brought it up.
                    resource_version: pod.metadata.resource_version.clone(),
                }),
                ..DeleteParams::default()
            };
            self.api::<Pod>().delete(name, &params).await.map(drop)
        } else {
            self.evict(name, pod.metadata.uid.as_ref()).await
        };
        match done {
            Ok(()) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Said by hand: the client library spells `deleteOptions` in a way that the API server does not read, and the
    /// precondition with it.
    async fn evict(&self, name: &str, uid: Option<&String>) -> Result<(), kube::Error> {
        let body = json!({
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": name, "namespace": self.namespace},
            "deleteOptions": {"preconditions": {"uid": uid}},
        });
        let uri = format!("/api/v1/namespaces/{}/pods/{name}/eviction", self.namespace);
        let request = http::Request::post(uri)
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(body.to_string().into_bytes())
            .map_err(|error| kube::Error::Service(error.into()))?;
        let answer: Value = self.shared.client.request(request).await?;
        tracing::debug!(name, %answer, "evicted");
        Ok(())
    }

    /// Writes the status over the very one that was read; a conflict means that somebody was faster.
    pub async fn write_status(&mut self, status: ConsulClusterStatus) -> Result<(), Error> {
        self.check_lead()?;
        let mut cluster = self.cluster.clone();
        cluster.status = Some(status);
        let params = PostParams {
            field_manager: Some(names::MANAGER.to_owned()),
            ..PostParams::default()
        };
        let api: Api<ConsulCluster> = self.api();
        // What comes back is what is stored: later steps build upon that, not upon what was meant to be written.
        self.cluster = api.replace_status(&self.name, &params, &cluster).await?;
        self.stored = self.cluster.status.clone();
        Ok(())
    }

    /// Changes a claim: a note of whose data it holds, or a larger size.
    pub(super) async fn patch_claim(
        &self,
        claim: &PersistentVolumeClaim,
        patch: Value,
    ) -> Result<(), Error> {
        self.check_lead()?;
        let name = claim.metadata.name.as_deref().unwrap_or_default();
        let mut patch = patch;
        patch["metadata"]["uid"] = json!(claim.metadata.uid);
        let params = PatchParams {
            field_manager: Some(names::MANAGER.to_owned()),
            ..PatchParams::default()
        };
        self.api::<PersistentVolumeClaim>()
            .patch(name, &params, &Patch::Merge(&patch))
            .await?;
        Ok(())
    }
}
