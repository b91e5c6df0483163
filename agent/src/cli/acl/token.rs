//! `agent acl token` and `agent acl bootstrap`.

use clap::Parser;
use serde_json::{Map, Value, json};

use super::super::api::{ApiFlags, ServerFlags};
use super::super::{Done, Failure, Io, flags};
use super::{Call, FormatFlags, GrantFlags, Lines, append, content, text};
use crate::client::escape_path;

const USAGE: &str = "Usage: agent acl token SUBCOMMAND [FLAGS]

Subcommands:
    clone   Makes a token that allows what another does
    create  Makes a token
    delete  Removes a token
    list    Lists all tokens
    read    Prints a token
    update  Changes a token
";

/// Tokens.
#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    api: ApiFlags,
    #[command(flatten)]
    server: ServerFlags,
    #[command(flatten)]
    format: FormatFlags,
    #[command(flatten)]
    grants: GrantFlags,
    /// Accessor of the token: its public name
    #[arg(long, alias = "accessor", default_value = "")]
    accessor_id: String,
    /// The same, as it was called before
    #[arg(long, default_value = "")]
    id: String,
    /// Secret of the new token [default: a random one]
    #[arg(long, default_value = "")]
    secret: String,
    /// For people
    #[arg(long)]
    description: Option<String>,
    /// Whether the token counts in this datacenter alone
    #[arg(long)]
    local: Option<bool>,
    /// How long the token lives, as 24h
    #[arg(long, default_value = "")]
    expires_ttl: String,
    /// Id of a role; may be repeated
    #[arg(long)]
    role_id: Vec<String>,
    /// Name of a role; may be repeated
    #[arg(long)]
    role_name: Vec<String>,
    /// update: keep what the token allows already (as all -append-... do)
    #[arg(long)]
    merge_policies: Option<bool>,
    /// update: keep the token's roles
    #[arg(long)]
    merge_roles: Option<bool>,
    /// update: keep the token's service identities
    #[arg(long)]
    merge_service_identities: Option<bool>,
    /// update: keep the token's node identities
    #[arg(long)]
    merge_node_identities: Option<bool>,
    /// update: id of a policy to add; may be repeated
    #[arg(long)]
    append_policy_id: Vec<String>,
    /// update: name of a policy to add; may be repeated
    #[arg(long)]
    append_policy_name: Vec<String>,
    /// update: id of a role to add; may be repeated
    #[arg(long)]
    append_role_id: Vec<String>,
    /// update: name of a role to add; may be repeated
    #[arg(long)]
    append_role_name: Vec<String>,
    /// read: the token of this request itself
    #[arg(long = "self")]
    own: Option<bool>,
    /// read: with everything that it stands for
    #[arg(long)]
    expanded: Option<bool>,
}

impl Flags {
    fn accessor(&self) -> Result<&str, Failure> {
        match (self.accessor_id.as_str(), self.id.as_str()) {
            ("", "") => Err(Failure::Usage(
                "Must specify the -accessor-id parameter".into(),
            )),
            ("", id) => Ok(id),
            (accessor, _) => Ok(accessor),
        }
    }

    fn path(&self) -> Result<String, Failure> {
        Ok(format!("/v1/acl/token/{}", escape_path(self.accessor()?)))
    }

    fn describe(&self, row: &mut Map<String, Value>) {
        if let Some(description) = &self.description {
            row.insert("Description".to_owned(), json!(description));
        }
    }

    /// What the token is to allow, behind what it allows already.
    fn grant(&self, row: &mut Map<String, Value>, io: &mut Io<'_>) -> Result<(), Failure> {
        self.grants.add_to(row, io)?;
        let ids = self.role_id.iter().chain(&self.append_role_id);
        let names = self.role_name.iter().chain(&self.append_role_name);
        let ids = ids.map(|id| json!({ "ID": id }));
        append(
            row,
            "Roles",
            ids.chain(names.map(|name| json!({ "Name": name }))),
        );
        let ids = self.append_policy_id.iter().map(|id| json!({ "ID": id }));
        let names = self.append_policy_name.iter();
        append(
            row,
            "Policies",
            ids.chain(names.map(|name| json!({ "Name": name }))),
        );
        Ok(())
    }
}

/// Runs the verb.
pub(super) async fn run(args: &[String], io: &mut Io<'_>) -> Done {
    let verbs = ["clone", "create", "delete", "list", "read", "update"];
    let (verb, rest) = super::subcommand(args, USAGE, &verbs)?;
    let flags: Flags = flags::parse(&format!("acl token {verb}"), rest)?;
    flags.format.check()?;
    let call = Call::new(&flags.api, &flags.server, io)?;
    match verb {
        "clone" => {
            let path = format!("{}/clone", flags.path()?);
            let mut body = Map::new();
            flags.describe(&mut body);
            let row = call
                .put(&path, &Value::Object(body), "Error cloning token")
                .await?;
            flags.format.print(&row, io, pretty)
        }
        "create" => create(&flags, &call, io).await,
        "delete" => {
            let accessor = flags.accessor()?;
            let failed = format!("Error deleting token {accessor:?}");
            call.delete(&flags.path()?, &failed).await?;
            writeln!(io.out, "Token {accessor:?} deleted successfully")?;
            Ok(0)
        }
        "list" => {
            let rows = call
                .get("/v1/acl/tokens", "Failed to retrieve the token list")
                .await?;
            flags.format.print(&rows, io, pretty)
        }
        "read" => read(&flags, &call, io).await,
        _ => update(&flags, &call, io).await,
    }
}

