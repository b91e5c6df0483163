use std::io::ErrorKind;

use futures::StreamExt as _;

use super::*;
use crate::env::RealDisk;

fn entries(term: u64, indexes: std::ops::Range<u64>, len: usize) -> Vec<Entry> {
    indexes.map(|index| entry(term, index, len)).collect()
}

#[test]
fn everything_is_found_again_after_closing() {
    run(async {
        let disk = MemoryDisk::new();
        let mut store = open(&disk, &options(2048)).unwrap();
        append(&mut store, entries(1, 0..40, 100)).await.unwrap();
        store.save_vote(&Vote::new_committed(1, 7)).await.unwrap();
        store.truncate_after(Some(id(1, 29))).await.unwrap();
        append(&mut store, entries(2, 30..50, 100)).await.unwrap();
        store.save_committed(Some(id(2, 45))).await.unwrap();
        store.purge(id(1, 9)).await.unwrap();
        store.close().await;
        disk.crash(Keep::Nothing);

        let mut store = open(&disk, &options(2048)).unwrap();
        let state = store.get_log_state().await.unwrap();
        assert_eq!(state.last_purged_log_id, Some(id(1, 9)));
        assert_eq!(state.last_log_id, Some(id(2, 49)));
        assert_eq!(store.read_committed().await.unwrap(), Some(id(2, 45)));
        let vote = store.reader().read_vote().await.unwrap();
        assert_eq!(vote, Some(Vote::new_committed(1, 7)));
        let expected = [entries(1, 10..30, 100), entries(2, 30..50, 100)].concat();
        assert_eq!(all(&store).await, expected);
    });
}

#[test]
fn entries_are_readable_before_they_are_durable() {
    run(async {
        let disk = MemoryDisk::new();
        disk.set_sync_latency(Duration::from_millis(20));
        let mut store = open(&disk, &options(2048)).unwrap();
        let (result, mut durable) = submit(&mut store, entries(1, 0..3, 10)).await;
        result.unwrap();
        assert_eq!(all(&store).await, entries(1, 0..3, 10));
        assert!(durable.try_recv().is_err(), "not durable yet");
        durable.await.unwrap().unwrap();
    });
}

#[test]
fn what_queues_up_while_the_disk_works_shares_one_sync() {
    run(async {
        let disk = MemoryDisk::new();
        disk.set_sync_latency(Duration::from_millis(5));
        let mut store = open(&disk, &options(1 << 20)).unwrap();
        let mut waiting = Vec::new();
        for index in 0..100 {
            let (result, durable) = submit(&mut store, entries(1, index..index + 1, 10)).await;
            result.unwrap();
            waiting.push(durable);
            if index == 0 {
                // The first is taken alone. The writer gets no other chance before the rest is there.
                tokio::task::yield_now().await;
            }
        }
        for durable in waiting {
            durable.await.unwrap().unwrap();
        }
        let metrics = store.metrics();
        assert_eq!(metrics.appended_records, 100);
        assert_eq!(metrics.syncs, 2);
    });
}

#[test]
fn a_commit_alone_waits_for_company_and_is_written_when_closing() {
    run(async {
        let disk = MemoryDisk::new();
        let mut store = open(&disk, &options(2048)).unwrap();
        append(&mut store, entries(1, 0..1, 10)).await.unwrap();
        let before = disk.operations();
        store.save_committed(Some(id(1, 0))).await.unwrap();
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert_eq!(disk.operations(), before);
        store.close().await;
        let mut store = open(&disk, &options(2048)).unwrap();
        assert_eq!(store.read_committed().await.unwrap(), Some(id(1, 0)));
    });
}

#[test]
fn old_entries_are_read_from_disk_in_bounded_pieces() {
    run(async {
        let disk = MemoryDisk::new();
        let small_cache = Options {
            cache_bytes: 10_000,
            ..options(1 << 20)
        };
        let mut store = open(&disk, &small_cache).unwrap();
        let long = 300_000;
        for index in 0..10 {
            append(&mut store, entries(1, index..index + 1, long))
                .await
                .unwrap();
        }
        let mut reader = store.reader();
        let piece = reader.limited_get_log_entries(2, 10).await.unwrap();
        assert_eq!(piece, entries(1, 2..6, long));
        assert_eq!(all(&store).await, entries(1, 0..10, long));
        let stream = reader.entries_stream(1..9).await;
        let streamed: Vec<Entry> = stream.map(Result::unwrap).collect().await;
        assert_eq!(streamed, entries(1, 1..9, long));
    });
}

