//! Moving the `raft/` folder of an accidental second cluster aside, where nobody can reach the disk by hand.
//!
//! The environment variable names the one cluster whose data is not wanted. It is an id, never "whatever is there", so
//! that a variable which outlives its purpose does nothing: after the move the folder belongs to no cluster.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use uuid::Uuid;

/// Environment variable with the id of the cluster whose `raft/` folder is moved aside at the start.
pub(super) const VARIABLE: &str = "AGENT_SET_ASIDE_CLUSTER";

/// Moves `raft/` aside if it belongs to that cluster; where to.
///
/// # Errors
/// The file system's, or the variable does not hold an id. Nothing is deleted in any case.
pub(super) fn set_aside(
    data_dir: &Path,
    cluster: &str,
    unix_ms: u64,
) -> io::Result<Option<PathBuf>> {
    let wrong = |_| io::Error::other(format!("{VARIABLE} must be a cluster id, not {cluster:?}"));
    let cluster: Uuid = cluster.parse().map_err(wrong)?;
    let raft = data_dir.join("raft");
    let Some(text) = fs::read_to_string(raft.join("identity.json")).ok() else {
        return Ok(None);
    };
    let identity: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    let belongs = identity["cluster_id"]
        .as_str()
        .and_then(|id| id.parse().ok());
    if belongs != Some(cluster) {
        return Ok(None);
    }
    let aside = data_dir.join(format!("raft.aside-{unix_ms}"));
    fs::rename(&raft, &aside)?;
    File::open(data_dir)?.sync_all()?;
    Ok(Some(aside))
}

/// Moves `raft/` aside, whatever is in it, unless something was moved on this token before; where to.
///
/// # Errors
/// The file system's. Nothing is deleted in any case.
pub(super) fn on_token(data_dir: &Path, token: &str, unix_ms: u64) -> io::Result<Option<PathBuf>> {
    let raft = data_dir.join("raft");
    let moved = format!("raft.aside-{token}-");
    let entries = match fs::read_dir(data_dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    for entry in entries {
        if entry?.file_name().to_string_lossy().starts_with(&moved) {
            return Ok(None);
        }
    }
    if !raft.exists() {
        return Ok(None);
    }
    let aside = data_dir.join(format!("{moved}{unix_ms}"));
    fs::rename(&raft, &aside)?;
    File::open(data_dir)?.sync_all()?;
    Ok(Some(aside))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_moves_one_folder_once() {
        let dir = tempfile::tempdir().expect("a folder");
        let raft = dir.path().join("raft");
        assert_eq!(on_token(dir.path(), "one", 1).expect("nothing there"), None);
        assert_eq!(on_token(&raft, "one", 1).expect("no data dir yet"), None);
        for (token, moves) in [("one", true), ("one", false), ("two", true), ("on", true)] {
            let _ = fs::create_dir(&raft);
            fs::write(raft.join("identity.json"), "not even JSON").expect("written");
            let aside = on_token(dir.path(), token, 7).expect("a folder that can be moved");
            assert_eq!(aside.is_some(), moves, "{token}");
            assert_eq!(raft.exists(), !moves, "{token}");
            if let Some(aside) = aside {
                assert!(aside.join("identity.json").exists(), "moved, not deleted");
            }
        }
    }

    #[test]
    fn only_the_named_cluster_is_moved_and_only_once() {
        let dir = tempfile::tempdir().expect("a folder");
        let (ours, theirs) = (Uuid::from_u128(1), Uuid::from_u128(2));
        assert_eq!(
            set_aside(dir.path(), &theirs.to_string(), 7).expect("nothing there"),
            None
        );
        fs::create_dir(dir.path().join("raft")).expect("made");
        let identity =
            format!(r#"{{"version":1,"raft_id":"1","cluster_id":"{theirs}","promised_to":null}}"#);
        fs::write(dir.path().join("raft/identity.json"), identity).expect("written");
        assert_eq!(
            set_aside(dir.path(), &ours.to_string(), 7).expect("another"),
            None
        );
        let aside = set_aside(dir.path(), &theirs.to_string(), 7)
            .expect("moved")
            .expect("moved");
        assert!(aside.join("identity.json").exists() && !dir.path().join("raft").exists());
        assert_eq!(
            set_aside(dir.path(), &theirs.to_string(), 8).expect("gone"),
            None
        );
        assert!(set_aside(dir.path(), "everything", 8).is_err());
    }
}
