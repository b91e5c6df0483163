//! Members that compare what they know before they tell it.

use std::net::IpAddr;

use super::partition::faulty_pool;
use super::*;
use crate::gossip::codec::{Digest, Exchange, FrameKind, Hello};
use crate::gossip::identity::Identity;

/// What somebody who is no member asks `peer`, as one who knows what `digest` stands for.
async fn ask(peer: &Peer, digest: Option<Digest>) -> Exchange {
    let request = Exchange {
        hello: Hello {
            instance: 4711,
            identity: Identity {
                id: Uuid::from_u128(4711),
                name: "stranger".into(),
                addr: "127.0.0.1:1".parse().unwrap(),
                generation: 1,
            },
            to: None,
            datacenter: peer.settings.pool.clone(),
        },
        entries: Vec::new(),
        event_clock: 0,
        events: Vec::new(),
        digest,
    };
    let (env, address) = (Env::real(), peer.settings.advertise);
    let shared = &peer.gossip.shared;
    sync::exchange(&env, shared, address, FrameKind::Sync, &request)
        .await
        .expect("an answer")
}

#[tokio::test]
async fn only_what_differs_is_told() {
    let peers = pool(&["A", "B", "C"]).await;
    // News about themselves may still be on its way between them: until they agree, what they say changes.
    let digest = loop {
        let nothing = Digest {
            states: 0,
            events: 0,
        };
        let nothing = Some(nothing);
        let answers = [ask(&peers[0], nothing).await, ask(&peers[1], nothing).await];
        assert!(answers.iter().all(|answer| answer.entries.len() == 3));
        let [first, second] = answers.map(|answer| answer.digest.expect("a digest"));
        if first == second {
            break first;
        }
        tokio::task::yield_now().await;
    };
    for peer in &peers[..2] {
        let same = ask(peer, Some(digest)).await;
        assert_eq!((same.digest, same.entries.len()), (Some(digest), 0));
    }
    // One of an older version knows nothing of that, and is told everything as before.
    let old = ask(&peers[0], None).await;
    assert_eq!((old.digest, old.entries.len()), (None, 3));

    peers[0].gossip.fire(UserEvent::default()).await;
    let news = ask(&peers[0], Some(digest)).await;
    assert_eq!((news.entries.len(), news.events.len()), (0, 1));
    let other = news.digest.expect("a digest");
    assert!(other.states == digest.states && other.events != digest.events);
}

/// B hears of what happens to C by A's comparisons alone, which A begins, or B.
#[tokio::test]
async fn whoever_lacks_something_gets_it_whoever_asks() {
    const NEVER: Duration = Duration::from_secs(24 * 60 * 60);
    const OFTEN: Duration = Duration::from_millis(50);
    for (of_a, of_b) in [(OFTEN, NEVER), (NEVER, OFTEN)] {
        let (peers, cut) = faulty_pool(&["A", "B", "C"], |settings| {
            settings.push_pull_interval = match settings.name.as_str() {
                "A" => of_a,
                "B" => of_b,
                _ => NEVER,
            };
        })
        .await;
        let ip = |n: usize| -> IpAddr { peers[n].settings.advertise.ip() };
        {
            let mut cut = cut.lock().unwrap();
            cut.streams_only.insert(ip(1));
            cut.apart.insert((ip(1), ip(2)));
        }
        let tags = Tags::from([("vsn", "2")]);
        peers[2].gossip.set_tags(tags.clone()).await;
        peers[1]
            .until("C has new tags", |me| {
                me.sees(&peers[2]).is_some_and(|c| c.tags == tags)
            })
            .await;
    }
}
