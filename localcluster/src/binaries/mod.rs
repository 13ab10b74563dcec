//! The programs a cluster is made of: built from source once, with the Go toolchain, and kept in the cache.
//!
//! Every version is pinned by a `go.mod` and `go.sum` under `go/`, which the Go checksum database backs. What is built
//! is keyed by version and by everything that goes into the build, so a changed pin builds anew and an unchanged one
//! never does.

mod build;
mod recipes;

pub use build::{ensure, path};
pub(crate) use recipes::{CONTROL_PLANE, NODE};
pub use recipes::{Recipe, all, find};
