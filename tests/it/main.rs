//! Everything that looks at the product from outside, in one program. What needs a Kubernetes is in `cluster`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "these are tests")]

mod cel;
mod cluster;
mod drift;
mod e2e;
mod golden;
mod lint;
mod reasons;
mod support;
mod vllm;
mod weights;
