//! From what SWIM and the ledger know to what the rest of the program sees: members, and events about them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::codec::Entry;
use super::identity::{Identity, fold};
use super::ledger::{Intent, Ledger};
use super::{Event, Member, Status};

/// What SWIM says about a member, and since when.
///
/// Times count from a moment long before the start, so that what happened before it has a time too.
struct Seen {
    identity: Identity,
    up: bool,
    since: Duration,
}

/// The members as they are shown.
///
/// A member is shown once its record is known, and then until it is forgotten. Among those that are up, a name
/// belongs to whoever had it first; a second one is not shown as long as the first is up.
pub(crate) struct View {
    seen: BTreeMap<Uuid, Seen>,
    shown: BTreeMap<Uuid, Arc<Member>>,
    /// Who is shown under which folded name: one that takes part, or several that do not.
    names: BTreeMap<String, BTreeSet<Uuid>>,
    /// Pairs (newcomer, holder of the name) that were reported.
    conflicts: BTreeSet<(Uuid, Uuid)>,
}

impl View {
    /// Nobody.
    pub(crate) fn new() -> Self {
        Self {
            seen: BTreeMap::new(),
            shown: BTreeMap::new(),
            names: BTreeMap::new(),
            conflicts: BTreeSet::new(),
        }
    }

    /// SWIM holds the member for alive.
    pub(crate) fn up(&mut self, identity: &Identity, now: Duration) {
        self.set(identity, true, now);
    }

    /// SWIM holds the member for dead.
    pub(crate) fn down(&mut self, identity: &Identity, now: Duration) {
        self.set(identity, false, now);
    }

    /// SWIM knows another life of the member. Returns whether it is up, which did not change by that.
    pub(crate) fn renamed(&mut self, identity: &Identity) -> bool {
        self.seen.get_mut(&identity.id).is_some_and(|seen| {
            seen.identity = identity.clone();
            seen.up
        })
    }

    /// Somebody else knows the member as dead for `down_for`; taken over unless more is known here.
    pub(crate) fn heard_down(&mut self, identity: &Identity, down_for: Duration, now: Duration) {
        let since = now.saturating_sub(down_for);
        self.seen.entry(identity.id).or_insert_with(|| Seen {
            identity: identity.clone(),
            up: false,
            since,
        });
    }

    fn set(&mut self, identity: &Identity, up: bool, now: Duration) {
        let since = match self.seen.get(&identity.id) {
            Some(seen) if seen.up == up => seen.since,
            _ => now,
        };
        let identity = identity.clone();
        self.seen.insert(
            identity.id,
            Seen {
                identity,
                up,
                since,
            },
        );
    }

    /// The life of a member that SWIM knows, and whether it is up.
    pub(crate) fn seen(&self, id: Uuid) -> Option<(&Identity, bool)> {
        self.seen.get(&id).map(|seen| (&seen.identity, seen.up))
    }

    /// All that SWIM holds for alive.
    pub(crate) fn ups(&self) -> impl Iterator<Item = &Identity> {
        self.seen
            .values()
            .filter(|seen| seen.up)
            .map(|seen| &seen.identity)
    }

    /// How long a member has been down: zero when it is up, the longest time when it is not known any more.
    pub(crate) fn down_for(&self, id: Uuid, now: Duration) -> Duration {
        match self.seen.get(&id) {
            Some(seen) if seen.up => Duration::ZERO,
            Some(seen) => now.saturating_sub(seen.since),
            None => Duration::MAX,
        }
    }

    /// Members that have been down for `limit` or longer.
    pub(crate) fn expired(&self, limit: Duration, now: Duration) -> Vec<Identity> {
        self.seen
            .values()
            .filter(|seen| !seen.up && now.saturating_sub(seen.since) >= limit)
            .map(|seen| seen.identity.clone())
            .collect()
    }

    /// Forgets what SWIM says about a member.
    pub(crate) fn forget(&mut self, id: Uuid) {
        self.seen.remove(&id);
        self.conflicts.retain(|(a, b)| *a != id && *b != id);
    }

    /// What is shown of a member.
    pub(crate) fn member(&self, id: Uuid) -> Option<&Arc<Member>> {
        self.shown.get(&id)
    }

    /// The member with this name, without regard to case; one that takes part before one that does not.
    pub(crate) fn by_name(&self, name: &str) -> Option<&Arc<Member>> {
        self.named(&fold(name))
            .min_by_key(|member| (!takes_part(member.status), member.id))
    }

