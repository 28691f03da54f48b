//! The manifest that a release gives to krew: it has what krew documents, and the plugin that it installs works.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use pullpass_test_support::Scratch;
use serde::Deserialize;

use crate::kubectl::{Kubectl, Test};

/// <https://krew.sigs.k8s.io/docs/developer-guide/plugin-manifest/>, as far as it is used; krew ignores what it does not
/// know, so that a misspelt field would go unseen.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Manifest {
    api_version: String,
    kind: String,
    metadata: Metadata,
    spec: Spec,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Metadata {
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Spec {
    version: String,
    homepage: String,
    short_description: String,
    description: String,
    caveats: String,
    platforms: Vec<Platform>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Platform {
    selector: Selector,
    uri: String,
    sha256: String,
    bin: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Selector {
    match_labels: BTreeMap<String, String>,
}

const URL: &str = "https://downloads.example/v0.1.0";

fn script(name: &str) -> Command {
    Command::new(
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("packaging/krew")
            .join(name),
    )
}

const PULLPASS: &str = env!("CARGO_BIN_EXE_pullpass");
/// Any file, where nobody runs it: a debug build takes seconds to pack.
const STAND_IN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");

fn archive(binary: &str, platform: &str, directory: &Path) -> Test {
    let packed = script("archive")
        .args([binary, platform])
        .arg(directory)
        .output()?;
    assert!(packed.status.success(), "{packed:?}");
    Ok(())
}

fn render(directory: &Path) -> Result<std::process::Output, Box<dyn Error>> {
    let output = script("render")
        .args([env!("CARGO_PKG_VERSION"), "https://home.example", URL])
        .arg(directory)
        .output()?;
    Ok(output)
}

fn sha256(path: &Path) -> Result<String, Box<dyn Error>> {
    let output = Command::new("sha256sum").arg(path).output()?;
    let line = String::from_utf8(output.stdout)?;
    Ok(line.split(' ').next().unwrap_or_default().to_owned())
}

/// The archive that krew would have downloaded.
fn downloaded(platform: &Platform, directory: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let file = platform.uri.strip_prefix(&format!("{URL}/"));
    Ok(directory.join(file.ok_or("another URL")?))
}

#[test]
fn the_krew_manifest_is_valid_and_its_plugin_works() -> Test {
    let scratch = Scratch::new()?;
    archive(PULLPASS, "linux-amd64", scratch.path())?;
    let incomplete = render(scratch.path())?;
    assert_eq!(incomplete.status.code(), Some(1));
    let said = String::from_utf8(incomplete.stderr)?;
    assert!(
        incomplete.stdout.is_empty() && said.contains("packaging/krew/archive makes it"),
        "{said}"
    );
    for platform in ["darwin-amd64", "darwin-arm64", "linux-arm64", "windows-amd64"] {
        archive(STAND_IN, platform, scratch.path())?;
    }
    let rendered = String::from_utf8(render(scratch.path())?.stdout)?;
    assert!(!rendered.contains('@'), "{rendered}");
    let manifest: Manifest = serde_saphyr::from_str(&rendered)?;

    assert_eq!(
        manifest.api_version,
        "krew.googlecontainertools.github.com/v1alpha2"
    );
    assert_eq!(
        (manifest.kind.as_str(), manifest.metadata.name.as_str()),
        ("Plugin", "pullpass")
    );
    let spec = manifest.spec;
    assert_eq!(spec.version, concat!("v", env!("CARGO_PKG_VERSION")));
    assert_eq!(spec.homepage, "https://home.example");
    let short = spec.short_description;
    assert!(
        !short.is_empty() && short.len() <= 50 && !short.contains('\n'),
        "{short}"
    );
    assert!(!spec.description.is_empty() && spec.caveats.contains("kubectl_complete-pullpass"));
    let selected: Vec<_> = spec
        .platforms
        .iter()
        .map(|platform| platform.selector.match_labels.clone())
        .collect();
    let expected = [
        ("darwin", "amd64"),
        ("darwin", "arm64"),
        ("linux", "amd64"),
        ("linux", "arm64"),
        ("windows", "amd64"),
    ]
    .map(|(os, arch)| BTreeMap::from([("os", os), ("arch", arch)].map(|(k, v)| (k.into(), v.into()))));
    assert_eq!(selected, expected);
    for platform in &spec.platforms {
        let archive = downloaded(platform, scratch.path())?;
        assert_eq!(platform.sha256, sha256(&archive)?);
        let windows = platform
            .selector
            .match_labels
            .get("os")
            .is_some_and(|os| os == "windows");
        assert_eq!(platform.bin, if windows { "pullpass.exe" } else { "pullpass" });
    }

    // As krew does: unpack all, and link what `bin` names under the plugin's name.
    let linux = BTreeMap::from([("os".into(), "linux".into()), ("arch".into(), "amd64".into())]);
    let platform = spec
        .platforms
        .iter()
        .find(|platform| platform.selector.match_labels == linux)
        .ok_or("no platform")?;
    let store = scratch.path().join("store");
    fs::create_dir(&store)?;
    let unpacked = Command::new("tar")
        .arg("--extract")
        .arg("--file")
        .arg(downloaded(platform, scratch.path())?)
        .arg("--directory")
        .arg(&store)
        .status()?;
    assert!(unpacked.success());
    assert!(store.join("LICENSE").is_file());
    let kubectl = Kubectl::with_plugin(&store.join(&platform.bin))?;
    let version = kubectl.run(&["pullpass", "--version"])?;
    assert_eq!(
        String::from_utf8(version.stdout)?,
        concat!("pullpass ", env!("CARGO_PKG_VERSION"), "\n")
    );
    Ok(())
}

#[test]
fn the_same_binary_makes_the_same_archive() -> Test {
    let (one, two) = (Scratch::new()?, Scratch::new()?);
    for (platform, file) in [
        ("linux-amd64", "pullpass-linux-amd64.tar.gz"),
        ("windows-amd64", "pullpass-windows-amd64.zip"),
    ] {
        archive(STAND_IN, platform, one.path())?;
        archive(STAND_IN, platform, two.path())?;
        assert_eq!(sha256(&one.path().join(file))?, sha256(&two.path().join(file))?);
    }
    Ok(())
}

#[test]
fn the_archive_for_windows_is_a_zip_with_an_exe() -> Test {
    let scratch = Scratch::new()?;
    archive(STAND_IN, "windows-amd64", scratch.path())?;
    let mut list = Command::new("python3");
    list.args(["-m", "zipfile", "--extract", "pullpass-windows-amd64.zip", "out"]);
    assert!(list.current_dir(scratch.path()).status()?.success());
    let unpacked = scratch.path().join("out");
    assert_eq!(fs::read(unpacked.join("pullpass.exe"))?, fs::read(STAND_IN)?);
    assert!(unpacked.join("LICENSE").is_file());
    Ok(())
}
