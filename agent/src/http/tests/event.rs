//! `/v1/event/`

use super::*;

#[tokio::test]
async fn an_event_is_fired_and_listed() {
    let bench = Bench::new();
    let fired = bench.put("/v1/event/fire/deploy?node=a", "v2").await.json();
    let id = fired["ID"].as_str().unwrap().to_owned();
    assert_eq!(
        fired,
        json!({"ID": id, "Name": "deploy", "Payload": "djI=", "NodeFilter": "a", "ServiceFilter": "",
               "TagFilter": "", "Version": 1, "LTime": 0})
    );
    bench.put("/v1/event/fire/other", "").await.json();
    let all = bench.get("/v1/event/list").await;
    assert_eq!(all.json().as_array().unwrap().len(), 2);
    let named = bench.get("/v1/event/list?name=deploy").await;
    assert_eq!(named.json()[0]["LTime"], 5);
    let id: Uuid = id.parse().unwrap();
    assert_eq!(named.index(), crate::events::index_of(id));
    assert_ne!(named.index(), all.index());
    let elsewhere = bench.get("/v1/event/list?node=^b").await;
    elsewhere.is(200, "[]");
    assert_eq!(elsewhere.index(), 1);
}

#[tokio::test]
async fn a_list_is_held_until_its_last_event_is_another() {
    let bench = Bench::new();
    let none = bench.get("/v1/event/list").await;
    assert_eq!((none.index(), none.body.as_str()), (1, "[]"));
    let waiting = bench.get("/v1/event/list?index=1&wait=10m&name=x");
    let firing = async {
        bench.put("/v1/event/fire/y", "").await;
        bench.put("/v1/event/fire/x", "1").await.json()
    };
    let (list, fired) = tokio::join!(waiting, firing);
    assert_eq!(list.json()[0]["ID"], fired["ID"]);
    // Any other index is news at once, larger or not.
    let list = bench.get("/v1/event/list?index=18446744073709551615").await;
    assert_eq!(list.json().as_array().unwrap().len(), 2);
    let held = format!("/v1/event/list?index={}&wait=1ms", list.index());
    assert_eq!(bench.get(&held).await.body, list.body);
}

#[tokio::test]
async fn what_cannot_be_fired_is_refused() {
    let bench = Bench::new();
    bench
        .put("/v1/event/fire/", "")
        .await
        .is(400, "Missing name");
    bench
        .put("/v1/event/fire/x?tag=v1", "")
        .await
        .is(500, "Cannot provide tag filter without service filter");
    let got = bench.put("/v1/event/fire/x?node=(", "").await;
    assert!(got.status == 500 && got.body.starts_with("Invalid node filter: "));
    bench.put("/v1/event/fire/x", vec![b'x'; 512]).await.is(
        500,
        "user event exceeds configured limit of 512 bytes before encoding",
    );
    bench
        .put("/v1/event/fire/x?dc=dc2", "")
        .await
        .is(500, "No path to datacenter");
    assert_eq!(
        bench.get("/v1/event/fire/x").await.header("allow"),
        "OPTIONS,PUT"
    );
    assert_eq!(bench.put("/v1/event/list", "").await.status, 405);
    bench
        .get("/v1/event/list?index=x")
        .await
        .is(400, "Invalid index");
    bench.get("/v1/event/list").await.is(200, "[]");
}
