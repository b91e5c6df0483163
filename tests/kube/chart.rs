//! The chart and the plain manifests.

use std::collections::BTreeSet;
use std::path::Path as File;
use std::process::{Command, Stdio};

use serde_json::{Map, Value, json};
use tests::{Kube, Options, Path, Scene, binary, kubectl, program, wait_for};

const CHART: &str = "charts/consulcluster-operator";
const CRD: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const CRDS: [&str; 4] = [
    "consulclusters",
    "consulsnapshots",
    "consulsnapshotschedules",
    "consulrestores",
];

/// Monitors and rules are of kinds that only a Prometheus Operator brings, so these are linted and looked at only.
const MONITORED: &str = "metrics.serviceMonitor.enabled=true,metrics.podMonitor.enabled=true,metrics.rules.enabled=true,\
     metrics.dashboard.enabled=true,metrics.labels.release=prometheus";

/// Values that between them reach every branch of the templates.
const VARIANTS: [&str; 4] = [
    "",
    "watchNamespace=somewhere,crds.keep=false",
    "replicas=2,podDisruptionBudget.enabled=true,crds.install=false,priorityClassName=system-cluster-critical",
    "serviceAccount.create=false,serviceAccount.name=other,imagePullSecrets[0].name=secret,podLabels.a=b,nodeSelector.c=d,\
     image.digest=sha256:0123456789012345678901234567890123456789012345678901234567890123",
];

fn run(command: &mut Command) -> Result<String, String> {
    let output = command
        .output()
        .unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match output.status.success() {
        true => Ok(text(&output.stdout)),
        false => Err(format!("{}{}", text(&output.stdout), text(&output.stderr))),
    }
}

fn helm(arguments: &[&str]) -> Result<String, String> {
    run(Command::new("helm")
        .args(arguments)
        .current_dir(program(".")))
}

fn template(values: &str) -> String {
    helm(&[
        "template",
        "consulcluster-operator",
        CHART,
        "--namespace",
        "ns",
        "--set",
        values,
    ])
    .unwrap_or_else(|said| panic!("{values}: {said}"))
}

#[test]
fn helm_finds_nothing_to_complain_about() {
    for values in VARIANTS.into_iter().chain([MONITORED]) {
        helm(&["lint", "--strict", CHART, "--set", values])
            .unwrap_or_else(|said| panic!("{values}: {said}"));
    }
}

#[test]
fn values_that_the_chart_does_not_know_are_refused() {
    for (values, named) in [
        ("replica=2", "replica"),
        ("replicas=many", "replicas"),
        ("image.pullPolicy=Sometimes", "pullPolicy"),
        ("watchNamespace=Not A Name", "watchNamespace"),
        ("serviceAccount.create=false", "serviceAccount.name"),
        ("metrics.interval=often", "interval"),
    ] {
        let said = helm(&["template", "x", CHART, "--set", values]).expect_err(values);
        assert!(said.contains(named), "{values}: {said}");
    }
}

#[test]
fn the_plain_manifests_are_those_of_the_chart() {
    let printed = run(&mut Command::new(program("deploy/plain-manifests"))).expect("printed");
    let kept =
        std::fs::read_to_string(program("deploy/operator.yaml")).expect("deploy/operator.yaml");
    assert!(
        printed == kept,
        "deploy/operator.yaml differs from the chart: run deploy/plain-manifests > deploy/operator.yaml"
    );
}

/// What Prometheus and Grafana are given: the files as they are, under the labels that were asked for.
#[test]
fn monitors_rules_and_dashboard_come_when_they_are_asked_for() {
    let kinds = |text: &str| -> Vec<String> {
        let kind = |line: &str| line.strip_prefix("kind: ").map(str::to_owned);
        text.lines().filter_map(kind).collect()
    };
    let without = kinds(&template(""));
    let text = template(MONITORED);
    let mut with = kinds(&text);
    with.retain(|kind| !without.contains(kind));
    with.sort();
    assert_eq!(
        with,
        [
            "ConfigMap",
            "PodMonitor",
            "PrometheusRule",
            "ServiceMonitor"
        ]
    );
    assert_eq!(text.matches("release: prometheus").count(), 3);
    assert!(text.contains("alert: ConsulClusterUnavailable"), "{text}");
    assert!(text.contains("{{ $labels.cluster }}"), "{text}");
    assert!(text.contains("\"title\": \"ConsulClusters\""), "{text}");
}

