//! Damage from outside: reported with file and offset, never taken for an interrupted write.

use super::segment::HEADER_BYTES;
use super::*;

struct Log {
    disk: MemoryDisk,
    entries: Vec<Entry>,
}

/// A log of several segments, each entry a batch of its own, closed in order.
async fn log() -> Log {
    let disk = MemoryDisk::new();
    let mut store = open(&disk, &options(1024)).unwrap();
    let entries: Vec<Entry> = (0..8).map(|index| entry(1, index, 100)).collect();
    store.save_vote(&Vote::new(1, 1)).await.unwrap();
    for entry in &entries {
        append(&mut store, vec![entry.clone()]).await.unwrap();
    }
    store.close().await;
    Log { disk, entries }
}

fn segment_path(number: u32) -> PathBuf {
    segment::path(Path::new(FOLDER), number)
}

fn segment_files(disk: &MemoryDisk) -> Vec<(PathBuf, Vec<u8>)> {
    let names = disk.read_dir(Path::new(FOLDER)).unwrap();
    let paths = names.iter().map(|name| Path::new(FOLDER).join(name));
    paths
        .map(|path| (path.clone(), disk.read(&path).unwrap()))
        .collect()
}

fn disk_of(files: &[(PathBuf, Vec<u8>)]) -> MemoryDisk {
    let disk = MemoryDisk::new();
    disk.create_dir_all(Path::new(FOLDER)).unwrap();
    for (path, content) in files {
        disk.create(path).unwrap().write_all_at(content, 0).unwrap();
    }
    disk
}

#[test]
fn every_flipped_byte_is_reported_or_harmless() {
    run(async {
        let Log { disk, entries } = log().await;
        let files = segment_files(&disk);
        assert_eq!(files.len(), 3);
        let mut reported = 0;
        for (number, (path, content)) in files.iter().enumerate() {
            let used = content.iter().rposition(|byte| *byte != 0).unwrap() as u64;
            // The mark of the closing is the last record, and the only one that nothing vouches for.
            let end = if number == 2 { used - 24 } else { used };
            for offset in (0..end).filter(|offset| *offset < 120 || *offset >= HEADER_BYTES) {
                let disk = disk_of(&files);
                disk.corrupt(path, offset).unwrap();
                match open(&disk, &options(1024)) {
                    Ok(store) => assert_eq!(all(&store).await, entries, "{path:?} {offset}"),
                    Err(Error::Version { .. }) => reported += 1,
                    Err(Error::Corrupt {
                        path: named,
                        offset: at,
                        ..
                    }) => {
                        assert_eq!(&named, path);
                        assert!(at <= offset && offset < at + 200, "{at} for {offset}");
                        reported += 1;
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        }
        assert!(reported > 1000, "{reported}");
    });
}

#[test]
fn damage_in_the_middle_names_file_and_offset() {
    run(async {
        let Log { disk, .. } = log().await;
        disk.corrupt(&segment_path(1), HEADER_BYTES + 60).unwrap();
        let error = open(&disk, &options(1024)).map(drop).unwrap_err();
        let message = error.to_string();
        let expected = "corrupt log: /data/raft/wal/0000000001.wal at offset 544: no valid record";
        assert!(message.starts_with(expected), "{message}");
        assert_eq!(io::Error::from(error).kind(), io::ErrorKind::InvalidData);
    });
}

#[test]
fn a_missing_segment_is_named() {
    for number in [1, 2] {
        run(async {
            let Log { disk, .. } = log().await;
            disk.remove_file(&segment_path(number)).unwrap();
            let error = open(&disk, &options(1024)).map(drop).unwrap_err();
            let expected = format!("corrupt log: {} is missing", segment_path(number).display());
            assert_eq!(error.to_string(), expected);
        });
    }
}

#[test]
fn a_segment_under_another_ones_name_is_noticed() {
    run(async {
        let Log { disk, .. } = log().await;
        disk.rename(&segment_path(3), &segment_path(2)).unwrap();
        let error = open(&disk, &options(1024)).map(drop).unwrap_err();
        assert!(
            error.to_string().contains("belongs to segment 3"),
            "{error}"
        );
    });
}

#[test]
fn a_cut_file_is_noticed_where_records_are_missing() {
    run(async {
        let Log { disk, .. } = log().await;
        let file = disk.open(&segment_path(1)).unwrap();
        file.set_len(HEADER_BYTES + 40).unwrap();
        assert!(matches!(
            open(&disk, &options(1024)).map(drop),
            Err(Error::Corrupt { .. })
        ));
    });
}

#[test]
fn damage_to_a_record_that_is_read_later_is_an_error_then() {
    run(async {
        let disk = MemoryDisk::new();
        let no_cache = Options {
            cache_bytes: 0,
            ..options(4096)
        };
        let mut store = open(&disk, &no_cache).unwrap();
        append(&mut store, vec![entry(1, 0, 100)]).await.unwrap();
        disk.corrupt(&segment_path(1), HEADER_BYTES + 60).unwrap();
        let error = store.reader().try_get_log_entries(0..1).await.unwrap_err();
        let expected = "corrupt log: /data/raft/wal/0000000001.wal at offset 512: no valid record";
        assert_eq!(error.to_string(), expected);
    });
}

#[test]
fn what_a_torn_write_left_is_not_taken_up_when_the_log_reaches_it() {
    run(async {
        let disk = MemoryDisk::new();
        let mut store = open(&disk, &options(8192)).unwrap();
        append(&mut store, vec![entry(1, 0, 6)]).await.unwrap();
        let end = HEADER_BYTES + 48;
        let batch = (1..20).map(|index| entry(1, index, 6)).collect();
        append(&mut store, batch).await.unwrap();
        // The first record of the batch never reached the medium, the others did.
        disk.crash(Keep::Nothing);
        let file = disk.open(&segment_path(1)).unwrap();
        file.write_all_at(&[0; 48], end).unwrap();

        // Two marks of 24 bytes, and the log ends exactly where a record of the torn batch begins.
        let store = open(&disk, &options(8192)).unwrap();
        store.close().await;
        let mut store = open(&disk, &options(8192)).unwrap();
        assert_eq!(all(&store).await, [entry(1, 0, 6)]);
        append(&mut store, vec![entry(2, 1, 6)]).await.unwrap();
        disk.crash(Keep::Nothing);
        let store = open(&disk, &options(8192)).unwrap();
        assert_eq!(all(&store).await, [entry(1, 0, 6), entry(2, 1, 6)]);
    });
}
