use std::sync::Arc;

use imbl::OrdMap;

use super::Check;

/// The checks of one node, by id; and those of each of its services, so that what a service's health costs to read does not
/// grow with the other services on its nodes.
#[derive(Clone, Default, PartialEq)]
pub(in crate::state) struct Checks {
    all: OrdMap<Arc<str>, Arc<Check>>,
    /// By service id; the node's own are under the empty one. In order of their ids.
    of: OrdMap<Arc<str>, Arc<[Arc<Check>]>>,
}

impl Checks {
    pub(in crate::state) fn get(&self, id: &str) -> Option<&Arc<Check>> {
        self.all.get(id)
    }

    /// By id.
    pub(in crate::state) fn values(&self) -> impl Iterator<Item = &Arc<Check>> {
        self.all.values()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Those of a service alone, or with an empty id the node's own, by id.
    pub(in crate::state) fn of(&self, service: &str) -> &[Arc<Check>] {
        self.of.get(service).map_or(&[], |checks| checks)
    }

    /// Those that say how well an instance is: its own and its node's, by id.
    pub(in crate::state) fn concerning(&self, service: &str) -> Vec<Arc<Check>> {
        let (node, own) = (self.of(""), self.of(service));
        let mut checks = Vec::with_capacity(node.len() + own.len());
        checks.extend(node.iter().cloned());
        if !service.is_empty() {
            checks.extend(own.iter().cloned());
        }
        checks.sort_by(|a, b| a.check_id.cmp(&b.check_id));
        checks
    }

    /// Puts a check in the place of the one with its id.
    pub(super) fn insert(&mut self, check: Arc<Check>) {
        let old = self
            .all
            .insert(check.check_id.as_str().into(), check.clone());
        if let Some(old) = old {
            self.leave(&old);
        }
        let others = self.of(&check.service_id);
        let at = others.partition_point(|other| other.check_id < check.check_id);
        let (before, behind) = others.split_at(at);
        let service: Arc<str> = check.service_id.as_str().into();
        let all = before.iter().chain([&check]).chain(behind).cloned();
        let all = all.collect();
        self.of.insert(service, all);
    }

    pub(super) fn remove(&mut self, id: &str) -> Option<(Arc<str>, Arc<Check>)> {
        let (id, check) = self.all.remove_with_key(id)?;
        self.leave(&check);
        Some((id, check))
    }

    fn leave(&mut self, check: &Check) {
        let others = self.of(&check.service_id).iter();
        let left: Arc<[_]> = others
            .filter(|other| other.check_id != check.check_id)
            .cloned()
            .collect();
        if left.is_empty() {
            self.of.remove(check.service_id.as_str());
        } else {
            self.of.insert(check.service_id.as_str().into(), left);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(id: u8, service: u8, output: u8) -> Arc<Check> {
        Arc::new(Check {
            check_id: format!("c{id}"),
            service_id: ["", "a", "b"][usize::from(service)].into(),
            output: output.to_string(),
            ..Check::default()
        })
    }

    proptest! {
        #[test]
        fn the_checks_of_a_service_are_those_that_name_it(
            steps in proptest::collection::vec((any::<bool>(), 0..5_u8, 0..3_u8, any::<u8>()), 0..40),
        ) {
            let mut checks = Checks::default();
            for (put, id, service, output) in steps {
                if put {
                    checks.insert(check(id, service, output));
                } else {
                    checks.remove(&format!("c{id}"));
                }
                for service in ["", "a", "b", "none"] {
                    let named = |wanted: &[&str]| -> Vec<_> {
                        let named = |check: &&Arc<Check>| wanted.contains(&check.service_id.as_str());
                        checks.values().filter(named).cloned().collect()
                    };
                    prop_assert_eq!(checks.of(service), named(&[service]));
                    prop_assert_eq!(checks.concerning(service), named(&["", service]));
                }
                let mut again = Checks::default();
                for check in checks.values() {
                    again.insert(check.clone());
                }
                prop_assert!(again == checks, "the history of a table does not show in it");
            }
        }
    }
}
