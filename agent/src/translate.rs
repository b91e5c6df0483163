//! `translate_wan_addrs`: answers about another datacenter show the addresses that are meant for other datacenters. Pure.

use std::sync::Arc;

use crate::state::{Answer, Node, Service};

/// The tag of such an address.
const WAN: &str = "wan";

/// Puts the `wan` address of everything that has one in the place of its address.
pub(crate) fn to_wan(answer: &mut Answer) {
    match answer {
        Answer::Node(found) => found.iter_mut().for_each(node),
        Answer::Nodes(found) => found.iter_mut().for_each(node),
        Answer::ServiceNodes(found) => {
            for entry in found {
                node(&mut entry.node);
                service(&mut entry.service);
            }
        }
        Answer::ServiceHealth(found) => {
            for entry in found {
                node(&mut entry.node);
                service(&mut entry.service);
            }
        }
        Answer::NodeInfos(found) => {
            for entry in found {
                node(&mut entry.node);
                entry.services.iter_mut().for_each(service);
            }
        }
        Answer::NodeServices(Some(found)) => {
            node(&mut found.node);
            found.services.iter_mut().for_each(service);
        }
        _ => {}
    }
}

fn node(node: &mut Arc<Node>) {
    if let Some(address) = node.tagged_addresses.get(WAN).cloned() {
        Arc::make_mut(node).address = address;
    }
}

fn service(service: &mut Arc<Service>) {
    if let Some(wan) = service.tagged_addresses.get(WAN).cloned() {
        let service = Arc::make_mut(service);
        service.address = wan.address;
        if wan.port != 0 {
            service.port = wan.port;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{ServiceAddress, ServiceHealth};

    #[test]
    fn addresses_for_other_datacenters_replace_the_others() {
        let node = Node {
            address: "10.0.0.1".into(),
            tagged_addresses: [(WAN.to_owned(), "9.9.9.9".to_owned())].into(),
            ..Node::default()
        };
        let plain = Service {
            address: "10.0.0.2".into(),
            port: 80,
            ..Service::default()
        };
        let address = ServiceAddress {
            address: "8.8.8.8".into(),
            port: 81,
        };
        let tagged = Service {
            tagged_addresses: [(WAN.to_owned(), address)].into(),
            ..plain.clone()
        };
        let entry = |service: Service| ServiceHealth {
            node: node.clone().into(),
            service: service.into(),
            checks: Vec::new(),
        };
        let mut answer = Answer::ServiceHealth(vec![entry(plain), entry(tagged)]);
        to_wan(&mut answer);
        let Answer::ServiceHealth(found) = answer else {
            panic!("the same kind");
        };
        let shown: Vec<_> = found
            .iter()
            .map(|e| (&e.node.address[..], &e.service.address[..], e.service.port))
            .collect();
        assert_eq!(
            shown,
            [("9.9.9.9", "10.0.0.2", 80), ("9.9.9.9", "8.8.8.8", 81)]
        );
        let mut answer = Answer::Nodes(vec![Arc::new(Node::default())]);
        to_wan(&mut answer);
        assert_eq!(answer, Answer::Nodes(vec![Arc::new(Node::default())]));
    }
}
