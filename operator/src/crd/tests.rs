use super::*;

const HEAD: &str =
    "apiVersion: consulcluster.dev/v1alpha1\nkind: ConsulCluster\nmetadata:\n  name: demo\n";

fn refused(spec: &str) -> String {
    read(&format!("{HEAD}spec:\n{spec}"))
        .map(|_| ())
        .unwrap_err()
        .to_string()
}

#[test]
fn an_empty_spec_gets_the_documented_defaults() {
    let cluster = read(&format!("{HEAD}spec: {{}}\n")).unwrap();
    let spec = cluster.spec;
    assert_eq!((spec.servers, spec.clients), (3, 0));
    assert_eq!(
        (spec.datacenter.as_str(), spec.domain.as_str()),
        ("dc1", "consul")
    );
    assert_eq!(
        (
            spec.update_policy.min_ready_seconds,
            spec.update_policy.max_lag
        ),
        (2, 1000)
    );
    assert!(spec.recovery.move_aside_second_bootstrap);
    assert_eq!(Storage::default().size.0, "10Gi");
}

#[test]
fn a_wrong_field_is_named_with_its_place_and_what_is_allowed() {
    let cases = [
        (
            "  servers: 4\n",
            "spec.servers: servers must be 1, 3, 5 or 7, got 4; 4 servers tolerate no more failures than 3 at line 6 column 12",
        ),
        (
            "  server: 3\n",
            "spec: unknown field `server`, expected one of `servers`, `clients`",
        ),
        (
            "  servers: three\n",
            "spec.servers: invalid type: string \"three\", expected 1, 3, 5 or 7 at line 6 column 12",
        ),
        (
            "  clients: -1\n",
            "spec.clients: clients must be between 0 and 200, got -1 at line 6 column 12",
        ),
        (
            "  clients: 1\n  extraArgs: [-bootstrap-expect=3]\n",
            "spec.extraArgs[0]: \"-bootstrap-expect=3\" is not allowed in extraArgs: the operator sets flags that begin with -bootstrap itself at line 7 column 15",
        ),
        (
            "  extraArgs: [--node, x]\n",
            "\"--node\" is not allowed in extraArgs",
        ),
        (
            "  config:\n    log_level: debug\n    bootstrap: true\n",
            "key \"bootstrap\" is not allowed in config: the operator sets it itself at line 8 column 5",
        ),
        (
            "  updatePolicy: {pauseBefore: Everything}\n",
            "unknown variant `Everything`, expected one of `Rotating`, `Updating`, `Scaling`",
        ),
        (
            "  recovery: {tokens: a}\n",
            "spec.recovery: unknown field `tokens`, expected one of `token`, `survivor`",
        ),
        (
            "  servers: 3\n  ephemeral: true\n",
            "spec.ephemeral: only for servers: 1, not 3",
        ),
        (
            "  updatePolicy: {maxLag: -1}\n",
            "spec.updatePolicy.maxLag: must be between 0 and 1000000, got -1",
        ),
        (
            "  datacenter: 'a b'\n",
            "spec.datacenter: \"a b\" is not 1 to 63 letters",
        ),
    ];
    for (spec, expected) in cases {
        let message = refused(spec);
        assert!(message.contains(expected), "{spec:?}: {message}");
        assert!(!message.contains('\n'), "one sentence: {message}");
    }
}

#[test]
fn a_file_that_is_not_one_consul_cluster_is_refused() {
    let text = |text: &str| read(text).map(|_| ()).unwrap_err().to_string();
    let document = format!("{HEAD}spec: {{}}\n");
    assert_eq!(text(""), "the file is empty");
    assert_eq!(text("---\n"), "the file is empty");
    assert_eq!(
        text(&format!("{document}---\n{document}")),
        "the file holds 2 YAML documents; one ConsulCluster is expected"
    );
    assert!(
        read(&format!("---\n{document}---\n")).is_ok(),
        "an empty second document is no document"
    );
    let other = document.replace("v1alpha1", "v2");
    assert_eq!(
        text(&other),
        "apiVersion is \"consulcluster.dev/v2\", expected \"consulcluster.dev/v1alpha1\""
    );
    let other = document.replace("kind: ConsulCluster", "kind: Pod");
    assert_eq!(text(&other), "kind is \"Pod\", expected \"ConsulCluster\"");
    assert!(text("a: [1\n").contains("line"), "{}", text("a: [1\n"));
    let long = document.replace("demo", &"a".repeat(41));
    assert_eq!(
        text(&long),
        "metadata.name: is 41 characters long, at most 40 are possible"
    );
    assert!(text(&document.replace("demo", "Demo")).contains("is not a DNS label"));
}

