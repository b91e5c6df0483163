//! What follows from the pool of all datacenters: where a datacenter is reached, which is near, who must still join. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::coordinate::Coordinate;
use crate::env::Random;
use crate::gossip::{Member, Status};
use crate::leader::peers::server_addr;
use crate::node::Error;

/// The tag in which a server says where its gossip with other datacenters listens.
pub(in crate::node) const WAN_JOIN_PORT: &str = "wan_join_port";

/// A datacenter and where its servers are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Datacenter {
    /// Its name.
    pub name: String,
    /// Its servers' places in the pool of all datacenters, by node name, as far as they are known.
    pub places: Vec<(String, Coordinate)>,
}

/// One server of a datacenter.
#[derive(Debug, Clone, PartialEq)]
struct Known {
    name: String,
    id: Uuid,
    address: SocketAddr,
    alive: bool,
}

/// The datacenters that have servers which have not left.
#[derive(Debug, Clone, Default, PartialEq)]
pub(in crate::node) struct Table(BTreeMap<String, Vec<Known>>);

/// A server's name in the pool of all datacenters.
pub(in crate::node) fn name_in_all(node: &str, datacenter: &str) -> String {
    format!("{node}.{datacenter}")
}

fn is_server(member: &Member) -> bool {
    member.tags.get("role").is_some_and(|role| role == "consul")
}

impl Table {
    /// What the members of the pool of all datacenters say.
    pub(in crate::node) fn of(members: &[Arc<Member>]) -> Self {
        let mut table: BTreeMap<String, Vec<Known>> = BTreeMap::new();
        for member in members {
            let known = is_server(member) && member.status != Status::Left;
            let (Some(datacenter), Some(address)) = (member.tags.get("dc"), server_addr(member))
            else {
                continue;
            };
            if !known {
                continue;
            }
            let suffix = format!(".{datacenter}");
            let name = member.name.strip_suffix(&suffix).unwrap_or(&member.name);
            table.entry(datacenter.to_owned()).or_default().push(Known {
                name: name.to_owned(),
                id: member.id,
                address,
                alive: member.status == Status::Alive,
            });
        }
        Self(table)
    }

    /// How many datacenters there are.
    pub(in crate::node) fn len(&self) -> usize {
        self.0.len()
    }

    /// Server addresses of a datacenter, in the order in which they are to be tried: the one that answered last, then the
    /// others at random. Those that are leaving or failed come last: gossip may be wrong, or late.
    ///
    /// # Errors
    /// [`Error::NoPath`] for a datacenter that nobody is of, [`Error::Unreachable`] for one of which nobody lives.
    pub(in crate::node) fn way(
        &self,
        datacenter: &str,
        last: Option<SocketAddr>,
        random: &dyn Random,
    ) -> Result<Vec<SocketAddr>, Error> {
        let servers = self.0.get(datacenter).ok_or(Error::NoPath)?;
        let mut alive: Vec<SocketAddr> = addresses(servers, true);
        if alive.is_empty() {
            return Err(Error::Unreachable);
        }
        for at in (1..alive.len()).rev() {
            alive.swap(at, random.below(at as u64 + 1) as usize);
        }
        if let Some(at) = alive.iter().position(|address| Some(*address) == last) {
            alive[..=at].rotate_right(1);
        }
        alive.extend(addresses(servers, false));
        Ok(alive)
    }

    /// The datacenters, the nearest first: by the median of the estimated times to their servers, of which those without a
    /// known place are infinitely far away. Everything in the own one is near. Equally near ones are in the order of their
    /// names.
    pub(in crate::node) fn by_distance(
        &self,
        own: &str,
        from: &Coordinate,
        places: &BTreeMap<Uuid, Coordinate>,
    ) -> Vec<Datacenter> {
        let distance = |datacenter: &str, server: &Known| match places.get(&server.id) {
            _ if datacenter == own => 0.0,
            Some(place) => from.distance(place),
            None => f64::INFINITY,
        };
        let mut sorted: Vec<(f64, Datacenter)> = self
            .0
            .iter()
            .map(|(name, servers)| {
                let mut times: Vec<f64> = servers.iter().map(|s| distance(name, s)).collect();
                times.sort_by(f64::total_cmp);
                let shown = servers
                    .iter()
                    .filter_map(|server| Some((server.name.clone(), *places.get(&server.id)?)));
                let datacenter = Datacenter {
                    name: name.clone(),
                    places: shown.collect(),
                };
                (times[times.len() / 2], datacenter)
            })
            .collect();
        // Stable: equal ones stay in the order of their names.
        sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
        sorted
            .into_iter()
            .map(|(_, datacenter)| datacenter)
            .collect()
    }
}

