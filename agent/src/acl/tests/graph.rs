//! What of the mesh is drawn for whom.

use super::*;
use crate::entries::topology::{Asked, Decision, Link, Source};
use crate::state::{Behind, GraphAnswer, GraphQuery, Side, Surroundings};

#[test]
fn of_the_mesh_is_drawn_what_may_be_seen() {
    let link = |name: &str, source| Link {
        name: name.to_owned(),
        source,
        decision: Decision::default(),
    };
    let query = Query::Graph(GraphQuery::Topology(Asked {
        service: "web".into(),
        ..Asked::default()
    }));
    let instances = |name: &str| {
        let query = Query::ServiceHealth {
            service: name.to_owned(),
            tags: Vec::new(),
            passing: false,
        };
        match store().query(&query) {
            Answer::ServiceHealth(found) => found,
            other => panic!("{other:?}"),
        }
    };
    let left = |rules: &str| {
        let upstreams = Side {
            links: vec![
                link("db", Source::Registration),
                link("store", Source::Routing),
            ],
            instances: instances("db"),
        };
        let surroundings = Surroundings {
            upstreams,
            ..Surroundings::default()
        };
        let mut answer = Answer::Graph(GraphAnswer::Topology(Box::new(surroundings)));
        let left_out = holder(rules).filter(&query, &mut answer);
        let Answer::Graph(GraphAnswer::Topology(found)) = answer else {
            panic!("another answer");
        };
        let Side { links, instances } = found.upstreams;
        (links.len(), instances.len(), left_out)
    };
    let nodes = "node_prefix \"\" { policy = \"read\" }";
    let db = "service \"db\" { policy = \"read\" } node \"n1\" { policy = \"read\" }";
    assert_eq!(left(nodes), (0, 0, true));
    assert_eq!(left(db), (1, 1, true));
    let all = format!("{nodes} service_prefix \"\" {{ policy = \"read\" }}");
    assert_eq!(left(&all), (2, 2, false));
    let behind = |rules: &str| {
        let behind = Behind {
            service: "db".into(),
            said: Vec::new(),
            instances: instances("db"),
        };
        let absent = Behind {
            service: "db-next".into(),
            instances: Vec::new(),
            ..behind.clone()
        };
        let mut answer = Answer::Graph(GraphAnswer::Gateway(vec![behind, absent]));
        let left_out = holder(rules).filter(&query, &mut answer);
        match answer {
            Answer::Graph(GraphAnswer::Gateway(left)) => (left.len(), left_out),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(behind(db), (1, true));
    // Of a service whose nodes are hidden nothing is told, but one without any is in nobody's way.
    let services = "service_prefix \"\" { policy = \"read\" }";
    assert_eq!(behind(services), (1, true));
    assert_eq!(behind(&all), (2, false));
    let of_web = "service \"web\" { policy = \"read\" }";
    assert!(holder(of_web).check_query(&query).is_ok());
    assert!(holder(db).check_query(&query).is_err());
}
