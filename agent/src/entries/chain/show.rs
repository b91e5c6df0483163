//! A chain in Consul's JSON.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{Chain, Failover, Node, Resolver, Split, Target, shown};
use crate::duration;

impl Chain {
    /// As Consul shows it, with the addresses that the service has instead of those of its instances.
    pub fn show(&self, own: Vec<String>, given: Vec<String>) -> Value {
        let nodes = self.nodes.iter();
        let nodes = nodes.map(|(key, node)| (key.clone(), show_node(node)));
        let targets = self.targets.iter();
        let targets = targets.map(|(id, target)| (id.clone(), show_target(id, target)));
        let mut chain = json!({
            "ServiceName": self.service,
            "Namespace": "default",
            "Partition": "default",
            "Datacenter": self.datacenter,
        });
        let more = shown([
            ("CustomizationHash", self.customization.as_str().into()),
            ("Default", self.is_default.into()),
            ("Protocol", self.protocol.as_str().into()),
            ("ServiceMeta", self.meta.clone().unwrap_or_default()),
            ("EnvoyExtensions", self.extensions.clone().into()),
            ("AutoVirtualIPs", own.into()),
            ("ManualVirtualIPs", given.into()),
            ("StartNode", self.start.as_str().into()),
            ("Nodes", nodes.collect::<Map<_, _>>().into()),
            ("Targets", targets.collect::<Map<_, _>>().into()),
        ]);
        if let (Value::Object(chain), Value::Object(more)) = (&mut chain, more) {
            chain.extend(more);
        }
        json!({ "Chain": chain })
    }
}

fn show_node(node: &Node) -> Value {
    match node {
        Node::Router { name, routes } => {
            let routes = routes
                .iter()
                .map(|(definition, next)| json!({"Definition": definition, "NextNode": next}));
            json!({"Type": "router", "Name": name, "Routes": routes.collect::<Vec<_>>()})
        }
        Node::Splitter {
            name,
            splits,
            balancer,
        } => {
            let splits: Vec<_> = splits.iter().map(show_split).collect();
            shown([
                ("Type", "splitter".into()),
                ("Name", name.as_str().into()),
                ("Splits", splits.into()),
                ("LoadBalancer", balancer.clone().unwrap_or_default()),
            ])
        }
        Node::Resolver(node) => {
            let Resolver {
                is_default,
                connect_timeout,
                request_timeout,
                target,
                failover,
                balancer,
            } = &**node;
            let failover = failover.as_ref().map(|Failover { targets, policy }| {
                shown([
                    ("Targets", targets.clone().into()),
                    ("Policy", policy.clone().unwrap_or_default()),
                ])
            });
            let resolver = shown([
                ("ConnectTimeout", time(*connect_timeout)),
                ("Default", (*is_default).into()),
                ("RequestTimeout", nanos(*request_timeout)),
                ("Target", target.as_str().into()),
                ("Failover", failover.unwrap_or_default()),
            ]);
            shown([
                ("Type", "resolver".into()),
                ("Name", target.as_str().into()),
                ("Resolver", resolver),
                ("LoadBalancer", balancer.clone().unwrap_or_default()),
            ])
        }
    }
}

fn show_split(split: &Split) -> Value {
    shown([
        ("Definition", split.definition.clone()),
        ("Weight", weight(split.weight)),
        ("NextNode", split.next.as_str().into()),
    ])
}

/// As short as a number of this precision can be.
fn weight(weight: f32) -> Value {
    match weight {
        0.0 => Value::Null,
        whole if whole.fract() == 0.0 => Value::from(whole as i64),
        weight => weight
            .to_string()
            .parse::<f64>()
            .map_or(Value::Null, Value::from),
    }
}

fn time(time: Duration) -> Value {
    match time {
        Duration::ZERO => Value::Null,
        time => duration::print(time).into(),
    }
}

fn nanos(time: Duration) -> Value {
    match u64::try_from(time.as_nanos()) {
        Ok(0) => Value::Null,
        Ok(nanos) => nanos.into(),
        Err(_) => u64::MAX.into(),
    }
}

fn show_target(id: &str, target: &Target) -> Value {
    let to = &target.to;
    shown([
        ("ConnectTimeout", time(target.connect_timeout)),
        ("ID", id.into()),
        ("Service", to.service.as_str().into()),
        ("ServiceSubset", to.subset.as_str().into()),
        ("Namespace", "default".into()),
        ("Partition", "default".into()),
        ("Datacenter", to.datacenter.as_str().into()),
        ("Peer", to.peer.as_str().into()),
        (
            "MeshGateway",
            shown([("Mode", target.mesh_gateway.as_str().into())]),
        ),
        ("Subset", target.subset.clone().unwrap_or_else(|| json!({}))),
        (
            "TransparentProxy",
            shown([("DialedDirectly", target.dialed_directly.into())]),
        ),
        ("External", target.external.into()),
        ("SNI", target.sni.as_str().into()),
        ("Name", target.name.as_str().into()),
    ])
}
