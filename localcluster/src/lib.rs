//! A real Kubernetes on this machine: a control plane, and if asked for nodes with real containers.
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use localcluster::{Cluster, Options};
//!
//! let cluster = Cluster::start(Options::default()).await?;
//! let namespaces = cluster.kubectl().run(&["get", "namespaces"]).await?;
//! cluster.stop().await?;
//! # Ok(())
//! # }
//! ```
//!
//! Everything is built from source or fetched, pinned and checked, on first use, and kept in a cache. A cluster ends
//! with the value that stands for it, and at the latest with the process: nothing is left behind, even after a SIGKILL.

pub mod assets;
pub mod binaries;
mod cache_lock;
mod cgroup;
mod cluster;
mod control_plane;
mod dns;
pub mod hub;
pub mod image;
mod kubectl;
pub mod network;
mod node;
pub mod packages;
pub mod paths;
mod pki;
mod process;
pub mod progress;
mod registry;
mod state;
mod teardown;

pub use cluster::{Cluster, Options, down, status};
pub use kubectl::Kubectl;
pub use network::Network;
