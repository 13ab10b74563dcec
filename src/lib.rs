//! Bonafide.
