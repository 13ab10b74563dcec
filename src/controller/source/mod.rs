//! From the wish to bytes: what a source or a claim has today, and when it is asked again.

pub mod look_again;
pub mod measure;
pub mod resolve;
pub mod volume_claims;
