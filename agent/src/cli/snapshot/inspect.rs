//! `agent snapshot inspect`.

use std::collections::BTreeMap;

use clap::Parser;
use serde_json::json;

use super::place::Place;
use super::{S3Flags, decode, one_file};
use crate::archive::About;
use crate::cli::{Done, Failure, Io, flags};
use crate::state::Store;

/// Shows what is in a saved state. No agent is asked.
#[derive(Parser)]
struct Flags {
    /// Show the sizes of keys, grouped by the first parts of their names
    #[arg(long)]
    kvdetails: Option<bool>,
    /// How many parts of a key's name make a group
    #[arg(long, default_value_t = 2)]
    kvdepth: usize,
    /// Only keys with this prefix
    #[arg(long, default_value = "")]
    kvfilter: String,
    /// pretty or json
    #[arg(long, default_value = "pretty")]
    format: String,
    #[command(flatten)]
    s3: S3Flags,
    /// The file that `snapshot save` wrote, or s3://BUCKET/KEY
    file: Vec<String>,
}

/// A kind of rows, or a group of keys: name, count, bytes.
type Size = (String, usize, usize);

/// Runs the verb.
pub(super) async fn run(args: &[String], io: &mut Io<'_>) -> Done {
    let flags: Flags = flags::parse("snapshot inspect", args)?;
    let file = one_file(&flags.file)?;
    let opening = "Error opening snapshot file";
    let place = Place::new(file, &flags.s3, io).map_err(Failure::because(opening))?;
    let bytes = place.read().await.map_err(Failure::because(opening))?;
    let (about, store) = decode(&bytes).map_err(Failure::because("Error reading snapshot"))?;
    let kinds: Vec<Size> = store
        .sizes()
        .into_iter()
        .map(|(kind, count, bytes)| (kind.to_owned(), count, bytes))
        .collect();
    let keys = match flags.kvdetails {
        Some(true) => Some(group(&store, flags.kvdepth, &flags.kvfilter)),
        _ => None,
    };
    let text = match flags.format.as_str() {
        "pretty" => pretty(&about, &kinds, keys.as_deref()),
        "json" => as_json(&about, &kinds, keys.as_deref()),
        other => {
            let text = format!("invalid format {other:?}: expected pretty or json");
            return Err(Failure::Usage(text));
        }
    };
    writeln!(io.out, "{text}")?;
    Ok(0)
}

/// Keys by the first `depth` parts of their names, largest first.
fn group(store: &Store, depth: usize, filter: &str) -> Vec<Size> {
    let mut groups: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for entry in store.kv_entries() {
        if !entry.key.starts_with(filter) {
            continue;
        }
        let parts: Vec<&str> = entry.key.split('/').take(depth.max(1)).collect();
        let (count, bytes) = groups.entry(parts.join("/")).or_default();
        *count += 1;
        *bytes += entry.key.len() + entry.value.len();
    }
    let mut groups: Vec<Size> = groups
        .into_iter()
        .map(|(name, (count, bytes))| (name, count, bytes))
        .collect();
    groups.sort_by(|a, b| b.2.cmp(&a.2).then_with(|| a.0.cmp(&b.0)));
    groups
}

fn pretty(about: &About, kinds: &[Size], keys: Option<&[Size]>) -> String {
    let mut lines = Vec::new();
    for (name, value) in [
        ("ID", about.id.clone()),
        ("Size", about.size.to_string()),
        ("Index", about.index.to_string()),
        ("Term", about.term.to_string()),
        ("Version", about.version.to_string()),
    ] {
        lines.push(format!(" {name:<12} {value}"));
    }
    lines.extend(sizes("Type", kinds));
    if let Some(keys) = keys {
        lines.extend(sizes("Key Name", keys));
    }
    lines.join("\n")
}

/// A table with its total below it.
fn sizes(title: &str, rows: &[Size]) -> Vec<String> {
    let row = |name: &str, count: &str, size: &str| format!(" {name:<24} {count:<10} {size}");
    let rule = row("----", "----", "----");
    let mut lines = vec![String::new(), row(title, "Count", "Size"), rule.clone()];
    for (name, count, bytes) in rows {
        lines.push(row(name, &count.to_string(), &readable(*bytes)));
    }
    let total = rows.iter().map(|(_, _, bytes)| bytes).sum();
    lines.push(rule);
    lines.push(row("Total", "", &readable(total)));
    lines
}

/// Bytes as Consul prints them: `1.5KB`.
fn readable(bytes: usize) -> String {
    const UNITS: [(&str, usize); 3] = [("GB", 1 << 30), ("MB", 1 << 20), ("KB", 1 << 10)];
    for (unit, size) in UNITS {
        if bytes >= size {
            let tenths = bytes * 10 / size;
            return match tenths % 10 {
                0 => format!("{}{unit}", tenths / 10),
                tenth => format!("{}.{tenth}{unit}", tenths / 10),
            };
        }
    }
    format!("{bytes}B")
}

fn as_json(about: &About, kinds: &[Size], keys: Option<&[Size]>) -> String {
    let list = |rows: &[Size]| -> Vec<_> {
        let row = |(name, count, bytes): &Size| json!({"Name": name, "Sum": bytes, "Count": count});
        rows.iter().map(row).collect()
    };
    let total = |rows: &[Size]| rows.iter().map(|(_, _, bytes)| bytes).sum::<usize>();
    let value = json!({
        "Meta": about,
        "Stats": list(kinds),
        "StatsKV": keys.map(list),
        "TotalSize": total(kinds),
        "TotalSizeKV": keys.map_or(0, total),
    });
    serde_json::to_string_pretty(&value).expect("names and numbers have a JSON form")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_printed_for_people() {
        for (bytes, wanted) in [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1KB"),
            (1536, "1.5KB"),
            (3 << 20, "3MB"),
        ] {
            assert_eq!(readable(bytes), wanted);
        }
    }

    #[test]
    fn the_table_ends_with_a_total() {
        let about = About::new(2, 26, 1_795_430_149_179, 3000);
        let kinds = [("KVS".to_owned(), 3, 2048), ("Session".to_owned(), 1, 100)];
        let text = pretty(&about, &kinds, None);
        assert!(text.starts_with(" ID           2-26-1795430149179\n"));
        assert!(text.contains("\n KVS                      3          2KB\n"));
        assert!(text.ends_with("2KB"), "{text}");
    }
}