async fn create(flags: &Flags, call: &Call<'_>, io: &mut Io<'_>) -> Done {
    let lacks_role = flags.role_id.is_empty() && flags.role_name.is_empty();
    if flags.grants.is_empty() && lacks_role {
        return Err(Failure::Usage(
            "Cannot create a token without specifying -policy-name, -policy-id, -role-name, -role-id, -service-identity, -node-identity, or -templated-policy at least once"
                .into(),
        ));
    }
    let mut body = Map::new();
    flags.describe(&mut body);
    flags.grant(&mut body, io)?;
    for (key, value) in [
        ("AccessorID", &flags.accessor_id),
        ("SecretID", &flags.secret),
        ("ExpirationTTL", &flags.expires_ttl),
    ] {
        if !value.is_empty() {
            body.insert(key.to_owned(), json!(value));
        }
    }
    if flags::on(flags.local) {
        body.insert("Local".to_owned(), json!(true));
    }
    let body = Value::Object(body);
    let row = call
        .put("/v1/acl/token", &body, "Failed to create new token")
        .await?;
    flags.format.print(&row, io, pretty)
}

async fn read(flags: &Flags, call: &Call<'_>, io: &mut Io<'_>) -> Done {
    let path = match flags::on(flags.own) {
        true => "/v1/acl/token/self".to_owned(),
        false => flags.path()?,
    };
    let mut params = call.params.clone();
    if flags::on(flags.expanded) {
        params.push(("expanded", Some("true")));
    }
    let call = Call {
        client: call.client.clone(),
        params,
    };
    let row = call.get(&path, "Error reading token").await?;
    flags.format.print(&row, io, pretty)
}

/// What is given takes the place of what is there, unless it is to be added.
async fn update(flags: &Flags, call: &Call<'_>, io: &mut Io<'_>) -> Done {
    let path = flags.path()?;
    let failed = format!(
        "Error when retrieving current token {:?}",
        flags.accessor()?
    );
    let Value::Object(mut row) = call.get(&path, &failed).await? else {
        return Err(Failure::Message(failed));
    };
    flags.describe(&mut row);
    let given = &flags.grants;
    for (key, merged, is_given) in [
        (
            "Policies",
            flags.merge_policies,
            !given.policy_id.is_empty() || !given.policy_name.is_empty(),
        ),
        (
            "Roles",
            flags.merge_roles,
            !flags.role_id.is_empty() || !flags.role_name.is_empty(),
        ),
        (
            "ServiceIdentities",
            flags.merge_service_identities,
            !given.service_identity.is_empty(),
        ),
        (
            "NodeIdentities",
            flags.merge_node_identities,
            !given.node_identity.is_empty(),
        ),
        (
            "TemplatedPolicies",
            None,
            !given.templated_policy.is_empty() || !given.templated_policy_file.is_empty(),
        ),
    ] {
        if is_given && !flags::on(merged) {
            row.remove(key);
        }
    }
    flags.grant(&mut row, io)?;
    let failed = format!("Failed to update token {:?}", flags.accessor()?);
    let row = call.put(&path, &Value::Object(row), &failed).await?;
    flags.format.print(&row, io, pretty)
}

/// A token as lines.
pub(super) fn pretty(row: &Value, with_meta: bool) -> String {
    let mut lines = Lines::new(18);
    lines.line("AccessorID", text(row, "AccessorID"));
    lines.line("SecretID", text(row, "SecretID"));
    lines.line("Description", text(row, "Description"));
    lines.line(
        "Local",
        &row["Local"].as_bool().unwrap_or(false).to_string(),
    );
    lines.given("Auth Method", text(row, "AuthMethod"));
    lines.line("Create Time", text(row, "CreateTime"));
    lines.given("Expiration Time", text(row, "ExpirationTime"));
    if with_meta {
        lines.meta(row);
    }
    lines.grants(row);
    for (key, title) in [
        ("ExpandedPolicies", "Expanded Policies"),
        ("ExpandedRoles", "Expanded Roles"),
    ] {
        let rows = row[key].as_array().into_iter().flatten();
        lines.section(
            title,
            rows.map(|row| format!("{} - {}", text(row, "ID"), text(row, "Name"))),
        );
    }
    lines.text
}

/// Makes the first token, which may do everything. An argument is the file that holds its secret, - the standard input.
#[derive(Parser)]
struct BootstrapFlags {
    #[command(flatten)]
    api: ApiFlags,
    #[command(flatten)]
    server: ServerFlags,
    #[command(flatten)]
    format: FormatFlags,
    /// File with the secret that the token is to have
    file: Option<String>,
}

pub(super) async fn bootstrap(args: &[String], io: &mut Io<'_>) -> Done {
    let flags: BootstrapFlags = flags::parse("acl bootstrap", args)?;
    flags.format.check()?;
    let secret = match flags.file.as_deref() {
        None => String::new(),
        Some("-") => content("-", io)?,
        Some(file) => content(&format!("@{file}"), io)?,
    };
    let body = match secret.trim() {
        "" => json!({}),
        secret => json!({ "BootstrapSecret": secret }),
    };
    let call = Call::new(&flags.api, &flags.server, io)?;
    let row = call
        .put("/v1/acl/bootstrap", &body, "Failed ACL bootstrapping")
        .await?;
    flags.format.print(&row, io, pretty)
}
