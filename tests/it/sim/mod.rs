//! The real controllers in a simulated cluster: an API server, pods and sources within the process, on paused time.
//!
//! A run is a story ([`stories`]) with an end; what may never happen is watched at every write ([`oracle`]). Stories are told
//! undisturbed, with the manager killed before and after every single write ([`crashes`]), and under faults by chance
//! ([`chance`]): each time with the same end. `SEED=7 cargo test --test it -- sim::chance` tells one of them again.
//!
//! A run with the same seed is the same to the letter, as long as there is one ModelDeployment in it: one thread, paused time, dice
//! for all that is by chance, watches that wait by seeded chance. Of several ModelDeployments (`two_share_a_record`) the order in
//! which a manager turns to them at the same moment is that of `kube`'s hash maps, which no seed reaches. Times that only people
//! read (of Events, of the Lease) are the machine's.

mod attacks;
mod chance;
mod checks;
mod cluster;
mod corners;
mod crashes;
mod ends;
mod leading;
mod manager;
mod oracle;
mod pods;
mod quiet;
mod recalls;
mod rotation;
mod shelf;
mod steady;
mod stories;
mod telling;
mod world;

pub use cluster::collector;
