//! The bytes: where models come from, what a source has, and the one-pass fetch that hashes while it downloads.
//!
//! The administrator's table ([`Sources`]) decides which servers are asked and which private hosts may be reached;
//! [`Credentials`] are shown only to the hosts that they name; a [`Resolver`] finds out what a model is without downloading
//! weights; [`fetch`] brings the bytes and lets nothing into the served tree that is not in the manifest.

mod body;
mod credentials;
mod error;
pub mod fetch;
mod hosts;
mod http;
mod hub;
mod library;
pub mod measure;
mod refusal;
mod resolver;
mod sources;
mod tree;
mod web;

pub use credentials::Credentials;
pub use error::{Retry, SourceError};
pub use hosts::{HostPattern, InvalidHost, Site, is_public};
pub use http::{Names, SystemNames, Timeouts};
pub use library::Library;
pub use resolver::Resolver;
pub use sources::{AllowedHost, Endpoint, Hub, Mirror, Prefix, Sources};
pub use tree::{Tree, TreeFile};
pub use web::{Listed, WebManifest};
