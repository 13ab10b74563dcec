//! What demos and tests need beside the cluster: images, a model, clients. Each is fetched or made once, on first use.

mod images;
mod python;
mod vllm;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use tokio::process::Command;

pub use images::{LLAMA_NAME, PAUSE_NAME};
pub use vllm::VLLM_NAME;

use crate::process::last_lines;
use crate::progress::{say, while_telling};
use crate::{binaries, cache_lock, paths};

/// The smallest language model that answers in sentences, as GGUF.
pub const MODEL: &str = "model";
/// The program that signs models and verifies their signatures, of the Sigstore project.
pub const MODEL_SIGNING: &str = "model-signing";
/// The client of the Hugging Face hub.
pub const HUB_CLIENT: &str = "hub-client";
/// llama.cpp's server, as an image.
pub const LLAMA_IMAGE: &str = "llama-image";
/// A vLLM that runs on the CPU, as an image.
pub const VLLM_IMAGE: &str = "vllm-image";
/// A model that it loads, as a directory.
pub const VLLM_MODEL: &str = "vllm-model";
/// The image that holds a pod's namespaces.
pub const PAUSE_IMAGE: &str = "pause-image";
/// The root of images for programs that need the C library only.
pub const BASE_IMAGE: &str = "base-image";

/// Every asset by its name, and what its path is.
pub const ALL: [(&str, &str); 8] = [
    (MODEL, "SmolLM2-135M-Instruct.Q4_1.gguf, a language model of 98 MB (Apache-2.0)"),
    (MODEL_SIGNING, "the program model_signing 1.1.1"),
    (HUB_CLIENT, "the program hf, the client of the Hugging Face hub"),
    (LLAMA_IMAGE, "OCI archive of localhost/llama-cpp:b11669, whose entrypoint is llama-server"),
    (VLLM_IMAGE, "OCI archive of localhost/vllm-cpu:0.32.0, with vLLM for the CPU; for tests only (fetches 0.9 GB)"),
    (VLLM_MODEL, "directory of a language model of 0.6 MB with random weights, as safetensors"),
    (PAUSE_IMAGE, "OCI archive of localhost/pause:1"),
    (BASE_IMAGE, "OCI archive of localhost/base:1, the C library and certificates, which `image build` builds on"),
];

/// The path of the asset `name`, or of the program of that name in [`binaries`], which is fetched or made first when the cache lacks it.
pub async fn path(name: &str) -> Result<PathBuf> {
    match name {
        MODEL => python::model().await,
        MODEL_SIGNING => python::program("model-signing", include_str!("../../python/model-signing.txt"), "model_signing").await,
        HUB_CLIENT => python::program("hub-client", include_str!("../../python/hub-client.txt"), "hf").await,
        LLAMA_IMAGE => images::llama().await,
        VLLM_IMAGE => vllm::image().await,
        VLLM_MODEL => vllm::model().await,
        PAUSE_IMAGE => images::pause().await,
        BASE_IMAGE => images::base().await,
        other => match binaries::find(other) {
            Ok(recipe) => binaries::path(recipe.name).await,
            Err(_) => {
                let known: Vec<_> = ALL.iter().map(|(name, _)| *name).collect();
                bail!(
                    "there is no asset named {other:?}; there are {}, and the programs of `localcluster build`",
                    known.join(", ")
                )
            }
        },
    }
}

/// The directory of the cache's entry `key`, which `make` fills unless an earlier run has filled it. One process at a
/// time does; what one that was cut short left is removed first.
async fn made(key: &str, what: &str, make: impl AsyncFnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let directory = paths::cache()?.join("assets").join(key);
    let complete = directory.join(".complete");
    if complete.exists() {
        return Ok(directory);
    }
    let _lock = cache_lock::hold(key, &format!("makes {what}")).await?;
    if complete.exists() {
        return Ok(directory);
    }
    if directory.exists() {
        fs::remove_dir_all(&directory).with_context(|| format!("cannot remove {}", directory.display()))?;
    }
    fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
    say(what);
    while_telling(what, make(&directory)).await.with_context(|| format!("{what} failed"))?;
    fs::write(&complete, "").with_context(|| format!("cannot write {}", complete.display()))?;
    Ok(directory)
}

/// Runs a command whose output goes to the file `log`; its last lines are told when it fails.
async fn run(log: &Path, program: &Path, arguments: &[&str]) -> Result<()> {
    let output = fs::File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    let status = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(output.try_clone().context("cannot share a log")?)
        .stderr(output)
        .kill_on_drop(true)
        .status()
        .await
        .with_context(|| format!("cannot run {}", program.display()))?;
    if !status.success() {
        bail!("{} ended ({status}). The last lines of {}:\n{}", program.display(), log.display(), last_lines(log, 15));
    }
    Ok(())
}
