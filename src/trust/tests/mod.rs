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
mod parts;
mod policies;
mod recalls;
mod selectors;
mod signing;
pub(crate) mod sigstore;
mod timestamp;
mod verdicts;
