//! What becomes of a check's result.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{OwnCheck, Table};
use crate::env::part;
use crate::local::definition::{CheckDefinition, Kind};
use crate::state::{Check, CheckStatus};

/// What a missed TTL puts in front of the last output.
const EXPIRED: &str = "TTL expired";

impl Table {
    /// Takes the result of one run; whether anything changed.
    pub(in crate::local) fn report(
        &mut self,
        id: &str,
        status: CheckStatus,
        output: &str,
        now: Instant,
        random: u64,
    ) -> bool {
        let Some(check) = self.checks.get_mut(id) else {
            return false;
        };
        let Some(status) = check.judge(status) else {
            return false;
        };
        self.set(id, status, output, now, random)
    }

    /// Sets a check's status and output without counting; whether anything changed.
    pub(in crate::local) fn set(
        &mut self,
        id: &str,
        status: CheckStatus,
        output: &str,
        now: Instant,
        random: u64,
    ) -> bool {
        let rules = &self.rules;
        let Some(check) = self.checks.get_mut(id) else {
            return false;
        };
        let max = check.definition.output_max.unwrap_or(rules.output_max);
        let output = match rules.discard_output {
            true => String::new(),
            false => cut(output, max),
        };
        if check.row.status == status && check.row.output == output {
            return false;
        }
        let same_status = check.row.status == status;
        if !same_status {
            check.critical_since = (status == CheckStatus::Critical).then_some(now);
        }
        let row = Arc::make_mut(&mut check.row);
        row.status = status;
        row.output = output;
        if same_status && !rules.update_interval.is_zero() {
            // Outputs change often and matter to few: they are written once in a while.
            let nanoseconds = rules.update_interval.as_nanos() as u64;
            let wait = nanoseconds / 2 + part(nanoseconds, random);
            check
                .output_due
                .get_or_insert(now + Duration::from_nanos(wait));
        } else {
            check.in_sync = false;
            check.output_due = None;
        }
        self.refresh_aliases();
        true
    }

    /// Takes what somebody tells of a TTL check; `Err` when there is none with this id.
    pub(in crate::local) fn heartbeat(
        &mut self,
        id: &str,
        status: CheckStatus,
        output: &str,
        now: Instant,
        random: u64,
    ) -> Result<bool, NoHeartbeat> {
        let check = self.checks.get_mut(id).ok_or(NoHeartbeat::NoCheck)?;
        let Kind::Ttl(ttl) = check.definition.kind else {
            return Err(NoHeartbeat::NoTtl);
        };
        check.expires = Some(now + ttl);
        Ok(self.set(id, status, output, now, random))
    }

    /// Puts back what was known of a TTL check before a restart.
    pub(in crate::local) fn restore(
        &mut self,
        id: &str,
        status: CheckStatus,
        output: &str,
        expires: Instant,
        now: Instant,
    ) {
        if let Some(check) = self.checks.get_mut(id)
            && matches!(check.definition.kind, Kind::Ttl(_))
        {
            let row = Arc::make_mut(&mut check.row);
            (row.status, row.output) = (status, output.to_owned());
            check.critical_since = (status == CheckStatus::Critical).then_some(now);
            check.expires = Some(expires);
        }
    }

    /// Does what has a time, up to now; whether anything changed.
    pub(in crate::local) fn tick(&mut self, now: Instant) -> bool {
        let mut changed = false;
        let due = |time: Option<Instant>| time.is_some_and(|time| time <= now);
        let expired: Vec<String> = self
            .checks
            .iter()
            .filter(|(_, check)| due(check.expires))
            .map(|(id, _)| id.clone())
            .collect();
        for id in expired {
            let Some(check) = self.checks.get_mut(&id) else {
                continue;
            };
            check.expires = None;
            let output = match check.row.output.as_str() {
                "" => EXPIRED.to_owned(),
                last if last.starts_with(EXPIRED) => last.to_owned(),
                last => format!("{EXPIRED} (last output before timeout follows): {last}"),
            };
            tracing::warn!(target: "agent", "Check missed TTL, is now critical: check={id}");
            changed |= self.set(&id, CheckStatus::Critical, &output, now, 0);
        }
        for check in self.checks.values_mut() {
            if due(check.output_due) {
                check.output_due = None;
                check.in_sync = false;
                changed = true;
            }
        }
        changed
    }

