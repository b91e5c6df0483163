//! User events among members.

use super::*;

fn event(id: u128) -> UserEvent {
    UserEvent {
        id: Uuid::from_u128(id),
        name: "deploy".into(),
        payload: bytes::Bytes::from_static(b"v2"),
        ..UserEvent::default()
    }
}

async fn next(heard: &mut broadcast::Receiver<Arc<UserEvent>>) -> Arc<UserEvent> {
    timeout(HANG, heard.recv()).await.unwrap().unwrap()
}

#[tokio::test]
async fn an_event_reaches_everybody_once_and_moves_their_clocks() {
    let peers = pool(&["A", "B", "C"]).await;
    let mut heard: Vec<_> = peers.iter().map(|p| p.gossip.user_events()).collect();
    peers[0].gossip.fire(event(1)).await;
    for heard in &mut heard {
        let got = next(heard).await;
        assert_eq!((got.id, got.ltime), (Uuid::from_u128(1), 1));
        assert_eq!(got.payload, "v2");
    }
    peers[2].gossip.fire(event(2)).await;
    for heard in &mut heard {
        let got = next(heard).await;
        assert_eq!((got.id, got.ltime), (Uuid::from_u128(2), 2), "each once");
    }
    assert_eq!(peers[1].gossip.stats()["event_time"], "3");
}

#[tokio::test]
async fn a_newcomer_hears_only_of_what_comes_after_it() {
    let peers = pool(&["A", "B"]).await;
    let mut heard = peers[1].gossip.user_events();
    peers[0].gossip.fire(event(1)).await;
    next(&mut heard).await;
    let late = Peer::new("C").await;
    let mut heard = late.gossip.user_events();
    late.join(&peers[0]).await.unwrap();
    late.until_status(&peers[1], Status::Alive).await;
    peers[1].gossip.fire(event(2)).await;
    assert_eq!(next(&mut heard).await.id, Uuid::from_u128(2));
}
