//! What a pod passes before it gets traffic, and on its way out: the gate, the first answer, the vouching, the drain.

pub mod answer;
pub mod ask;
pub mod drain;
pub mod gate;
pub mod vouch;