    fn named(&self, folded: &str) -> impl Iterator<Item = &Arc<Member>> {
        let ids = self.names.get(folded).into_iter().flatten();
        ids.filter_map(|id| self.shown.get(id))
    }

    /// All that are shown, by name.
    pub(crate) fn members(&self) -> Vec<Arc<Member>> {
        let mut members: Vec<_> = self.shown.values().cloned().collect();
        members.sort_by(|a, b| (&a.name, a.id).cmp(&(&b.name, b.id)));
        members
    }

    /// Brings what is shown of one member up to date; the events that this makes.
    pub(crate) fn refresh(&mut self, id: Uuid, ledger: &Ledger) -> Vec<Event> {
        let mut events = Vec::new();
        let mut pending = vec![id];
        while let Some(id) = pending.pop() {
            let old = self.shown.get(&id).cloned();
            let mut new = self.candidate(id, ledger);
            if let Some(member) = &new
                && takes_part(member.status)
                && let Some(rival) = self.rival(member)
            {
                if takes_part(rival.status) {
                    self.report(member, &rival);
                    new = None;
                } else {
                    // A name is shown once: a dead holder gives way to a living one.
                    events.extend(self.replace(rival.id, None));
                }
            }
            if old.as_ref().is_some_and(|old| takes_part(old.status))
                && new.as_ref().is_none_or(|new| !takes_part(new.status))
            {
                pending.extend(self.waiting_for_name(id));
            }
            events.extend(self.replace(id, new));
        }
        events
    }

    /// What would be shown of a member if its name were free.
    fn candidate(&self, id: Uuid, ledger: &Ledger) -> Option<Member> {
        let seen = self.seen.get(&id)?;
        let status = status(seen.up, ledger.intent_for(&seen.identity))?;
        let record = ledger.record(id)?;
        if seen.up && record.generation < seen.identity.generation {
            // Back in a new life, of which nothing is known yet: the old state stands until the record comes.
            return self.shown.get(&id).map(|member| Member::clone(member));
        }
        if !seen.up && !self.shown.contains_key(&id) && self.name_is_held(&seen.identity) {
            return None;
        }
        Some(Member {
            name: seen.identity.name.to_string(),
            id,
            addr: seen.identity.addr,
            generation: seen.identity.generation,
            status,
            tags: record.tags.clone(),
        })
    }

    /// Another member that is shown under the same name.
    fn rival(&self, member: &Member) -> Option<Arc<Member>> {
        self.named(&fold(&member.name))
            .filter(|other| other.id != member.id)
            .min_by_key(|other| (!takes_part(other.status), other.id))
            .cloned()
    }

    fn name_is_held(&self, identity: &Identity) -> bool {
        self.named(&identity.folded_name())
            .any(|other| other.id != identity.id)
    }

    /// Members that were not shown because `id` had their name.
    fn waiting_for_name(&self, id: Uuid) -> Vec<Uuid> {
        self.conflicts
            .iter()
            .filter(|(newcomer, holder)| *holder == id && !self.shown.contains_key(newcomer))
            .map(|(newcomer, _)| *newcomer)
            .collect()
    }

    fn report(&mut self, newcomer: &Member, holder: &Member) {
        if self.conflicts.insert((newcomer.id, holder.id)) {
            tracing::error!(
                target: "serf",
                "Name conflict for '{}': both {} at {} and {} at {} use it; the latter is ignored",
                holder.name, holder.id, holder.addr, newcomer.id, newcomer.addr,
            );
        }
    }

    fn replace(&mut self, id: Uuid, new: Option<Member>) -> Vec<Event> {
        let new = new.map(Arc::new);
        let old = match &new {
            Some(new) => self.shown.insert(id, Arc::clone(new)),
            None => self.shown.remove(&id),
        };
        if let Some(old) = &old {
            let name = fold(&old.name);
            if let Some(ids) = self.names.get_mut(&name) {
                ids.remove(&id);
                if ids.is_empty() {
                    self.names.remove(&name);
                }
            }
        }
        if let Some(new) = &new {
            self.names.entry(fold(&new.name)).or_default().insert(id);
        }
        changes(old, new)
    }
}

