//! The smallest images that clients take for ones, and that run where they are to.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

use crate::error::Error;

/// The end of a tar archive, which here is all of it.
const EMPTY_TAR: [u8; 1024] = [0; 1024];
/// Where the program is in an image that runs.
const PROGRAM: &str = "program";
/// The file that makes an image differ from all others.
const NAME: &str = "name";

/// What is in an image.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Content<'a> {
    /// Nothing: it can be pulled, and not run.
    Empty,
    /// A static program at `/program`, which is run with these arguments, and a file `/name`.
    Program {
        binary: &'a Path,
        arguments: &'a [&'a str],
    },
}

/// Writes an OCI image layout with one image, `NAME:v1`.
pub(crate) fn write_layout(directory: &Path, name: &str, content: Content<'_>) -> Result<(), Error> {
    let blobs = directory.join("blobs/sha256");
    make(&blobs)?;
    let (layer, entrypoint) = match content {
        Content::Empty => (EMPTY_TAR.to_vec(), Vec::new()),
        Content::Program { binary, arguments } => {
            let entrypoint = ["/program"].iter().chain(arguments).copied().collect();
            (program_layer(directory, name, binary)?, entrypoint)
        }
    };
    let layer = store(&blobs, "application/vnd.oci.image.layer.v1.tar", &layer)?;
    let mut config = json!({
        "architecture": architecture(),
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [layer.get("digest")]},
    });
    if let Some(config) = config.pointer_mut("/config").filter(|_| !entrypoint.is_empty()) {
        *config = json!({"Entrypoint": entrypoint});
    }
    let config = store(
        &blobs,
        "application/vnd.oci.image.config.v1+json",
        config.to_string().as_bytes(),
    )?;
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({"schemaVersion": 2, "mediaType": media_type, "config": config, "layers": [layer]});
    let mut entry = store(&blobs, media_type, manifest.to_string().as_bytes())?;
    if let Some(entry) = entry.as_object_mut() {
        // skopeo goes by the first, and containerd by the second.
        let annotations = json!({
            "org.opencontainers.image.ref.name": "v1",
            "io.containerd.image.name": format!("{name}:v1"),
        });
        entry.insert("annotations".to_owned(), annotations);
    }
    let index = json!({"schemaVersion": 2, "manifests": [entry]});
    put(&directory.join("index.json"), index.to_string().as_bytes())?;
    put(
        &directory.join("oci-layout"),
        br#"{"imageLayoutVersion":"1.0.0"}"#,
    )
}

/// Writes the same as an archive beside the directory.
pub(crate) fn write_archive(directory: &Path, name: &str, content: Content<'_>) -> Result<PathBuf, Error> {
    write_layout(directory, name, content)?;
    let archive = directory.with_extension("tar");
    put(&archive, &tar(directory, &["blobs", "index.json", "oci-layout"])?)?;
    Ok(archive)
}

fn program_layer(directory: &Path, name: &str, binary: &Path) -> Result<Vec<u8>, Error> {
    let files = directory.join("files");
    make(&files)?;
    let program = files.join(PROGRAM);
    fs::copy(binary, &program).map_err(Error::io(format!("copying {}", binary.display())))?;
    put(&files.join(NAME), format!("{name}\n").as_bytes())?;
    tar(&files, &[PROGRAM, NAME])
}

fn tar(directory: &Path, members: &[&str]) -> Result<Vec<u8>, Error> {
    let output = Command::new("tar")
        .args([
            "--create",
            "--format=ustar",
            "--owner=0",
            "--group=0",
            "--mtime=@0",
        ])
        .arg("--directory")
        .arg(directory)
        .args(members)
        .output()
        .map_err(Error::io("running tar"))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(Error::io("running tar")(std::io::Error::other(said)))
}

/// The machine's own, as images name it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn store(blobs: &Path, media_type: &str, bytes: &[u8]) -> Result<Value, Error> {
    let hex = digest(&SHA256, bytes)
        .as_ref()
        .iter()
        .fold(String::new(), |mut hex, byte| {
            // Writing to a String can't fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        });
    put(&blobs.join(&hex), bytes)?;
    Ok(json!({"mediaType": media_type, "digest": format!("sha256:{hex}"), "size": bytes.len()}))
}

fn make(directory: &Path) -> Result<(), Error> {
    fs::create_dir_all(directory).map_err(Error::io(format!("making {}", directory.display())))
}

fn put(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    fs::write(path, bytes).map_err(Error::io(format!("writing {}", path.display())))
}