    /// When there may be something to do.
    pub(in crate::local) fn next_time(&self) -> Option<Instant> {
        let checks = self.checks.values();
        checks
            .flat_map(|check| [check.expires, check.output_due, check.doomed_at()])
            .flatten()
            .min()
    }

    /// A service that was critical for longer than it may be.
    pub(in crate::local) fn doomed(&self, now: Instant) -> Option<String> {
        let mut checks = self.checks.values();
        let found = checks.find(|check| check.doomed_at().is_some_and(|at| at <= now))?;
        Some(found.row.service_id.clone())
    }

    /// Makes aliases of this node's own services say what these say.
    pub(in crate::local) fn refresh_aliases(&mut self) {
        let aliases: Vec<(String, Arc<CheckDefinition>)> = self
            .checks
            .iter()
            .filter(|(_, check)| is_own_alias(&check.definition, &self.rules.node))
            .map(|(id, check)| (id.clone(), check.definition.clone()))
            .collect();
        for (id, definition) in aliases {
            let Kind::Alias { service, .. } = &definition.kind else {
                continue;
            };
            let sources = self.checks.values().filter(|check| {
                check.row.check_id != id
                    && (check.row.service_id == *service || check.row.service_id.is_empty())
                    && !is_own_alias(&check.definition, &self.rules.node)
            });
            let (status, output) = worst(sources.map(|check| &*check.row));
            let Some(check) = self.checks.get_mut(&id) else {
                continue;
            };
            if check.row.status != status || check.row.output != output {
                let row = Arc::make_mut(&mut check.row);
                (row.status, row.output) = (status, output);
                check.in_sync = false;
            }
        }
    }
}

/// Why there is nobody to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::local) enum NoHeartbeat {
    NoCheck,
    NoTtl,
}

impl OwnCheck {
    /// What a result makes of the check, after as many in a row as it asks for; `None` leaves it as it is.
    fn judge(&mut self, result: CheckStatus) -> Option<CheckStatus> {
        let definition = &self.definition;
        match result {
            CheckStatus::Passing | CheckStatus::Warning => {
                self.successes = self.successes.saturating_add(1);
                self.failures = 0;
                (self.successes >= definition.success_before_passing).then_some(result)
            }
            CheckStatus::Critical => {
                self.failures = self.failures.saturating_add(1);
                self.successes = 0;
                if self.failures >= definition.failures_before_critical {
                    Some(CheckStatus::Critical)
                } else if self.failures >= definition.failures_before_warning {
                    Some(CheckStatus::Warning)
                } else {
                    None
                }
            }
        }
    }

    /// When its service is to be deregistered, if nothing changes.
    fn doomed_at(&self) -> Option<Instant> {
        let after = self.definition.deregister_after?;
        if self.row.service_id.is_empty() {
            return None;
        }
        Some(self.critical_since? + after)
    }
}

/// Whether it is an alias of something on this node.
pub(in crate::local) fn is_own_alias(definition: &CheckDefinition, own: &str) -> bool {
    matches!(&definition.kind, Kind::Alias { node, .. } if node.is_empty() || node == own)
}

/// The worst of several checks, and what it says.
pub(in crate::local) fn worst<'a>(
    checks: impl Iterator<Item = &'a Check>,
) -> (CheckStatus, String) {
    let mut found: Option<&Check> = None;
    for check in checks {
        if found.is_none_or(|worst| check.status > worst.status) {
            found = Some(check);
        }
    }
    match found {
        None => (CheckStatus::Passing, "No checks found.".to_owned()),
        Some(check) if check.status == CheckStatus::Passing => {
            (CheckStatus::Passing, "All checks passing.".to_owned())
        }
        Some(check) => {
            let output = format!("Aliased check {:?} failing: {}", check.name, check.output);
            (check.status, output)
        }
    }
}

/// At most so many bytes of an output, and how many there were.
fn cut(output: &str, max: usize) -> String {
    if output.len() <= max {
        return output.to_owned();
    }
    let kept = &output[..output.floor_char_boundary(max)];
    format!(
        "{kept} ... (captured {} of {} bytes)",
        kept.len(),
        output.len()
    )
}
