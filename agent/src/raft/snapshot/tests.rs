use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::env::{Keep, MemoryDisk, RealDisk, SeededRandom};
use crate::raft::types::PeerNode;

const FOLDER: &str = "/data/raft/snapshots";

fn open(disk: &MemoryDisk) -> SnapshotStore {
    SnapshotStore::open(Arc::new(disk.clone()), Path::new(FOLDER)).unwrap()
}

fn meta(term: u64, index: u64) -> Meta {
    let id = LogId::from(WireLogId { term, index });
    let nodes = BTreeMap::from([(7, PeerNode::default())]);
    let membership = openraft::Membership::new(vec![BTreeSet::from([7])], nodes).unwrap();
    let raft = SnapshotMeta {
        last_log_id: Some(id),
        last_membership: StoredMembership::new(Some(id), membership),
    };
    let meta = Meta::new(&raft, b"cluster".to_vec());
    assert_eq!(meta.to_raft().unwrap(), raft);
    meta
}

fn body(seed: u8) -> Vec<Vec<u8>> {
    vec![vec![seed; 10], vec![seed; 700_000], vec![seed + 1]]
}

fn read(snapshot: &SnapshotFile) -> Result<Vec<Vec<u8>>, Error> {
    snapshot.read().collect()
}

fn names(disk: &MemoryDisk) -> Vec<String> {
    let names = disk.read_dir(Path::new(FOLDER)).unwrap();
    names
        .iter()
        .map(|name| name.to_str().unwrap().to_owned())
        .collect()
}

#[test]
fn the_newest_snapshot_is_found_again_with_its_sections() {
    let disk = MemoryDisk::new();
    assert!(open(&disk).latest().unwrap().is_none());
    open(&disk).save(&meta(1, 5), body(1)).unwrap();
    let saved = open(&disk).save(&meta(2, 9), body(2)).unwrap();
    disk.crash(Keep::Nothing);
    let latest = open(&disk).latest().unwrap().unwrap();
    assert_eq!(latest.meta(), saved.meta());
    assert_eq!(latest.meta().id, "2-9-2");
    assert_eq!(latest.meta().extra, b"cluster");
    assert_eq!(latest.size_bytes(), saved.size_bytes());
    assert_eq!(read(&latest).unwrap(), body(2));
}

#[test]
fn the_two_newest_are_kept_and_what_is_held_stays_readable() {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    let first = store.save(&meta(1, 1), body(1)).unwrap();
    for index in 2..=4 {
        store.save(&meta(1, index), body(2)).unwrap();
    }
    assert_eq!(names(&disk), ["1-3-3.snap", "1-4-4.snap"]);
    assert_eq!(read(&first).unwrap(), body(1));
}

#[test]
fn a_later_save_at_the_same_entry_is_newer_and_an_earlier_entry_is_not() {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    store.save(&meta(3, 20), body(1)).unwrap();
    store.save(&meta(3, 20), body(2)).unwrap();
    store.save(&meta(2, 90), body(3)).unwrap();
    let latest = store.latest().unwrap().unwrap();
    assert_eq!(read(&latest).unwrap(), body(2));
}

#[test]
fn an_empty_body_and_an_empty_meta_are_fine_and_an_unfinished_one_leaves_nothing() {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    let mut writer = store.writer(&meta(1, 1)).unwrap();
    writer.push(&[1; 600_000]).unwrap();
    drop(writer);
    assert_eq!(names(&disk), [] as [&str; 0]);
    store.save(&Meta::default(), [b""]).unwrap();
    let latest = store.latest().unwrap().unwrap();
    assert_eq!(latest.meta().to_raft().unwrap(), SnapshotMeta::default());
    assert_eq!(read(&latest).unwrap(), [] as [&[u8]; 0]);
}

