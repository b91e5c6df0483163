//! Rules that are made from a name: those of identities and of templated policies.

/// A templated policy that comes with the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Template {
    /// Its name, with `builtin/` in front.
    pub name: &'static str,
    /// Its id, as Consul's clients know it.
    pub id: &'static str,
    /// For people.
    pub description: &'static str,
    /// The rules in HCL; `{{.Name}}` stands for the variable.
    pub rules: &'static str,
}

impl Template {
    /// Whether it has the variable `Name`.
    pub fn is_named(&self) -> bool {
        self.rules.contains(VARIABLE)
    }

    /// The rules for this value of the variable; of a template without one for any.
    ///
    /// # Errors
    /// When the name could end the text that it stands in, or is missing.
    pub fn render(&self, name: &str) -> Result<String, String> {
        if !self.is_named() {
            return Ok(self.rules.to_owned());
        }
        if name.is_empty() {
            return Err(format!(
                "templated policy {:?} needs the variable Name",
                self.name
            ));
        }
        if !is_name(name) {
            return Err(format!(
                "{name:?} is no name for templated policy {:?}: letters, digits, '-', '_' and '.' are, up to 256 of them",
                self.name
            ));
        }
        Ok(self.rules.replace(VARIABLE, name))
    }
}

const VARIABLE: &str = "{{.Name}}";

/// All of them, by name.
pub const TEMPLATES: [Template; 7] = [
    Template {
        name: "builtin/api-gateway",
        id: "00000000-0000-0000-0000-000000000006",
        description: "What an API gateway needs.",
        rules: "mesh = \"read\"\nnode_prefix \"\" { policy = \"read\" }\nservice_prefix \"\" { policy = \"read\" }\nservice \"{{.Name}}\" { policy = \"write\" }\n",
    },
    Template {
        name: "builtin/dns",
        id: "00000000-0000-0000-0000-000000000005",
        description: "What it takes to answer DNS.",
        rules: "node_prefix \"\" { policy = \"read\" }\nservice_prefix \"\" { policy = \"read\" }\nquery_prefix \"\" { policy = \"read\" }\n",
    },
    Template {
        name: "builtin/node",
        id: "00000000-0000-0000-0000-000000000004",
        description: "What the agent of one node needs.",
        rules: "node \"{{.Name}}\" { policy = \"write\" }\nservice_prefix \"\" { policy = \"read\" }\n",
    },
    Template {
        name: "builtin/nomad-client",
        id: "00000000-0000-0000-0000-000000000008",
        description: "What a client of Nomad needs.",
        rules: "agent_prefix \"\" { policy = \"read\" }\nnode_prefix \"\" { policy = \"read\" }\nservice_prefix \"\" { policy = \"write\" }\nkey_prefix \"\" { policy = \"read\" }\n",
    },
    Template {
        name: "builtin/nomad-server",
        id: "00000000-0000-0000-0000-000000000007",
        description: "What a server of Nomad needs.",
        rules: "acl = \"write\"\nagent_prefix \"\" { policy = \"read\" }\nnode_prefix \"\" { policy = \"read\" }\nservice_prefix \"\" { policy = \"write\" }\n",
    },
    Template {
        name: "builtin/service",
        id: "00000000-0000-0000-0000-000000000003",
        description: "What one service, its sidecar proxy and its search for others need.",
        rules: "service \"{{.Name}}\" { policy = \"write\" }\nservice \"{{.Name}}-sidecar-proxy\" { policy = \"write\" }\nservice_prefix \"\" { policy = \"read\" }\nnode_prefix \"\" { policy = \"read\" }\n",
    },
    Template {
        name: "builtin/workload-identity",
        id: "00000000-0000-0000-0000-000000000009",
        description: "What one workload identity needs.",
        rules: "identity \"{{.Name}}\" { policy = \"write\" }\n",
    },
];

/// The one with that name.
pub fn template(name: &str) -> Option<&'static Template> {
    TEMPLATES.iter().find(|one| one.name == name)
}

/// Whether identities and templated policies may be of this name.
pub fn is_name(name: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !name.is_empty() && name.len() <= 256 && name.chars().all(good)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acl::Rules;

    #[test]
    fn every_template_is_rules() {
        for one in &TEMPLATES {
            let text = one.render("web-1.x").unwrap();
            assert!(!text.contains("{{"), "{text}");
            let rules = Rules::parse(&text);
            assert!(rules.is_ok(), "{}: {rules:?}", one.name);
            assert_eq!(template(one.name), Some(one));
        }
    }

    #[test]
    fn a_name_cannot_bring_rules_of_its_own() {
        let service = template("builtin/service").unwrap();
        for bad in ["", "a\" { policy = \"write\" } acl = \"write", "a b", "ä"] {
            assert!(service.render(bad).is_err(), "{bad:?}");
        }
        assert!(template("builtin/dns").unwrap().render("").is_ok());
    }
}
