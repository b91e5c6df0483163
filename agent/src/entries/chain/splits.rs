//! The graph of a chain once it is assembled: no circles, no splitter behind a splitter, nothing that nobody leads to.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::{Node, SPLITS_MAX, Split};

type Nodes = BTreeMap<String, Node>;

impl Node {
    fn next(&self) -> Vec<&str> {
        match self {
            Node::Router { routes, .. } => routes.iter().map(|(_, next)| next.as_str()).collect(),
            Node::Splitter { splits, .. } => {
                splits.iter().map(|split| split.next.as_str()).collect()
            }
            // Circles of redirects are found where they are followed, and failover is not followed.
            Node::Resolver(_) => Vec::new(),
        }
    }
}

/// Refuses a graph in which a way leads back.
pub(super) fn check_circles(start: &str, nodes: &Nodes) -> Result<(), String> {
    let mut done = BTreeSet::new();
    visit(start, nodes, &mut Vec::new(), &mut done)
}

/// Deep as splitters are, which has a bound. Each node is looked at once, however many ways there are to it.
fn visit<'a>(
    key: &'a str,
    nodes: &'a Nodes,
    way: &mut Vec<&'a str>,
    done: &mut BTreeSet<&'a str>,
) -> Result<(), String> {
    if way.contains(&key) {
        way.push(key);
        let way = way.join(" -> ");
        return Err(format!("detected circular reference: [{way}]"));
    }
    if done.contains(key) {
        return Ok(());
    }
    way.push(key);
    for next in nodes.get(key).map(Node::next).unwrap_or_default() {
        visit(next, nodes, way, done)?;
    }
    way.pop();
    done.insert(key);
    Ok(())
}

/// Puts the parts of splitters behind a splitter in their place, with the share that they have of the whole.
///
/// # Errors
/// When that would be too many: splitters that lead to the same ones multiply.
pub(super) fn flatten(nodes: &mut Nodes, chain: &str) -> Result<(), String> {
    let keys: Vec<String> = nodes.keys().cloned().collect();
    let mut counts = BTreeMap::new();
    if keys
        .iter()
        .any(|key| parts(key, nodes, &mut counts) > SPLITS_MAX)
    {
        return Err(format!(
            "discovery chain {chain:?} has a splitter with more than {SPLITS_MAX} parts, with those behind it"
        ));
    }
    let mut done = BTreeSet::new();
    for key in keys {
        flatten_one(&key, nodes, &mut done);
    }
    Ok(())
}

/// How many parts a splitter has with those behind it; anything else is one.
fn parts<'a>(key: &'a str, nodes: &'a Nodes, counts: &mut BTreeMap<&'a str, usize>) -> usize {
    let Some(Node::Splitter { splits, .. }) = nodes.get(key) else {
        return 1;
    };
    if let Some(count) = counts.get(key) {
        return *count;
    }
    let count = splits.iter().fold(0, |sum: usize, split| {
        sum.saturating_add(parts(&split.next, nodes, counts))
    });
    counts.insert(key, count);
    count
}

fn flatten_one(key: &str, nodes: &mut Nodes, done: &mut BTreeSet<String>) {
    let Some(Node::Splitter { splits, .. }) = nodes.get(key) else {
        return;
    };
    if !done.insert(key.to_owned()) {
        return;
    }
    let (splits, mut flat) = (splits.clone(), Vec::new());
    for split in splits {
        flatten_one(&split.next, nodes, done);
        match nodes.get(&split.next) {
            Some(Node::Splitter { splits: inner, .. }) => {
                flat.extend(inner.iter().map(|inner| within(&split, inner)));
            }
            _ => flat.push(split),
        }
    }
    if let Some(Node::Splitter { splits, .. }) = nodes.get_mut(key) {
        *splits = flat;
    }
}

/// A part of a part.
fn within(outer: &Split, inner: &Split) -> Split {
    let weight = outer.weight * inner.weight / 100.0;
    let mut definition = inner.definition.clone();
    for name in ["RequestHeaders", "ResponseHeaders"] {
        let merged = match (outer.definition.get(name), inner.definition.get(name)) {
            (Some(outer), Some(inner)) => headers(outer, inner),
            (Some(outer), None) => outer.clone(),
            (None, _) => continue,
        };
        if let Value::Object(fields) = &mut definition {
            fields.insert(name.to_owned(), merged);
        }
    }
    Split {
        definition,
        // In hundredths, as weights are given.
        weight: (weight * 100.0).round() / 100.0,
        next: inner.next.clone(),
    }
}

/// Changes of headers, one after the other: where both speak of a header, the inner one counts.
fn headers(outer: &Value, inner: &Value) -> Value {
    let mut merged = Map::new();
    for name in ["Add", "Set"] {
        let mut all = Map::new();
        for of in [outer, inner] {
            if let Some(Value::Object(fields)) = of.get(name) {
                all.extend(fields.clone());
            }
        }
        if !all.is_empty() {
            merged.insert(name.to_owned(), Value::Object(all));
        }
    }
    let mut removed: Vec<Value> = Vec::new();
    for of in [outer, inner] {
        for header in super::list(of, "Remove") {
            if !removed.contains(header) {
                removed.push(header.clone());
            }
        }
    }
    if !removed.is_empty() {
        merged.insert("Remove".to_owned(), Value::Array(removed));
    }
    Value::Object(merged)
}

/// Drops what nobody leads to.
pub(super) fn prune(start: &str, nodes: &mut Nodes) {
    let (mut reached, mut todo) = (BTreeSet::new(), vec![start.to_owned()]);
    while let Some(key) = todo.pop() {
        if let Some(node) = nodes.get(&key)
            && reached.insert(key)
        {
            todo.extend(node.next().into_iter().map(str::to_owned));
        }
    }
    nodes.retain(|key, _| reached.contains(key));
}
