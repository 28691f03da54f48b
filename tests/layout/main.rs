//! The layout of the repository: arrows between folders go down, and what documents name is there.

mod prose;
mod runs;

use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::Command;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Runs `tests/layers` on a tree of sources, and gives what it says.
fn layers(files: &[(&str, &str)]) -> Result<(bool, String)> {
    let tree = tempfile::tempdir()?;
    for (path, text) in files {
        let path = tree.path().join(path);
        fs::create_dir_all(path.parent().ok_or("a path without a folder")?)?;
        fs::write(path, text)?;
    }
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/layers");
    let output = Command::new(program).arg(tree.path()).output()?;
    Ok((output.status.success(), String::from_utf8(output.stderr)?))
}

#[test]
fn upward_imports_are_named_by_file_line_and_arrow() -> Result<()> {
    for upward in [
        "use crate::sync::demand::Demand;",
        "use crate::{base, sync};",
        "fn f() { crate::sync::run() }",
        "pub use crate::sync;",
        "use crate::{sync::{self, demand},\n    base};",
        "use pullpass::sync::demand;",
        "use ::pullpass::sync::demand;",
        "const A: &str = \"https://x\"; fn f() { crate::sync::run() }",
    ] {
        let (passed, said) = layers(&[("policy/scope.rs", &format!("//! A scope.\n{upward}\n"))])?;
        assert!(!passed, "{upward}");
        assert!(
            said.contains("policy/scope.rs:2: policy -> sync is not allowed"),
            "{said}"
        );
    }
    Ok(())
}

#[test]
fn code_behind_tests_and_aliases_of_the_crate_are_read() -> Result<()> {
    let behind = "#[cfg(test)]\nmod tests {\n    const A: &str = \"}\";\n}\nuse crate::sync::demand;\n";
    let (passed, said) = layers(&[("policy/scope.rs", behind)])?;
    assert!(
        !passed && said.contains("policy/scope.rs:5: policy -> sync"),
        "{said}"
    );
    let (passed, said) = layers(&[("policy/scope.rs", "use crate as pass;\nuse pass::sync;\n")])?;
    assert!(
        !passed && said.contains("policy/scope.rs:1: the crate has one name"),
        "{said}"
    );
    let (passed, said) = layers(&[("main.rs", "fn main() { pullpass::sync::run() }\n")])?;
    assert!(!passed && said.contains("main -> sync is not allowed"), "{said}");
    Ok(())
}

#[test]
fn code_that_the_layers_could_not_see_is_named() -> Result<()> {
    for (file, text, says) in [
        ("policy/mod.rs", "use crate::*;", "name what is used"),
        ("policy/mod.rs", "use crate::{\n    *};", "name what is used"),
        ("policy/mod.rs", "pub use self::scope::*;", "name what is used"),
        (
            "lib.rs",
            "extern crate self as pass;",
            "one name each: extern crate self",
        ),
        (
            "policy/mod.rs",
            "#[path = \"tests.rs\"]\nmod more;",
            "one name each: #[path",
        ),
        (
            "policy/mod.rs",
            "pub mod tests;",
            "a module named tests is behind #[cfg(test)]",
        ),
        (
            "lib.rs",
            "mod tests;",
            "a module named tests is behind #[cfg(test)]",
        ),
    ] {
        let (passed, said) = layers(&[(file, &format!("//! A scope.\n{text}\n"))])?;
        assert!(!passed && said.contains(says), "{text}: {said}");
    }
    let behind = "#[cfg(test)]\n#[allow(clippy::float_cmp)]\npub(crate) mod tests;\n";
    let (passed, said) = layers(&[("policy/mod.rs", behind)])?;
    assert!(passed, "{said}");
    Ok(())
}

#[test]
fn a_name_leads_to_the_file_that_it_is_from() -> Result<()> {
    for (folder, by_name) in [
        (
            "mod a;\nmod b;\npub use self::a::{A, C as D};\n",
            "use super::A;\n",
        ),
        (
            "mod a;\nmod b;\npub use self::a::{A, C as D};\n",
            "use crate::policy::D;\n",
        ),
        ("mod a;\nmod b;\nuse a::A;\n", "fn f(a: super::A) {}\n"),
    ] {
        let (passed, said) = layers(&[
            ("policy/mod.rs", folder),
            ("policy/a.rs", "use super::b::B;\n"),
            ("policy/b.rs", by_name),
        ])?;
        let way = "policy/a -> policy/b -> policy/a";
        assert!(!passed && said.contains(way), "{by_name}: {said}");
    }
    // What a folder may use does not extend to those that use it.
    let (passed, said) = layers(&[
        ("server/mod.rs", "use crate::admission::Call;\n"),
        ("admission/mod.rs", "pub use crate::kubernetes::call::Call;\n"),
        ("kubernetes/call.rs", ""),
    ])?;
    assert!(
        !passed && said.contains("server/mod.rs:1: server -> kubernetes is not allowed"),
        "{said}"
    );
    Ok(())
}