/// The rights in the chart are those that the operator says it needs.
#[test]
fn the_chart_grants_what_the_operator_asks_for() {
    let asked = run(Command::new(binary("operator")).arg("rbac")).expect("operator rbac");
    let rules = |text: &str, kind: &str| -> BTreeSet<String> {
        let documents = serde_yaml_documents(text);
        let roles = documents.iter().filter(|object| object["kind"] == kind);
        roles
            .flat_map(|role| role["rules"].as_array().cloned().unwrap_or_default())
            .flat_map(|rule| single_rights(&rule))
            .collect()
    };
    assert_eq!(
        rules(&template(""), "ClusterRole"),
        rules(&asked, "ClusterRole"),
        "left: the chart, right: `operator rbac`"
    );
}

/// A rule taken apart: each right is one line, so that it does not matter how they are grouped.
fn single_rights(rule: &Value) -> Vec<String> {
    let texts = |of: &str| -> Vec<String> {
        let list = rule[of].as_array().into_iter().flatten();
        list.filter_map(|text| text.as_str().map(str::to_owned))
            .collect()
    };
    let mut rights = Vec::new();
    for group in texts("apiGroups") {
        for resource in texts("resources") {
            for verb in texts("verbs") {
                rights.push(format!(
                    "{verb} {group}/{resource} {}",
                    rule["resourceNames"]
                ));
            }
        }
    }
    rights
}

/// Documents of a YAML stream, read by kubectl, which knows Kubernetes' ways with it.
fn serde_yaml_documents(text: &str) -> Vec<Value> {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), text).expect("written");
    let path = file.path().to_str().expect("text");
    let list = kubectl(&[
        "create",
        "--dry-run=client",
        "--validate=false",
        "-o",
        "json",
        "-f",
        path,
    ])
    .unwrap_or_else(|said| panic!("{said}"));
    serde_json::Deserializer::from_str(&list)
        .into_iter::<Value>()
        .flat_map(|object| {
            let mut object = object.expect("JSON");
            match object["items"].take() {
                Value::Array(items) => items,
                _ => vec![object],
            }
        })
        .collect()
}

/// Every object of every variant fits the schemas that this API server publishes, with no field that it does not know.
#[test]
fn every_manifest_fits_the_schemas() {
    let scene = Scene::with(
        "schemas",
        &Options {
            no_operator: true,
            ..Default::default()
        },
    );
    let folder = tempfile::tempdir().expect("a temporary folder");
    write_schemas(&scene.kube, folder.path());
    let mut checked: Vec<(String, String)> = VARIANTS
        .iter()
        .map(|values| (format!("chart {values}"), template(values)))
        .collect();
    let plain = kubectl(&["kustomize", program("deploy").to_str().expect("text")]);
    checked.push(("deploy".into(), plain.expect("kustomize")));
    for sample in std::fs::read_dir(program("deploy/samples")).expect("samples") {
        let path = sample.expect("readable").path();
        let text = std::fs::read_to_string(&path).expect("readable");
        checked.push((path.display().to_string(), text));
    }
    for (what, manifest) in checked {
        kubeconform(folder.path(), &manifest).unwrap_or_else(|said| panic!("{what}: {said}"));
    }
    // The net catches: an unknown field is one.
    let wrong = "apiVersion: v1\nkind: Service\nmetadata: {name: x}\nspec: {port: 1}\n";
    let said = kubeconform(folder.path(), wrong).expect_err("an unknown field is taken");
    assert!(said.contains("port"), "{said}");
}

fn kubeconform(schemas: &File, manifest: &str) -> Result<String, String> {
    let location = format!(
        "{}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json",
        schemas.display()
    );
    let mut child = Command::new("kubeconform")
        .args(["-strict", "-summary", "-schema-location", &location])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("kubeconform starts");
    let mut stdin = child.stdin.take().expect("piped");
    std::io::Write::write_all(&mut stdin, manifest.as_bytes()).expect("read");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        Ok(said)
    } else {
        Err(said)
    }
}