fn addresses(servers: &[Known], alive: bool) -> Vec<SocketAddr> {
    let chosen = servers.iter().filter(|server| server.alive == alive);
    chosen.map(|server| server.address).collect()
}

/// Servers of the own datacenter that are not in the pool of all datacenters, and where they can be joined to it: those who
/// are in it join their peers, so that one of a datacenter's servers is enough to be told of.
pub(in crate::node) fn missing(
    lan: &[Arc<Member>],
    wan: &[Arc<Member>],
    datacenter: &str,
) -> Vec<(String, SocketAddr)> {
    let there: BTreeSet<Uuid> = wan
        .iter()
        .filter(|member| member.status == Status::Alive)
        .map(|member| member.id)
        .collect();
    lan.iter()
        .filter(|member| member.status == Status::Alive && is_server(member))
        .filter(|member| member.tags.get("dc").is_some_and(|dc| dc == datacenter))
        .filter(|member| !there.contains(&member.id))
        .filter_map(|member| {
            let port = member.tags.get(WAN_JOIN_PORT)?.parse().ok()?;
            let address = SocketAddr::new(member.addr.ip(), port);
            Some((name_in_all(&member.name, datacenter), address))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::SeededRandom;
    use crate::gossip::Tags;

    fn member(name: &str, datacenter: &str, n: u8, status: Status) -> Arc<Member> {
        let tags = [
            ("role", "consul"),
            ("dc", datacenter),
            ("port", "8300"),
            (WAN_JOIN_PORT, "8302"),
        ];
        Arc::new(Member {
            name: name.to_owned(),
            id: Uuid::from_u128(n.into()),
            addr: SocketAddr::from(([10, 0, 0, n], 8302)),
            generation: 1,
            status,
            tags: tags.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
        })
    }

    fn address(n: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, n], 8300))
    }

    fn table() -> Table {
        Table::of(&[
            member("a.dc1", "dc1", 1, Status::Alive),
            member("b.dc1", "dc1", 2, Status::Alive),
            member("a.dc2", "dc2", 3, Status::Alive),
            member("b.dc2", "dc2", 4, Status::Failed),
            member("c.dc2", "dc2", 5, Status::Alive),
            member("a.dc3", "dc3", 6, Status::Failed),
            member("a.dc4", "dc4", 7, Status::Left),
        ])
    }

    #[test]
    fn a_way_leads_to_the_living_first_and_never_to_those_who_left() {
        for seed in 0..20 {
            let random = SeededRandom::new(seed);
            let way = table().way("dc2", None, &random).unwrap();
            assert_eq!(way.len(), 3);
            assert_eq!(way[2], address(4), "the failed one last: {way:?}");
            let way = table().way("dc2", Some(address(5)), &random).unwrap();
            assert_eq!(way, [address(5), address(3), address(4)]);
            let gone = table().way("dc2", Some(address(9)), &random).unwrap();
            assert_eq!(gone.len(), 3);
        }
        let first = |seed| table().way("dc1", None, &SeededRandom::new(seed)).unwrap()[0];
        assert!((0..20).any(|seed| first(seed) == address(1)));
        assert!((0..20).any(|seed| first(seed) == address(2)));
    }

    #[test]
    fn a_datacenter_that_is_unknown_is_told_apart_from_one_that_is_down() {
        let way = |dc| table().way(dc, None, &SeededRandom::new(1));
        assert_eq!(way("dc9"), Err(Error::NoPath));
        assert_eq!(way("dc4"), Err(Error::NoPath), "all of it left");
        assert_eq!(way("dc3"), Err(Error::Unreachable));
    }

    #[test]
    fn clients_and_strangers_are_no_way() {
        let client = Member {
            tags: Tags::from([("role".to_owned(), "node".to_owned())]),
            ..Member::clone(&member("c.dc5", "dc5", 8, Status::Alive))
        };
        assert_eq!(Table::of(&[Arc::new(client)]), Table::default());
    }

    #[test]
    fn the_nearest_datacenter_comes_first_by_its_median_server() {
        let at = |x: f64| {
            let mut place = Coordinate::default();
            place.vec[0] = x;
            place
        };
        let members = [
            member("a.own", "own", 1, Status::Alive),
            member("a.far", "far", 2, Status::Alive),
            member("a.mid", "mid", 3, Status::Alive),
            member("b.mid", "mid", 4, Status::Alive),
            member("c.mid", "mid", 5, Status::Alive),
            member("a.dark", "dark", 6, Status::Alive),
        ];
        let places = BTreeMap::from(
            [(2, 9.0), (3, 1.0), (4, 2.0), (5, 100.0)].map(|(n, x)| (Uuid::from_u128(n), at(x))),
        );
        let sorted = Table::of(&members).by_distance("own", &at(0.0), &places);
        let names: Vec<&str> = sorted.iter().map(|dc| &dc.name[..]).collect();
        assert_eq!(names, ["own", "mid", "far", "dark"]);
        let shown = |at: usize| sorted[at].places.iter().map(|(n, _)| &n[..]).collect();
        let mid: Vec<&str> = shown(1);
        assert_eq!(mid, ["a", "b", "c"]);
        assert!(sorted[0].places.is_empty() && sorted[3].places.is_empty());
    }

    #[test]
    fn peers_that_are_not_in_the_pool_of_all_are_joined_to_it_and_nobody_else() {
        let client = Member {
            tags: Tags::from([
                ("role".to_owned(), "node".to_owned()),
                ("dc".to_owned(), "dc1".to_owned()),
            ]),
            ..Member::clone(&member("client", "dc1", 9, Status::Alive))
        };
        let off = Member {
            tags: Tags::from([
                ("role".to_owned(), "consul".to_owned()),
                ("dc".to_owned(), "dc1".to_owned()),
            ]),
            ..Member::clone(&member("off", "dc1", 8, Status::Alive))
        };
        let lan = [
            member("a", "dc1", 1, Status::Alive),
            member("b", "dc1", 2, Status::Alive),
            member("c", "dc1", 3, Status::Alive),
            member("d", "dc1", 4, Status::Failed),
            member("e", "dc1", 5, Status::Left),
            member("stranger", "dc2", 6, Status::Alive),
            Arc::new(client),
            Arc::new(off),
        ];
        let wan = [
            member("a.dc1", "dc1", 1, Status::Alive),
            // It was there, failed, and is back in the LAN.
            member("c.dc1", "dc1", 3, Status::Failed),
            member("x.dc2", "dc2", 7, Status::Alive),
        ];
        let at = |n: u8| SocketAddr::from(([10, 0, 0, n], 8302));
        assert_eq!(
            missing(&lan, &wan, "dc1"),
            [("b.dc1".to_owned(), at(2)), ("c.dc1".to_owned(), at(3))]
        );
        assert_eq!(missing(&lan[..1], &wan, "dc1"), []);
    }

    #[test]
    fn no_member_of_the_pool_of_all_can_become_a_peer() {
        use crate::leader::peers::{Policy, View, next_change};
        let members = [
            member("a.dc1", "dc1", 1, Status::Alive),
            member("b.dc1", "dc1", 2, Status::Alive),
        ];
        let (peers, voters) = (BTreeMap::new(), BTreeSet::new());
        let (matched, unstable) = (BTreeMap::new(), BTreeSet::new());
        let view = View {
            cluster: Uuid::from_u128(1),
            datacenter: "dc1",
            own: 1,
            members: &members,
            peers: &peers,
            voters: &voters,
            joint: false,
            last_index: 1,
            matched: &matched,
            unstable: &unstable,
        };
        let policy = Policy::of(&crate::state::Autopilot::default());
        // Even if somebody mixed the pools up: they say neither a raft id nor a cluster.
        assert_eq!(next_change(&view, &policy), None);
    }
}