#[test]
fn an_entry_longer_than_a_segment_gets_a_longer_one() {
    run(async {
        let disk = MemoryDisk::new();
        let mut store = open(&disk, &options(2048)).unwrap();
        for (index, len) in [100, 10_000, 100].into_iter().enumerate() {
            append(&mut store, vec![entry(1, index as u64, len)])
                .await
                .unwrap();
        }
        assert_eq!(store.metrics().segments, 3);
        store.close().await;
        let store = open(&disk, &options(2048)).unwrap();
        assert_eq!(all(&store).await.len(), 3);
    });
}

#[test]
fn an_entry_that_does_not_follow_is_refused_and_harms_nothing() {
    run(async {
        let mut store = open(&MemoryDisk::new(), &options(2048)).unwrap();
        append(&mut store, entries(1, 0..2, 10)).await.unwrap();
        let error = append(&mut store, entries(1, 3..4, 10)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        append(&mut store, entries(1, 2..4, 10)).await.unwrap();
        assert_eq!(all(&store).await, entries(1, 0..4, 10));
    });
}

#[test]
fn a_failed_sync_is_final() {
    run(async {
        let disk = MemoryDisk::new();
        let mut store = open(&disk, &options(2048)).unwrap();
        let mut failed = store.failed();
        append(&mut store, entries(1, 0..1, 10)).await.unwrap();
        disk.fail_next_sync();
        let error = append(&mut store, entries(1, 1..2, 10)).await.unwrap_err();
        let message = "cannot sync log segment /data/raft/wal/0000000001.wal: Input/output error";
        assert!(error.to_string().starts_with(message), "{error}");
        failed.wait_for(Option::is_some).await.unwrap();
        let before = disk.operations();
        assert!(append(&mut store, entries(1, 2..3, 10)).await.is_err());
        assert!(store.save_vote(&Vote::new(2, 2)).await.is_err());
        assert!(store.save_committed(None).await.is_err());
        assert!(store.purge(id(1, 0)).await.is_err());
        assert!(store.get_log_state().await.is_err());
        assert!(store.flush().await.is_err());
        assert_eq!(disk.operations(), before, "nothing was tried again");
        assert!(store.metrics().failure.is_some());
        store.close().await;
    });
}

#[test]
fn a_full_disk_holds_appends_back_until_there_is_room() {
    run(async {
        let disk = MemoryDisk::new();
        let mut store = open(&disk, &options(2048)).unwrap();
        let mut room = store.room();
        disk.set_capacity(Some(7000));
        let mut acknowledged = 0;
        let waiting = loop {
            let (taken, mut durable) = submit(&mut store, vec![entry(1, acknowledged, 300)]).await;
            taken.unwrap();
            tokio::select! {
                biased;
                done = &mut durable => done.unwrap().unwrap(),
                _ = room.wait_for(Room::is_blocked) => break durable,
            }
            acknowledged += 1;
        };
        let why = room.borrow().lacking().map(str::to_owned).unwrap();
        let message = "cannot create log segment /data/raft/wal/0000000004.wal: ";
        assert!(why.starts_with(message), "{why}");
        // A vote waits behind it: what is durable must never say more than what came before it.
        let mut voter = store.clone();
        let vote = tokio::spawn(async move { voter.save_vote(&Vote::new(9, 2)).await });
        disk.set_capacity(None);
        waiting.await.unwrap().unwrap();
        vote.await.unwrap().unwrap();
        assert_eq!(*room.borrow_and_update(), Room::default());
        disk.crash(Keep::Nothing);
        let store = open(&disk, &options(2048)).unwrap();
        assert_eq!(all(&store).await, entries(1, 0..acknowledged + 1, 300));
        let vote = store.reader().read_vote().await.unwrap();
        assert_eq!(vote, Some(Vote::new(9, 2)));
    });
}

#[test]
fn closed_on_a_full_disk_it_fails_who_waits_and_keeps_what_was_acknowledged() {
    run(async {
        let disk = MemoryDisk::new();
        let mut store = open(&disk, &options(4096)).unwrap();
        append(&mut store, entries(1, 0..3, 300)).await.unwrap();
        disk.set_capacity(Some(0));
        let (taken, durable) = submit(&mut store, entries(1, 3..40, 300)).await;
        taken.unwrap();
        store.room().wait_for(Room::is_blocked).await.unwrap();
        store.close().await;
        let error = durable.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StorageFull);
        disk.set_capacity(None);
        let store = open(&disk, &options(4096)).unwrap();
        let found = all(&store).await;
        // Some of the rest may be there: it is of unknown outcome.
        assert_eq!(found, entries(1, 0..found.len() as u64, 300));
        assert!(found.len() >= 3);
    });
}

