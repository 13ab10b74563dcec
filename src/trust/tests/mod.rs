//! Tests of trust, and what they share.

mod bundles;
mod fixtures;
mod keys;
mod modes;
mod policies;
mod selectors;
mod verdicts;
