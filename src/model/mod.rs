//! What a model is: where it comes from, which files it consists of, and the digest that names its content.
//!
//! Everything here is pure and knows neither Kubernetes nor a network.

mod checks;
pub mod code;
mod digest;
pub mod format;
mod glob;
mod manifest;
mod path;
mod source;

pub use checks::Checks;
pub use code::RemoteCode;
pub use digest::{Digest, InvalidDigest};
pub use format::Format;
pub use glob::{Glob, InvalidGlob};
pub use manifest::{File, InvalidManifest, Manifest};
pub use path::{CleanPath, InvalidPath};
pub use source::{InvalidSource, Source};
