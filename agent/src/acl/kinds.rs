//! What it takes to look at config entries, and to change them, by their kind.

use super::{Access, Denied, Holder, Resource};

/// Whose matter an entry is.
enum Matter {
    /// The service's that it is named after.
    Service,
    /// That of the intentions for the service that it is named after.
    Intention,
    /// The mesh's; everybody may look at it.
    Shared,
    /// The mesh's.
    Mesh,
    /// The operator's.
    Operator,
}

/// A kind that is not known is the operator's.
fn matter(kind: &str) -> Matter {
    match kind {
        "service-defaults"
        | "service-router"
        | "service-splitter"
        | "service-resolver"
        | "ingress-gateway"
        | "terminating-gateway"
        | "api-gateway"
        | "bound-api-gateway" => Matter::Service,
        "service-intentions" => Matter::Intention,
        "proxy-defaults" | "mesh" => Matter::Shared,
        "exported-services"
        | "http-route"
        | "tcp-route"
        | "inline-certificate"
        | "file-system-certificate"
        | "jwt-provider" => Matter::Mesh,
        _ => Matter::Operator,
    }
}

fn resource(kind: &str, access: Access) -> Option<Resource> {
    Some(match matter(kind) {
        // Gateways change what the whole mesh looks like.
        Matter::Service if access == Access::Write && kind.ends_with("-gateway") => Resource::Mesh,
        Matter::Service => Resource::Service,
        Matter::Intention => Resource::Intention,
        Matter::Shared if access == Access::Write => Resource::Mesh,
        Matter::Shared => return None,
        Matter::Mesh => Resource::Mesh,
        Matter::Operator => Resource::Operator,
    })
}

/// Whether the holder may do this with an entry.
pub(super) fn may(holder: &Holder, kind: &str, name: &str, access: Access) -> bool {
    resource(kind, access).is_none_or(|resource| holder.may(resource, name, access))
}

/// Refuses whoever may not.
pub(super) fn need(holder: &Holder, kind: &str, name: &str, access: Access) -> Result<(), Denied> {
    match resource(kind, access) {
        Some(resource) => holder.need(resource, name, access),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entries;

    #[test]
    fn every_kind_has_an_owner() {
        for kind in entries::kind_names() {
            let is_operators = matches!(matter(kind), Matter::Operator);
            assert_eq!(
                is_operators,
                kind == "control-plane-request-limit",
                "{kind}"
            );
        }
    }
}
