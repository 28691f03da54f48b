//! An etcd directory to begin with, from which the first start of an API server is over already.
//!
//! An API server that finds an empty etcd writes some hundreds of objects: roles, priority levels, namespaces. That is
//! most of what etcd has to do in a short test, and much of what the API server has.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use crate::binaries::Binaries;
use crate::control_plane::ControlPlane;
use crate::error::Error;

/// What decides what is in a directory, besides the binaries: this code and the command lines.
const CODE: [&str; 3] = [
    include_str!("seed.rs"),
    include_str!("files.rs"),
    include_str!("control_plane.rs"),
];

/// Where etcd keeps its log and its database.
const DIRECTORIES: [&str; 2] = ["member/wal", "member/snap"];

/// The keys, as prefixes, of what an API server writes of itself: its authority, its leases, and when it compacted etcd.
const OF_ONE_API_SERVER: [&str; 4] = [
    "/registry/configmaps/kube-system/extension-apiserver-authentication",
    "/registry/leases/kube-system/apiserver-",
    "/registry/peerserverleases/",
    "compact_rev_key",
];

/// Fills the directory of an etcd that has not started yet. What it is filled with is made the first time, and kept in
/// the user's cache; without a cache, the directory stays empty.
pub(crate) fn plant(binaries: &Binaries, etcd: &Path) -> Result<(), Error> {
    let Some(cache) = cache() else { return Ok(()) };
    let seed = cache.join(key(binaries)?);
    if !seed.exists() {
        make(binaries, &cache, &seed)?;
    }
    copy(&seed, etcd, fs::copy)
}

/// As the build scripts have it.
fn cache() -> Option<PathBuf> {
    let of_variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let base = match of_variable("XDG_CACHE_HOME") {
        Some(cache) => PathBuf::from(cache),
        None => PathBuf::from(of_variable("HOME")?).join(".cache"),
    };
    Some(base.join("pullpass/etcd"))
}

fn key(binaries: &Binaries) -> Result<String, Error> {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    for code in CODE {
        context.update(code.as_bytes());
    }
    for binary in [binaries.etcd()?, binaries.kube_apiserver()?] {
        let looking = || Error::io(format!("looking at {}", binary.display()));
        let metadata = fs::metadata(&binary).map_err(looking())?;
        let written = metadata.modified().map_err(looking())?;
        let written = written.duration_since(UNIX_EPOCH).unwrap_or_default();
        let line = format!("{} {} {written:?}\n", binary.display(), metadata.len());
        context.update(line.as_bytes());
    }
    let digest = context.finish();
    let hexadecimal = digest.as_ref().iter().take(8).map(|byte| format!("{byte:02x}"));
    Ok(hexadecimal.collect())
}

fn make(binaries: &Binaries, cache: &Path, seed: &Path) -> Result<(), Error> {
    let making = || Error::io(format!("making {}", seed.display()));
    fs::create_dir_all(cache).map_err(making())?;
    // It is released when the file is closed, which a killed process does too.
    let lock = File::create(cache.join("lock")).map_err(making())?;
    lock.lock().map_err(making())?;
    if seed.exists() {
        return Ok(());
    }
    let unfinished = cache.join("making");
    match fs::remove_dir_all(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(making()(error)),
        _ => {}
    }
    let mut control_plane = ControlPlane::builder()
        .binaries(binaries.clone())
        .controller_manager(false)
        .seeded(false)
        .start()?;
    let etcd = control_plane.end_without(&OF_ONE_API_SERVER)?;
    copy(&etcd, &unfinished, copy_what_is_written)?;
    // Nothing but a finished directory ever carries the key's name.
    fs::rename(&unfinished, seed).map_err(making())
}

fn copy(from: &Path, to: &Path, file: fn(PathBuf, PathBuf) -> io::Result<u64>) -> Result<(), Error> {
    let copying = || Error::io(format!("copying {} to {}", from.display(), to.display()));
    for directory in DIRECTORIES {
        // etcd warns of directories that others may read.
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(to.join(directory)).map_err(copying())?;
        for entry in fs::read_dir(from.join(directory)).map_err(copying())? {
            let entry = entry.map_err(copying())?;
            // A log that is not begun has this ending.
            if Path::new(&entry.file_name())
                .extension()
                .is_some_and(|end| end == "tmp")
            {
                continue;
            }
            file(entry.path(), to.join(directory).join(entry.file_name())).map_err(copying())?;
        }
    }
    Ok(())
}

/// Copies a file, a log without the room that etcd made for more of it: 64 MB.
fn copy_what_is_written(from: PathBuf, to: PathBuf) -> io::Result<u64> {
    if from.extension().is_none_or(|end| end != "wal") {
        return fs::copy(from, to);
    }
    let log = fs::read(from)?;
    let records = log.get(..length_of_records(&log)).unwrap_or(&log);
    fs::write(to, records)?;
    Ok(u64::try_from(records.len()).unwrap_or_default())
}

/// Where the records of an etcd log end. A record begins with the length of what follows, in the lower 56 bits of a
/// number, and with how many bytes fill it up to a multiple of 8, in the three bits above; zero ends the log.
fn length_of_records(log: &[u8]) -> usize {
    let mut end = 0_usize;
    while let Some(&head) = log.get(end..).and_then(<[u8]>::first_chunk) {
        let head = u64::from_le_bytes(head);
        if head == 0 {
            break;
        }
        let filler = if head >> 63 == 1 { head >> 56 & 7 } else { 0 };
        let length = (head & (u64::MAX >> 8)) + filler;
        end = end
            .saturating_add(8)
            .saturating_add(usize::try_from(length).unwrap_or(usize::MAX));
    }
    end
}

#[cfg(test)]
mod tests {
    use super::length_of_records;

    #[test]
    fn records_end_where_the_first_length_is_zero() {
        let mut log = Vec::new();
        // A record of 8 bytes, the last of which are zero, and one of 5 that 3 more fill up.
        log.extend_from_slice(&8_u64.to_le_bytes());
        log.extend_from_slice(&[1, 0, 0, 0, 0, 0, 0, 0]);
        log.extend_from_slice(&(0x83 << 56 | 5_u64).to_le_bytes());
        log.extend_from_slice(&[1, 2, 3, 4, 0, 0, 0, 0]);
        assert_eq!(length_of_records(&log), 32);
        log.extend_from_slice(&[0; 64]);
        assert_eq!(length_of_records(&log), 32);
        assert_eq!(length_of_records(&[]), 0);
    }
}
