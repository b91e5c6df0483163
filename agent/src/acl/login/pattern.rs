//! Names with variables: `dev-${serviceaccount.name}`.

use std::collections::BTreeMap;

/// A name in which variables stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::acl) struct Pattern(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Variable(String),
}

impl Pattern {
    /// Reads a name; `${` begins a variable, and `}` ends it.
    pub(in crate::acl) fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            let Some((name, behind)) = after.split_once('}') else {
                return Err(format!("{text:?} has a '${{' without a '}}'"));
            };
            let name = name.trim();
            let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
            if name.is_empty() || !name.chars().all(good) {
                return Err(format!(
                    "{text:?} has '${{{name}}}', which is no variable: only the names of fields of the identity are"
                ));
            }
            parts.push(Part::Text(before.to_owned()));
            parts.push(Part::Variable(name.to_owned()));
            rest = behind;
        }
        parts.push(Part::Text(rest.to_owned()));
        Ok(Self(parts))
    }

    /// What stands around the variables.
    pub(in crate::acl) fn texts(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|part| match part {
            Part::Text(text) => Some(text.as_str()),
            Part::Variable(_) => None,
        })
    }

    /// The names of the variables.
    pub(super) fn variables(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|part| match part {
            Part::Variable(name) => Some(name.as_str()),
            Part::Text(_) => None,
        })
    }

    /// With the values in place of the variables, in lower case: Consul's names are.
    pub(super) fn render(&self, values: &BTreeMap<String, String>) -> Result<String, String> {
        let mut name = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => name.push_str(text),
                Part::Variable(variable) => match values.get(variable) {
                    Some(value) => name.push_str(&value.to_lowercase()),
                    None => return Err(format!("the identity has no {variable}")),
                },
            }
        }
        Ok(name)
    }
}
