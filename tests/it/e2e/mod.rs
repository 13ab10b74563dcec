//! The product as users meet it: the operator's image in a real cluster with one node, installed by Helm, with models that are
//! really signed, fetched from a hub on this machine and served by llama.cpp.
//!
//! The tests share one cluster and take turns; each has a namespace of its own, which goes with it. Needs root, because of the
//! node. Models that have to answer are real; where none has to, a few bytes stand in for one.

mod altered;
mod claims;
pub mod ending;
mod interrupted;
mod lifecycle;
mod node;
pub mod place;
mod reasons;
mod refused;
mod served;
mod sources;
mod tampered;
mod upkeep;
mod witness;
pub mod world;
