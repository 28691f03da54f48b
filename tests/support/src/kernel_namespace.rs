//! A kernel namespace, and which processes are in it.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use crate::error::Error;

/// A namespace of the kernel, `net:[4026531840]` say, with the processes that are in it.
///
/// The kernel gives the number of a namespace that is gone to the next one, of another test perhaps. It doesn't while
/// the namespace is open, so this value keeps it open: a process that is found in it is in no other.
#[derive(Debug)]
pub struct KernelNamespace {
    name: PathBuf,
    _open: File,
}

impl KernelNamespace {
    /// The namespace behind a link below `/proc/PID/ns/`.
    pub fn open(link: &Path) -> Result<Self, Error> {
        let opening = || format!("opening {}", link.display());
        let open = File::open(link).map_err(Error::io(opening()))?;
        // Read from what is open: the process may have gone since.
        let name =
            fs::read_link(format!("/proc/self/fd/{}", open.as_raw_fd())).map_err(Error::io(opening()))?;
        Ok(Self { name, _open: open })
    }

    /// The namespace with this name, which a process is in.
    pub fn named(name: &Path) -> Result<Option<Self>, Error> {
        for process in processes()? {
            // A process that is gone is in none.
            let Ok(namespace) = Self::open(&process.join("ns").join(kind(name))) else {
                continue;
            };
            if namespace.name == name {
                return Ok(Some(namespace));
            }
        }
        Ok(None)
    }

    /// Its kind and number, as the links in `/proc` spell it.
    pub fn name(&self) -> &Path {
        &self.name
    }

    /// The directories in `/proc` of the processes that are in it.
    pub fn processes(&self) -> Result<Vec<PathBuf>, Error> {
        let kind = kind(&self.name);
        let is_in = |process: &PathBuf| {
            fs::read_link(process.join("ns").join(&kind)).is_ok_and(|namespace| namespace == self.name)
        };
        Ok(processes()?.into_iter().filter(is_in).collect())
    }
}

/// The directory in `/proc` of every process, and of whatever else is there, which is in no namespace.
fn processes() -> Result<Vec<PathBuf>, Error> {
    let directories = fs::read_dir("/proc").map_err(Error::io("reading /proc"))?;
    Ok(directories.flatten().map(|entry| entry.path()).collect())
}

/// `net` of `net:[4026531840]`.
fn kind(name: &Path) -> String {
    let name = name.to_string_lossy();
    let (kind, _) = name.split_once(':').unwrap_or((&name, ""));
    kind.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_processes_are_those_in_it() -> Result<(), Error> {
        let namespace = KernelNamespace::open(Path::new("/proc/self/ns/net"))?;
        let own = PathBuf::from(format!("/proc/{}", std::process::id()));
        assert!(namespace.processes()?.contains(&own));
        let named = KernelNamespace::named(namespace.name())?;
        assert_eq!(named.as_ref().map(KernelNamespace::name), Some(namespace.name()));
        Ok(())
    }

    #[test]
    fn a_number_that_no_process_has_names_none() -> Result<(), Error> {
        assert!(KernelNamespace::named(Path::new("net:[1]"))?.is_none());
        Ok(())
    }
}
