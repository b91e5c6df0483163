//! Networks that lose what they should carry.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Mutex;

use futures::future::{BoxFuture, FutureExt as _};

use super::*;
use crate::env::{BoxStream, Datagrams, Listener, Net, RealNet};

/// What does not get through.
#[derive(Default)]
pub(super) struct Cut {
    /// Those whom nothing from outside reaches.
    pub(super) island: BTreeSet<IpAddr>,
    /// Those whom streams reach, but no datagrams.
    pub(super) streams_only: BTreeSet<IpAddr>,
    /// Those between whom nothing gets through.
    pub(super) apart: BTreeSet<(IpAddr, IpAddr)>,
}

/// The kernel's network as one member has it, with a cut that all members share.
struct Faulty {
    own: IpAddr,
    cut: Arc<Mutex<Cut>>,
}

struct FaultySocket {
    socket: Arc<dyn Datagrams>,
    own: IpAddr,
    cut: Arc<Mutex<Cut>>,
}

impl Cut {
    fn stops_streams(&self, a: IpAddr, b: IpAddr) -> bool {
        let apart = self.apart.contains(&(a, b)) || self.apart.contains(&(b, a));
        apart || self.island.contains(&a) != self.island.contains(&b)
    }

    fn stops_datagrams(&self, a: IpAddr, b: IpAddr) -> bool {
        self.stops_streams(a, b) || self.streams_only.contains(&a) != self.streams_only.contains(&b)
    }
}

impl Net for Faulty {
    fn listen(&self, addr: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        RealNet.listen(addr).boxed()
    }

    fn connect(&self, addr: SocketAddr) -> BoxFuture<'_, io::Result<BoxStream>> {
        if self.cut.lock().unwrap().stops_streams(self.own, addr.ip()) {
            return std::future::ready(Err(io::ErrorKind::TimedOut.into())).boxed();
        }
        async move { RealNet.connect(addr).await }.boxed()
    }

    fn bind_udp(&self, addr: SocketAddr) -> BoxFuture<'_, io::Result<Arc<dyn Datagrams>>> {
        async move {
            Ok(Arc::new(FaultySocket {
                socket: RealNet.bind_udp(addr).await?,
                own: self.own,
                cut: Arc::clone(&self.cut),
            }) as Arc<dyn Datagrams>)
        }
        .boxed()
    }

    fn resolve<'a>(
        &'a self,
        host: &'a str,
        port: u16,
    ) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        async move { RealNet.resolve(host, port).await }.boxed()
    }
}

impl Datagrams for FaultySocket {
    fn send_to<'a>(&'a self, data: &'a [u8], to: SocketAddr) -> BoxFuture<'a, io::Result<usize>> {
        if self.cut.lock().unwrap().stops_datagrams(self.own, to.ip()) {
            return std::future::ready(Ok(data.len())).boxed();
        }
        self.socket.send_to(data, to)
    }

    fn recv_from<'a>(
        &'a self,
        buffer: &'a mut [u8],
    ) -> BoxFuture<'a, io::Result<(usize, SocketAddr)>> {
        self.socket.recv_from(buffer)
    }
}

/// A pool on one faulty network, of members with settings that `change` has changed.
pub(super) async fn faulty_pool(
    names: &[&str],
    change: impl Fn(&mut Settings),
) -> (Vec<Peer>, Arc<Mutex<Cut>>) {
    let cut = Arc::<Mutex<Cut>>::default();
    let mut peers: Vec<Peer> = Vec::new();
    for name in names {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let mut settings = settings(name, &folder);
        change(&mut settings);
        let mut env = Env::real();
        env.net = Arc::new(Faulty {
            own: settings.bind.ip(),
            cut: Arc::clone(&cut),
        });
        let peer = Peer::start_in(env, settings, folder).await;
        if let Some(first) = peers.first() {
            peer.join(first).await.unwrap();
        }
        peers.push(peer);
    }
    all_alive(&peers).await;
    (peers, cut)
}

async fn all_alive(peers: &[Peer]) {
    for peer in peers {
        for other in peers {
            peer.until_status(other, Status::Alive).await;
        }
    }
}

fn isolate(cut: &Mutex<Cut>, peer: &Peer) {
    cut.lock()
        .unwrap()
        .island
        .insert(peer.settings.advertise.ip());
}

#[tokio::test]
async fn both_sides_of_a_partition_find_each_other_again() {
    for names in [&["A", "B"][..], &["A", "B", "C", "D"]] {
        let (peers, cut) = faulty_pool(names, |_| {}).await;
        let mut events = peers[1].gossip.events();
        isolate(&cut, &peers[0]);
        for peer in &peers[1..] {
            peer.until_status(&peers[0], Status::Failed).await;
            peers[0].until_status(peer, Status::Failed).await;
        }
        cut.lock().unwrap().island.clear();
        all_alive(&peers).await;
        // A holds C and D for dead. B believes it of neither.
        let mut words = words(&mut events);
        words.retain(|word| word.starts_with("failed"));
        assert_eq!(words, ["failed A"]);
    }
}

#[tokio::test]
async fn tags_set_behind_a_partition_arrive_after_it() {
    let (peers, cut) = faulty_pool(&["A", "B", "C"], |_| {}).await;
    isolate(&cut, &peers[0]);
    for peer in &peers[1..] {
        peer.until_status(&peers[0], Status::Failed).await;
        peers[0].until_status(peer, Status::Failed).await;
    }
    let tags = Tags::from([("vsn", "2")]);
    peers[0].gossip.set_tags(tags.clone()).await;
    peers[1].gossip.set_tags(tags.clone()).await;
    cut.lock().unwrap().island.clear();
    all_alive(&peers).await;
    peers[2]
        .until("A has new tags", |me| {
            me.sees(&peers[0]).unwrap().tags == tags
        })
        .await;
    peers[0]
        .until("B has new tags", |me| {
            me.sees(&peers[1]).unwrap().tags == tags
        })
        .await;
}

#[tokio::test]
async fn one_that_was_made_to_leave_behind_a_partition_returns_after_it() {
    let (peers, cut) = faulty_pool(&["A", "B", "C"], |_| {}).await;
    isolate(&cut, &peers[0]);
    peers[1].until_status(&peers[0], Status::Failed).await;
    peers[1].gossip.force_leave("A", false).await.unwrap();
    peers[2].until_status(&peers[0], Status::Left).await;
    for peer in &peers[1..] {
        peers[0].until_status(peer, Status::Failed).await;
    }
    cut.lock().unwrap().island.clear();
    all_alive(&peers).await;
}

#[tokio::test]
async fn a_member_that_is_reached_by_streams_only_is_not_declared_dead() {
    let (peers, cut) = faulty_pool(&["A", "B", "C"], |_| {}).await;
    let mut events = peers[1].gossip.events();
    cut.lock()
        .unwrap()
        .streams_only
        .insert(peers[0].settings.advertise.ip());
    // Each time that C's failure is found and C is back, A has failed many probes.
    for _ in 0..3 {
        isolate(&cut, &peers[2]);
        peers[1].until_status(&peers[2], Status::Failed).await;
        cut.lock().unwrap().island.clear();
        peers[1].until_status(&peers[2], Status::Alive).await;
    }
    let words = words(&mut events);
    assert!(!words.contains(&"failed A".to_owned()), "{words:?}");
}
