//! Key sets of issuers, kept for a while.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::acl::login::{Key, Remote};

/// How long a set counts without being looked at again: so long may a key count that its issuer has withdrawn.
const FRESH: Duration = Duration::from_secs(300);

/// How long it counts where nobody answers any more.
const KEPT: Duration = Duration::from_secs(3600);

/// Pause between two tries, whatever came of the first: anybody can name a key that there is not.
const PAUSE: Duration = Duration::from_secs(3);

/// Places whose sets are kept. Beyond that all are forgotten, which costs a fetch each.
const PLACES_MAX: usize = 64;

/// What a place has published.
#[derive(Debug)]
pub(super) struct KeySet {
    pub(super) keys: Vec<Key>,
    /// Who issues, where that was said there too.
    pub(super) issuer: Option<String>,
}

/// Which set is good enough.
#[derive(Clone, Copy)]
pub(super) enum Wanted<'a> {
    Known,
    /// Another than this one, in which a key was not found.
    NewerThan(&'a Arc<KeySet>),
}

#[derive(Default)]
pub(super) struct KeySets(Mutex<HashMap<Remote, Arc<tokio::sync::Mutex<Place>>>>);

/// What is known of a place.
#[derive(Default)]
struct Place {
    known: Option<(Instant, Arc<KeySet>)>,
    /// When it was last asked, and what went wrong.
    tried: Option<(Instant, Option<String>)>,
}

impl KeySets {
    /// A set of this place: the one that is kept, or what `fetch` brings. Whoever comes meanwhile waits for that.
    pub(super) async fn find<F>(
        &self,
        remote: &Remote,
        wanted: Wanted<'_>,
        fetch: impl FnOnce() -> F,
    ) -> Result<Arc<KeySet>, String>
    where
        F: Future<Output = Result<KeySet, String>>,
    {
        let place = self.place(remote);
        let mut place = place.lock().await;
        if let Some(answer) = place.without_asking(wanted, Instant::now()) {
            return answer;
        }
        let fetched = fetch().await;
        let now = Instant::now();
        place.tried = Some((now, fetched.as_ref().err().cloned()));
        match fetched {
            Ok(set) => {
                let set = Arc::new(set);
                place.known = Some((now, set.clone()));
                Ok(set)
            }
            Err(why) => place.kept(now).ok_or(why),
        }
    }

    fn place(&self, remote: &Remote) -> Arc<tokio::sync::Mutex<Place>> {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if places.len() >= PLACES_MAX && !places.contains_key(remote) {
            places.clear();
        }
        places.entry(remote.clone()).or_default().clone()
    }
}

impl Place {
    /// What to answer without asking anybody; `None` when it is time to ask.
    fn without_asking(
        &self,
        wanted: Wanted<'_>,
        now: Instant,
    ) -> Option<Result<Arc<KeySet>, String>> {
        if let Some((since, set)) = &self.known {
            let enough = match wanted {
                Wanted::Known => now.duration_since(*since) < FRESH,
                Wanted::NewerThan(seen) => !Arc::ptr_eq(seen, set),
            };
            if enough {
                return Some(Ok(set.clone()));
            }
        }
        let (at, why) = self.tried.as_ref()?;
        if now.duration_since(*at) >= PAUSE {
            return None;
        }
        let why = why.clone().unwrap_or_default();
        Some(self.kept(now).ok_or(why))
    }

    fn kept(&self, now: Instant) -> Option<Arc<KeySet>> {
        let (since, set) = self.known.as_ref()?;
        (now.duration_since(*since) < KEPT).then(|| set.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::acl::login::Place as Address;

    struct Bed {
        sets: KeySets,
        fetched: AtomicUsize,
    }

    fn at(host: &str) -> Remote {
        Remote::Set(Address::read(&format!("https://{host}/"), "").unwrap())
    }

    impl Bed {
        fn new() -> Self {
            Self {
                sets: KeySets::default(),
                fetched: AtomicUsize::new(0),
            }
        }

        async fn find(&self, wanted: Wanted<'_>, works: bool) -> Result<Arc<KeySet>, String> {
            let fetch = || async {
                self.fetched.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
                match works {
                    true => Ok(KeySet {
                        keys: Vec::new(),
                        issuer: None,
                    }),
                    false => Err("nobody answers".to_owned()),
                }
            };
            self.sets.find(&at("x"), wanted, fetch).await
        }

        fn count(&self) -> usize {
            self.fetched.load(Ordering::Relaxed)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_set_is_fetched_once_in_a_while() {
        let bed = Bed::new();
        let (one, two) = tokio::join!(bed.find(Wanted::Known, true), bed.find(Wanted::Known, true));
        assert!(Arc::ptr_eq(&one.unwrap(), &two.unwrap()));
        assert_eq!(bed.count(), 1);
        tokio::time::advance(FRESH).await;
        bed.find(Wanted::Known, true).await.unwrap();
        assert_eq!(bed.count(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn an_unknown_key_is_looked_for_but_not_at_every_asking() {
        let bed = Bed::new();
        let first = bed.find(Wanted::Known, true).await.unwrap();
        for _ in 0..5 {
            let same = bed.find(Wanted::NewerThan(&first), true).await.unwrap();
            assert!(Arc::ptr_eq(&same, &first));
        }
        assert_eq!(bed.count(), 1);
        tokio::time::advance(PAUSE).await;
        let newer = bed.find(Wanted::NewerThan(&first), true).await.unwrap();
        assert!(!Arc::ptr_eq(&newer, &first));
        // Whoever saw the first one only now misses a key, need not have it fetched.
        tokio::time::advance(PAUSE).await;
        let same = bed.find(Wanted::NewerThan(&first), true).await.unwrap();
        assert!(Arc::ptr_eq(&same, &newer));
        assert_eq!(bed.count(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_answer_is_asked_again_after_a_pause_and_believed_for_an_hour() {
        let bed = Bed::new();
        for _ in 0..5 {
            let why = bed.find(Wanted::Known, false).await.unwrap_err();
            assert_eq!(why, "nobody answers");
        }
        assert_eq!(bed.count(), 1);
        tokio::time::advance(PAUSE).await;
        let known = bed.find(Wanted::Known, true).await.unwrap();
        tokio::time::advance(KEPT - Duration::from_secs(1)).await;
        let kept = bed.find(Wanted::Known, false).await.unwrap();
        assert!(Arc::ptr_eq(&kept, &known));
        tokio::time::advance(PAUSE).await;
        assert!(bed.find(Wanted::Known, false).await.is_err());
    }

    #[tokio::test]
    async fn no_more_places_are_kept_than_there_is_room_for() {
        let bed = Bed::new();
        for number in 0..PLACES_MAX * 2 {
            bed.sets.place(&at(&format!("x{number}")));
        }
        assert!(bed.sets.0.lock().unwrap().len() <= PLACES_MAX);
    }
}
