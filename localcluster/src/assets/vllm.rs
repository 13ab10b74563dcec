//! A real vLLM, on the CPU, and a model for it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use super::images::{NOBODY, debian_mirror};
use super::{made, run};
use crate::image::{Image, Layer};
use crate::packages;

/// The name of the image with vLLM.
pub const VLLM_NAME: &str = "localhost/vllm-cpu:0.32.0";

/// What makes it, and what that needs.
const SCRIPTS: [(&str, &str); 4] = [
    ("make.sh", include_str!("../../python/vllm/make.sh")),
    ("make_model.py", include_str!("../../python/vllm/make_model.py")),
    ("overrides.txt", include_str!("../../python/vllm/overrides.txt")),
    ("stub_cuda_libs.py", include_str!("../../python/vllm/stub_cuda_libs.py")),
];

/// The OCI archive of [`VLLM_NAME`].
pub(super) async fn image() -> Result<PathBuf> {
    Ok(both().await?.join("vllm.tar"))
}

/// The directory of the model.
pub(super) async fn model() -> Result<PathBuf> {
    Ok(both().await?.join("model"))
}

/// The model is made by libraries that come with vLLM.
async fn both() -> Result<PathBuf> {
    let mut digest = Sha256::new();
    SCRIPTS.iter().for_each(|(_, text)| digest.update(text));
    let digest: String = digest.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    made(&format!("vllm-{digest}"), "making the image of vLLM (fetches 0.9 GB, about 4 minutes)", async |directory| {
        packages::ensure(packages::DEBIAN_ROOT).await?;
        packages::ensure(packages::PYTHON).await?;
        packages::ensure(packages::CGO).await?;
        for (name, text) in SCRIPTS {
            let file = directory.join(name);
            fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
        }
        let [script, out] = [directory.join("make.sh"), directory.to_owned()].map(|path| path.display().to_string());
        run(&directory.join("log"), Path::new("bash"), &[&script, &out, &debian_mirror()]).await?;
        let root = directory.join("root.tar");
        let image = Image {
            name: VLLM_NAME.into(),
            layers: vec![Layer::Tar(root.clone())],
            entrypoint: Vec::new(),
            user: NOBODY.into(),
            environment: vec!["PYTHONPATH=/opt/vllm".into()],
        };
        let archive = directory.join("vllm.tar");
        tokio::task::spawn_blocking(move || image.write(&archive)).await.context("writing the image was given up")??;
        fs::remove_file(&root).with_context(|| format!("cannot remove {}", root.display()))
    })
    .await
}
