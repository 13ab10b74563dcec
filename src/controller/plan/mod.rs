//! From a valid wish to the complete set of children: pure, so that it can be printed and compared.

mod asking;
mod input;
mod names;
mod objects;
mod pod;
mod revision;
mod why;

pub use asking::asking;
pub use input::RevisionInput;
pub use names::{child_name, revision_of};
pub use objects::{Child, ChildKind, Live, Owner, children, one};
pub use pod::{
    CONTAINER_ENGINE, CONTAINER_FETCH, MAX_IN_PLACE, MODEL_PATH, assurance, assurance_of, pod_security, too_many_in_place,
};
pub use revision::{Revision, revision, wish};
pub use why::{Before, reason, spec_of};
