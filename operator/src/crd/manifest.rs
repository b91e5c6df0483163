//! Printing the CRD's manifest, and reading a `ConsulCluster` from a file.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::CustomResourceExt;
use serde::Deserialize;

use super::{
    ConsulCluster, ConsulClusterSpec, ConsulClusterStatus, ConsulRestore, ConsulSnapshot,
    ConsulSnapshotSchedule, Invalid, validate,
};

const API_VERSION: &str = "consulcluster.dev/v1alpha1";
const KIND: &str = "ConsulCluster";

/// The CRDs, each as the YAML that stands under `crds/`, with its name.
///
/// # Errors
/// The serializer's own; none is known to be possible.
pub fn manifests() -> Result<Vec<(String, String)>, serde_yaml::Error> {
    let all = [
        ConsulCluster::crd(),
        ConsulSnapshot::crd(),
        ConsulSnapshotSchedule::crd(),
        ConsulRestore::crd(),
    ];
    let text = |crd: CustomResourceDefinition| {
        let yaml = serde_yaml::to_string(&crd)?;
        let name = crd.metadata.name.unwrap_or_default();
        Ok((
            name,
            format!("# Printed by `operator crd`; do not edit.\n{yaml}"),
        ))
    };
    all.into_iter().map(text).collect()
}

/// Why a file does not hold a `ConsulCluster`.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Not YAML, or a field that is unknown, missing or of the wrong kind; the text names field, line and column.
    #[error("{0}")]
    Yaml(serde_yaml::Error),
    /// Nothing in it.
    #[error("the file is empty")]
    Empty,
    /// Several documents.
    #[error("the file holds {0} YAML documents; one ConsulCluster is expected")]
    Several(usize),
    /// Another kind of resource.
    #[error("{field} is \"{found}\", expected \"{expected}\"")]
    OtherKind {
        /// `apiVersion` or `kind`.
        field: &'static str,
        /// What the file says.
        found: String,
        /// What it should say.
        expected: &'static str,
    },
    /// A rule between fields is broken.
    #[error("{0}")]
    Invalid(#[from] Invalid),
}

/// The resource as it stands in a file. Unlike the derived root type it refuses fields that it does not know.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    api_version: String,
    kind: String,
    metadata: Metadata,
    spec: ConsulClusterSpec,
    #[serde(default)]
    status: Option<ConsulClusterStatus>,
}

/// What counts of `metadata` in a file; the rest is the API server's.
#[derive(Deserialize)]
struct Metadata {
    name: String,
    #[serde(default)]
    namespace: Option<String>,
    #[serde(default)]
    generation: Option<i64>,
}

/// Reads one `ConsulCluster` from YAML (JSON is YAML too) and checks it by the CRD's rules.
///
/// # Errors
/// One sentence that says what is wrong and, for a field, where: line, column, and what is allowed.
pub fn read(text: &str) -> Result<ConsulCluster, ReadError> {
    let documents = documents(text)?;
    let only = match documents.as_slice() {
        [] => return Err(ReadError::Empty),
        [only] => *only,
        several => return Err(ReadError::Several(several.len())),
    };
    let document = serde_yaml::Deserializer::from_str(text)
        .nth(only)
        .ok_or(ReadError::Empty)?;
    let File {
        api_version,
        kind,
        metadata,
        spec,
        status,
    } = File::deserialize(document).map_err(ReadError::Yaml)?;
    if api_version != API_VERSION {
        return Err(ReadError::OtherKind {
            field: "apiVersion",
            found: api_version,
            expected: API_VERSION,
        });
    }
    if kind != KIND {
        return Err(ReadError::OtherKind {
            field: "kind",
            found: kind,
            expected: KIND,
        });
    }
    let mut cluster = ConsulCluster::new(&metadata.name, spec);
    cluster.metadata = ObjectMeta {
        name: Some(metadata.name),
        namespace: metadata.namespace,
        generation: metadata.generation,
        ..ObjectMeta::default()
    };
    cluster.status = status;
    validate(&cluster)?;
    Ok(cluster)
}

/// Positions of the documents that are not empty.
fn documents(text: &str) -> Result<Vec<usize>, ReadError> {
    let mut filled = Vec::new();
    for (position, document) in serde_yaml::Deserializer::from_str(text).enumerate() {
        let value = serde_yaml::Value::deserialize(document).map_err(ReadError::Yaml)?;
        if !value.is_null() {
            filled.push(position);
        }
    }
    Ok(filled)
}
