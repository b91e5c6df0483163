//! `agent login` and `agent logout`: a token for an identity of somebody else, and its end.

use clap::Parser;
use hyper::Method;
use serde_json::{Map, Value, json};

use super::super::api::{ApiFlags, ServerFlags};
use super::super::{Done, Failure, Io, flags};
use super::{Call, text};

/// Gets a token from an auth method, and writes its secret into a file.
#[derive(Parser)]
struct LoginFlags {
    #[command(flatten)]
    api: ApiFlags,
    #[command(flatten)]
    server: ServerFlags,
    /// Name of the auth method
    #[arg(long, default_value = "")]
    method: String,
    /// kubernetes or jwt; looked up if it is left out
    #[arg(long = "type", default_value = "")]
    kind: String,
    /// File that holds what the identity is proven by
    #[arg(long, default_value = "")]
    bearer_token_file: String,
    /// File that the token's secret is written to
    #[arg(long, default_value = "")]
    token_sink_file: String,
    /// Put into the token's description, KEY=VALUE; may be repeated
    #[arg(long)]
    meta: Vec<String>,
}

/// Runs the verb.
pub(in crate::cli) async fn login(args: &[String], io: &mut Io<'_>) -> Done {
    let flags: LoginFlags = flags::parse("login", args)?;
    for (value, flag) in [
        (&flags.method, "-method"),
        (&flags.token_sink_file, "-token-sink-file"),
        (&flags.bearer_token_file, "-bearer-token-file"),
    ] {
        if value.is_empty() {
            return Err(Failure::Usage(format!("Missing required '{flag}' flag")));
        }
    }
    let bearer = std::fs::read_to_string(&flags.bearer_token_file);
    let bearer = bearer.map_err(Failure::because("Error reading bearer token file"))?;
    let mut meta = Map::new();
    for pair in &flags.meta {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        meta.insert(key.to_owned(), json!(value));
    }
    let mut body = json!({ "AuthMethod": flags.method, "BearerToken": bearer.trim() });
    if !meta.is_empty() {
        body["Meta"] = Value::Object(meta);
    }
    let call = Call::new(&flags.api, &flags.server, io)?;
    let sent = call.send(
        Method::POST,
        "/v1/acl/login",
        Some(&body),
        "Error logging in",
    );
    let token = sent.await?;
    write(&flags.token_sink_file, text(&token, "SecretID"))
        .map_err(Failure::because("Error writing token to file sink"))?;
    Ok(0)
}

/// A file that this user alone may read.
fn write(file: &str, secret: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(file)?;
    file.write_all(secret.as_bytes())
}

/// Ends a token that an auth method has handed out.
#[derive(Parser)]
struct LogoutFlags {
    #[command(flatten)]
    api: ApiFlags,
    #[command(flatten)]
    server: ServerFlags,
}

/// Runs the verb.
pub(in crate::cli) async fn logout(args: &[String], io: &mut Io<'_>) -> Done {
    let flags: LogoutFlags = flags::parse("logout", args)?;
    let call = Call::new(&flags.api, &flags.server, io)?;
    let failed = "Error destroying token";
    call.send(Method::POST, "/v1/acl/logout", None, failed)
        .await?;
    Ok(0)
}