/// Files that are short and mean much.
#[test]
fn a_file_can_neither_nest_nor_repeat_itself_without_end() {
    let said = |text: &str| read(text).map(|_| ()).unwrap_err().to_string();
    for depth in [200, 5_000] {
        let nested = format!("a: {}{}", "[".repeat(depth), "]".repeat(depth));
        let said = said(&nested);
        assert!(said.contains("recursion limit exceeded"), "{said}");
    }
    let mut growing = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let below = format!("*a{}, ", level - 1).repeat(9);
        growing += &format!("a{level}: &a{level} [{below}]\n");
    }
    let said = said(&growing);
    assert!(said.contains("repetition limit exceeded"), "{said}");
}

#[test]
fn what_has_no_effect_locally_is_said_by_name() {
    let spec = "spec: {image: x, tls: {mode: Generated}, acl: {enabled: false}, restoreFrom: {snapshot: x}}\n";
    let cluster = read(&format!("{HEAD}{spec}")).unwrap();
    let fields: Vec<_> = warnings_local(&cluster.spec)
        .into_iter()
        .map(|w| w.field)
        .collect();
    assert_eq!(fields, ["spec.image", "spec.tls", "spec.restoreFrom"]);
    assert!(warnings(&cluster.spec).is_empty());
    let single = read(&format!("{HEAD}spec: {{servers: 1}}\n")).unwrap();
    assert_eq!(warnings(&single.spec)[0].field, "spec.servers");
}

#[test]
fn the_committed_manifest_is_what_the_program_prints() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../crds");
    let mut printed: Vec<_> = Vec::new();
    for (name, text) in manifests().unwrap() {
        let committed = std::fs::read_to_string(format!("{folder}/{name}.yaml"));
        assert!(
            committed.unwrap_or_default() == text,
            "crds/ is stale: run `make fix`, or `operator crd {name} > crds/{name}.yaml`"
        );
        printed.push(format!("{name}.yaml"));
    }
    let list = std::fs::read_to_string(format!("{folder}/kustomization.yaml")).unwrap();
    for name in printed {
        assert!(list.contains(&name), "crds/kustomization.yaml lacks {name}");
    }
}

#[test]
fn the_manifest_carries_names_subresources_columns_and_rules() {
    use kube::CustomResourceExt;
    let crd = serde_json::to_value(ConsulCluster::crd()).unwrap();
    assert_eq!(crd["metadata"]["name"], "consulclusters.consulcluster.dev");
    assert_eq!(crd["spec"]["names"]["shortNames"][0], "cc");
    let version = &crd["spec"]["versions"][0];
    assert_eq!(version["name"], "v1alpha1");
    assert_eq!(
        version["subresources"]["scale"]["specReplicasPath"],
        ".spec.servers"
    );
    assert!(version["subresources"]["status"].is_object());
    let schema = &version["schema"]["openAPIV3Schema"];
    let spec = &schema["properties"]["spec"]["properties"];
    let rules = |value: &serde_json::Value| {
        value["x-kubernetes-validations"]
            .as_array()
            .map_or(0, Vec::len)
    };
    assert_eq!(
        (
            rules(schema),
            rules(&schema["properties"]["spec"]),
            rules(&spec["servers"])
        ),
        (1, 10, 2)
    );
    let size = &spec["storage"]["properties"]["size"];
    assert_eq!((rules(&spec["extraArgs"]), rules(size)), (1, 1));
    assert_eq!(spec["servers"]["default"], 3);
    assert_eq!(spec["config"]["x-kubernetes-preserve-unknown-fields"], true);
    for key in OWN_KEYS {
        assert!(spec["config"]["properties"][key]["type"].is_string());
        let rule = spec["config"]["x-kubernetes-validations"][0].to_string();
        assert!(rule.contains(&format!("!has(self.{key})")), "{rule}");
    }
    let status = &schema["properties"]["status"]["properties"];
    assert_eq!(status["members"]["x-kubernetes-list-map-keys"][0], "name");
    assert_eq!(status["voters"]["type"], "integer");
    assert!(status.get("clusterID").is_some());
}

#[test]
fn every_field_has_a_description() {
    use kube::CustomResourceExt;
    fn walk(path: &str, schema: &serde_json::Value, bare: &mut Vec<String>) {
        let Some(properties) = schema["properties"].as_object() else {
            return;
        };
        for (name, property) in properties {
            let path = format!("{path}.{name}");
            if property["description"].as_str().is_none_or(str::is_empty) {
                bare.push(path.clone());
            }
            walk(&path, property, bare);
            walk(&path, &property["items"], bare);
        }
    }
    let all = [
        ConsulCluster::crd(),
        ConsulSnapshot::crd(),
        ConsulSnapshotSchedule::crd(),
        ConsulRestore::crd(),
    ];
    let mut bare = Vec::new();
    for crd in all {
        let crd = serde_json::to_value(crd).unwrap();
        let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"];
        for part in ["spec", "status"] {
            let path = format!("{}.{part}", crd["metadata"]["name"]);
            walk(&path, &schema[part], &mut bare);
        }
    }
    assert!(bare.is_empty(), "{bare:?}");
}