/// Writes a JSON schema for each kind of object, from the API server's own description.
fn write_schemas(kube: &Kube, folder: &File) {
    let description = kube
        .get("/openapi/v2")
        .expect("the API server describes itself");
    let mut definitions = description["definitions"]
        .as_object()
        .expect("definitions")
        .clone();
    definitions.values_mut().for_each(strict);
    for (name, definition) in &definitions {
        let kinds = definition["x-kubernetes-group-version-kind"].as_array();
        let [kind] = kinds.map_or(&[][..], Vec::as_slice) else {
            continue;
        };
        let text = |of: &str| kind[of].as_str().unwrap_or_default().to_lowercase();
        let group = text("group");
        let group = group.split('.').next().filter(|group| !group.is_empty());
        let suffix: Vec<String> = group
            .map(str::to_owned)
            .into_iter()
            .chain([text("version")])
            .collect();
        let mut needed = Map::new();
        collect(name, &definitions, &mut needed);
        let schema = json!({"$ref": format!("#/definitions/{name}"), "definitions": needed});
        let file = folder.join(format!("{}-{}.json", text("kind"), suffix.join("-")));
        std::fs::write(file, schema.to_string()).expect("written");
    }
}

/// Unknown fields are refused, and what may be a number or a text is allowed to be either.
fn strict(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            if object.get("format") == Some(&json!("int-or-string")) {
                object.remove("format");
                object.insert("type".into(), json!(["integer", "string"]));
            }
            let open = object.contains_key("additionalProperties")
                || object.get("x-kubernetes-preserve-unknown-fields") == Some(&json!(true));
            if object.get("properties").is_some_and(Value::is_object) && !open {
                object.insert("additionalProperties".into(), json!(false));
            }
            object.values_mut().for_each(strict);
        }
        Value::Array(items) => items.iter_mut().for_each(strict),
        _ => {}
    }
}

/// A definition and all that it refers to.
fn collect(name: &str, all: &Map<String, Value>, needed: &mut Map<String, Value>) {
    if needed.contains_key(name) {
        return;
    }
    let Some(definition) = all.get(name) else {
        return;
    };
    needed.insert(name.to_owned(), definition.clone());
    let text = definition.to_string();
    for reference in text.split("#/definitions/").skip(1) {
        let name = reference.split('"').next().unwrap_or_default();
        collect(name, all, needed);
    }
}

/// Installed for the whole cluster, tested, upgraded and uninstalled; the resource and a cluster outlive it.
#[test]
fn the_chart_installs_upgrades_and_uninstalls() {
    let scene = Scene::with(
        "chart",
        &Options {
            alone: true,
            no_operator: true,
            ..Default::default()
        },
    );
    let adopt = |key: &str, map: Value| {
        let mut metadata = json!({});
        metadata[key] = map;
        for name in CRDS {
            let crd = format!("{CRD}/{name}.consulcluster.dev");
            scene
                .kube
                .patch(&crd, &json!({ "metadata": metadata }))
                .expect("patched");
        }
    };
    // As the chart's README says for a resource that was there before the release.
    adopt(
        "annotations",
        json!({
            "meta.helm.sh/release-name": "consulcluster-operator",
            "meta.helm.sh/release-namespace": scene.namespace,
        }),
    );
    adopt("labels", json!({"app.kubernetes.io/managed-by": "Helm"}));
    let whole = |more: &str| -> Vec<String> {
        let values = format!("watchNamespace=,crds.install=true{more}");
        ["--set", &values, "--wait", "--timeout", "10m"]
            .map(str::to_owned)
            .to_vec()
    };
    scene.helm("install", &whole(""));
    run(Command::new("helm").args([
        "test",
        "consulcluster-operator",
        "--timeout",
        "10m",
        "--namespace",
        &scene.namespace,
    ]))
    .unwrap_or_else(|said| panic!("helm test: {said}"));
    scene.apply("c", json!({"servers": 1}));
    let before = scene.wait_ready("c");
    let uids = scene.server_uids("c");

    scene.helm(
        "upgrade",
        &whole(",replicas=2,podDisruptionBudget.enabled=true"),
    );
    assert_eq!(scene.operators().len(), 2);
    scene.wait_ready("c");
    assert_eq!(
        scene.server_uids("c"),
        uids,
        "an upgrade of the operator touches no server"
    );

    run(Command::new("helm").args([
        "uninstall",
        "consulcluster-operator",
        "--wait",
        "--namespace",
        &scene.namespace,
    ]))
    .unwrap_or_else(|said| panic!("helm uninstall: {said}"));
    wait_for("the operator is gone", || {
        let left = scene
            .kube
            .list(Path::DEPLOYMENTS, &scene.namespace, "")
            .len();
        (left == 0).then_some(()).ok_or(left)
    });
    let after = scene
        .get("c")
        .expect("the resource and the cluster are kept");
    assert_eq!(before["metadata"]["uid"], after["metadata"]["uid"]);
    assert_eq!(
        scene.server_uids("c"),
        uids,
        "the servers go on without an operator"
    );
}
