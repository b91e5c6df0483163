use proptest::prelude::*;
use serde_json::{Value, json};

use super::schema::{NODE, SERVICE_HEALTH, SERVICE_NODE};
use super::{Error, Filter};

fn web() -> Value {
    json!({
        "Node": {"ID": "", "Node": "n1", "Address": "10.0.0.1", "Meta": {"rack": "r1", "os name": "linux"}},
        "Service": {"ID": "web1", "Service": "web", "Tags": ["v1", "primary"], "Port": 8080, "EnableTagOverride": true,
            "Meta": {}, "Proxy": {"Config": {"limit": 5}}},
        "Checks": [{"CheckID": "a", "Status": "passing", "ServiceTags": ["x"]}, {"CheckID": "b", "Status": "warning"}],
    })
}

fn keeps(text: &str) -> bool {
    let filter =
        Filter::new(text, &SERVICE_HEALTH).unwrap_or_else(|error| panic!("{text}: {error}"));
    filter.keeps(&web())
}

fn refusal(text: &str) -> String {
    let refused = Filter::new(text, &SERVICE_HEALTH);
    refused.expect_err(text).to_string()
}

#[test]
fn every_operator_and_its_negation() {
    for text in [
        "Service.Service == web",
        "Service.Service==\"web\"",
        "Service.Service == `web`",
        "Service.Port == 8080",
        "Service.EnableTagOverride == true",
        "v1 in Service.Tags",
        "\"v1\" in Service.Tags",
        "Service.Tags contains primary",
        "rack in Node.Meta",
        "Node.Meta contains \"os name\"",
        "Service.Service contains eb",
        "eb in Service.Service",
        "Service.Meta is empty",
        "Node.ID is empty",
        "Service.Service matches `^w.b$`",
        "Node.Meta.rack == r1",
        "Node.Meta[\"os name\"] == linux",
        "Node.Meta[`os name`] == linux",
        "\"/Node/Meta/os name\" == linux",
        "Service.Proxy.Config.limit == 5",
        "Service.Tags.0 == v1",
    ] {
        assert!(keeps(text), "{text}");
        assert!(!keeps(&format!("not {text}")), "not {text}");
        for (from, to) in [
            (" is empty", " is not empty"),
            ("==", "!="),
            (" in ", " not in "),
            (" contains ", " not contains "),
            (" matches ", " not matches "),
        ] {
            if text.contains(from) {
                let negated = text.replacen(from, to, 1);
                assert!(!keeps(&negated), "{negated}");
            }
        }
    }
}

#[test]
fn what_is_absent_equals_nothing_and_is_empty() {
    for (text, wanted) in [
        ("Node.Meta.zone == a", false),
        ("Node.Meta.zone != a", true),
        ("Node.Meta.zone is empty", true),
        ("Node.Meta.zone is not empty", false),
        ("Node.Meta.zone matches a", false),
        ("Node.Meta.zone not matches a", true),
        ("a in Node.Meta.zone", false),
        ("a not in Node.Meta.zone", true),
    ] {
        assert_eq!(keeps(text), wanted, "{text}");
    }
}

#[test]
fn through_a_list_one_is_enough() {
    assert!(keeps("Checks.Status == passing"));
    assert!(keeps("Checks.Status != passing"));
    assert!(!keeps("Checks.Status == critical"));
    assert!(keeps("x in Checks.ServiceTags"));
    assert!(keeps("Checks is not empty"));
}

#[test]
fn collections_look_at_each_element() {
    for (text, wanted) in [
        ("any Checks as c { c.Status == warning }", true),
        ("all Checks as c { c.Status == warning }", false),
        (
            "all Checks as c { c.Status != critical and Service.Service == web }",
            true,
        ),
        ("all Checks as i, c { i == 0 or c.CheckID == b }", true),
        ("any Checks as (_, c) { c.CheckID == b }", true),
        ("any Node.Meta as k { k == rack }", true),
        ("any Node.Meta as k, v { k == rack and v == r1 }", true),
        ("all Service.Meta as k { k == rack }", true),
        ("any Service.Meta as k { k != rack }", false),
        ("any Service.Tags as t { t matches `^v` }", true),
        (
            "any Checks as c { any c.ServiceTags as t { t == x } }",
            true,
        ),
        ("not any Checks as c { c.Status == critical }", true),
    ] {
        assert_eq!(keeps(text), wanted, "{text}");
    }
}

#[test]
fn and_binds_stronger_than_or_and_not_strongest() {
    let (yes, no) = ("Service.Service == web", "Service.Service == db");
    for (text, wanted) in [
        (format!("{yes} or {yes} and {no}"), true),
        (format!("({yes} or {yes}) and {no}"), false),
        (format!("not {no} and {no}"), false),
        (format!("not ({no} and {no})"), true),
        (format!("not not {yes}"), true),
        (format!("  (\n{yes})\t"), true),
        (format!("(({no}) or {no} or {yes})"), true),
    ] {
        assert_eq!(keeps(&text), wanted, "{text}");
    }
}

