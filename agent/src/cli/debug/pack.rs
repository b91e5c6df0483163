//! A folder as one archive beside it.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;

/// Where a folder's archive is.
pub(super) fn archive_of(folder: &Path) -> PathBuf {
    let mut name = folder.as_os_str().to_owned();
    name.push(".tar.gz");
    name.into()
}

/// Writes the archive, and removes the folder once it is whole.
pub(super) fn pack(folder: &Path) -> io::Result<()> {
    let path = archive_of(folder);
    let mut temporary = path.clone().into_os_string();
    temporary.push(".tmp");
    let temporary = PathBuf::from(temporary);
    let encoder = GzEncoder::new(File::create_new(&temporary)?, Compression::default());
    let mut archive = tar::Builder::new(encoder);
    // Links are not followed: there are none.
    archive.follow_symlinks(false);
    let name = folder.file_name().unwrap_or_default();
    archive.append_dir_all(name, folder)?;
    let mut file = archive.into_inner()?.finish()?;
    file.flush()?;
    file.sync_all()?;
    fs::rename(&temporary, &path)?;
    fs::remove_dir_all(folder)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::read::GzDecoder;

    use super::*;

    #[test]
    fn an_archive_has_the_folder_and_takes_its_place() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("out");
        fs::create_dir_all(folder.join("a")).unwrap();
        fs::write(folder.join("index.json"), "{}").unwrap();
        fs::write(folder.join("a/heap.prof"), "heap").unwrap();
        pack(&folder).unwrap();
        assert!(!folder.exists());
        let file = File::open(home.path().join("out.tar.gz")).unwrap();
        let mut found = Vec::new();
        for entry in tar::Archive::new(GzDecoder::new(file)).entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().display().to_string();
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            if !text.is_empty() {
                found.push((path, text));
            }
        }
        found.sort();
        let wanted = [("out/a/heap.prof", "heap"), ("out/index.json", "{}")];
        assert_eq!(found, wanted.map(|(a, b)| (a.to_owned(), b.to_owned())));
    }
}
