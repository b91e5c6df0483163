use super::*;
use crate::env::SeededRandom;

fn disk_with(path: &str, content: &[u8]) -> MemoryDisk {
    let disk = MemoryDisk::new();
    let path = Path::new(path);
    disk.create_dir_all(path.parent().unwrap()).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    let file = disk.create(path).unwrap();
    file.write_all_at(content, 0).unwrap();
    file.sync_data().unwrap();
    disk.sync_dir(path.parent().unwrap()).unwrap();
    disk
}

#[test]
fn reads_what_was_written_across_pages() {
    let content: Vec<u8> = (0..10_000_u32).map(|n| n as u8).collect();
    let disk = disk_with("/d/f", &content);
    assert_eq!(disk.read(Path::new("/d/f")).unwrap(), content);
    let file = disk.open(Path::new("d/f")).unwrap();
    let mut buffer = [0; 100];
    assert_eq!(file.read_at(&mut buffer, 9_950).unwrap(), 50);
    assert_eq!(buffer[..50], content[9_950..]);
    file.set_len(5_000).unwrap();
    file.set_len(6_000).unwrap();
    let mut expected = content[..5_000].to_vec();
    expected.resize(6_000, 0);
    assert_eq!(disk.read(Path::new("/d/f")).unwrap(), expected);
}

#[test]
fn a_crash_forgets_bytes_and_names_that_were_not_synced() {
    let disk = disk_with("/d/f", b"old");
    let old = disk.open(Path::new("/d/f")).unwrap();
    old.write_all_at(b"new, longer", 0).unwrap();
    let other = disk.create(Path::new("/d/g")).unwrap();
    other.sync_data().unwrap();
    disk.rename(Path::new("/d/f"), Path::new("/d/h")).unwrap();
    disk.crash(Keep::Nothing);
    assert_eq!(disk.read_dir(Path::new("/d")).unwrap(), ["f"]);
    assert_eq!(disk.read(Path::new("/d/f")).unwrap(), b"old");
    assert!(
        old.write_all_at(b"x", 0).is_err(),
        "opened before the crash"
    );
    assert!(old.read_at(&mut [0], 0).is_err());
}

#[test]
fn a_killed_process_loses_nothing_that_it_wrote() {
    let disk = disk_with("/d/f", b"old");
    disk.open(Path::new("/d/f"))
        .unwrap()
        .write_all_at(b"new", 0)
        .unwrap();
    disk.rename(Path::new("/d/f"), Path::new("/d/h")).unwrap();
    disk.crash(Keep::Everything);
    assert_eq!(disk.read(Path::new("/d/h")).unwrap(), b"new");
    // It is still in memory only.
    disk.crash(Keep::Nothing);
    assert_eq!(disk.read(Path::new("/d/f")).unwrap(), b"old");
}

#[test]
fn a_torn_crash_keeps_whole_sectors_and_differs_by_seed() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..50 {
        let disk = disk_with("/d/f", &[1; 4096]);
        disk.open(Path::new("/d/f"))
            .unwrap()
            .write_all_at(&[2; 2048], 256)
            .unwrap();
        disk.crash(Keep::Torn(&SeededRandom::new(seed)));
        let content = disk.read(Path::new("/d/f")).unwrap();
        let written = |at: usize| (256..2304).contains(&at);
        for (sector, bytes) in content.chunks(SECTOR_BYTES).enumerate() {
            let ones = |at: usize| bytes[at] == 1;
            let inside: Vec<usize> = (0..SECTOR_BYTES)
                .filter(|at| written(sector * SECTOR_BYTES + at))
                .collect();
            assert!((0..SECTOR_BYTES).all(|at| inside.contains(&at) || ones(at)));
            assert!(inside.iter().all(|at| ones(*at)) || inside.iter().all(|at| !ones(*at)));
        }
        seen.insert(content);
    }
    assert!(seen.len() > 5, "{} outcomes", seen.len());
}

const SECTOR_BYTES: usize = 512;

#[test]
fn a_failed_sync_writes_nothing_and_a_later_one_does_not_repair_it() {
    let disk = disk_with("/d/f", b"old");
    let file = disk.open(Path::new("/d/f")).unwrap();
    file.write_all_at(b"new", 0).unwrap();
    disk.fail_next_sync();
    assert_eq!(file.sync_data().unwrap_err().raw_os_error(), Some(5));
    file.sync_data().unwrap();
    disk.crash(Keep::Nothing);
    assert_eq!(disk.read(Path::new("/d/f")).unwrap(), b"old");
}

#[test]
fn a_full_disk_refuses_growth_and_allows_overwriting() {
    let disk = disk_with("/d/f", &[1; 100]);
    disk.set_capacity(Some(120));
    let file = disk.open(Path::new("/d/f")).unwrap();
    file.write_all_at(&[2; 20], 100).unwrap();
    file.write_all_at(&[3; 120], 0).unwrap();
    let error = file.write_all_at(&[4; 2], 119).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    disk.set_capacity(None);
    file.write_all_at(&[4; 2], 119).unwrap();
}

#[test]
fn power_goes_after_the_given_number_of_operations() {
    let disk = disk_with("/d/f", b"old");
    let file = disk.open(Path::new("/d/f")).unwrap();
    disk.cut_power_after(2);
    file.write_all_at(b"new", 0).unwrap();
    file.sync_data().unwrap();
    assert!(file.write_all_at(b"xxx", 0).is_err());
    assert!(file.sync_data().is_err());
    assert!(disk.create(Path::new("/d/g")).is_err());
    disk.crash(Keep::Nothing);
    assert_eq!(disk.read(Path::new("/d/f")).unwrap(), b"new");
    disk.create(Path::new("/d/g")).unwrap();
}

#[test]
fn zeros_take_no_memory_and_corruption_flips_one_byte() {
    let disk = disk_with("/d/f", b"");
    let file = disk.open(Path::new("/d/f")).unwrap();
    file.write_all_at(&vec![0; 1 << 20], 0).unwrap();
    file.sync_data().unwrap();
    let Node::File(content) = disk.lock().node(Path::new("/d/f")).unwrap() else {
        panic!("a file");
    };
    assert!(lock(&content).is_all_absent());
    disk.corrupt(Path::new("/d/f"), 70_000).unwrap();
    let content = disk.read(Path::new("/d/f")).unwrap();
    assert_eq!(content.iter().position(|byte| *byte != 0), Some(70_000));
    assert!(disk.corrupt(Path::new("/d/f"), 1 << 20).is_err());
}