#[test]
fn errors_say_what_and_where() {
    for (text, wanted) in [
        (
            "",
            "1:1 (0): no match found, expected: a selector, a number or a string",
        ),
        (
            "Service.Service",
            "1:16 (15): no match found, expected: \"!=\", \".\", \"==\", \"[\", \"contains\", \"in\", \"is empty\", \"is not empty\", \"matches\" or \"not\" before one of them",
        ),
        (
            "Service.Service ==",
            "1:19 (18): no match found, expected: a selector, a number or a string",
        ),
        (
            "Service.Service == web-1",
            "1:23 (22): no match found, expected: \"and\", \"or\" or the end of the expression",
        ),
        (
            "(Service.Service == web",
            "1:24 (23): no match found, expected: \"and\", \"or\" or \")\"",
        ),
        (
            "Service.Service == \"web",
            "1:20 (19): this string has no closing quote",
        ),
        (
            "Service.Service\n= web",
            "2:1 (16): unexpected character '=': values with others than letters and digits need quotes",
        ),
        (
            "web == \"web\" and é",
            "1:18 (17): unexpected character 'é': values with others than letters and digits need quotes",
        ),
        (
            "\"web\" == web",
            "1:1 (0): expected a selector here: a name, or a JSON pointer in quotes",
        ),
        (
            "Servic.Service == web",
            "Selector \"Servic.Service\" is not valid",
        ),
        (
            "Service.Service.x == web",
            "Selector \"Service.Service.x\" is not valid",
        ),
        (
            "Node is empty",
            "Invalid match operator \"Is Empty\" for selector \"Node\"",
        ),
        (
            "Service.Tags == v1",
            "Invalid match operator \"Equal\" for selector \"Service.Tags\"",
        ),
        (
            "Service.Port matches 80",
            "Invalid match operator \"Matches\" for selector \"Service.Port\"",
        ),
        (
            "any Service.Port as p { p == 1 }",
            "Invalid match operator \"Any\" for selector \"Service.Port\"",
        ),
        (
            "Service.Port == web",
            "Selector \"Service.Port\" cannot be compared with \"web\": it is no number",
        ),
        (
            "Service.EnableTagOverride == 5",
            "Selector \"Service.EnableTagOverride\" cannot be compared with \"5\": it is neither true nor false",
        ),
    ] {
        assert_eq!(refusal(text), wanted, "{text}");
    }
    assert!(
        refusal("Service.Service matches `(`")
            .starts_with("Selector \"Service.Service\" cannot be compared with \"(\": ")
    );
    assert!(refusal(&"(".repeat(100_000)).contains("too long"));
    assert!(refusal(&"(".repeat(1000)).contains("nested too deeply"));
    assert!(refusal(&"not ".repeat(1000)).contains("nested too deeply"));
}

/// A syntax tree of our own making, to be printed and read back.
fn expression() -> impl Strategy<Value = (String, bool)> {
    let leaf = prop_oneof![
        Just(("ServiceName == web".to_owned(), true)),
        Just(("ServiceName != web".to_owned(), false)),
        Just(("v1 in ServiceTags".to_owned(), true)),
        Just(("ServiceMeta is empty".to_owned(), true)),
        Just(("ServicePort == 81".to_owned(), false)),
    ];
    leaf.prop_recursive(6, 40, 4, |inner| {
        prop_oneof![
            inner
                .clone()
                .prop_map(|(text, value)| (format!("not ({text})"), !value)),
            (inner.clone(), inner.clone())
                .prop_map(|((a, x), (b, y))| (format!("({a}) and ({b})"), x && y)),
            (inner.clone(), inner)
                .prop_map(|((a, x), (b, y))| (format!("( {a} ) or ( {b} )"), x || y)),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_put_together_means_what_its_parts_mean((text, wanted) in expression()) {
        let value = json!({"ServiceName": "web", "ServiceTags": ["v1"], "ServiceMeta": {}, "ServicePort": 80});
        let filter = Filter::new(&text, &SERVICE_NODE).expect("valid");
        prop_assert_eq!(filter.keeps(&value), wanted);
    }

    #[test]
    fn any_text_can_be_a_value(text in ".*") {
        let quoted: String = text.chars().flat_map(|c| format!("\\U{:08x}", u32::from(c)).chars().collect::<Vec<_>>()).collect();
        let filter = Filter::new(&format!("Node == \"{quoted}\""), &NODE).expect("valid");
        let value = json!({"Node": text});
        prop_assert!(filter.keeps(&value));
    }

    #[test]
    fn any_text_is_answered_without_a_panic(text in "([A-Za-z]{1,4}|[ .()\\[\\]{}\"`=!,0-9-]|and |or |not |in |is |empty |Node|Meta|matches ){0,30}") {
        if let Ok(filter) = Filter::new(&text, &NODE) {
            filter.keeps(&json!({"Node": "a", "Meta": {"b": "c"}}));
        }
    }
}

#[test]
fn no_expression_makes_the_reader_panic() {
    let seeds = [
        "Service.Service == web and not (`a b` in Service.Tags or Node.Meta[\"x\"] is not empty)",
        "any Checks as i, c { c.Status matches \"^p\" } or \"/Node/Meta/a\" != 5.0",
        "Checks.Status contains \"\\u00e9\"",
    ]
    .map(|text| text.as_bytes().to_vec());
    crate::fuzz::run("filter", &seeds, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        match Filter::new(&text, &SERVICE_HEALTH) {
            Ok(filter) => format!("keeps {}", filter.keeps(&web())),
            Err(Error::Syntax { message, .. }) => message.split_whitespace().take(4).collect(),
            Err(Error::Selector(_)) => "selector".to_owned(),
            Err(Error::Operator { operator, .. }) => operator.to_owned(),
            Err(Error::Value { .. }) => "value".to_owned(),
        }
    });
}

#[test]
fn an_expression_has_bounds() {
    let said = |text: &str| Filter::new(text, &SERVICE_HEALTH).unwrap_err().to_string();
    let nested = |depth| format!("{}ServiceX{}", "(".repeat(depth), ")".repeat(depth));
    for depth in [65, 20_000] {
        let said = said(&nested(depth));
        assert!(said.contains("nest"), "{said}");
    }
    let long = said(&format!("Service.Service == \"{}\"", "a".repeat(64 << 10)));
    assert!(long.contains("long"), "{long}");
    let large = said("Service.Service matches \"((a{99}){99}){9}\"");
    assert!(large.contains("size limit"), "{large}");
}
