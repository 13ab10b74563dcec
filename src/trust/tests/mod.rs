//! Tests of trust, and what they share.

mod authority;
mod bundles;
mod certificates;
mod fixtures;
mod keys;
mod modes;
mod parts;
mod policies;
mod selectors;
mod signing;
mod verdicts;
