//! The end of a cluster: by `down`, by its handle, or because the process that had it is gone.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::paths;
use crate::state::State;

const SCRIPT: &str = include_str!("teardown.sh");

/// Ends the cluster in `state`, whoever has it. Does nothing when there is none.
pub(crate) async fn run(state: &State) -> Result<()> {
    let Some(id) = state.id() else { return Ok(()) };
    let mut command = tokio::process::Command::from(command(state, &id)?);
    let output = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).output().await;
    let output = output.context("cannot run sh")?;
    if !output.status.success() {
        bail!("cannot end the cluster in {}: {}", state.directory().display(), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// A process that ends a cluster as soon as this value is dropped, or this process is gone, even by a SIGKILL.
#[derive(Debug)]
pub(crate) struct Teardown {
    guard: Option<Child>,
    directory: PathBuf,
}

impl Teardown {
    pub(crate) fn guard(state: &State, id: &str) -> Result<Self> {
        let guard = command(state, id)?
            .arg("wait")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .context("cannot run setsid, of Debian's package util-linux")?;
        Ok(Self { guard: Some(guard), directory: state.directory().to_owned() })
    }

    /// Ends the cluster, and waits until nothing is left of it.
    pub(crate) fn end(mut self) -> Result<()> {
        self.finish("")
    }

    /// Lets the cluster live on.
    pub(crate) fn release(mut self) -> Result<()> {
        self.finish("release\n")
    }

    fn finish(&mut self, word: &str) -> Result<()> {
        let Some(mut guard) = self.guard.take() else { return Ok(()) };
        if let Some(mut input) = guard.stdin.take() {
            input.write_all(word.as_bytes()).context("the process that guards the cluster is gone")?;
        }
        let status = guard.wait().context("cannot wait for the end of the cluster")?;
        if !status.success() {
            bail!("the cluster in {} could not be ended completely: `localcluster down` tries again", self.directory.display());
        }
        Ok(())
    }
}

impl Drop for Teardown {
    fn drop(&mut self) {
        let _ = self.finish("");
    }
}

fn command(state: &State, id: &str) -> Result<Command> {
    // A session of its own: an interrupt at the terminal ends the process that had the cluster, and not this one.
    let mut command = Command::new("setsid");
    command.args(["sh", "-c", SCRIPT, "teardown"]).arg(state.directory()).arg(id).arg(paths::run()?);
    command.arg(state.name_on_machine().unwrap_or_default()).current_dir("/");
    Ok(command)
}
