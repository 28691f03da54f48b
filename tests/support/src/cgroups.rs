//! The cgroups of a node: they hold its Pods, limit what these use, and go with the node.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::error::Error;
use crate::process::own_group;

/// Where the hierarchies are mounted.
const CGROUPS: &str = "/sys/fs/cgroup";
/// What all Pods together may use.
const MEMORY_BYTES: &str = "4294967296";
const PROCESSES: &str = "2000";
/// What a kubelet wants of cgroup v2.
const KUBELET_CONTROLLERS: [&str; 5] = ["cpu", "cpuset", "hugetlb", "memory", "pids"];

/// Waits for the pipe to close, then removes the cgroups, which are busy until the last process in them is gone.
const GUARD: &str = r#"
read -r _line
tries=0
while [ "$tries" -lt 300 ]; do
  left=$(find /sys/fs/cgroup -maxdepth 2 -type d -name "$1")
  [ -n "$left" ] || exit 0
  find $left -depth -type d -exec rmdir {} + 2>/dev/null
  tries=$((tries + 1))
  sleep 0.1
done
"#;

/// A cgroup in every hierarchy, below which the kubelet makes those of its Pods.
#[derive(Debug)]
pub(crate) struct Cgroups {
    name: String,
    guard: Child,
}

impl Cgroups {
    /// One whose name is that of the node's directory.
    pub(crate) fn new(state: &Path) -> Result<Self, Error> {
        let unique = state.file_name().unwrap_or_default().to_string_lossy();
        let name = format!("pullpass-node-{}", unique.trim_start_matches("pullpass-"));
        let mut command = Command::new("sh");
        command
            .args(["-c", GUARD, "cgroup-guard", &name])
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let guard = own_group(&mut command)
            .spawn()
            .map_err(Error::io("starting the guard of the cgroups"))?;
        let cgroups = Self { name, guard };
        let root = Path::new(CGROUPS);
        if root.join("cgroup.controllers").exists() {
            make_v2(root, &cgroups.name)?;
        } else {
            make_v1(root, &cgroups.name)?;
        }
        Ok(cgroups)
    }

    /// Its name, in every hierarchy.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

/// A kubelet takes its cgroup for one that is not there while it lacks one of its controllers that the root has.
fn make_v2(root: &Path, name: &str) -> Result<(), Error> {
    let controllers = |file: &str| -> Result<BTreeSet<String>, Error> {
        let names = read(&root.join(file))?;
        Ok(names.split_whitespace().map(str::to_owned).collect())
    };
    let handed_on = controllers("cgroup.subtree_control")?;
    let missing: Vec<_> = controllers("cgroup.controllers")?
        .into_iter()
        .filter(|name| KUBELET_CONTROLLERS.contains(&name.as_str()) && !handed_on.contains(name))
        .map(|name| format!("+{name}"))
        .collect();
    if !missing.is_empty() {
        set(&root.join("cgroup.subtree_control"), &missing.join(" "))?;
    }
    let group = make(root, name)?;
    set(&group.join("memory.max"), MEMORY_BYTES)?;
    set(&group.join("pids.max"), PROCESSES)
}

fn make_v1(root: &Path, name: &str) -> Result<(), Error> {
    let reading = || format!("reading {}", root.display());
    for entry in fs::read_dir(root).map_err(Error::io(reading()))? {
        let hierarchy = entry.map_err(Error::io(reading()))?.path();
        // Beside those of version 1 there may be one of version 2, which has none of the controllers then.
        if hierarchy.is_dir() && !hierarchy.join("cgroup.controllers").exists() {
            make(&hierarchy, name)?;
        }
    }
    // A new cpuset has neither processors nor memory.
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let value = read(&root.join("cpuset").join(file))?;
        set(&root.join("cpuset").join(name).join(file), value.trim())?;
    }
    let limit =
        |hierarchy: &str, file: &str, value: &str| set(&root.join(hierarchy).join(name).join(file), value);
    limit("memory", "memory.limit_in_bytes", MEMORY_BYTES)?;
    limit("pids", "pids.max", PROCESSES)
}

fn make(hierarchy: &Path, name: &str) -> Result<PathBuf, Error> {
    let group = hierarchy.join(name);
    fs::create_dir(&group).map_err(Error::io(format!("making the cgroup {}", group.display())))?;
    Ok(group)
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        // Nothing can be done about a guard that can't be waited for, and it ends by itself.
        let _ = self.guard.wait();
    }
}

fn read(file: &Path) -> Result<String, Error> {
    fs::read_to_string(file).map_err(Error::io(format!("reading {}", file.display())))
}

fn set(file: &Path, value: &str) -> Result<(), Error> {
    fs::write(file, value).map_err(Error::io(format!("writing {value} to {}", file.display())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::write;
    use crate::scratch::Scratch;

    /// On a tree of files: no machine of ours has cgroup v2 alone.
    #[test]
    fn a_cgroup_of_v2_has_the_controllers_and_limits() -> Result<(), Error> {
        for (handed_on, expected) in [
            ("", "+cpu +cpuset +hugetlb +memory +pids"),
            ("memory pids\n", "+cpu +cpuset +hugetlb"),
            (
                "pids memory hugetlb cpuset cpu\n",
                "pids memory hugetlb cpuset cpu\n",
            ),
        ] {
            let scratch = Scratch::new()?;
            let root = scratch.path();
            write(
                &root.join("cgroup.controllers"),
                "cpuset cpu io memory hugetlb pids\n",
            )?;
            write(&root.join("cgroup.subtree_control"), handed_on)?;
            make_v2(root, "pullpass-node-a")?;
            assert_eq!(read(&root.join("cgroup.subtree_control"))?, expected);
            let group = root.join("pullpass-node-a");
            assert_eq!(read(&group.join("memory.max"))?, MEMORY_BYTES);
            assert_eq!(read(&group.join("pids.max"))?, PROCESSES);
        }
        Ok(())
    }
}
