//! Asking a cluster: `kubectl`, as its administrator.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// `kubectl` with the kubeconfig it uses.
#[derive(Debug, Clone)]
pub struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
}

impl Kubectl {
    /// `program` is the path of `kubectl`.
    pub fn new(program: &Path, kubeconfig: &Path) -> Self {
        Self { program: program.to_owned(), kubeconfig: kubeconfig.to_owned() }
    }

    /// Runs `kubectl` with `arguments`, and returns what it printed.
    ///
    /// # Errors
    ///
    /// When it fails; the message holds what it complained about.
    pub async fn run(&self, arguments: &[&str]) -> Result<String> {
        self.run_with_input(arguments, "").await
    }

    /// Runs `kubectl` with `arguments` and `input` as its standard input, and returns what it printed.
    pub async fn run_with_input(&self, arguments: &[&str], input: &str) -> Result<String> {
        let mut child = Command::new(&self.program)
            .args(arguments)
            .env("KUBECONFIG", &self.kubeconfig)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot run {}", self.program.display()))?;
        if let Some(mut stdin) = child.stdin.take() {
            // A kubectl that does not read its input is no error.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
        let output = child.wait_with_output().await.context("cannot wait for kubectl")?;
        if !output.status.success() {
            bail!("kubectl {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
        }
        String::from_utf8(output.stdout).context("kubectl printed what is not UTF-8")
    }

    /// Applies a manifest (YAML or JSON), on the server's side.
    pub async fn apply(&self, manifest: &str) -> Result<()> {
        let arguments = ["apply", "--server-side", "--force-conflicts", "--filename=-"];
        self.run_with_input(&arguments, manifest).await.map(|_| ())
    }

    /// Whether the command ends well.
    pub(crate) async fn succeeds(&self, arguments: &[&str]) -> bool {
        self.run(arguments).await.is_ok()
    }
}
