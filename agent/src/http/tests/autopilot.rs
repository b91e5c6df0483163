use super::*;

const CONFIGURATION: &str = "/v1/operator/autopilot/configuration";

#[tokio::test]
async fn the_configuration_has_consuls_shape_and_defaults() {
    let bench = Bench::new();
    bench.get(CONFIGURATION).await.is(
        200,
        r#"{"CleanupDeadServers":true,"LastContactThreshold":"200ms","MaxTrailingLogs":250,"MinQuorum":0,"ServerStabilizationTime":"0s","RedundancyZoneTag":"","DisableUpgradeMigration":false,"UpgradeVersionTag":"","CreateIndex":0,"ModifyIndex":0}"#,
    );
    let sent = r#"{"cleanupDeadServers":false,"LastContactThreshold":"1.5s","ServerStabilizationTime":2000000000,"MinQuorum":3,"RedundancyZoneTag":"zone"}"#;
    bench.put(CONFIGURATION, sent).await.is(200, "true");
    let shown = bench.get(CONFIGURATION).await.json();
    assert_eq!(shown["CleanupDeadServers"], false);
    assert_eq!(shown["LastContactThreshold"], "1.5s");
    assert_eq!(shown["ServerStabilizationTime"], "2s");
    assert_eq!(shown["MaxTrailingLogs"], 250);
    assert_eq!(shown["MinQuorum"], 3);
    assert_eq!(shown["RedundancyZoneTag"], "zone");
    let index = shown["ModifyIndex"].as_u64().unwrap();
    let cas = |index: u64| format!("{CONFIGURATION}?cas={index}");
    bench.put(&cas(index + 1), "{}").await.is(200, "false");
    bench.put(&cas(0), "{}").await.is(200, "false");
    bench.put(&cas(index), "{}").await.is(200, "true");
    let shown = bench.get(CONFIGURATION).await.json();
    assert_eq!(shown["CleanupDeadServers"], true);
    assert_eq!(shown["CreateIndex"].as_u64(), Some(index));
}

#[tokio::test]
async fn a_configuration_that_cannot_be_is_refused() {
    let bench = Bench::new();
    for (path, body, status, text) in [
        ("", "{", 400, "Error parsing autopilot config: "),
        (
            "",
            r#"{"MaxTrailingLogs":-1}"#,
            400,
            "Error parsing autopilot config: ",
        ),
        (
            "",
            r#"{"LastContactThreshold":"zz"}"#,
            400,
            "Error parsing autopilot config: time: invalid duration \"zz\"",
        ),
        (
            "",
            r#"{"LastContactThreshold":0}"#,
            500,
            "LastContactThreshold must be above 0",
        ),
        (
            "?cas=x",
            "{}",
            400,
            "Error parsing cas value: strconv.ParseUint: parsing \"x\": invalid syntax",
        ),
    ] {
        let got = bench.put(&format!("{CONFIGURATION}{path}"), body).await;
        assert_eq!(got.status, status, "{body}: {}", got.body);
        assert!(got.body.starts_with(text), "{body}: {}", got.body);
    }
    assert_eq!(bench.get(CONFIGURATION).await.json()["ModifyIndex"], 0);
}

#[tokio::test]
async fn health_and_state_have_consuls_shape() {
    let bench = Bench::new();
    bench.get("/v1/operator/autopilot/health").await.is(
        429,
        r#"{"Healthy":false,"FailureTolerance":0,"Servers":[{"ID":"00000000-0000-0000-0000-000000000001","Name":"s1","Address":"127.0.0.1:8300","SerfStatus":"alive","Version":"1.19.0","Leader":true,"LastContact":"0s","LastTerm":2,"LastIndex":90,"Healthy":true,"Voter":true,"StableSince":"2020-11-06T13:51:44Z"},{"ID":"00000000-0000-0000-0000-000000000003","Name":"s3","Address":"127.0.0.3:8300","SerfStatus":"alive","Version":"1.19.0","Leader":false,"LastContact":"3ms","LastTerm":2,"LastIndex":90,"Healthy":false,"Voter":true,"StableSince":"2020-11-06T13:51:44Z"}]}"#,
    );
    let state = bench.get("/v1/operator/autopilot/state").await;
    assert_eq!(state.status, 200);
    let state = state.json();
    let first = "00000000-0000-0000-0000-000000000001";
    assert_eq!(state["Leader"], first);
    assert_eq!(state["Voters"].as_array().unwrap().len(), 2);
    assert_eq!(state["Servers"][first]["Status"], "leader");
    assert_eq!(state["Servers"][first]["NodeStatus"], "alive");
    assert_eq!(state["OptimisticFailureTolerance"], 0);
}
