//! The real controllers in a simulated cluster: an API server, pods and sources within the process, on paused time.
//!
//! A run is a story ([`stories`]) with an end; what may never happen is watched at every write ([`oracle`]). Stories are told
//! undisturbed, with the manager killed before and after every single write ([`crashes`]), and under faults by chance
//! ([`chance`]): each time with the same end. `SEED=7 cargo test --test it -- sim::chance` tells one of them again.

mod chance;
mod cluster;
mod crashes;
mod ends;
mod leading;
mod manager;
mod oracle;
mod pods;
mod quiet;
mod shelf;
mod steady;
mod stories;
mod world;

pub use cluster::collector;
