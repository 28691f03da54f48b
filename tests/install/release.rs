//! A release as `packaging/assemble` makes it of binaries that are there: it is whole, the same each time, and installs both
//! ways.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use pullpass_test_support::{ControlPlane, Scratch, end_to_end_wanted};
use serde_json::{Value, json};

use crate::documents::{commands, run};
use crate::render::{ROOT, Test, helm, kubectl, succeeded};

const VERSION: &str = env!("CARGO_PKG_VERSION");
const IMAGE: &str = "contoso.azurecr.io/pullpass";
/// Any file, where nobody runs it: a debug build takes seconds to pack.
const STAND_IN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
/// A bill of materials with nothing in it.
const BILL: &str = r#"{"bomFormat": "CycloneDX", "specVersion": "1.3"}"#;
const BINARIES: [&str; 5] = [
    "darwin-amd64/pullpass",
    "darwin-arm64/pullpass",
    "linux-amd64/pullpass",
    "linux-arm64/pullpass",
    "windows-amd64/pullpass.exe",
];

/// This machine's architecture, as images name it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// A directory as `packaging/build` fills it, with a stand-in for each binary.
fn stand_ins() -> Result<Scratch, Box<dyn Error>> {
    let binaries = Scratch::new()?;
    for binary in BINARIES {
        let path = binaries.path().join(binary);
        fs::create_dir_all(path.parent().ok_or("no directory")?)?;
        fs::copy(STAND_IN, path)?;
    }
    Ok(binaries)
}

fn assemble(binaries: &Path, output: &Path) -> Result<Output, Box<dyn Error>> {
    assemble_with(BILL, binaries, output)
}

/// The same with this bill of materials.
fn assemble_with(bill: &str, binaries: &Path, output: &Path) -> Result<Output, Box<dyn Error>> {
    let scratch = Scratch::new()?;
    let file = scratch.path().join("bill.json");
    fs::write(&file, bill)?;
    let mut command = Command::new(format!("{ROOT}/packaging/assemble"));
    command
        .args([
            "--version",
            VERSION,
            "--revision",
            "0123abc",
            "--created",
            "1700000000",
        ])
        .args(["--image", IMAGE, "--source", "https://home.example/pullpass"])
        .args(["--downloads", "https://downloads.example/v1"])
        .arg("--kubectl")
        .arg(kubectl()?)
        .arg("--bill")
        .arg(file)
        .arg("--binaries")
        .arg(binaries)
        .arg("--output")
        .arg(output);
    Ok(command.output()?)
}

fn skopeo(arguments: &[&str]) -> Result<String, Box<dyn Error>> {
    let mut command = Command::new("skopeo");
    command.args(arguments);
    succeeded("skopeo", &command.output()?)
}

/// What is at a place of a JSON value; null if nothing is.
fn at(value: &Value, pointer: &str) -> Value {
    value.pointer(pointer).cloned().unwrap_or_default()
}

fn sums(dist: &Path) -> Result<String, Box<dyn Error>> {
    Ok(fs::read_to_string(dist.join("SHA256SUMS"))?)
}

#[test]
fn the_same_binaries_make_the_same_release() -> Test {
    let (binaries, scratch) = (stand_ins()?, Scratch::new()?);
    let (one, two) = (scratch.path().join("one"), scratch.path().join("two/dist"));
    for output in [&one, &two] {
        succeeded("assemble", &assemble(binaries.path(), output)?)?;
    }
    assert_eq!(sums(&one)?, sums(&two)?);
    let listed = sums(&one)?;
    for file in [
        format!("pullpass-{VERSION}.tgz"),
        format!("pullpass-registries-{VERSION}.tgz"),
        "install.yaml".to_owned(),
        "pullpass-darwin-arm64.tar.gz".to_owned(),
        "pullpass-windows-amd64.zip".to_owned(),
        "pullpass.yaml".to_owned(),
        "pullpass.cdx.json".to_owned(),
        format!("pullpass-image-{VERSION}.tar"),
    ] {
        assert!(listed.contains(&format!("  {file}\n")), "no {file} in {listed}");
    }
    assert_eq!(fs::read_to_string(one.join("pullpass.cdx.json"))?, BILL);
    let mut check = Command::new("sha256sum");
    check
        .args(["--check", "--strict", "SHA256SUMS"])
        .current_dir(&one);
    succeeded("sha256sum", &check.output()?)?;
    Ok(())
}