#[test]
fn a_sync_that_fails_for_want_of_room_is_final_too() {
    run(async {
        let disk = MemoryDisk::new();
        let mut store = open(&disk, &options(2048)).unwrap();
        disk.fail_next_sync_with(ErrorKind::StorageFull);
        let error = append(&mut store, entries(1, 0..1, 10)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StorageFull);
        assert!(store.metrics().failure.is_some());
        assert_eq!(*store.room().borrow(), Room::default());
    });
}

#[test]
fn purged_segments_are_used_again_and_do_not_speak_of_the_past() {
    run(async {
        let disk = MemoryDisk::new();
        let mut store = open(&disk, &options(2048)).unwrap();
        // Rounds of equal records: a stale one would fit exactly behind the last new one.
        for round in 0..20_u64 {
            append(&mut store, entries(1, round * 10..round * 10 + 10, 200))
                .await
                .unwrap();
            store.purge(id(1, round * 10 + 7)).await.unwrap();
            store.flush().await.unwrap();
            assert!(store.metrics().segments <= 3);
            assert!(disk.bytes() <= 4 * 2048 + 2048);
            disk.crash(Keep::Everything);
            store = open(&disk, &options(2048)).unwrap();
            assert_eq!(
                all(&store).await,
                entries(1, round * 10 + 8..round * 10 + 10, 200)
            );
        }
    });
}

#[test]
fn a_reset_log_goes_on_after_the_snapshot_and_keeps_its_vote() {
    run(async {
        let disk = MemoryDisk::new();
        let mut store = open(&disk, &options(2048)).unwrap();
        append(&mut store, entries(3, 0..30, 100)).await.unwrap();
        store.save_vote(&Vote::new(5, 2)).await.unwrap();
        store.reset(id(3, 20)).await.unwrap();
        assert!(store.reset(id(3, 19)).await.is_err());
        disk.crash(Keep::Nothing);
        let mut store = open(&disk, &options(2048)).unwrap();
        let state = store.get_log_state().await.unwrap();
        assert_eq!(state.last_log_id, Some(id(3, 20)));
        assert_eq!(state.last_purged_log_id, Some(id(3, 20)));
        assert_eq!(store.read_committed().await.unwrap(), Some(id(3, 20)));
        let vote = store.reader().read_vote().await.unwrap();
        assert_eq!(vote, Some(Vote::new(5, 2)));
        append(&mut store, entries(5, 21..22, 100)).await.unwrap();
        assert_eq!(all(&store).await, entries(5, 21..22, 100));
    });
}

#[test]
fn a_closed_log_refuses_and_clones_share_one() {
    run(async {
        let mut store = open(&MemoryDisk::new(), &options(2048)).unwrap();
        let clone = store.clone();
        append(&mut store, entries(1, 0..1, 10)).await.unwrap();
        assert_eq!(all(&clone).await.len(), 1);
        clone.close().await;
        let error = append(&mut store, entries(1, 1..2, 10)).await.unwrap_err();
        assert_eq!(error.to_string(), "the log is closed");
        assert!(store.failed().borrow().is_none(), "closing is no failure");
    });
}

#[test]
fn a_real_disk_keeps_what_a_dropped_store_was_given() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("raft/wal");
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let small = || options(64 * 1024);
    run(async {
        let mut store = LogStore::open(disk.clone(), &path, small()).unwrap();
        for index in 0..2000 {
            let (result, _) = submit(&mut store, vec![entry(1, index, 200)]).await;
            result.unwrap();
            if index % 500 == 499 {
                store.purge(id(1, index - 100)).await.unwrap();
            }
        }
    });
    run(async {
        let mut store = LogStore::open(disk.clone(), &path, small()).unwrap();
        let state = store.get_log_state().await.unwrap();
        assert_eq!(state.last_purged_log_id, Some(id(1, 1899)));
        assert_eq!(all(&store).await, entries(1, 1900..2000, 200));
        assert!(store.metrics().segments < 5);
    });
}
