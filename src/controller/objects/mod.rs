//! Objects as they stand in the API server: watched in a slim form, compared with what is wanted, and written.

pub mod apply;
pub mod diff;
pub mod live;
pub mod metadata;
pub mod revisions;
pub mod shelf;
pub mod slim;
pub mod stores;
pub mod survey;
pub mod told;
