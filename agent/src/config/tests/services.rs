//! Definitions of services and checks in files.

use super::*;

#[test]
fn services_and_checks_are_read_from_files_of_both_kinds() {
    let json = r#"{"data_dir": "/d", "services": [{"name": "a", "port": 1, "checks": [{"ttl": "5s"}]}, {"name": "b", "meta": {"X_y": "1"}}],
        "check": {"id": "disk", "name": "d", "ttl": "1m"}, "tagged_addresses": {"wan": "9.9.9.9"}, "check_update_interval": "0s"}"#;
    let hcl = r#"
        data_dir = "/d"
        service {
          name = "a"
          port = 1
          check { ttl = "5s" }
        }
        service { name = "b", meta { X_y = "1" } }
        checks = [{ id = "disk", name = "d", ttl = "1m" }]
        tagged_addresses { wan = "9.9.9.9" }
        check_update_interval = "0s"
    "#;
    let json = load_text("a.json", json).expect("valid JSON").config;
    let hcl = load_text("a.hcl", hcl).expect("valid HCL").config;
    let read = |config: &Config| {
        let services = config.services.iter().map(|raw| raw.to_service());
        let checks = config.checks.iter().map(|raw| raw.to_check());
        (
            services.collect::<Result<Vec<_>, _>>().expect("valid"),
            checks.collect::<Result<Vec<_>, _>>().expect("valid"),
        )
    };
    let (services, checks) = read(&json);
    assert_eq!((services.len(), checks.len()), (2, 1));
    assert_eq!(read(&hcl), (services, checks));
    assert_eq!(json.tagged_addresses, hcl.tagged_addresses);
    assert!(json.check_settings.update_interval.is_zero());
    for (more, wanted) in [
        (
            r#"{"nam": "x"}"#,
            "a.json:1:32: services: invalid config key nam",
        ),
        (r#"{"port": 1}"#, "service: Missing service name"),
        (
            r#"{"name": "x", "check": {"http": "http://x"}}"#,
            "service: Invalid check: Interval must be > 0 for Script, HTTP, H2PING, TCP, UDP or OSService checks",
        ),
        (
            r#"{"name": "x"}, {"id": "x", "name": "y"}"#,
            "duplicate service definition: \"x\" is defined twice",
        ),
    ] {
        let services = format!(r#", "services": [{more}]"#);
        assert_eq!(error(load_with(&services)), wanted);
    }
}