#[test]
fn a_release_without_a_platform_is_refused() -> Test {
    let (binaries, scratch) = (stand_ins()?, Scratch::new()?);
    fs::remove_file(binaries.path().join("darwin-arm64/pullpass"))?;
    let output = assemble(binaries.path(), &scratch.path().join("dist"))?;
    let said = String::from_utf8(output.stderr)?;
    assert!(!output.status.success());
    assert!(said.contains("no binaries for darwin-arm64"), "{said}");
    Ok(())
}

#[test]
fn a_bill_that_is_not_cyclonedx_is_refused() -> Test {
    let (binaries, scratch) = (stand_ins()?, Scratch::new()?);
    let dist = scratch.path().join("dist");
    for bill in [
        "",
        "[]",
        "[[package]]\n",
        r#"{"spdxVersion": "SPDX-2.3"}"#,
        r#"{"bomFormat": "SPDX"}"#,
    ] {
        let output = assemble_with(bill, binaries.path(), &dist)?;
        let said = String::from_utf8(output.stderr)?;
        assert_eq!(output.status.code(), Some(1), "{bill}: {said}");
        let expected = "is no bill of materials in CycloneDX (JSON with bomFormat): auditable2cdx writes one";
        assert!(said.contains(expected), "{bill}: {said}");
        assert!(!dist.exists(), "{bill}");
    }
    Ok(())
}

#[test]
fn the_notes_are_the_section_of_the_changelog() -> Test {
    let (binaries, scratch) = (stand_ins()?, Scratch::new()?);
    let dist = scratch.path().join("dist");
    succeeded("assemble", &assemble(binaries.path(), &dist)?)?;
    let notes = fs::read_to_string(dist.join("notes.md"))?;
    let changelog = fs::read_to_string(format!("{ROOT}/CHANGELOG.md"))?;
    let (_, section) = changelog
        .split_once(&format!("\n## [{VERSION}]"))
        .ok_or("no section")?;
    let section = section.split("\n## [").next().unwrap_or_default();
    let bullets = |text: &str| text.lines().filter(|line| line.starts_with("* ")).count();
    assert!(
        bullets(&notes) > 0 && bullets(&notes) == bullets(section),
        "{notes}"
    );
    assert!(!notes.contains("\n## "), "{notes}");
    Ok(())
}

/// A release with the program of this build in the image of this machine's architecture; and the digest of the image.
fn release(dist: &Path) -> Result<String, Box<dyn Error>> {
    let binaries = stand_ins()?;
    let root = binaries.path().join(format!("linux-{}", architecture()));
    let mut strip = Command::new("strip");
    strip.arg("-o").arg(root.join("pullpass"));
    succeeded("strip", &strip.arg(env!("CARGO_BIN_EXE_pullpass")).output()?)?;
    let certificates = root.join("etc/ssl/certs");
    fs::create_dir_all(&certificates)?;
    fs::copy(STAND_IN, certificates.join("ca-certificates.crt"))?;
    let digest = succeeded("assemble", &assemble(binaries.path(), dist)?)?;
    Ok(digest.trim_end().to_owned())
}

