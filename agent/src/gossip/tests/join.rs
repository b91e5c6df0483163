//! Joining: who is let in, who is not, and what strangers can do.

use super::*;

#[tokio::test]
async fn three_see_each_other_with_their_tags() {
    let peers = pool(&["C", "A", "B"]).await;
    for peer in &peers {
        let members = peer.gossip.members();
        let names: Vec<_> = members.iter().map(|m| m.name.as_str()).collect();
        assert_eq!(names, ["A", "B", "C"]);
        assert!(members.iter().all(|m| m.tags.get("role") == Some("consul")));
        assert_eq!(peer.gossip.local().name, peer.settings.name);
    }
    let stats = peers[0].gossip.stats();
    assert_eq!(
        (stats["members"].as_str(), stats["failed"].as_str()),
        ("3", "0")
    );
}

#[tokio::test]
async fn the_join_itself_brings_the_members() {
    let (a, b) = (Peer::new("A").await, Peer::new("B").await);
    assert_eq!(a.join(&b).await.unwrap(), 1);
    // Without waiting: the exchange has told both.
    assert_eq!(a.status_of(&b), Some(Status::Alive));
    b.until_status(&a, Status::Alive).await;
}

#[tokio::test]
async fn two_pools_become_one() {
    let (left, right) = (pool(&["A", "B"]).await, pool(&["C", "D"]).await);
    left[1].join(&right[1]).await.unwrap();
    for peer in left.iter().chain(&right) {
        peer.until("all four are there", |me| me.gossip.members().len() == 4)
            .await;
    }
}

#[tokio::test]
async fn joining_oneself_succeeds() {
    let a = Peer::new("A").await;
    assert_eq!(a.join(&a).await.unwrap(), 1);
    assert_eq!(a.gossip.members().len(), 1);
}

#[tokio::test]
async fn a_name_in_use_is_refused_with_the_holder() {
    let (a, b) = (Peer::new("A").await, Peer::new("a").await);
    for (joiner, other) in [(&a, &b), (&b, &a)] {
        let error = joiner.join(other).await.unwrap_err();
        assert!(matches!(error, JoinError::Refused { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains(&a.settings.id.to_string()), "{text}");
        assert!(text.contains(&b.address()), "{text}");
    }
    assert_eq!((a.gossip.members().len(), b.gossip.members().len()), (1, 1));
}

#[tokio::test]
async fn a_name_is_free_again_once_its_holder_has_failed() {
    let peers = pool(&["A", "B"]).await;
    let second = Peer::new("B").await;
    assert!(second.join(&peers[0]).await.is_err());
    peers[1].gossip.shutdown().await;
    peers[0].until_status(&peers[1], Status::Failed).await;
    second.join(&peers[0]).await.unwrap();
    peers[0].until_status(&second, Status::Alive).await;
    assert_eq!(peers[0].sees(&peers[1]), None, "a name is shown once");
}

#[tokio::test]
async fn a_name_at_the_address_of_its_holder_replaces_it() {
    let peers = pool(&["A", "B"]).await;
    peers[1].gossip.shutdown().await;
    let renewed = Peer::with("B", |s| {
        s.bind = peers[1].settings.bind;
        s.advertise = s.bind;
    })
    .await;
    renewed.join(&peers[0]).await.unwrap();
    peers[0].until_status(&renewed, Status::Alive).await;
}

#[tokio::test]
async fn a_node_id_in_use_under_another_name_is_refused() {
    let peers = pool(&["A", "B"]).await;
    let copy = Peer::with("C", |s| s.id = peers[1].settings.id).await;
    for peer in &peers {
        let error = copy.join(peer).await.unwrap_err();
        assert!(matches!(error, JoinError::Refused { .. }), "{error}");
    }
}

#[tokio::test]
async fn another_datacenter_is_refused() {
    let a = Peer::new("A").await;
    let b = Peer::with("B", |s| s.pool = "dc2".to_owned()).await;
    let error = b.join(&a).await.unwrap_err();
    assert!(matches!(error, JoinError::Refused { .. }), "{error}");
    assert!(error.to_string().contains("dc2"), "{error}");
    assert_eq!((a.gossip.members().len(), b.gossip.members().len()), (1, 1));
}

#[tokio::test]
async fn another_cluster_id_in_the_tags_is_let_in() {
    let cluster = |id: &str| {
        let id = id.to_owned();
        move |s: &mut Settings| {
            s.tags.insert("cluster".to_owned(), id);
        }
    };
    let a = Peer::with("A", cluster("1")).await;
    let b = Peer::with("B", cluster("2")).await;
    a.join(&b).await.unwrap();
    assert_eq!(a.sees(&b).unwrap().tags.get("cluster"), Some("2"));
}

#[tokio::test]
async fn a_closed_port_says_connection_refused() {
    let a = Peer::new("A").await;
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = closed.local_addr().unwrap();
    drop(closed);
    let error = a.gossip.join(&address.to_string(), 1).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("dial tcp {address}: connect: connection refused")
    );
}

#[tokio::test]
async fn an_http_server_is_recognised_as_something_else() {
    let a = Peer::new("A").await;
    let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = server.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = server.accept().await.unwrap();
        let mut buffer = [0; 1024];
        let _ = stream.read(&mut buffer).await.unwrap();
        stream
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .await
            .unwrap();
    });
    let error = a.gossip.join(&address.to_string(), 1).await.unwrap_err();
    assert!(matches!(error, JoinError::Protocol { .. }), "{error}");
}

