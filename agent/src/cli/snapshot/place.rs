//! Where a saved state is kept: a file, or an object of S3-compatible storage.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::s3::S3;
use super::{S3Flags, decode, sha256};
use crate::archive::About;
use crate::cli::Io;

/// A place, as a person writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Named {
    File(PathBuf),
    Object { bucket: String, key: String },
}

/// A place that can be read from and written to.
pub(super) enum Place {
    File(PathBuf),
    Object { s3: Box<S3>, key: String },
}

/// Reads `s3://BUCKET/KEY`, or else the name of a file. Pure.
fn parse(text: &str) -> Result<Named, String> {
    let Some(rest) = text.strip_prefix("s3://") else {
        return Ok(Named::File(PathBuf::from(text)));
    };
    match rest.split_once('/') {
        Some((bucket, key)) if !bucket.is_empty() && !key.is_empty() && !key.ends_with('/') => {
            Ok(Named::Object {
                bucket: bucket.to_owned(),
                key: key.to_owned(),
            })
        }
        _ => Err(format!(
            "{text:?} names no object: expected s3://BUCKET/KEY"
        )),
    }
}

impl Place {
    /// The place of that name. Nothing is sent yet.
    pub(super) fn new(text: &str, flags: &S3Flags, io: &Io<'_>) -> Result<Self, String> {
        match parse(text)? {
            Named::File(path) => Ok(Place::File(path)),
            Named::Object { bucket, key } => {
                let s3 = Box::new(S3::new(&bucket, flags, io.env)?);
                Ok(Place::Object { s3, key })
            }
        }
    }

    /// All of it.
    pub(super) async fn read(&self) -> Result<Bytes, String> {
        match self {
            Place::File(path) => fs::read(path)
                .map(Bytes::from)
                .map_err(|error| error.to_string()),
            Place::Object { s3, key } => s3.get(key).await,
        }
    }

    /// Writes an archive, reads it back, and takes it apart: whoever finds something under this name finds what can be
    /// put back. What was written and is not that is taken away again.
    pub(super) async fn write_verified(
        &self,
        bytes: Bytes,
        folders: bool,
    ) -> Result<(About, String), String> {
        let wanted = sha256(&bytes);
        match self {
            Place::File(path) => write_file(path, bytes, &wanted, folders),
            Place::Object { s3, key } => {
                s3.put(key, bytes).await?;
                let verified = match s3.get(key).await {
                    Ok(found) => verify(&found, &wanted),
                    Err(error) => Err(error),
                };
                if verified.is_err() {
                    // What is wrong is the first error; a second one would only hide it.
                    let _ = s3.delete(key).await;
                }
                Ok((verified?, wanted))
            }
        }
    }

    /// Takes it away. One that is gone is as good.
    pub(super) async fn delete(&self) -> Result<(), String> {
        match self {
            Place::File(path) => match fs::remove_file(path) {
                Err(error) if error.kind() != ErrorKind::NotFound => Err(error.to_string()),
                _ => Ok(()),
            },
            Place::Object { s3, key } => s3.delete(key).await,
        }
    }
}

fn verify(found: &Bytes, wanted: &str) -> Result<About, String> {
    if sha256(found) != wanted {
        return Err("what was read back is not what was written".into());
    }
    decode(found).map(|(about, _)| about)
}

/// Under another name first: whoever looks for the file finds a whole one.
fn write_file(
    path: &Path,
    bytes: Bytes,
    wanted: &str,
    folders: bool,
) -> Result<(About, String), String> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".unverified");
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let text = |error: std::io::Error| error.to_string();
    if folders {
        fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    let written = || {
        // It holds the private key of the certificate authority.
        let mut options = fs::File::options();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&unfinished).map_err(text)?;
        file.write_all(&bytes).map_err(text)?;
        file.sync_all().map_err(text)?;
        drop(bytes);
        let found = fs::read(&unfinished).map_err(text)?;
        let about = verify(&found.into(), wanted)?;
        fs::rename(&unfinished, path).map_err(text)?;
        // The name is on disk, too.
        let folder = fs::File::open(folder).map_err(text)?;
        folder.sync_all().map_err(text)?;
        Ok((about, wanted.to_owned()))
    };
    written().inspect_err(|_: &String| {
        // What is left of it is of no use; the first error says what is wrong.
        let _ = fs::remove_file(&unfinished);
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_told_from_files() {
        let file = |text: &str| Named::File(PathBuf::from(text));
        assert_eq!(parse("a/b.snap"), Ok(file("a/b.snap")));
        assert_eq!(parse("s3/x"), Ok(file("s3/x")));
        let object = Named::Object {
            bucket: "b".into(),
            key: "p/k.snap".into(),
        };
        assert_eq!(parse("s3://b/p/k.snap"), Ok(object));
        for wrong in ["s3://", "s3://b", "s3://b/", "s3:///k", "s3://b/p/"] {
            let said = parse(wrong).expect_err(wrong);
            assert!(
                said.contains(wrong) && said.contains("s3://BUCKET/KEY"),
                "{said}"
            );
        }
    }

    #[test]
    fn what_cannot_be_put_back_is_not_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("new/x.snap");
        // An archive that is whole, of a state that is none.
        let about = About::new(1, 2, 3, 4);
        let bytes = crate::archive::write(&about, vec![Bytes::from("none")]).concat();
        let bytes = Bytes::from(bytes);
        let wanted = sha256(&bytes);
        let missing = write_file(&path, bytes.clone(), &wanted, false).expect_err("no folder");
        assert!(missing.contains("No such file"), "{missing}");
        let said = write_file(&path, bytes, &wanted, true).expect_err("no state");
        assert!(said.contains("cannot be read"), "{said}");
        let left = fs::read_dir(path.parent().expect("a folder")).expect("readable");
        assert_eq!(left.count(), 0, "nothing is left of it");
    }
}