#[test]
fn the_power_may_go_at_any_moment() {
    let sections = || [vec![2; 5000], vec![3; 300]];
    for way in 0..6 {
        for operations in 0.. {
            let disk = MemoryDisk::new();
            open(&disk).save(&meta(1, 5), body(1)).unwrap();
            disk.cut_power_after(operations);
            let saved = SnapshotStore::open(Arc::new(disk.clone()), Path::new(FOLDER))
                .and_then(|store| store.save(&meta(1, 6), sections()))
                .is_ok();
            let random = SeededRandom::new(operations * 10 + way);
            disk.crash(match way {
                0 => Keep::Nothing,
                1 => Keep::Everything,
                _ => Keep::Torn(&random),
            });
            let latest = open(&disk).latest().unwrap().unwrap();
            disk.crash(Keep::Nothing);
            let again = open(&disk).latest().unwrap().unwrap();
            assert_eq!(again.meta(), latest.meta(), "found is durable");
            let found = read(&again).unwrap();
            assert!(found == sections() || (!saved && found == body(1)));
            assert!(names(&disk).iter().all(|name| name.ends_with(".snap")));
            if saved {
                assert!(operations > 3);
                break;
            }
        }
    }
}

#[test]
fn every_flipped_byte_is_reported_with_file_and_offset() {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    let sections = [vec![1; 30], vec![2; 40]];
    let saved = store.save(&meta(1, 5), &sections).unwrap();
    let path = saved.path().to_owned();
    for offset in 0..saved.size_bytes() {
        disk.corrupt(&path, offset).unwrap();
        let result = store.latest().and_then(|latest| read(&latest.unwrap()));
        match result.unwrap_err() {
            Error::Corrupt {
                path: named,
                offset: at,
                ..
            } => {
                assert_eq!(named, path);
                assert!(
                    at <= offset.max(saved.size_bytes() - 16),
                    "{at} for {offset}"
                );
            }
            error => assert!(matches!(error, Error::Version { .. }), "{error}"),
        }
        disk.corrupt(&path, offset).unwrap();
    }
    assert_eq!(read(&store.latest().unwrap().unwrap()).unwrap(), sections);
}

#[test]
fn a_damaged_newest_snapshot_is_an_error_though_an_older_one_is_there() {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    store.save(&meta(1, 5), body(1)).unwrap();
    let newest = store.save(&meta(1, 6), body(2)).unwrap();
    disk.corrupt(newest.path(), 17).unwrap();
    let message = store.latest().unwrap_err().to_string();
    assert_eq!(
        message,
        "corrupt snapshot: /data/raft/snapshots/1-6-2.snap at offset 0: snapshot header: wrong checksum"
    );
}

#[test]
fn every_cut_is_noticed() {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    let saved = store.save(&meta(1, 5), [[1; 30]]).unwrap();
    let content = disk.read(saved.path()).unwrap();
    for len in 0..content.len() {
        let file = disk.create(saved.path()).unwrap();
        file.write_all_at(&content[..len], 0).unwrap();
        let result = store.latest().and_then(|latest| read(&latest.unwrap()));
        assert!(matches!(result, Err(Error::Corrupt { .. })), "{len} bytes");
    }
}

/// Nothing passes but what was saved.
#[test]
fn any_other_file_is_refused() {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    let saved = store.save(&meta(1, 5), body(2)).unwrap();
    let content = disk.read(saved.path()).unwrap();
    crate::fuzz::run("snapshot-file", std::slice::from_ref(&content), |bytes| {
        let file = disk.create(saved.path()).unwrap();
        file.write_all_at(bytes, 0).unwrap();
        match store.latest().and_then(|latest| read(&latest.unwrap())) {
            Ok(_) => {
                assert_eq!(bytes, content);
                "read".to_owned()
            }
            Err(error) => error.to_string(),
        }
    });
}

#[test]
fn a_full_disk_leaves_the_snapshot_before() {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    store.save(&meta(1, 5), [b"old"]).unwrap();
    disk.set_capacity(Some(disk.bytes() + 1000));
    let error = store.save(&meta(1, 6), body(2)).unwrap_err();
    assert_eq!(io::Error::from(error).kind(), io::ErrorKind::StorageFull);
    assert_eq!(names(&disk), ["1-5-1.snap"]);
    assert_eq!(read(&store.latest().unwrap().unwrap()).unwrap(), [b"old"]);
}

#[test]
fn works_on_a_real_disk() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("raft/snapshots");
    let store = SnapshotStore::open(Arc::new(RealDisk), &path).unwrap();
    store.save(&meta(1, 5), body(1)).unwrap();
    let store = SnapshotStore::open(Arc::new(RealDisk), &path).unwrap();
    assert_eq!(read(&store.latest().unwrap().unwrap()).unwrap(), body(1));
}
