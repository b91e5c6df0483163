//! How many connections are open, by client: what HTTP and the server port have in common.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Open connections by client address.
pub(crate) struct Seats {
    /// Of all clients together.
    max: u32,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Debug, Default)]
struct Taken {
    all: u32,
    by_client: BTreeMap<IpAddr, u32>,
}

/// One of them; dropping it makes room.
#[derive(Debug)]
pub(crate) struct Seat {
    taken: Arc<Mutex<Taken>>,
    client: IpAddr,
}

impl Seats {
    /// As many as `max` for all clients together.
    pub(crate) fn new(max: u32) -> Self {
        Self {
            max,
            taken: Arc::default(),
        }
    }

    /// None when the client has `max` already, where 0 is no bound, or nothing is left for anybody.
    pub(crate) fn take(&self, client: IpAddr, max: u32) -> Option<Seat> {
        let mut taken = lock(&self.taken);
        let open = taken.by_client.get(&client).copied().unwrap_or(0);
        if (max != 0 && open >= max) || taken.all >= self.max {
            return None;
        }
        taken.by_client.insert(client, open + 1);
        taken.all += 1;
        drop(taken);
        let taken = self.taken.clone();
        Some(Seat { taken, client })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = lock(&self.taken);
        taken.all -= 1;
        if let Some(count) = taken.by_client.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                taken.by_client.remove(&self.client);
            }
        }
    }
}

fn lock(taken: &Mutex<Taken>) -> MutexGuard<'_, Taken> {
    // A count is never half changed.
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_has_its_own_and_all_have_theirs_and_who_goes_makes_room() {
        let seats = Seats::new(3);
        let [one, two] = [1, 2].map(|last| IpAddr::from([127, 0, 0, last]));
        let first = seats.take(one, 2).expect("the first");
        let _second = seats.take(one, 2).expect("the second");
        assert!(seats.take(one, 2).is_none(), "over its own bound");
        let _other = seats.take(two, 2).expect("another client");
        assert!(seats.take(two, 0).is_none(), "over that of all");
        drop(first);
        assert!(seats.take(two, 0).is_some(), "there is room again");
    }
}
