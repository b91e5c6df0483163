//! Config entries, intentions and coordinates.

use super::*;

const ENTRY: &str =
    r#"{"Kind":"service-defaults","Name":"web","Protocol":"http","CreateIndex":1,"ModifyIndex":2}"#;
const INTENTION: &str =
    r#"{"ID":"x","SourceName":"web","DestinationName":"db","Action":"allow","Precedence":9}"#;

#[test]
fn config_entries_are_written_read_listed_and_removed() {
    let hcl = "Kind = \"service-defaults\"\nname = \"web\"\nprotocol = \"http\"";
    let written = run_with("config write -", hcl, &[], &[(200, "true")]);
    assert_eq!(written.out, "Config entry written: service-defaults/web\n");
    assert_eq!(written.sent, ["PUT /v1/config"]);
    assert_eq!(
        written.bodies,
        [r#"{"Kind":"service-defaults","name":"web","protocol":"http"}"#]
    );
    let late = run_with(
        "config write -cas -modify-index 7 -",
        hcl,
        &[],
        &[(200, "false")],
    );
    assert_eq!(late.sent, ["PUT /v1/config?cas=7"]);
    assert_eq!(
        (late.code, late.err.as_str()),
        (1, "Config entry not updated: service-defaults/web\n")
    );
    let (out, sent) = good(
        "config read -kind service-defaults -name web",
        &[(200, ENTRY)],
    );
    assert_eq!(sent, ["GET /v1/config/service-defaults/web"]);
    assert!(
        out.starts_with("{\n    \"Kind\": \"service-defaults\",\n    \"Name\": \"web\","),
        "{out}"
    );
    let (out, _) = good(
        "config list -kind service-defaults",
        &[(200, &format!("[{ENTRY}]").leak()[..])],
    );
    assert_eq!(out, "web\n");
    let (out, sent) = good("config delete -kind mesh -name mesh", &[(200, "{}")]);
    assert_eq!(
        (out.as_str(), sent),
        (
            "Config entry deleted: mesh/mesh\n",
            vec!["DELETE /v1/config/mesh/mesh".to_owned()]
        )
    );
    assert_eq!(
        bad(
            "config read -kind a -name b",
            &[(404, "Config entry not found for \"a\" / \"b\"")]
        ),
        "Error reading config entry a/b: Unexpected response code: 404 (Config entry not found for \"a\" / \"b\")\n"
    );
    assert!(bad("config read -name b", &[]).starts_with("Must specify the -kind parameter"));
    assert!(
        bad("config delete -kind a -name b -cas", &[]).starts_with("Must specify -modify-index")
    );
}

#[test]
fn intentions_are_made_matched_checked_and_removed() {
    let made = ran(
        "intention create -deny -meta a=b web db",
        &[(200, r#"{"ID":"x"}"#)],
    );
    assert_eq!(
        (made.code, made.out.as_str()),
        (0, "Created: web => db (deny)\n")
    );
    assert_eq!(made.sent, ["POST /v1/connect/intentions"]);
    assert_eq!(
        made.bodies,
        [
            r#"{"SourceName":"web","DestinationName":"db","SourceType":"consul","Action":"deny","Meta":{"a":"b"}}"#
        ]
    );
    let denied = ran("intention check web db", &[(200, r#"{"Allowed":false}"#)]);
    assert_eq!((denied.code, denied.out.as_str()), (2, "Denied\n"));
    let (out, _) = good("intention check web db", &[(200, r#"{"Allowed":true}"#)]);
    assert_eq!(out, "Allowed\n");
    let (out, sent) = good(
        "intention match -source web",
        &[(
            200,
            r#"{"web":[{"SourceName":"web","DestinationName":"*","Action":"deny"}]}"#,
        )],
    );
    assert_eq!(
        (out.as_str(), sent),
        (
            "web => * (deny)\n",
            vec!["GET /v1/connect/intentions/match?by=source&name=web".to_owned()]
        )
    );
    let (out, _) = good(
        "intention list",
        &[(200, &format!("[{INTENTION}]").leak()[..])],
    );
    assert_eq!(
        out,
        "ID  Source  Action  Destination  Precedence\nx   web     allow   db           9\n"
    );
    let none = ran("intention list", &[(200, "[]")]);
    assert_eq!(
        (none.code, none.err.as_str()),
        (2, "There are no intentions.\n")
    );
    let (out, _) = good("intention get x", &[(200, INTENTION)]);
    assert_eq!(
        out,
        "Source:       web\nDestination:  db\nAction:       allow\nID:           x\n"
    );
    let (out, sent) = good("intention delete web db", &[(200, "true")]);
    assert_eq!(out, "Intention deleted.\n");
    assert_eq!(
        sent,
        ["DELETE /v1/connect/intentions/exact?source=web&destination=db"]
    );
    assert!(
        bad("intention create web", &[])
            .starts_with("Error: command requires exactly two arguments")
    );
}

#[test]
fn rtt_is_what_the_coordinates_say() {
    let place = |node: &str, x: f64| {
        format!(
            r#"{{"Node":"{node}","Coord":{{"Vec":[{x},0,0,0,0,0,0,0],"Error":1,"Adjustment":0,"Height":0.001}}}}"#
        )
    };
    let places: &str = format!("[{},{}]", place("a", 0.01), place("b", 0.03)).leak();
    let (out, _) = good("rtt a b", &[(200, places)]);
    assert_eq!(
        out,
        "Estimated a <-> b rtt: 22.000 ms (using LAN coordinates)\n"
    );
    assert_eq!(
        bad("rtt a zz", &[(200, places)]),
        "Could not find a coordinate for node \"zz\"\n"
    );
    let datacenters: &str = format!(
        r#"[{{"Datacenter":"dc1","Coordinates":[{}]}},{{"Datacenter":"dc2","Coordinates":[{}]}}]"#,
        place("a", 0.01),
        place("a", 0.05)
    )
    .leak();
    let (out, _) = good("rtt -wan a.dc1 a.dc2", &[(200, datacenters)]);
    assert_eq!(
        out,
        "Estimated a.dc1 <-> a.dc2 rtt: 42.000 ms (using WAN coordinates)\n"
    );
    assert!(bad("rtt", &[]).starts_with("One or two node names must be specified"));
    assert_eq!(
        bad("rtt -wan a b", &[]),
        "Node names must be specified as <node name>.<datacenter> with -wan\n"
    );
}

#[test]
fn the_certificate_authority_is_shown_and_changed() {
    let config = r#"{"Provider":"consul","Config":{"LeafCertTTL":"72h"},"State":null,"ForceWithoutCrossSigning":false,"CreateIndex":5,"ModifyIndex":5}"#;
    let (out, sent) = good("connect ca get-config", &[(200, config)]);
    assert_eq!(sent, ["GET /v1/connect/ca/configuration"]);
    assert!(
        out.starts_with(
            "{\n\t\"Provider\": \"consul\",\n\t\"Config\": {\n\t\t\"LeafCertTTL\": \"72h\"\n\t},"
        ),
        "{out}"
    );
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.json");
    std::fs::write(&file, config).unwrap();
    let command = format!("connect ca set-config -config-file {}", file.display());
    let set = ran(&command, &[(200, "")]);
    assert_eq!(
        (set.code, set.out.as_str()),
        (0, "Configuration updated!\n")
    );
    assert_eq!(set.sent, ["PUT /v1/connect/ca/configuration"]);
    let sent: serde_json::Value = serde_json::from_str(&set.bodies[0]).unwrap();
    assert_eq!(sent["Config"]["LeafCertTTL"], "72h");
    assert_eq!(sent["ForceWithoutCrossSigning"], false);
    let forced = ran(
        &format!("{command} -force-without-cross-signing"),
        &[(200, "")],
    );
    assert!(forced.bodies[0].contains(r#""ForceWithoutCrossSigning":true"#));
    assert_eq!(
        bad(&command, &[(500, "unknown CA provider \"x\"")]),
        "Error setting CA configuration: Unexpected response code: 500 (unknown CA provider \"x\")\n"
    );
    assert_eq!(
        bad("connect ca set-config", &[]),
        "The -config-file flag is required\n"
    );
    let absent = bad("connect ca set-config -config-file /nowhere/x", &[]);
    assert!(
        absent.starts_with("Error reading config file: "),
        "{absent}"
    );
    assert!(bad("connect ca zz", &[]).starts_with("There is no subcommand \"zz\"."));
}