#[test]
fn files_that_import_each_other_are_named() -> Result<()> {
    let (passed, said) = layers(&[
        ("policy/mod.rs", "mod a;\nmod b;\nmod c;\nuse self::a::A;\n"),
        ("policy/a.rs", "use super::b::{self, B};\n"),
        ("policy/b.rs", "fn f() { crate::policy::c::g() }\n"),
        ("policy/c.rs", "use crate::policy::{a::{self, A}, Policy};\n"),
    ])?;
    assert!(!passed, "{said}");
    let way = "policy/a -> policy/b -> policy/c -> policy/a";
    assert!(said.contains(way), "{said}");
    // A folder's own file and those below it are one.
    let (passed, said) = layers(&[
        ("policy/mod.rs", "mod a;\nuse self::a::A;\n"),
        ("policy/a.rs", "use super::Policy;\nuse crate::policy::Scope;\n"),
    ])?;
    assert!(passed, "{said}");
    Ok(())
}

#[test]
fn paths_that_leave_a_folder_by_super_are_named() -> Result<()> {
    for (file, path) in [
        ("policy/mod.rs", "super::sync"),
        ("policy/scope.rs", "super::super::sync"),
        ("policy/decision/mod.rs", "super::super::sync"),
    ] {
        let (passed, said) = layers(&[(file, &format!("use {path}::demand;\n"))])?;
        assert!(!passed, "{file}: {path}");
        assert!(said.contains(&format!("{file}:1: super leaves policy")), "{said}");
    }
    let inside = "use super::rules;\nuse super::super::scope;\n";
    let (passed, said) = layers(&[("policy/decision/messages.rs", inside)])?;
    assert!(passed, "{said}");
    Ok(())
}

#[test]
fn downward_imports_and_those_of_unit_tests_pass() -> Result<()> {
    let (passed, said) = layers(&[
        ("sync/mod.rs", "use crate::policy::scope::Scope;\n"),
        (
            "policy/mod.rs",
            "// use crate::sync;\nuse crate::policy::scope;\n",
        ),
        (
            "policy/rules.rs",
            "#[cfg(test)]\nmod tests {\n    use crate::admission::patch;\n}\n",
        ),
        ("policy/decision/tests.rs", "use crate::admission::patch;\n"),
    ])?;
    assert!(passed, "{said}");
    Ok(())
}

#[test]
fn folders_that_the_table_lacks_are_named() -> Result<()> {
    let (passed, said) = layers(&[("attic/mod.rs", "//! Nobody knows.\n")])?;
    assert!(!passed && said.contains("attic is not in layers.txt"), "{said}");
    Ok(())
}

#[test]
fn files_that_contributing_and_architecture_name_are_there() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for page in ["CONTRIBUTING.md", "docs/architecture.md"] {
        let text = fs::read_to_string(root.join(page))?;
        // Between backticks, every second piece is code.
        let code = text.split('`').skip(1).step_by(2);
        let paths: Vec<_> = code
            .filter(|code| {
                let first = code.split('/').next().unwrap_or_default();
                ["src", "tests", "manifests", "docs", "fuzz", "benches"].contains(&first)
                    && !code.contains(' ')
            })
            .collect();
        assert!(paths.len() > 3, "{page} names no files");
        for path in paths {
            assert!(
                root.join(path).exists(),
                "{page} names {path}, which is not there"
            );
        }
    }
    Ok(())
}

/// Runs `tests/files` on a folder, and gives what it says.
fn people_look_for(folder: &Path) -> Result<(bool, String)> {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/files");
    let output = Command::new(program).arg(folder).output()?;
    Ok((output.status.success(), String::from_utf8(output.stderr)?))
}