/// Whether a member with this status still holds its name and answers.
pub(crate) fn takes_part(status: Status) -> bool {
    matches!(status, Status::Alive | Status::Leaving)
}

/// What a member is, from SWIM's verdict and what was said about its staying; `None` when it is forgotten.
fn status(up: bool, intent: Option<Intent>) -> Option<Status> {
    match (up, intent) {
        (true, None | Some(Intent::Forced | Intent::Forgotten)) => Some(Status::Alive),
        (true, Some(Intent::Leaving)) => Some(Status::Leaving),
        // Whoever said that it leaves and is gone has left, even when its last word was lost.
        (_, Some(Intent::Left)) | (false, Some(Intent::Leaving | Intent::Forced)) => {
            Some(Status::Left)
        }
        (false, None) => Some(Status::Failed),
        (false, Some(Intent::Forgotten)) => None,
    }
}

/// The events that lead from one state of a member to the next.
fn changes(old: Option<Arc<Member>>, new: Option<Arc<Member>>) -> Vec<Event> {
    let Some(new) = new else {
        return old.map(Event::Reaped).into_iter().collect();
    };
    let before = old.as_ref().map(|old| old.status);
    if old.as_ref() == Some(&new) {
        return Vec::new();
    }
    let was_in = before.is_some_and(takes_part);
    match new.status {
        Status::Alive if before == Some(Status::Alive) => vec![Event::Updated(new)],
        Status::Alive => vec![Event::Joined(new)],
        Status::Leaving if before == Some(Status::Leaving) => vec![Event::Updated(new)],
        Status::Leaving if was_in => vec![Event::Leaving(new)],
        Status::Leaving => vec![Event::Joined(Arc::clone(&new)), Event::Leaving(new)],
        status if before == Some(status) => vec![Event::Updated(new)],
        Status::Left => vec![Event::Left(new)],
        Status::Failed => vec![Event::Failed(new)],
    }
}

/// Brings a list of members, sorted by name and id, to what it is after an event.
///
/// Where many join, making the list anew for each of them would be what most time goes to.
pub(crate) fn apply(event: &Event, members: &mut Vec<Arc<Member>>) {
    let new = event.member();
    let place = |members: &[Arc<Member>]| {
        members.binary_search_by(|old| (&old.name, old.id).cmp(&(&new.name, new.id)))
    };
    let is_gone = matches!(event, Event::Reaped(_));
    match place(members) {
        Ok(place) if is_gone => {
            members.remove(place);
        }
        Ok(place) => members[place] = Arc::clone(new),
        Err(_) => {
            // It may have had another name.
            members.retain(|old| old.id != new.id);
            if !is_gone && let Err(place) = place(members) {
                members.insert(place, Arc::clone(new));
            }
        }
    }
}

/// Why two pools cannot become one, if they cannot: a living member of one has the name of a living member of the
/// other.
///
/// `newcomer` (who asks to join) also must not have the node id of somebody else. A holder whose address the
/// newcomer now has is no obstacle: it cannot be running any more.
pub(crate) fn collision(
    ours: &[&Identity],
    newcomer: &Identity,
    theirs: &[Entry],
) -> Option<String> {
    let same_id = ours.iter().find(|our| {
        our.id == newcomer.id
            && our.addr != newcomer.addr
            && our.folded_name() != newcomer.folded_name()
    });
    if let Some(holder) = same_id {
        return Some(format!(
            "node id {} of '{}' at {} is in use by '{}' at {}",
            newcomer.id, newcomer.name, newcomer.addr, holder.name, holder.addr
        ));
    }
    let by_name: BTreeMap<String, &Identity> =
        ours.iter().map(|our| (our.folded_name(), *our)).collect();
    let up = theirs
        .iter()
        .filter(|entry| entry.member.state() != foca::State::Down)
        .filter(|entry| {
            entry.intent.is_none_or(|(generation, intent)| {
                generation < entry.member.id().generation || intent != Intent::Left
            })
        })
        .map(|entry| entry.member.id());
    std::iter::once(newcomer).chain(up).find_map(|their| {
        let holder = by_name.get(&their.folded_name())?;
        (holder.id != their.id && holder.addr != their.addr).then(|| {
            format!(
                "name '{}' of node {} at {} is in use by node {} at {}",
                their.name, their.id, their.addr, holder.id, holder.addr
            )
        })
    })
}

#[cfg(test)]
mod tests;