/// What clients see of the image: an index of both architectures, and a program that runs.
fn the_image_is_whole(dist: &Path, digest: &str) -> Test {
    let layout = format!("oci:{}:{VERSION}", dist.join("image").display());
    let inspected: Value = serde_json::from_str(&skopeo(&["inspect", &layout])?)?;
    assert_eq!(at(&inspected, "/Digest"), json!(digest));
    let index: Value = serde_json::from_str(&skopeo(&["inspect", "--raw", &layout])?)?;
    let architectures: Vec<_> = at(&index, "/manifests")
        .as_array()
        .into_iter()
        .flatten()
        .map(|manifest| at(manifest, "/platform/architecture"))
        .collect();
    assert_eq!(architectures, [json!("amd64"), json!("arm64")]);
    for labels in [at(&index, "/annotations"), at(&inspected, "/Labels")] {
        let label = |name: &str| at(&labels, &format!("/org.opencontainers.image.{name}"));
        assert_eq!(label("version"), json!(VERSION));
        assert_eq!(label("revision"), json!("0123abc"));
        assert_eq!(label("source"), json!("https://home.example/pullpass"));
        assert_eq!(label("licenses"), json!("Apache-2.0"));
    }
    let config: Value = serde_json::from_str(&skopeo(&["inspect", "--config", &layout])?)?;
    let config = at(&config, "/config");
    assert_eq!(at(&config, "/Entrypoint"), json!(["/pullpass"]));
    assert_eq!(at(&config, "/Cmd"), json!(["serve"]));
    assert_eq!(at(&config, "/User"), json!("65533:65533"));
    assert_eq!(
        at(&config, "/ExposedPorts"),
        json!({"8080/tcp": {}, "8443/tcp": {}})
    );

    let scratch = Scratch::new()?;
    let layers = at(&inspected, "/Layers");
    let Some([layer]) = layers.as_array().map(Vec::as_slice) else {
        return Err(format!("not one layer: {layers:?}").into());
    };
    let blob = layer.as_str().and_then(|layer| layer.strip_prefix("sha256:"));
    let mut unpack = Command::new("tar");
    unpack.arg("--extract").arg("--file");
    unpack.arg(dist.join("image/blobs/sha256").join(blob.ok_or("no digest")?));
    succeeded("tar", &unpack.arg("--directory").arg(scratch.path()).output()?)?;
    assert!(scratch.path().join("etc/ssl/certs/ca-certificates.crt").is_file());
    let mut program = Command::new(scratch.path().join("pullpass"));
    assert_eq!(
        succeeded("the program of the image", &program.arg("--version").output()?)?,
        format!("pullpass {VERSION}\n")
    );
    Ok(())
}

#[test]
fn charts_of_a_release_say_where_they_come_from() -> Test {
    let (binaries, scratch) = (stand_ins()?, Scratch::new()?);
    let dist = scratch.path().join("dist");
    let digest = succeeded("assemble", &assemble(binaries.path(), &dist)?)?;
    for (chart, image) in [
        (
            "pullpass",
            json!([{
                "name": "pullpass", "image": format!("{IMAGE}:{VERSION}@{}", digest.trim_end()),
                "platforms": ["linux/amd64", "linux/arm64"],
            }]),
        ),
        ("pullpass-registries", Value::Null),
    ] {
        let mut show = helm(&scratch)?;
        show.args(["show", "chart"])
            .arg(dist.join(format!("{chart}-{VERSION}.tgz")));
        let shown: Value = serde_saphyr::from_str(&succeeded("helm show chart", &show.output()?)?)?;
        let home = json!("https://home.example/pullpass");
        assert_eq!(
            (at(&shown, "/home"), at(&shown, "/sources")),
            (home.clone(), json!([home]))
        );
        let images = at(&shown, "/annotations/artifacthub.io~1images");
        let images: Value = serde_saphyr::from_str(images.as_str().unwrap_or("null"))?;
        assert_eq!(images, image, "{chart}");
        if chart == "pullpass" {
            links_and_changes_are_those_of_the_version(&shown)?;
        }
    }
    Ok(())
}