#[test]
fn files_that_people_look_for_are_missed_by_name() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (passed, said) = people_look_for(root)?;
    assert!(passed, "{said}");
    // Of an empty folder, it names each of them.
    let tree = tempfile::tempdir()?;
    let tree = tree.path();
    fs::write(
        tree.join("Cargo.toml"),
        "[workspace.package]\nversion = \"1.2.3\"\n",
    )?;
    let (passed, said) = people_look_for(tree)?;
    assert!(!passed, "{said}");
    let files: Vec<_> = said
        .lines()
        .filter_map(|line| line.strip_prefix("files: ")?.strip_suffix(" is missing"))
        .collect();
    assert!(files.contains(&"SECURITY.md") && files.len() > 8, "{said}");
    for folder in [".github/ISSUE_TEMPLATE", ".github/workflows"] {
        fs::create_dir_all(tree.join(folder))?;
    }
    for file in &files {
        fs::write(tree.join(file), "## [1.2.3] - 2026-11-28\n")?;
    }
    let (passed, said) = people_look_for(tree)?;
    assert!(passed, "{said}");
    for file in files {
        fs::rename(tree.join(file), tree.join("moved"))?;
        let (passed, said) = people_look_for(tree)?;
        assert!(!passed && said.contains(&format!("{file} is missing")), "{said}");
        fs::rename(tree.join("moved"), tree.join(file))?;
    }
    // What Dependabot is told of is what is there, in the root as below it.
    let ecosystem = |name: &str, directories: &str| {
        format!("- package-ecosystem: {name}\n  directories: [{directories}]\n  schedule: {{}}\n")
    };
    fs::create_dir_all(tree.join("tools/of"))?;
    fs::write(tree.join("tools/of/go.mod"), "module of\n")?;
    fs::write(tree.join("Cargo.lock"), "")?;
    for (go, cargo, wrong) in [
        ("\"/tools/of\"", "\"/\"", None),
        (
            "\"/tools/of\", \"/gone\"",
            "\"/\"",
            Some("for gomod (<) than those with go.mod (>): < /gone "),
        ),
        (
            "\"/tools/of\"",
            "\"/fuzz\"",
            Some("for cargo (<) than those with Cargo.lock (>): < /fuzz > / "),
        ),
        ("", "\"/\"", Some("> /tools/of")),
    ] {
        let text = ecosystem("gomod", go) + &ecosystem("cargo", cargo);
        fs::write(tree.join(".github/dependabot.yml"), text)?;
        let (passed, said) = people_look_for(tree)?;
        assert_eq!(passed, wrong.is_none(), "{said}");
        assert!(said.contains(wrong.unwrap_or_default()), "{said}");
    }
    Ok(())
}

#[test]
fn a_version_without_a_section_of_the_changelog_is_named() -> Result<()> {
    for version in ["1.2", "1.2.30", "1.2.3-rc.1", "1x2.3"] {
        let tree = tempfile::tempdir()?;
        let cargo = format!("[workspace.package]\nversion = \"{version}\"\n");
        fs::write(tree.path().join("Cargo.toml"), cargo)?;
        let changelog = "# Changelog\n\n## [Unreleased]\n\n## [1.2.3] - 2026-11-28\n";
        fs::write(tree.path().join("CHANGELOG.md"), changelog)?;
        let (passed, said) = people_look_for(tree.path())?;
        let section = format!("no section '## [{version}]'");
        assert!(!passed && said.contains(&section), "{said}");
    }
    Ok(())
}

/// Where the version of Cargo.toml stands elsewhere, and what is right before it there.
const VERSIONED: [(&str, &str); 11] = [
    ("README.md", "newTag: "),
    ("docs/install.md", "newTag: "),
    ("docs/install.md", "--version "),
    ("docs/image.md", "IMAGE:"),
    ("docs/tutorial.md", "pullpass:"),
    ("manifests/base/deployment.yaml", "image: pullpass:"),
    ("manifests/chart/Chart.yaml", "\nversion: "),
    ("manifests/chart/Chart.yaml", "\nappVersion: "),
    ("manifests/registries-chart/Chart.yaml", "\nversion: "),
    ("manifests/registries-chart/Chart.yaml", "\nappVersion: "),
    ("fuzz/Cargo.lock", "name = \"pullpass\"\nversion = \""),
];

#[test]
fn each_place_with_the_version_has_that_of_the_manifest() -> Result<()> {
    for (file, before) in VERSIONED {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file))?;
        let versions: Vec<&str> = text
            .split(before)
            .skip(1)
            .filter(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
            .map(|rest| {
                let end = rest.find(|next: char| next.is_whitespace() || "`\",".contains(next));
                rest.get(..end.unwrap_or(rest.len())).unwrap_or_default()
            })
            .collect();
        assert!(!versions.is_empty(), "{file} no longer has {before:?}");
        for version in versions {
            assert_eq!(version, env!("CARGO_PKG_VERSION"), "{file}, after {before:?}");
        }
    }
    Ok(())
}