#[tokio::test]
async fn an_unknown_host_cannot_be_joined() {
    let a = Peer::new("A").await;
    for address in ["name.invalid", "", "127.0.0.1:port"] {
        let error = a.gossip.join(address, 8301).await.unwrap_err();
        assert!(matches!(error, JoinError::Resolve { .. }), "{error}");
    }
}

#[tokio::test]
async fn garbage_is_counted_and_harmless() {
    let peers = pool(&["A", "B"]).await;
    let target = peers[0].settings.advertise;
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut half = codec::seal_datagram(&[7; 40]);
    for datagram in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xC7], &[0; 1400]] {
        socket.send_to(datagram, target).await.unwrap();
    }
    socket.send_to(&half, target).await.unwrap();
    half.truncate(2);
    socket.send_to(&half, target).await.unwrap();
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xC7, b'g'], b""] {
        let mut stream = tokio::net::TcpStream::connect(target).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        // The end of the stream: it was dropped. A reset is one too.
        let _ = stream.read(&mut [0; 16]).await;
    }
    let a = &peers[0].gossip;
    let deadline = Instant::now() + HANG;
    loop {
        let stats = a.stats();
        if (
            stats["datagrams_dropped"].as_str(),
            stats["streams_dropped"].as_str(),
        ) == ("5", "3")
        {
            break;
        }
        assert!(Instant::now() < deadline, "{stats:?}");
        tokio::task::yield_now().await;
    }
    let c = Peer::new("C").await;
    c.join(&peers[0]).await.unwrap();
    peers[1].until_status(&c, Status::Alive).await;
    assert_eq!(peers[1].status_of(&peers[0]), Some(Status::Alive));
}

#[tokio::test]
async fn a_port_in_use_is_an_error_of_the_start() {
    let a = Peer::new("A").await;
    let folder = tempfile::tempdir().unwrap();
    let mut settings = settings("B", &folder);
    settings.bind = a.settings.bind;
    let error = start(Env::real(), settings).await.err().unwrap();
    assert!(matches!(error, StartError::Bind { .. }), "{error}");
}

#[tokio::test]
async fn the_pool_of_all_datacenters_and_a_datacenters_own_refuse_each_other() {
    let a = Peer::new("A").await;
    let all = crate::gossip::settings::ALL_DATACENTERS;
    let b = Peer::with("A.dc1", |s| s.pool = all.to_owned()).await;
    for (one, other) in [(&a, &b), (&b, &a)] {
        let error = one.join(other).await.unwrap_err();
        assert!(matches!(error, JoinError::Refused { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains("in the pool of all datacenters"), "{text}");
        assert!(text.contains("in datacenter 'dc1'"), "{text}");
    }
}

#[tokio::test]
async fn places_of_others_are_known_once_they_have_answered_a_probe_where_that_is_asked_for() {
    let a = Peer::with("A", |s| s.keep_places = true).await;
    let b = Peer::new("B").await;
    a.join(&b).await.unwrap();
    let known = async {
        while a.gossip.places().is_empty() || b.gossip.coordinate().error >= 1.5 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(HANG, known).await.unwrap();
    let places = a.gossip.places();
    assert_eq!(places.keys().collect::<Vec<_>>(), [&b.settings.id]);
    assert!(
        b.gossip.places().is_empty(),
        "B has measured, but keeps nothing"
    );
}
