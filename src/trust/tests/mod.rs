//! Tests of trust, and what they share.

mod authority;
mod bundles;
mod certificates;
mod fixtures;
mod keys;
mod modes;
mod policies;
mod recalls;
mod selectors;
mod verdicts;
