//! An image registry beside the cluster, where the node can pull from it.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::net::TcpStream;

use crate::binaries;
use crate::network::Network;
use crate::process::{Processes, Surroundings};
use crate::state::State;

const NAME: &str = "registry";

/// How long it may take until it listens. It takes a tenth of a second.
const WITHIN: Duration = Duration::from_secs(30);

/// Starts it at [`Network::registry`], over plain HTTP. What is pushed is kept as long as the cluster.
pub(crate) async fn start(state: &State, processes: &mut Processes, network: Network) -> Result<()> {
    if state.process(NAME).is_some() {
        return Ok(());
    }
    let configuration = serde_json::json!({
        "version": "0.1",
        "log": {"level": "warn"},
        "storage": {"filesystem": {"rootdirectory": state.path(NAME)}},
        "http": {"addr": network.registry()},
    });
    let path = state.path("registry.yaml");
    fs::write(&path, configuration.to_string()).with_context(|| format!("cannot write {}", path.display()))?;
    let arguments = ["serve".to_owned(), path.display().to_string()];
    processes.start(NAME, &Surroundings::default(), &binaries::path(NAME).await?, &arguments)?;
    let listens = async || TcpStream::connect(network.registry()).await.is_ok();
    processes.wait_for("the start of the registry", NAME, WITHIN, listens).await
}
