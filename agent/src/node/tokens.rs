//! Tokens that this agent uses itself, as they are set while it runs, and kept in the data dir if that is asked for.

use std::path::PathBuf;

use super::{Error, Node};
use crate::config::{Secret, Tokens};
use crate::env::{Disk, write_atomic};

/// What such a token is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenUse {
    /// What the agent does on its own.
    Agent,
    /// Asking this agent about itself, whatever the servers say.
    AgentRecovery,
    /// Services and checks of configuration files.
    Files,
    /// Requests that name none.
    Default,
    /// DNS.
    Dns,
    /// What is copied from the primary datacenter.
    Replication,
}

impl TokenUse {
    /// By its name in a path, old spellings included.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "agent" | "acl_agent_token" => TokenUse::Agent,
            "agent_recovery" | "agent_master" | "acl_agent_master_token" => TokenUse::AgentRecovery,
            "config_file_service_registration" => TokenUse::Files,
            "default" | "acl_token" => TokenUse::Default,
            "dns" => TokenUse::Dns,
            "replication" | "acl_replication_token" => TokenUse::Replication,
            _ => return None,
        })
    }

    fn of(self, tokens: &mut Tokens) -> &mut Secret {
        match self {
            TokenUse::Agent => &mut tokens.agent,
            TokenUse::AgentRecovery => &mut tokens.agent_recovery,
            TokenUse::Files => &mut tokens.config_file_service_registration,
            TokenUse::Default => &mut tokens.default,
            TokenUse::Dns => &mut tokens.dns,
            TokenUse::Replication => &mut tokens.replication,
        }
    }
}

const ALL: [TokenUse; 6] = [
    TokenUse::Agent,
    TokenUse::AgentRecovery,
    TokenUse::Files,
    TokenUse::Default,
    TokenUse::Dns,
    TokenUse::Replication,
];

/// Tokens that were set through the API, over those of the configuration.
pub(super) fn with_kept(disk: &dyn Disk, file: &std::path::Path, configured: &Tokens) -> Tokens {
    let mut tokens = configured.clone();
    if !disk.exists(file) {
        return tokens;
    }
    let read = disk.read(file).map_err(|error| error.to_string());
    let kept = read.and_then(|bytes| {
        serde_json::from_slice::<Tokens>(&bytes).map_err(|error| error.to_string())
    });
    match kept {
        Ok(mut kept) => {
            for each in ALL {
                let kept = std::mem::take(each.of(&mut kept));
                if !kept.0.is_empty() {
                    *each.of(&mut tokens) = kept;
                }
            }
        }
        Err(error) => tracing::error!(
            target: "acl",
            "tokens that were set through the API are lost, those of the configuration count: {} cannot be read: {error}",
            file.display()
        ),
    }
    tokens
}

impl Node {
    fn tokens_file(&self) -> Option<PathBuf> {
        let config = &self.inner.config;
        let kept = config.acl.enable_token_persistence;
        kept.then(|| config.data_dir.join("acl-tokens.json"))
    }

    /// Takes another token for a use of this agent; an empty one for none.
    ///
    /// # Errors
    /// When it is to be kept, and the data dir takes nothing. It counts until the agent is started again.
    pub fn set_token(&self, of: TokenUse, secret: &str) -> Result<(), Error> {
        let mut tokens = Tokens::clone(&self.inner.tokens.load());
        *of.of(&mut tokens) = Secret(secret.to_owned());
        self.set_tokens(tokens.clone());
        let Some(file) = self.tokens_file() else {
            return Ok(());
        };
        let text = serde_json::to_vec(&tokens).map_err(|e| Error::Refused(e.to_string()))?;
        let written = write_atomic(&*self.inner.env.disk, &file, &text);
        written.map_err(|error| {
            Error::Refused(format!(
                "the token counts, but could not be kept in {}: {error}",
                file.display()
            ))
        })
    }

    /// Takes over the tokens of a configuration, unless others were set since and kept.
    pub(super) fn reload_tokens(&self, configured: &Tokens) {
        let tokens = match self.tokens_file() {
            Some(file) => with_kept(&*self.inner.env.disk, &file, configured),
            None => configured.clone(),
        };
        self.set_tokens(tokens);
    }
}
