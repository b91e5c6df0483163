//! What a member says of itself. A pool has as many of these as members, on every member.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Tags of a member, by name: role, dc, id, port, bootstrap, expect, cluster and so on.
///
/// Two pieces of memory whatever their number, which copies share: what is known of a member is kept in more than
/// one place, and written rarely.
#[derive(Clone, PartialEq, Eq)]
pub struct Tags {
    /// Name, value, name, value and so on, sorted by name.
    text: Arc<str>,
    /// Where each of these ends.
    ends: Arc<[u32]>,
}

impl Tags {
    /// None.
    pub fn new() -> Self {
        std::iter::empty::<(&str, &str)>().collect()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len() / 2
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The value of one.
    pub fn get(&self, name: &str) -> Option<&str> {
        // They are few and short.
        let found = self.iter().find(|(other, _)| *other == name);
        found.map(|(_, value)| value)
    }

    /// Whether there is one of that name.
    pub fn contains_key(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Names and values, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut begin = 0;
        self.ends.chunks_exact(2).map(move |ends| {
            let (middle, end) = (ends[0] as usize, ends[1] as usize);
            let pair = (&self.text[begin..middle], &self.text[middle..end]);
            begin = end;
            pair
        })
    }

    /// Sets one.
    pub fn insert(&mut self, name: impl Into<String>, value: impl Into<String>) {
        let mut all = self.to_map();
        all.insert(name.into(), value.into());
        *self = all.into_iter().collect();
    }

    /// A map of them, as JSON has it.
    pub fn to_map(&self) -> BTreeMap<String, String> {
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        self.iter().map(owned).collect()
    }
}

impl Default for Tags {
    fn default() -> Self {
        Self::new()
    }
}

impl<N: AsRef<str> + Ord, V: AsRef<str>> FromIterator<(N, V)> for Tags {
    /// Of several with one name, the last counts.
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        let sorted: BTreeMap<N, V> = pairs.into_iter().collect();
        let mut text = String::new();
        let mut ends = Vec::with_capacity(2 * sorted.len());
        for (name, value) in &sorted {
            for part in [name.as_ref(), value.as_ref()] {
                // A node's own are bounded (`codec::tags_fit`), those of others by the frame that brings them.
                text.push_str(part);
                ends.push(u32::try_from(text.len()).unwrap_or(u32::MAX));
            }
        }
        Self {
            text: text.into(),
            ends: ends.into(),
        }
    }
}

impl<N: AsRef<str> + Ord, V: AsRef<str>, const COUNT: usize> From<[(N, V); COUNT]> for Tags {
    fn from(pairs: [(N, V); COUNT]) -> Self {
        pairs.into_iter().collect()
    }
}

impl fmt::Debug for Tags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl Serialize for Tags {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for Tags {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let map = BTreeMap::<String, String>::deserialize(deserializer)?;
        Ok(map.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn they_are_what_a_map_is(
            map in proptest::collection::btree_map(".{0,5}", ".{0,5}", 0..6),
            name in ".{0,5}",
        ) {
            let tags: Tags = map.clone().into_iter().collect();
            prop_assert_eq!(tags.len(), map.len());
            prop_assert_eq!(tags.is_empty(), map.is_empty());
            prop_assert_eq!(tags.to_map(), map.clone());
            prop_assert_eq!(tags.get(&name), map.get(&name).map(String::as_str));
            prop_assert!(map.iter().all(|(name, value)| tags.get(name) == Some(value)));

            let json = serde_json::to_string(&tags).expect("text");
            prop_assert_eq!(&json, &serde_json::to_string(&map).expect("text"));
            prop_assert_eq!(&serde_json::from_str::<Tags>(&json).expect("a map"), &tags);
            let bytes = postcard::to_stdvec(&tags).expect("bytes");
            prop_assert_eq!(&bytes, &postcard::to_stdvec(&map).expect("bytes"));

            let (mut changed, mut wanted) = (tags.clone(), map);
            changed.insert(name.clone(), "new");
            wanted.insert(name, "new".to_owned());
            prop_assert_eq!(changed.to_map(), wanted);
        }
    }
}
