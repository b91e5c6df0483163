//! Failing and coming back: generations, the snapshot, and addresses that change.

use super::*;

#[tokio::test]
async fn one_that_was_killed_fails_and_returns_after_its_restart() {
    let peers = pool(&["A", "B", "C"]).await;
    let mut events = peers[0].gossip.events();
    peers[1].gossip.shutdown().await;
    for peer in [&peers[0], &peers[2]] {
        peer.until_status(&peers[1], Status::Failed).await;
    }
    let before = peers[0].sees(&peers[1]).unwrap().generation;
    let b = peers[1].again(|_| {}).await;
    assert_eq!(b.gossip.rejoin().await, 2);
    for peer in [&peers[0], &peers[2]] {
        peer.until_status(&b, Status::Alive).await;
    }
    assert!(peers[0].sees(&b).unwrap().generation > before);
    assert_eq!(words(&mut events), ["failed B", "joined B"]);
}

#[tokio::test]
async fn a_restart_that_nobody_noticed_is_an_update() {
    let slow = |s: &mut Settings| {
        s.probe_interval = Duration::from_secs(60);
        s.probe_timeout = Duration::from_secs(30);
    };
    let (a, b) = (Peer::with("A", slow).await, Peer::with("B", slow).await);
    a.join(&b).await.unwrap();
    b.until_status(&a, Status::Alive).await;
    let before = a.sees(&b).unwrap().generation;
    let mut events = a.gossip.events();
    b.gossip.shutdown().await;
    let b = b
        .again(|s| {
            s.tags.insert("vsn".to_owned(), "2".to_owned());
        })
        .await;
    assert_eq!(b.gossip.rejoin().await, 1);
    a.until("B lives again", |me| {
        me.sees(&b).unwrap().generation > before
    })
    .await;
    assert_eq!(a.sees(&b).unwrap().tags.get("vsn"), Some("2"));
    assert_eq!(words(&mut events), ["updated B"]);
}

#[tokio::test]
async fn one_that_left_returns_when_it_joins_again() {
    let peers = pool(&["A", "B"]).await;
    peers[1].gossip.leave().await;
    peers[1].gossip.shutdown().await;
    let b = peers[1].again(|_| {}).await;
    assert_eq!(b.gossip.rejoin().await, 0, "it left");
    b.join(&peers[0]).await.unwrap();
    peers[0].until_status(&b, Status::Alive).await;
}

#[tokio::test]
async fn one_that_left_rejoins_by_itself_only_with_the_option() {
    let option = |s: &mut Settings| s.rejoin_after_leave = true;
    let (a, b) = (Peer::new("A").await, Peer::with("B", option).await);
    b.join(&a).await.unwrap();
    b.gossip.leave().await;
    b.gossip.shutdown().await;
    let b = b.again(|_| {}).await;
    assert_eq!(b.gossip.rejoin().await, 1);
    a.until_status(&b, Status::Alive).await;
}

#[tokio::test]
async fn a_member_that_moved_replaces_itself() {
    let peers = pool(&["A", "B", "C"]).await;
    peers[1].gossip.shutdown().await;
    let folder = tempfile::tempdir().unwrap();
    let elsewhere = settings("unused", &folder).bind;
    let b = peers[1]
        .again(|s| {
            s.bind = elsewhere;
            s.advertise = elsewhere;
        })
        .await;
    assert_ne!(b.settings.advertise, peers[1].settings.advertise);
    b.gossip.rejoin().await;
    for peer in [&peers[0], &peers[2]] {
        peer.until("B has moved", |me| {
            let member = me.sees(&b).unwrap();
            member.addr == b.settings.advertise && member.status == Status::Alive
        })
        .await;
        assert_eq!(peer.gossip.members().len(), 3);
    }
}

#[tokio::test]
async fn a_lost_snapshot_and_a_clock_that_went_back_do_not_keep_a_node_out() {
    struct Past;
    impl crate::env::Clock for Past {
        fn unix_ms(&self) -> u64 {
            1
        }
    }
    let peers = pool(&["A", "B"]).await;
    peers[1].gossip.shutdown().await;
    peers[0].until_status(&peers[1], Status::Failed).await;
    std::fs::remove_file(&peers[1].settings.snapshot).unwrap();
    let mut env = Env::real();
    env.clock = Arc::new(Past);
    let b = start(env, peers[1].settings.clone()).await.unwrap();
    b.join(&peers[0].address(), 1).await.unwrap();
    peers[0].until_status(&peers[1], Status::Alive).await;
    assert!(b.local().generation > 1);
}

#[tokio::test]
async fn a_strangers_pool_at_a_remembered_address_is_not_joined() {
    let (a, b) = (Peer::new("A").await, Peer::new("B").await);
    a.join(&b).await.unwrap();
    a.gossip.shutdown().await;
    b.gossip.shutdown().await;
    let stranger = Peer::with("X", |s| s.bind = b.settings.bind).await;
    let a = a.again(|_| {}).await;
    assert_eq!(a.gossip.rejoin().await, 0);
    assert_eq!(stranger.gossip.members().len(), 1);
}

#[tokio::test]
async fn a_snapshot_that_cannot_be_read_keeps_nobody_from_starting() {
    let a = Peer::new("A").await;
    a.gossip.shutdown().await;
    std::fs::write(&a.settings.snapshot, "garbage").unwrap();
    let a = a.again(|_| {}).await;
    assert_eq!(a.gossip.rejoin().await, 0);
}

#[tokio::test]
async fn generations_grow_though_the_clock_stands() {
    struct Still;
    impl crate::env::Clock for Still {
        fn unix_ms(&self) -> u64 {
            7
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let settings = settings("A", &folder);
    let mut env = Env::real();
    env.clock = Arc::new(Still);
    let mut generations = Vec::new();
    for _ in 0..3 {
        let gossip = start(env.clone(), settings.clone()).await.unwrap();
        generations.push(gossip.local().generation);
        gossip.shutdown().await;
    }
    assert_eq!(generations, [7, 8, 9]);
}
