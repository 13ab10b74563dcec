//! Tests of trust, and what they share.

mod authority;
mod bundles;
mod certificates;
mod contents;
mod fixtures;
mod keyless;
mod keys;
mod modes;
mod origins;
mod policies;
mod selectors;
pub(crate) mod sigstore;
mod timestamp;
mod verdicts;
