//! Bonafide runs open-weight AI models on Kubernetes, and mounts, routes to and vouches for only weights that the
//! cluster's owner trusts.

pub mod api;
pub mod cli;
pub mod controller;
pub mod engine;
pub mod model;
pub mod runtime;
pub mod trust;
pub mod weights;