/// The Rust files below a folder.
fn rust_files(folder: &Path) -> Result<Vec<std::path::PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    Ok(found)
}

/// Words that a test's name does not begin with: its subject comes after them, or never.
const HEADLESS: [&str; 8] = [
    "what", "who", "whoever", "which", "where", "why", "how", "whatever",
];

#[test]
fn names_of_tests_are_short_and_begin_with_their_subject() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut count = 0;
    for file in [rust_files(&root.join("src"))?, rust_files(&root.join("tests"))?].concat() {
        let text = fs::read_to_string(&file)?;
        let mut is_test = false;
        for line in text.lines().map(str::trim) {
            let name = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ");
            match name.and_then(|name| name.split_once('(')) {
                Some((name, _)) if is_test => {
                    assert!(name.len() < 60, "{}: {name}", file.display());
                    let first = name.split('_').next().unwrap_or_default();
                    assert!(!HEADLESS.contains(&first), "{}: {name}", file.display());
                    count += 1;
                    is_test = false;
                }
                _ => {
                    is_test = line.starts_with("#[test]")
                        || line.starts_with("#[tokio::test")
                        || is_test && line.starts_with("#[");
                }
            }
        }
    }
    assert!(count > 500, "only {count} tests were found");
    Ok(())
}

/// The files in Markdown that people read.
fn documents(root: &Path) -> Result<Vec<std::path::PathBuf>> {
    let mut found = Vec::new();
    for folder in [
        ".",
        "docs",
        "docs/reference",
        "manifests/chart",
        "manifests/registries-chart",
    ] {
        for entry in fs::read_dir(root.join(folder))? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "md") {
                found.push(path);
            }
        }
    }
    Ok(found)
}

/// The lines outside blocks of code, without what is code in them.
fn prose(text: &str) -> Vec<String> {
    let mut in_block = false;
    let mut lines = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
        } else if !in_block {
            lines.push(line.to_owned());
        }
    }
    lines
}

/// What a link to a heading has behind its `#`.
fn anchor(heading: &str) -> String {
    let words = heading.trim().to_lowercase().replace(' ', "-");
    words
        .chars()
        .filter(|c| c.is_alphanumeric() || ['-', '_'].contains(c))
        .collect()
}

/// The targets of a line's links and pictures.
fn targets(line: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for (begin, end) in [("](", ')'), ("src=\"", '"'), ("srcset=\"", '"')] {
        let parts = line.split(begin).skip(1);
        found.extend(parts.filter_map(|part| part.split(end).next()));
    }
    found
}

#[test]
fn links_between_documents_lead_somewhere() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut count = 0;
    for document in documents(root)? {
        let text = fs::read_to_string(&document)?;
        for line in prose(&text) {
            // Outside of backticks, every second piece is prose.
            let plain: String = line.split('`').step_by(2).collect();
            for target in targets(&plain) {
                if target.contains("://") {
                    continue;
                }
                let (file, wanted) = target.split_once('#').unwrap_or((target, ""));
                let folder = document.parent().ok_or("a document without a folder")?;
                let path = if file.is_empty() {
                    document.clone()
                } else {
                    folder.join(file)
                };
                assert!(path.exists(), "{}: {target} is not there", document.display());
                if !wanted.is_empty() {
                    let headings = prose(&fs::read_to_string(&path)?);
                    let mut anchors = headings
                        .iter()
                        .filter(|line| line.starts_with('#'))
                        .filter_map(|line| line.trim_start_matches('#').strip_prefix(' '))
                        .map(anchor);
                    assert!(
                        anchors.any(|anchor| anchor == wanted),
                        "{}: {target} is no heading",
                        document.display()
                    );
                }
                count += 1;
            }
        }
    }
    assert!(count > 200, "only {count} links were found");
    Ok(())
}

#[test]
fn the_pages_name_the_versions_of_kubernetes_that_are_built() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for modules in ["tests/control-plane/go.mod", "tests/oldest/go.mod"] {
        let text = fs::read_to_string(root.join(modules))?;
        let version = text
            .lines()
            .find_map(|line| line.trim().strip_prefix("k8s.io/kubernetes v"));
        let version = version
            .ok_or("no version of Kubernetes")?
            .split(' ')
            .next()
            .unwrap_or_default();
        let page = fs::read_to_string(root.join("docs/kubernetes-versions.md"))?;
        assert!(
            page.contains(&format!("\n| {version} | ")),
            "docs/kubernetes-versions.md lacks {version} of {modules}"
        );
    }
    Ok(())
}
