//! Leaving, failing, being made to leave, and what members say of themselves.

use super::*;

#[tokio::test]
async fn a_graceful_leave_is_left_and_never_failed() {
    let peers = pool(&["A", "B", "C"]).await;
    let mut events = peers[1].gossip.events();
    peers[0].gossip.announce_leaving().await;
    peers[1].until_status(&peers[0], Status::Leaving).await;
    peers[0].gossip.leave().await;
    peers[0].gossip.shutdown().await;
    for peer in &peers[1..] {
        peer.until_status(&peers[0], Status::Left).await;
    }
    // Long enough for the probes to find that nobody answers there any more: C's failure comes after it.
    peers[2].gossip.shutdown().await;
    peers[1].until_status(&peers[2], Status::Failed).await;
    assert_eq!(words(&mut events), ["leaving A", "left A", "failed C"]);
}

#[tokio::test]
async fn a_leave_is_known_to_others_when_it_returns() {
    let peers = pool(&["A", "B"]).await;
    peers[0].gossip.leave().await;
    assert_eq!(peers[1].status_of(&peers[0]), Some(Status::Left));
    assert_eq!(peers[0].gossip.local().status, Status::Left);
}

#[tokio::test]
async fn the_last_one_can_leave_too() {
    let a = Peer::new("A").await;
    a.gossip.announce_leaving().await;
    a.gossip.leave().await;
    a.gossip.leave().await;
    assert_eq!(a.gossip.local().status, Status::Left);
}

#[tokio::test]
async fn one_that_left_takes_no_news_of_its_death_as_a_reason_to_return() {
    let peers = pool(&["A", "B", "C"]).await;
    peers[0].gossip.leave().await;
    // A's socket is still open, and B and C go on gossiping about it, until they notice that C is gone.
    peers[2].gossip.shutdown().await;
    peers[1].until_status(&peers[2], Status::Failed).await;
    assert_eq!(peers[1].status_of(&peers[0]), Some(Status::Left));
    let error = peers[1].join(&peers[0]).await.unwrap_err();
    assert!(matches!(error, JoinError::Refused { .. }), "{error}");
}

#[tokio::test]
async fn new_tags_reach_everybody() {
    let peers = pool(&["A", "B", "C"]).await;
    let mut tags = peers[0].gossip.local().tags.clone();
    tags.insert("cluster".to_owned(), "1".to_owned());
    peers[0].gossip.set_tags(tags.clone()).await;
    assert_eq!(peers[0].gossip.local().tags, tags);
    for peer in &peers[1..] {
        peer.until("A has new tags", |me| {
            me.sees(&peers[0]).unwrap().tags == tags
        })
        .await;
    }
}

#[tokio::test]
async fn tags_that_fit_no_datagram_reach_everybody_too() {
    let peers = pool(&["A", "B", "C"]).await;
    let tags = Tags::from([("long".to_owned(), "x".repeat(20_000))]);
    peers[0].gossip.set_tags(tags.clone()).await;
    for peer in &peers[1..] {
        peer.until("A has new tags", |me| {
            me.sees(&peers[0]).unwrap().tags == tags
        })
        .await;
    }
    // And a newcomer learns them from somebody else.
    let d = Peer::new("D").await;
    d.join(&peers[2]).await.unwrap();
    assert_eq!(d.sees(&peers[0]).unwrap().tags, tags);
}

#[tokio::test]
async fn tags_that_cannot_be_carried_change_nothing() {
    let a = Peer::new("A").await;
    let before = a.gossip.local();
    let tags = Tags::from([("long".to_owned(), "x".repeat(70_000))]);
    a.gossip.set_tags(tags).await;
    assert_eq!(a.gossip.local(), before);
}

#[tokio::test]
async fn a_failed_member_is_made_to_leave_everywhere() {
    let peers = pool(&["A", "B", "C"]).await;
    peers[2].gossip.shutdown().await;
    for peer in &peers[..2] {
        peer.until_status(&peers[2], Status::Failed).await;
    }
    peers[0].gossip.force_leave("c", false).await.unwrap();
    for peer in &peers[..2] {
        peer.until_status(&peers[2], Status::Left).await;
    }
    peers[1].gossip.force_leave("C", true).await.unwrap();
    for peer in &peers[..2] {
        peer.until("C is forgotten", |me| me.sees(&peers[2]).is_none())
            .await;
    }
    // Nobody brings it back, until it comes back itself.
    let d = Peer::new("D").await;
    d.join(&peers[0]).await.unwrap();
    assert_eq!(d.sees(&peers[2]), None);
    let c = peers[2].again(|_| {}).await;
    c.join(&d).await.unwrap();
    peers[0].until_status(&c, Status::Alive).await;
}

#[tokio::test]
async fn a_living_member_is_not_made_to_leave() {
    let peers = pool(&["A", "B"]).await;
    peers[0].gossip.force_leave("B", false).await.unwrap();
    assert_eq!(peers[0].status_of(&peers[1]), Some(Status::Alive));
    assert_eq!(
        peers[0].gossip.force_leave("zz", false).await,
        Err(NotFound("zz".to_owned()))
    );
}

#[tokio::test]
async fn the_failed_are_forgotten_after_the_reconnect_timeout() {
    let short = |s: &mut Settings| s.reconnect_timeout = Duration::from_millis(500);
    let (a, b) = (Peer::with("A", short).await, Peer::with("B", short).await);
    a.join(&b).await.unwrap();
    let mut events = a.gossip.events();
    b.gossip.shutdown().await;
    a.until("B is forgotten", |me| me.sees(&b).is_none()).await;
    assert_eq!(words(&mut events), ["failed B", "reaped B"]);
}
