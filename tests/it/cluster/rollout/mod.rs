//! Rollouts on a real control plane. There is no kubelet: the test plays one for a node of its own, and each pod's engine is a
//! server on an address of its own.

mod changes;
mod failures;
pub mod node;
mod others;
mod stage;
