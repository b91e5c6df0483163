//! `config_entries.bootstrap`: config entries that the first leader writes, from configuration files.

use super::document;
use super::tree::{Node, Position, TreeError, Value};
use crate::entries;
use crate::state::ConfigEntry;

const BLOCK: &str = "config_entries";
const KEY: &str = "bootstrap";

/// Takes the entries out of a file's tree. They are no settings: each kind has fields of its own, in either spelling.
///
/// # Errors
/// The first one that cannot be, with its place.
pub(super) fn take(root: &mut Node) -> Result<Vec<ConfigEntry>, TreeError> {
    let Value::Object(keys) = &mut root.value else {
        return Ok(Vec::new());
    };
    let (ours, others) = std::mem::take(keys)
        .into_iter()
        .partition::<Vec<_>, _>(|entry| entry.key == BLOCK);
    *keys = others;
    let mut found = Vec::new();
    for block in ours.into_iter().flat_map(|entry| items(entry.node)) {
        let at = block.at;
        let keys = match block.value {
            Value::Null => continue,
            Value::Object(keys) => keys,
            _ => return Err(wrong(at, format!("{BLOCK}: expected a block"))),
        };
        for key in keys {
            if key.key != KEY {
                let text = format!("invalid config key {BLOCK}.{}", key.key);
                return Err(wrong(key.at, text));
            }
            for entry in items(key.node) {
                let at = entry.at;
                let read = entries::read(document::json(entry));
                let read = read.map_err(|error| wrong(at, format!("{BLOCK}.{KEY}: {error}")))?;
                found.push(read);
            }
        }
    }
    Ok(found)
}

fn wrong(at: Position, text: String) -> TreeError {
    TreeError::new(at, text)
}

/// A list's items, or what stands for a list of one.
fn items(node: Node) -> Vec<Node> {
    match node.value {
        Value::List(items) => items,
        value => vec![Node { at: node.at, value }],
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Error, FlagSettings, Format, Machine, SourceFile, load};
    use crate::state::ConfigEntry;

    fn entries(format: Format, text: &str) -> Result<Vec<ConfigEntry>, Error> {
        let file = SourceFile {
            name: "a".into(),
            format,
            text: text.into(),
        };
        let machine = Machine {
            hostname: "h".into(),
            private_ipv4: vec![[127, 0, 0, 1].into()],
            public_ipv6: Vec::new(),
            temporary_dir: "/tmp".into(),
        };
        let flags = FlagSettings::default();
        load(&[file], &flags, &machine).map(|loaded| loaded.config.config_entries)
    }

    #[test]
    fn both_languages_and_spellings_say_the_same() {
        let hcl = r#"
            data_dir = "/d"
            config_entries {
              bootstrap {
                kind = "proxy-defaults"
                name = "global"
                config { protocol = "http" }
              }
              bootstrap = [{
                Kind = "service-intentions"
                Name = "db"
                Sources = [{ Name = "web", Action = "allow" }, { Name = "*", Action = "deny" }]
              }]
            }
        "#;
        let json = r#"{"data_dir": "/d", "config_entries": {"bootstrap": [
            {"Kind": "proxy-defaults", "Name": "global", "Config": {"protocol": "http"}},
            {"kind": "service-intentions", "name": "db", "sources": [
                {"name": "web", "action": "allow"}, {"name": "*", "action": "deny"}]}]}}"#;
        let found = entries(Format::Hcl, hcl).unwrap();
        assert_eq!(found, entries(Format::Json, json).unwrap());
        let names: Vec<_> = found.iter().map(|entry| entry.name.as_str()).collect();
        assert_eq!(names, ["global", "db"]);
        assert_eq!(entries(Format::Hcl, "data_dir = \"/d\"").unwrap(), []);
    }

    #[test]
    fn a_wrong_one_is_named_with_its_place() {
        let wrong = |text: &str| entries(Format::Hcl, text).unwrap_err().to_string();
        let text = "data_dir = \"/d\"\nconfig_entries {\n  bootstrap = [\n    {\n      kind = \"service-splitter\"\n      name = \"web\"\n    }\n  ]\n}";
        assert_eq!(
            wrong(text),
            "a:4:5: config_entries.bootstrap: no splits configured"
        );
        assert_eq!(
            wrong("config_entries {\n  start = []\n}"),
            "a:2:3: invalid config key config_entries.start"
        );
        assert_eq!(
            wrong("config_entries = 5"),
            "a:1:18: config_entries: expected a block"
        );
        let text = "config_entries { bootstrap { kind = \"zz\" } }";
        let text = wrong(text);
        assert!(
            text.ends_with("config_entries.bootstrap: invalid config entry kind: zz"),
            "{text}"
        );
    }
}
