//! What readers see: members, events about them, and where this node is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::super::Event;
use super::super::events::takes_part;
use super::super::snapshot::Remembered;
use super::Driver;

impl Driver {
    /// Shows the members as they are after `events`.
    pub(super) fn publish(&mut self, events: Vec<Event>) {
        let seen = self.env.clock.unix_ms();
        for event in &events {
            match event {
                Event::Joined(member) | Event::Updated(member) | Event::Leaving(member) => {
                    if member.id != self.settings.id && takes_part(member.status) {
                        let remembered = Remembered {
                            name: member.name.clone(),
                            addr: member.addr,
                            seen,
                        };
                        self.remembered.insert(member.id, remembered);
                    }
                }
                Event::Left(member) | Event::Reaped(member) => {
                    self.remembered.remove(&member.id);
                }
                Event::Failed(_) => {}
            }
        }
        let local = self.view.member(self.settings.id).cloned();
        self.shared.publish(local, events);
        self.remember_soon();
    }

    /// Learns where this node is from what the last datagram measured.
    pub(super) fn measure(&mut self) {
        let Some(sample) = self.ledger.lock().probes.take() else {
            return;
        };
        if !self.settings.coordinates {
            return;
        }
        let random = &self.env.random;
        // 53 bits: as many as a number has.
        let mut unit = || (random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
        self.vivaldi
            .update(sample.peer, &sample.place, sample.rtt, &mut unit);
        if self.settings.keep_places && sample.place.is_valid() {
            let mut places = BTreeMap::clone(&self.shared.places.load());
            places.retain(|id, _| self.view.member(*id).is_some());
            places.insert(sample.peer, sample.place);
            self.shared.places.store(Arc::new(places));
        }
        let place = self.vivaldi.coordinate();
        self.outbox.set_place(place);
        self.shared.coordinate.store(Arc::new(*place));
        self.shared
            .coordinate_resets
            .store(self.vivaldi.resets(), Ordering::Relaxed);
    }
}
