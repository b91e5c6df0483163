//! Definitions and states of checks in the data dir, a small file each.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Error;
use super::definition::{CheckDefinition, Kind, Raw};
use super::maintenance::maintenance;
use crate::env::{Disk, write_atomic};
use crate::state::CheckStatus;

/// Longest name of a file; file systems take 255 bytes, and `.tmp` is put behind it.
const NAME_MAX: usize = 200;

/// Where they are.
#[derive(Clone)]
pub(super) struct Kept {
    disk: Arc<dyn Disk>,
    services: PathBuf,
    checks: PathBuf,
    states: PathBuf,
}

/// Everything that was found.
#[derive(Default)]
pub(super) struct Found {
    pub(super) services: Vec<Raw>,
    pub(super) checks: Vec<Raw>,
    pub(super) states: Vec<KeptState>,
}

/// What a TTL check was told last.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct KeptState {
    #[serde(rename = "CheckID")]
    pub(super) id: String,
    pub(super) status: CheckStatus,
    pub(super) output: String,
    #[serde(rename = "ExpiresUnixMs")]
    pub(super) expires_unix_ms: u64,
}

/// A file's content.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Document {
    version: u32,
    definition: Value,
}

const VERSION: u32 = 1;

impl Kept {
    pub(super) fn new(disk: Arc<dyn Disk>, data_dir: &Path) -> Self {
        let checks = data_dir.join("checks");
        Self {
            disk,
            services: data_dir.join("services"),
            states: checks.join("state"),
            checks,
        }
    }

    /// Reads all; what cannot be read is named in the log and left where it is.
    pub(super) fn load(&self) -> Found {
        let raw = |document: Document| match document.version {
            VERSION => Ok(Raw(document.definition)),
            other => Err(format!(
                "written in version {other}, understood up to {VERSION}"
            )),
        };
        Found {
            services: self.read_all(&self.services, raw),
            checks: self.read_all(&self.checks, raw),
            states: self.read_all(&self.states, Ok),
        }
    }

    fn read_all<T: serde::de::DeserializeOwned, U>(
        &self,
        folder: &Path,
        take: impl Fn(T) -> Result<U, String>,
    ) -> Vec<U> {
        let Ok(names) = self.disk.read_dir(folder) else {
            return Vec::new();
        };
        let read = |path: &Path| {
            let bytes = self.disk.read(path).map_err(|e| e.to_string())?;
            let value = serde_json::from_slice(&bytes).map_err(|e| e.to_string())?;
            take(value)
        };
        let mut found = Vec::new();
        for name in names {
            let path = folder.join(name);
            if path == self.states || path.extension().is_some_and(|e| e == "tmp") {
                continue;
            }
            match read(&path) {
                Ok(value) => found.push(value),
                Err(error) => {
                    tracing::warn!(target: "agent", "{} is left out: {error}", path.display());
                }
            }
        }
        found
    }

    pub(super) fn keep_service(&self, id: &str, raw: &Raw) -> Result<(), Error> {
        self.write(&self.services, id, raw)
            .map_err(failed("service", id))
    }

    pub(super) fn keep_check(&self, id: &str, raw: &Raw) -> Result<(), Error> {
        self.write(&self.checks, id, raw)
            .map_err(failed("check", id))
    }

    /// Without a sync: it is written at every sign of life, and the next one makes up for a lost one.
    pub(super) fn keep_state(&self, state: &KeptState) -> Result<(), Error> {
        let write = || {
            self.disk.create_dir_all(&self.states)?;
            let path = self.states.join(file_name(&state.id));
            let temporary = path.with_extension("tmp");
            let file = self.disk.create(&temporary)?;
            file.write_all_at(json!(state).to_string().as_bytes(), 0)?;
            self.disk.rename(&temporary, &path)
        };
        write().map_err(failed("the state of check", &state.id))
    }

    pub(super) fn forget_service(&self, id: &str) -> Result<(), Error> {
        self.remove(&self.services, id)
            .map_err(failed("service", id))
    }

    pub(super) fn forget_check(&self, id: &str) -> Result<(), Error> {
        let removed = self.remove(&self.checks, id);
        removed
            .and_then(|()| self.remove(&self.states, id))
            .map_err(failed("check", id))
    }

    fn write(&self, folder: &Path, id: &str, raw: &Raw) -> io::Result<()> {
        let document = Document {
            version: VERSION,
            definition: raw.0.clone(),
        };
        self.disk.create_dir_all(folder)?;
        let bytes = json!(document).to_string();
        write_atomic(&*self.disk, &folder.join(file_name(id)), bytes.as_bytes())
    }

    fn remove(&self, folder: &Path, id: &str) -> io::Result<()> {
        let path = folder.join(file_name(id));
        match self.disk.exists(&path) {
            true => self.disk.remove_file(&path),
            false => Ok(()),
        }
    }
}

fn failed(kind: &str, id: &str) -> impl FnOnce(io::Error) -> Error {
    let what = format!("{kind} {id:?}");
    move |source| Error::Disk { what, source }
}

/// A name for the file of an id: readable, and never that of another id.
fn file_name(id: &str) -> String {
    use std::fmt::Write as _;
    let mut name = String::with_capacity(id.len() + 1);
    for byte in id.bytes() {
        match byte {
            b'-' | b'_' => name.push(char::from(byte)),
            byte if byte.is_ascii_alphanumeric() => name.push(char::from(byte)),
            // Writing to a string cannot fail.
            byte => drop(write!(name, "%{byte:02x}")),
        }
    }
    if name.len() > NAME_MAX {
        // Two checksums of different texts: that two long ids share both is as good as impossible.
        let (one, other) = (
            crc32c::crc32c(id.as_bytes()),
            crc32c::crc32c(name.as_bytes()),
        );
        name.truncate(NAME_MAX - 20);
        name.push_str(&format!("~{one:08x}~{other:08x}"));
    }
    name
}

/// A maintenance check in the form in which definitions are kept.
pub(super) fn raw_maintenance(definition: &CheckDefinition) -> Raw {
    Raw(json!({
        "maintenance": definition.id,
        "serviceid": definition.service_id,
        "notes": definition.notes,
    }))
}

/// A check that was kept.
pub(super) fn check(raw: &Raw) -> Result<CheckDefinition, Error> {
    let text = |key: &str| raw.0[key].as_str().unwrap_or_default();
    match text("maintenance") {
        "" => Ok(raw.to_check()?),
        id => {
            let definition = maintenance(id, text("serviceid"), text("notes"));
            debug_assert_eq!(definition.kind, Kind::Maintenance);
            Ok(definition)
        }
    }
}
