//! What the machine may run out of: disk for one folder (as root only), memory and descriptors for one process.

use std::{
    fs::{self, File},
    io::Write,
    os::unix::fs::{MetadataExt, chown},
    path::{Path, PathBuf},
    process::Command,
};

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::Process;

/// A small file system in the place of a folder, until it is dropped.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts it over a folder, whose owner keeps it; what is in the folder is hidden meanwhile. `None`, with the reason printed,
    /// where mounting is not allowed: then the test that wanted it has nothing to say.
    pub fn over(folder: &Path, megabytes: u32) -> Option<Self> {
        let owner = fs::metadata(folder).expect("the folder exists");
        let options = format!(
            "size={megabytes}m,mode=700,uid={},gid={}",
            owner.uid(),
            owner.gid()
        );
        let said = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "millstream-test"])
            .arg(folder)
            .output();
        match said {
            Ok(said) if said.status.success() => Some(Self(folder.to_owned())),
            Ok(said) => {
                eprintln!(
                    "skipped: no small disk can be mounted here: {}",
                    String::from_utf8_lossy(&said.stderr).trim()
                );
                None
            }
            Err(error) => {
                eprintln!("skipped: no small disk can be mounted here: {error}");
                None
            }
        }
    }

    /// Leaves no byte free.
    pub fn fill(&self) {
        let mut junk = File::create(self.0.join("junk")).expect("a file on the small disk");
        // Down to single bytes, or a short record would still fit.
        for size in [1 << 16, 1 << 8, 1] {
            while junk.write_all(&vec![0; size]).is_ok() {}
        }
        let owner = fs::metadata(&self.0).expect("the small disk");
        chown(self.0.join("junk"), Some(owner.uid()), Some(owner.gid()))
            .expect("the junk is given away");
    }

    /// Ends [`SmallDisk::fill`].
    pub fn free(&self) {
        fs::remove_file(self.0.join("junk")).expect("the junk is there");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a server may still have files open there, which end with it.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// From now on a running process gets no more address space than this: what it asks for beyond is refused, and it aborts.
pub fn limit_memory(process: &Process, bytes: u64) {
    let pid = Pid::from_raw(process.id() as i32).expect("a process has an id");
    let limit = Rlimit {
        current: Some(bytes),
        maximum: Some(bytes),
    };
    prlimit(Some(pid), Resource::As, limit).expect("a limit of a process of ours can be lowered");
}

/// From now on a running process may have so many open files and sockets.
pub fn limit_descriptors(process: &Process, descriptors: u64) {
    let pid = Pid::from_raw(process.id() as i32).expect("a process has an id");
    let limit = Rlimit {
        current: Some(descriptors),
        maximum: Some(descriptors),
    };
    prlimit(Some(pid), Resource::Nofile, limit)
        .expect("a limit of a process of ours can be lowered");
}

/// Address space that a process has now.
pub fn address_space_bytes(process: &Process) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap_or_default();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmSize:"))
        .unwrap_or_default();
    line.split_whitespace()
        .next()
        .and_then(|kb| kb.parse::<u64>().ok())
        .unwrap_or(0)
        * 1024
}
