//! Everything that looks at the product from outside, in one program. What needs a Kubernetes is in `cluster`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "these are tests")]

mod cel;
mod cluster;
mod conformance;
mod drift;
mod e2e;
mod explain;
mod gitops;
mod golden;
mod lint;
mod reasons;
mod sim;
mod support;
mod tamper;
mod threats;
mod vllm;
mod weights;
