//! What the policies say: the policies themselves, signatures that were delivered, records, and verdicts that were reached.

pub mod artifacts;
pub mod judgements;
pub mod policies;
pub mod protection;
pub mod signatures;
pub mod standing;
