//! Container images, as OCI archives.

mod archive;
mod base;
mod layer;

pub use archive::Image;
pub(crate) use base::accounts;
pub use base::base;
pub use layer::{Content, Entry, Layer};

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use tokio::process::Command;

use crate::packages;

/// Writes to `out` the image `name` (`NAME:TAG`) of the base and `added` files, each a path of this machine and one in
/// the image. It runs `entrypoint` as `user`.
pub async fn build(name: &str, out: &Path, added: &[(PathBuf, String)], entrypoint: &[String], user: &str) -> Result<()> {
    let mut entries = Vec::new();
    for (source, path) in added {
        entries.extend(Entry::of_machine(source, path)?);
    }
    let image = Image {
        name: name.to_owned(),
        layers: vec![base().await?, Layer::Entries(entries)],
        entrypoint: entrypoint.to_owned(),
        user: user.to_owned(),
        environment: Vec::new(),
    };
    let out = out.to_owned();
    tokio::task::spawn_blocking(move || image.write(&out)).await.context("writing the image was given up")?
}

/// Pushes the image of the OCI archive `archive` to `destination` (`REGISTRY/NAME:TAG`), over plain HTTP when `plain`.
pub async fn push(archive: &Path, destination: &str, plain: bool) -> Result<()> {
    packages::ensure(packages::PUSH).await?;
    let source = format!("oci-archive:{}", archive.display());
    let output = Command::new("skopeo")
        .args([
            "copy",
            "--insecure-policy",
            &format!("--dest-tls-verify={}", !plain),
            &source,
            &format!("docker://{destination}"),
        ])
        .stdin(Stdio::null())
        .output()
        .await
        .context("cannot run skopeo, of Debian's package skopeo")?;
    if !output.status.success() {
        bail!("cannot push {} to {destination}: {}", archive.display(), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
