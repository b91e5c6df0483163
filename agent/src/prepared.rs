//! What prepared queries mean: templates filled in, instances chosen. Pure.

use regex_lite::Captures;

use crate::duration;
use crate::filter::pattern;
use crate::state::{CheckStatus, PreparedQuery, Query, QueryFailover, ServiceHealth};

/// The only kind of template.
const PREFIX_MATCH: &str = "name_prefix_match";

/// Finds out whether a query can be run.
///
/// # Errors
/// The first thing that is wrong, in Consul's words where it has them.
pub fn check(query: &PreparedQuery) -> Result<(), String> {
    let is_template = !query.template.kind.is_empty();
    if query.name.is_empty() && query.session.is_empty() && !is_template {
        return Err("Must be bound to a session".to_owned());
    }
    if is_template && query.template.kind != PREFIX_MATCH {
        return Err(format!("Bad Template.Type '{}'", query.template.kind));
    }
    if query.service.service.is_empty() {
        return Err("Must provide a Service name to query".to_owned());
    }
    if !query.dns.ttl.is_empty() {
        duration::parse(&query.dns.ttl)
            .map_err(|error| format!("Bad DNS TTL '{}': {error}", query.dns.ttl))?;
    }
    if is_template {
        // With some name, so that mistakes are found before anybody asks.
        render(query, &query.name)?;
    }
    Ok(())
}

/// The query that answers this name: of a template a copy with its variables filled in.
///
/// # Errors
/// When the template cannot be understood.
pub fn render(query: &PreparedQuery, name: &str) -> Result<PreparedQuery, String> {
    let mut rendered = query.clone();
    if query.template.kind.is_empty() {
        return Ok(rendered);
    }
    let regexp = match query.template.regexp.as_str() {
        "" => None,
        text => Some(pattern(text).map_err(|error| format!("Bad Regexp: {error}"))?),
    };
    let captures = regexp.as_ref().and_then(|regexp| regexp.captures(name));
    let names = Names {
        full: name,
        prefix: name.get(..query.name.len()).unwrap_or(name),
        captures,
        whole: regexp.is_none(),
    };
    let service = &mut rendered.service;
    let texts = [&mut service.service, &mut service.near];
    let texts = texts.into_iter().chain(&mut service.tags);
    let texts = texts.chain(&mut service.failover.datacenters);
    let texts = texts.chain(&mut service.ignore_check_ids);
    let texts = texts.chain(service.node_meta.values_mut());
    for text in texts.chain(service.service_meta.values_mut()) {
        *text = names.fill(text)?;
    }
    if query.template.remove_empty_tags {
        service.tags.retain(|tag| !matches!(tag.as_str(), "" | "!"));
    }
    Ok(rendered)
}

/// What the variables of a template stand for.
struct Names<'a> {
    full: &'a str,
    prefix: &'a str,
    captures: Option<Captures<'a>>,
    /// Whether there is no expression, so that the whole name is the only match.
    whole: bool,
}

impl Names<'_> {
    fn fill(&self, text: &str) -> Result<String, String> {
        let mut filled = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find("${") {
            if let Some(before) = rest[..at].strip_suffix('$') {
                // Written twice it means itself.
                filled.push_str(before);
                filled.push_str("${");
                rest = &rest[at + 2..];
                continue;
            }
            filled.push_str(&rest[..at]);
            let Some((variable, after)) = rest[at + 2..].split_once('}') else {
                return Err(format!("Bad format '{text}': a variable has no end"));
            };
            filled.push_str(&self.value(variable.trim(), text)?);
            rest = after;
        }
        filled.push_str(rest);
        Ok(filled)
    }

    fn value(&self, variable: &str, text: &str) -> Result<String, String> {
        match variable {
            "name.full" => return Ok(self.full.to_owned()),
            "name.prefix" => return Ok(self.prefix.to_owned()),
            "name.suffix" => {
                let suffix = self.full.get(self.prefix.len()..).unwrap_or_default();
                return Ok(suffix.to_owned());
            }
            // Segments are a feature of Consul Enterprise: there is the one without a name.
            "agent.segment" => return Ok(String::new()),
            _ => {}
        }
        let number = variable
            .strip_prefix("match(")
            .and_then(|rest| rest.strip_suffix(')'))
            .and_then(|number| number.trim().parse::<usize>().ok());
        let Some(number) = number else {
            return Err(format!(
                "Bad format '{text}': there is no variable {variable:?}"
            ));
        };
        if self.whole && number == 0 {
            return Ok(self.full.to_owned());
        }
        let found = self.captures.as_ref().and_then(|all| all.get(number));
        Ok(found.map_or_else(String::new, |found| found.as_str().to_owned()))
    }
}

/// The datacenters in which to look, in this order, when the own one has no instance: so many of the nearest, then those that
/// are named and known. `others` are all but the own one, the nearest first.
pub fn failover(settings: &QueryFailover, others: &[String]) -> Vec<String> {
    let nearest = usize::try_from(settings.nearest_n).unwrap_or(usize::MAX);
    let mut chosen: Vec<String> = others.iter().take(nearest).cloned().collect();
    for named in &settings.datacenters {
        if others.contains(named) && !chosen.contains(named) {
            chosen.push(named.clone());
        }
    }
    chosen
}

