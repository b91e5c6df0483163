//! Finding and reading configuration files, and turning one into settings.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::layer::Layer;
use super::tree::{Position, TreeError};
use super::unsupported::{self, Found};
use super::{Error, entries, hcl, json};
use serde::Deserialize as _;

/// Largest file that is read. Real ones have a few kilobytes; this keeps a wrong path from filling the memory.
const FILE_SIZE_MAX_BYTES: u64 = 8 << 20;

/// The language of a configuration file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// JSON.
    Json,
    /// HCL, version 1.
    Hcl,
}

impl Format {
    fn of(path: &Path) -> Option<Format> {
        match path.extension()?.to_str()? {
            "json" => Some(Format::Json),
            "hcl" => Some(Format::Hcl),
            _ => None,
        }
    }
}

impl std::str::FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "json" => Ok(Format::Json),
            "hcl" => Ok(Format::Hcl),
            _ => Err(format!("-config-format must be json or hcl, not {text:?}")),
        }
    }
}

/// A configuration file as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// How it is called in messages: its path.
    pub name: String,
    /// Its language.
    pub format: Format,
    /// Its content.
    pub text: String,
}

/// Reads files and folders in the given order; a folder stands for its `.json` and `.hcl` files in lexical order.
///
/// `format` overrides what the names say; files named on the command line then need no ending.
///
/// # Errors
/// [`Error::Read`] and [`Error::UnknownFormat`].
pub fn read(paths: &[PathBuf], format: Option<Format>) -> Result<Vec<SourceFile>, Error> {
    let mut files = Vec::new();
    for path in paths {
        let failed = |source| Error::Read {
            path: path.clone(),
            source,
        };
        if !fs::metadata(path).map_err(failed)?.is_dir() {
            files.push(read_file(path, format)?);
            continue;
        }
        let mut entries = fs::read_dir(path)
            .map_err(failed)?
            .map(|entry| Ok(entry?.path()))
            .collect::<io::Result<Vec<_>>>()
            .map_err(failed)?;
        entries.sort();
        // Folders inside a folder, and files of another kind, are not ours (`..data` of Kubernetes, editors' copies).
        entries
            .retain(|entry| (format.is_some() || Format::of(entry).is_some()) && entry.is_file());
        for entry in entries {
            files.push(read_file(&entry, format)?);
        }
    }
    Ok(files)
}

fn read_file(path: &Path, format: Option<Format>) -> Result<SourceFile, Error> {
    let format = format.or_else(|| Format::of(path));
    let format = format.ok_or_else(|| Error::UnknownFormat {
        path: path.to_owned(),
    })?;
    let failed = |source| Error::Read {
        path: path.to_owned(),
        source,
    };
    let mut text = String::new();
    let file = fs::File::open(path).map_err(failed)?;
    // Bounded while reading: the size that a device or a pipe reports says nothing.
    file.take(FILE_SIZE_MAX_BYTES + 1)
        .read_to_string(&mut text)
        .map_err(failed)?;
    if text.len() as u64 > FILE_SIZE_MAX_BYTES {
        return Err(failed(io::Error::other(
            "larger than 8 MiB: this is no configuration file",
        )));
    }
    Ok(SourceFile {
        name: path.display().to_string(),
        format,
        text,
    })
}

/// A definition file as JSON, its keys as they are.
///
/// # Errors
/// What is wrong, with its place.
pub(crate) fn to_json(text: &str, format: Format) -> Result<serde_json::Value, String> {
    let error = |e: TreeError| {
        let at = e.at.unwrap_or(Position { line: 1, column: 1 });
        format!("{at}: {e}")
    };
    let root = match format {
        Format::Json => json::parse(text),
        Format::Hcl => hcl::parse(text),
    };
    let root = root.map_err(error)?;
    serde_json::Value::deserialize(&root).map_err(error)
}

/// The settings of one file, and those settings of it that this version does not have.
pub(crate) fn parse(file: &SourceFile) -> Result<(Layer, Vec<Found>), Error> {
    let error = |e: TreeError| Error::File {
        file: file.name.clone(),
        place: e.at.unwrap_or(Position { line: 1, column: 1 }).to_string(),
        message: e.to_string(),
    };
    let mut root = match file.format {
        Format::Json => json::parse(&file.text),
        Format::Hcl => hcl::parse(&file.text),
    }
    .map_err(error)?;
    let found = unsupported::strip(&mut root);
    let config_entries = entries::take(&mut root).map_err(error)?;
    let mut layer = Layer::deserialize(&root).map_err(error)?;
    layer.config_entries = config_entries;
    Ok((layer, found))
}
