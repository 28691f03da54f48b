use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::error::Error;
use crate::files::write;

/// A directory like the one that a kubelet mounts a Secret at: its files are links through `..data`, and new content
/// comes by a rename of that link.
#[derive(Debug)]
pub struct MountedSecret {
    directory: PathBuf,
    versions: AtomicU32,
}

impl MountedSecret {
    /// Makes the directory, with these files.
    pub fn new(directory: PathBuf, files: &[(&str, &str)]) -> Result<Self, Error> {
        fs::create_dir(&directory).map_err(Error::io(format!("making {}", directory.display())))?;
        let mounted = Self {
            directory,
            versions: AtomicU32::new(0),
        };
        mounted.replace(files)?;
        for (name, _) in files {
            link(&Path::new("..data").join(name), &mounted.path(name))?;
        }
        Ok(mounted)
    }

    /// Where a file is.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Changes all files together, as a kubelet does when the Secret has changed.
    pub fn replace(&self, files: &[(&str, &str)]) -> Result<(), Error> {
        let version = format!("..{}", self.versions.fetch_add(1, Ordering::Relaxed));
        let directory = self.directory.join(&version);
        fs::create_dir(&directory).map_err(Error::io(format!("making {}", directory.display())))?;
        for (name, content) in files {
            write(&directory.join(name), content)?;
        }
        let data = self.directory.join("..data");
        // There is none the first time.
        let old = fs::read_link(&data).ok();
        let new = self.directory.join("..data_tmp");
        link(Path::new(&version), &new)?;
        fs::rename(&new, &data).map_err(Error::io(format!("renaming {}", new.display())))?;
        if let Some(old) = old {
            let old = self.directory.join(old);
            fs::remove_dir_all(&old).map_err(Error::io(format!("removing {}", old.display())))?;
        }
        Ok(())
    }

    /// Writes one file where it is, as people do: a process that reads meanwhile can see the half of it.
    pub fn overwrite(&self, name: &str, content: &str) -> Result<(), Error> {
        write(&self.path(name), content).map(drop)
    }
}

fn link(target: &Path, path: &Path) -> Result<(), Error> {
    symlink(target, path).map_err(Error::io(format!("linking {}", path.display())))
}