/// What a query looks among: instances of its service, or those at which connections to it through the mesh end, if it or
/// whoever asks says so.
pub fn search(query: &PreparedQuery, connect: bool) -> Query {
    let (service, tags, passing) = (query.service.service.clone(), Vec::new(), false);
    match connect || query.service.connect {
        true => Query::MeshHealth {
            service,
            tags,
            passing,
        },
        false => Query::ServiceHealth {
            service,
            tags,
            passing,
        },
    }
}

/// Whether an instance is among those that the query means.
pub fn fits(query: &PreparedQuery, entry: &ServiceHealth) -> bool {
    let wanted = &query.service;
    let healthy = entry.checks.iter().all(|check| match check.status {
        _ if wanted.ignore_check_ids.contains(&check.check_id) => true,
        CheckStatus::Passing => true,
        CheckStatus::Warning => !wanted.only_passing,
        CheckStatus::Critical => false,
    });
    let has = |tag: &str| {
        let tags = &entry.service.tags;
        tags.iter().any(|own| own.eq_ignore_ascii_case(tag))
    };
    healthy
        && wanted.tags.iter().all(|tag| match tag.strip_prefix('!') {
            Some(unwanted) => !has(unwanted),
            None => has(tag),
        })
        && (wanted.node_meta.iter()).all(|(key, value)| entry.node.meta.get(key) == Some(value))
        && (wanted.service_meta.iter())
            .all(|(key, value)| entry.service.meta.get(key) == Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{QueryService, QueryTemplate};

    fn template(name: &str, regexp: &str, service: &str, tags: &[&str]) -> PreparedQuery {
        PreparedQuery {
            name: name.into(),
            template: QueryTemplate {
                kind: PREFIX_MATCH.into(),
                regexp: regexp.into(),
                remove_empty_tags: true,
            },
            service: QueryService {
                service: service.into(),
                tags: tags.iter().map(|&tag| tag.to_owned()).collect(),
                ..QueryService::default()
            },
            ..PreparedQuery::default()
        }
    }

    #[test]
    fn variables_stand_for_parts_of_the_name() {
        let query = template(
            "geo-",
            "^geo-(.*?)-([^-]+)$",
            "mysql-${match(1)}",
            &["${match(2)}", "${match(9)}", "!${name.suffix}", "$${x}"],
        );
        assert_eq!(check(&query), Ok(()));
        let rendered = render(&query, "geo-customer-master").unwrap();
        assert_eq!(rendered.service.service, "mysql-customer");
        assert_eq!(
            rendered.service.tags,
            ["master", "!customer-master", "${x}"]
        );
        let whole = template("", "", "${name.full}|${name.prefix}|${match(0)}", &[]);
        let rendered = render(&whole, "db").unwrap();
        assert_eq!(rendered.service.service, "db||db");
    }

    #[test]
    fn the_nearest_datacenters_come_before_those_that_are_named() {
        let owned = |names: &[&str]| names.iter().map(|&n| n.to_owned()).collect::<Vec<_>>();
        let others = owned(&["dc2", "dc3", "dc4"]);
        let choose = |nearest_n, datacenters: &[&str]| {
            let datacenters = owned(datacenters);
            failover(
                &QueryFailover {
                    nearest_n,
                    datacenters,
                },
                &others,
            )
        };
        assert_eq!(choose(0, &[]), owned(&[]));
        assert_eq!(choose(2, &[]), owned(&["dc2", "dc3"]));
        assert_eq!(choose(0, &["dc4", "dc9", "dc2"]), owned(&["dc4", "dc2"]));
        assert_eq!(choose(1, &["dc4", "dc2"]), owned(&["dc2", "dc4"]));
        assert_eq!(choose(9, &["dc4"]), others);
    }

    #[test]
    fn mistakes_are_found_before_anybody_asks() {
        let wrong = |query: &PreparedQuery| check(query).unwrap_err();
        let query = PreparedQuery::default();
        assert_eq!(wrong(&query), "Must be bound to a session");
        let mut query = template("a", "", "web", &[]);
        query.template.kind = "zz".into();
        assert_eq!(wrong(&query), "Bad Template.Type 'zz'");
        assert!(wrong(&template("a", "(", "web", &[])).starts_with("Bad Regexp: "));
        let large = wrong(&template("a", "((a{99}){99}){9}", "web", &[]));
        assert!(large.contains("size limit"), "{large}");
        for service in ["${", "${name.zz}", "${match(x)}", "${}"] {
            let text = wrong(&template("a", "", service, &[]));
            assert!(text.starts_with("Bad format '"), "{text}");
        }
        let mut query = template("a", "", "web", &[]);
        query.dns.ttl = "5".into();
        assert!(wrong(&query).starts_with("Bad DNS TTL '5'"));
        query.service.service.clear();
        assert_eq!(wrong(&query), "Must provide a Service name to query");
    }
}
