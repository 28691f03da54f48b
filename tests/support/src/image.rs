//! The smallest image that a client takes for one.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

use crate::error::Error;

/// The end of a tar archive, which here is all of it.
const EMPTY_TAR: [u8; 1024] = [0; 1024];

/// Writes an OCI image layout with one image, tagged `v1`.
pub(crate) fn write_layout(directory: &Path) -> Result<(), Error> {
    let blobs = directory.join("blobs/sha256");
    fs::create_dir_all(&blobs).map_err(Error::io(format!("making {}", blobs.display())))?;
    let layer = store(&blobs, "application/vnd.oci.image.layer.v1.tar", &EMPTY_TAR)?;
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [layer.get("digest")]},
    });
    let config = store(
        &blobs,
        "application/vnd.oci.image.config.v1+json",
        config.to_string().as_bytes(),
    )?;
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({"schemaVersion": 2, "mediaType": media_type, "config": config, "layers": [layer]});
    let mut entry = store(&blobs, media_type, manifest.to_string().as_bytes())?;
    if let Some(entry) = entry.as_object_mut() {
        entry.insert(
            "annotations".to_owned(),
            json!({"org.opencontainers.image.ref.name": "v1"}),
        );
    }
    let index = json!({"schemaVersion": 2, "manifests": [entry]});
    put(&directory.join("index.json"), index.to_string().as_bytes())?;
    put(
        &directory.join("oci-layout"),
        br#"{"imageLayoutVersion":"1.0.0"}"#,
    )
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

fn put(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    fs::write(path, bytes).map_err(Error::io(format!("writing {}", path.display())))
}