/// What a catalogue of charts shows of the version: where its files are, and what CHANGELOG.md says of it.
fn links_and_changes_are_those_of_the_version(shown: &Value) -> Test {
    let listed = |key: &str| -> Result<Vec<Value>, Box<dyn Error>> {
        let text = at(shown, &format!("/annotations/artifacthub.io~1{key}"));
        let text = text.as_str().ok_or_else(|| format!("there is no {key}"))?;
        Ok(serde_saphyr::from_str(text)?)
    };
    for link in listed("links")? {
        let url = at(&link, "/url");
        let base = format!("https://home.example/pullpass/blob/v{VERSION}/");
        let file = url
            .as_str()
            .and_then(|url| url.strip_prefix(&base))
            .ok_or("no URL")?;
        assert!(Path::new(ROOT).join(file).is_file(), "{link}");
    }
    let changelog = fs::read_to_string(format!("{ROOT}/CHANGELOG.md"))?;
    let (_, section) = changelog
        .split_once(&format!("\n## [{VERSION}]"))
        .ok_or("no section")?;
    let section = section.split("\n## [").next().unwrap_or_default();
    let changes = listed("changes")?;
    for (group, kind) in [
        ("Added", "added"),
        ("Changed", "changed"),
        ("Fixed", "fixed"),
        ("Security", "security"),
    ] {
        let (_, entries) = section
            .split_once(&format!("\n### {group}\n"))
            .unwrap_or_default();
        let entries = entries.split("\n### ").next().unwrap_or_default();
        let entries = entries.lines().filter(|line| line.starts_with("* ")).count();
        let of_kind = changes.iter().filter(|change| at(change, "/kind") == json!(kind));
        assert_eq!(of_kind.count(), entries, "{group}");
    }
    for change in &changes {
        let text = at(change, "/description");
        let text = text.as_str().ok_or("no description")?;
        assert!(!text.is_empty() && !text.contains("]("), "{text}");
    }
    Ok(())
}

fn image_of_the_deployment(cluster: &ControlPlane) -> Result<String, Box<dyn Error>> {
    let deployment = cluster.get_json(&["deployment", "pullpass", "--namespace=pullpass-system"])?;
    let image = deployment.pointer("/spec/template/spec/containers/0/image");
    Ok(image.and_then(Value::as_str).unwrap_or_default().to_owned())
}

/// What `pullpass version` says of a Pod of the Deployment.
fn version_of_a_replica(cluster: &ControlPlane) -> Result<Value, Box<dyn Error>> {
    let deployment = cluster.get_json(&["deployment", "pullpass", "--namespace=pullpass-system"])?;
    let template = at(&deployment, "/spec/template");
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "spec": at(&template, "/spec"),
        "metadata": {
            "name": "pullpass-0", "namespace": "pullpass-system", "labels": at(&template, "/metadata/labels"),
        },
    });
    cluster.apply(&pod.to_string())?;
    let mut version = Command::new(env!("CARGO_BIN_EXE_pullpass"));
    version
        .args(["version", "--output=json"])
        .env("KUBECONFIG", cluster.kubeconfig());
    let said = succeeded("pullpass version", &version.output()?)?;
    Ok(at(&serde_json::from_str(&said)?, "/replicas/0/version"))
}

#[test]
fn a_release_installs_with_helm_and_with_kubectl() -> Test {
    end_to_end_wanted()?;
    let scratch = Scratch::new()?;
    let dist = scratch.path().join("dist");
    let digest = release(&dist)?;
    the_image_is_whole(&dist, &digest)?;

    let cluster = ControlPlane::builder().controller_manager(false).start()?;
    // As docs/install.md has it.
    let in_dist = |nth| -> Result<String, Box<dyn Error>> {
        let commands = commands("From a release", nth)?.replace("docker://IMAGE:", "oci:../pushed:");
        run(&cluster, &scratch, &format!("cd dist\n{commands}"))
    };
    let [sums, push, kubectl, helm] = [0, 1, 2, 3];
    in_dist(sums)?;
    in_dist(push)?;
    let pushed = format!("oci:{}:{VERSION}", scratch.path().join("pushed").display());
    let pushed: Value = serde_json::from_str(&skopeo(&["inspect", &pushed])?)?;
    assert_eq!(at(&pushed, "/Digest"), json!(digest));

    in_dist(helm)?;
    let image = format!("{IMAGE}:{VERSION}@{digest}");
    assert_eq!(image_of_the_deployment(&cluster)?, image);
    run(
        &cluster,
        &scratch,
        "helm uninstall pullpass --namespace pullpass-system",
    )?;

    in_dist(kubectl)?;
    assert_eq!(image_of_the_deployment(&cluster)?, image);
    assert_eq!(version_of_a_replica(&cluster)?, json!(VERSION));
    Ok(())
}
