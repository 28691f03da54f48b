//! What `packaging/release` refuses before it builds anything, in a repository of its own with what is in the work tree.

use std::error::Error;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use pullpass_test_support::Scratch;

use crate::render::{ROOT, Test, succeeded};

const VERSION: &str = env!("CARGO_PKG_VERSION");
/// What makes a repository of the files that this one knows, as they are now.
const COPY: &str = "git -C \"$1\" ls-files -z --cached --others --exclude-standard \
                    | (cd \"$1\" && tar --create --null --files-from - --ignore-failed-read) \
                    | tar --extract --directory \"$2\" && git -C \"$2\" init --quiet";

/// A repository that a release could be made of.
struct Repository {
    scratch: Scratch,
}

impl Repository {
    fn new() -> Result<Self, Box<dyn Error>> {
        let repository = Self {
            scratch: Scratch::new()?,
        };
        let mut copy = Command::new("bash");
        copy.args(["-euo", "pipefail", "-c", COPY, "copy", ROOT])
            .arg(repository.path(""));
        succeeded("the copy", &copy.output()?)?;
        repository.change_notes(|notes| match notes.split_once("\n## [Unreleased]") {
            None => notes.to_owned(),
            Some((before, rest)) => {
                let after = rest.find("\n## ").and_then(|from| rest.get(from..));
                format!("{before}{}", after.unwrap_or_default())
            }
        })?;
        repository.set_date("2026-01-31")?;
        repository.commit()?;
        Ok(repository)
    }

    /// When the version was released, as CHANGELOG.md has it.
    fn set_date(&self, date: &str) -> Test {
        let heading = format!("## [{VERSION}] - ");
        self.change_notes(|notes| {
            let lines = notes.lines().map(|line| match line.strip_prefix(&heading) {
                Some(_) => format!("{heading}{date}\n"),
                None => format!("{line}\n"),
            });
            lines.collect()
        })
    }

    fn path(&self, file: &str) -> PathBuf {
        self.scratch.path().join(file)
    }

    fn change_notes(&self, change: impl FnOnce(&str) -> String) -> Test {
        let path = self.path("CHANGELOG.md");
        let notes = fs::read_to_string(&path)?;
        fs::write(path, change(&notes))?;
        Ok(())
    }

    fn git(&self, arguments: &[&str]) -> Result<String, Box<dyn Error>> {
        let mut git = Command::new("git");
        git.arg("-C").arg(self.scratch.path());
        git.args(["-c", "user.name=test", "-c", "user.email=test@example.com"])
            .args(["-c", "commit.gpgSign=false", "-c", "core.hooksPath=/dev/null"]);
        succeeded("git", &git.args(arguments).output()?)
    }

    fn commit(&self) -> Test {
        self.git(&["add", "--all"])?;
        self.git(&["commit", "--quiet", "--message=all"])?;
        Ok(())
    }

    /// What a refused release says.
    fn refusal(&self, version: &str, binaries: Option<&Path>) -> Result<String, Box<dyn Error>> {
        let mut release = Command::new(self.path("packaging/release"));
        release.arg(version).env("CARGO_TARGET_DIR", self.path("target"));
        for variable in ["IMAGE", "SOURCE", "DOWNLOADS", "BINARIES", "PARTIAL"] {
            release.env_remove(variable);
        }
        if let Some(binaries) = binaries {
            release.env("BINARIES", binaries);
        }
        let output = release.output()?;
        let said = String::from_utf8(output.stderr)?;
        assert!(!output.status.success(), "{said}");
        Ok(said)
    }

    fn assert_refused(&self, version: &str, binaries: Option<&Path>, why: &str) -> Test {
        let said = self.refusal(version, binaries)?;
        assert!(said.contains(why), "{why}: {said}");
        Ok(())
    }
}

#[test]
fn a_release_of_something_else_is_refused() -> Test {
    let repository = Repository::new()?;
    let of_other = format!("Cargo.toml says {VERSION}, and not 99.0.0");
    repository.assert_refused("99.0.0", None, &of_other)?;

    fs::create_dir(repository.path("dist"))?;
    repository.assert_refused(VERSION, None, "dist is there already")?;
    fs::remove_dir(repository.path("dist"))?;

    fs::write(repository.path("src/new.rs"), "")?;
    repository.assert_refused(VERSION, None, "the work tree differs from its commit")?;
    fs::remove_file(repository.path("src/new.rs"))?;

    repository.change_notes(|notes| notes.replacen("\n## [", "\n## [Unreleased]\n\n* More.\n\n## [", 1))?;
    repository.commit()?;
    repository.assert_refused(VERSION, None, "CHANGELOG.md has entries under [Unreleased]")?;

    repository.set_date("not released yet")?;
    repository.change_notes(|notes| notes.replace("\n## [Unreleased]\n\n* More.\n", ""))?;
    repository.commit()?;
    let undated = format!("CHANGELOG.md has no date for {VERSION}");
    repository.assert_refused(VERSION, None, &undated)?;

    fs::remove_file(repository.path("SECURITY.md"))?;
    repository.commit()?;
    repository.assert_refused(VERSION, None, "SECURITY.md is missing")
}

#[test]
fn binaries_of_another_commit_are_refused() -> Test {
    let repository = Repository::new()?;
    let (binaries, other) = (Scratch::new()?, "0".repeat(40));
    fs::create_dir(binaries.path().join("darwin-arm64"))?;
    let given = Some(binaries.path());
    repository.assert_refused(
        VERSION,
        given,
        "darwin-arm64 in BINARIES does not say of which commit",
    )?;
    let commit = binaries.path().join("darwin-arm64.commit");
    fs::write(&commit, format!("{other}\n"))?;
    repository.assert_refused(VERSION, given, &format!("is of commit {other}, and this is "))?;
    let own = repository.git(&["rev-parse", "HEAD"])?;
    fs::write(&commit, format!("{}-modified\n", own.trim_end()))?;
    repository.assert_refused(VERSION, given, "-modified, and this is ")?;
    let nowhere = binaries.path().join("nowhere");
    repository.assert_refused(
        VERSION,
        Some(&nowhere),
        "BINARIES names a directory that is not there",
    )
}

#[test]
fn binaries_that_a_release_would_delete_are_refused() -> Test {
    let (repository, elsewhere) = (Repository::new()?, Scratch::new()?);
    let built = repository.path("target/release-binaries");
    let binary = built.join("linux-amd64/pullpass");
    fs::create_dir_all(built.join("linux-amd64"))?;
    fs::write(&binary, "kept")?;
    let link = elsewhere.path().join("link");
    symlink(&built, &link)?;
    for given in [built.as_path(), &link, &built.join("linux-amd64")] {
        let why = "where this writes its own";
        repository.assert_refused(VERSION, Some(given), why)?;
        assert_eq!(fs::read_to_string(&binary)?, "kept");
    }
    Ok(())
}
