//! How an engine runs: the catalogue of engines, which files of a repository are served, and the command line.
//!
//! Everything here is pure: it knows `api` and `model`, and neither a cluster, a clock nor a network. Engines are data
//! (`engines/*.yaml` and InferenceEngine objects); no engine's name stands in this code.

pub mod accelerator;
mod allow;
mod candidate;
mod catalogue;
mod definition;
mod errors;
mod format;
mod render;
mod select;
mod template;
mod text;

#[cfg(test)]
mod adversarial;
#[cfg(test)]
mod golden;

pub use catalogue::Catalogue;
pub use definition::Engine;
pub use errors::{Errors, Explained, readable};
pub use render::{RenderInput, Rendered, refuses, render};
pub use select::{Selection, select, wanted};
pub use text::{human_memory, human_size};
