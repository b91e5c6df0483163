use std::fs;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file system of its own with a given size, on a folder. Needs root. Unmounted when it is dropped.
pub struct SmallDisk {
    folder: PathBuf,
}

impl SmallDisk {
    /// Mounts one of so many MiB on `folder`, which is made.
    ///
    /// # Panics
    /// When that is not allowed here.
    pub fn mount(folder: &Path, mebibytes: u32) -> Self {
        fs::create_dir_all(folder).expect("a writable folder");
        let disk = Self {
            folder: folder.to_owned(),
        };
        mount(&["-t", "tmpfs", "-o", &size(mebibytes), "tmpfs"], folder);
        disk
    }

    /// Takes all the room that is left, into one file.
    ///
    /// # Panics
    /// When the file cannot be written for another reason.
    pub fn fill(&self) {
        let mut file = fs::File::create(self.ballast()).expect("a file can be made");
        // Down to a single page, so that nothing that anybody needs is left.
        for step in [1 << 20, 4096] {
            let zeros = vec![0; step];
            loop {
                match file.write_all(&zeros) {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => panic!("cannot fill the disk: {error}"),
                }
            }
        }
    }

    /// Gives back what [`SmallDisk::fill`] took.
    ///
    /// # Panics
    /// When nothing was taken.
    pub fn make_room(&self) {
        fs::remove_file(self.ballast()).expect("the disk was filled");
    }

    fn ballast(&self) -> PathBuf {
        self.folder.join("ballast")
    }

    /// Gives it another size; what is on it stays.
    ///
    /// # Panics
    /// When that is not possible.
    pub fn resize(&self, mebibytes: u32) {
        let options = format!("remount,{}", size(mebibytes));
        mount(&["-o", &options], &self.folder);
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a process that has just been killed may still be on it. Nothing can be done about a failure here.
        let _ = Command::new("umount").arg("-l").arg(&self.folder).status();
    }
}

fn size(mebibytes: u32) -> String {
    format!("size={mebibytes}m")
}

fn mount(arguments: &[&str], folder: &Path) {
    let output = Command::new("mount").args(arguments).arg(folder).output();
    let output = output.unwrap_or_else(|e| panic!("cannot run mount: {e}"));
    assert!(
        output.status.success(),
        "cannot mount a small disk (this test needs root): {}",
        String::from_utf8_lossy(&output.stderr)
    );
}
