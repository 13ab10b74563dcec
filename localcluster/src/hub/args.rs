//! The hub as a command.

use std::{io, net::SocketAddr, path::PathBuf};

use super::{Hub, Options};

/// Serve the models below a directory as a hub does
///
/// ROOT/OWNER/NAME/ are the repositories; HF_ENDPOINT=http://ADDR makes Hugging Face's own tools use them. Faults are switched by
/// writing ROOT/.faults.json, for example {"lie": ["acme/smollm2/model.gguf"]} or {"fail": {"status": 503, "times": 3}}.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The directory of the repositories
    #[arg(long, value_name = "DIR")]
    root: PathBuf,
    /// Where to listen
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8090")]
    listen: SocketAddr,
    /// Where to serve large files, as from another host
    #[arg(long, value_name = "ADDR")]
    cdn: Option<SocketAddr>,
    /// Keep the commits that are there now, whatever becomes of the files, as a real hub does
    #[arg(long)]
    keep: bool,
    /// A token that may read private repositories
    #[arg(long = "token", value_name = "TOKEN")]
    tokens: Vec<String>,
    /// A token that may read private and gated repositories
    #[arg(long = "licensed-token", value_name = "TOKEN")]
    licensed_tokens: Vec<String>,
    /// A repository that only tokens may read
    #[arg(long = "private", value_name = "OWNER/NAME")]
    private: Vec<String>,
    /// A repository whose files only licensed tokens may read
    #[arg(long = "gated", value_name = "OWNER/NAME")]
    gated: Vec<String>,
}

/// Serves until the process is told to stop.
pub async fn run(args: Args) -> io::Result<()> {
    let Args { root, listen, keep, cdn, tokens, licensed_tokens, private, gated } = args;
    let handle = Hub::start(Options { listen, cdn, tokens, licensed_tokens, private, gated, ..Options::new(root) }).await?;
    let mut names: Vec<String> = handle.repositories()?.into_iter().collect();
    names.sort();
    if keep {
        for name in &names {
            handle.snapshot(name)?;
        }
    }
    eprintln!("serving {} at {}", names.join(", "), handle.url());
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => {}
        interrupted = tokio::signal::ctrl_c() => interrupted?,
    }
    handle.stop().await;
    Ok(())
}
