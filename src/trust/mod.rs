//! Is this model genuine? Signatures, the policies that demand them, and the verdict.
//!
//! Everything here is pure and offline: no Kubernetes client, no clock, no socket, no file; what time it is,
//! the caller says. The types carry the proof: a
//! [`Bundle`] is a claim, an [`Attested`] a claim whose signature holds, and a [`Verdict`] comes from here only.

mod bundle;
mod evidence;
mod formats;
mod legacy;
mod messages;
mod method;
mod parts;
mod policy;
mod question;
mod recall;
mod rejected;
mod selector;
mod sign;
#[cfg(test)]
pub(crate) mod tests;
mod verdict;
mod wire;

pub use bundle::{Attested, Bundle, Contents, Material, listed_names};
pub use messages::WARNED;
pub use method::{
    Anchor, SignerId,
    certificate::{Authority, MAX_PEM, Roots},
    key::{Curve, Hint, InvalidKey, PublicKey},
    keyless::{Identity, Logged},
    name::{Kind, Pattern, Wanted},
    roots::TrustRoot,
    secret::{InvalidPrivateKey, PrivateKey},
};
pub use parts::{Hash, Part, PartedFile, Parts};
pub use policy::{Policy, PolicyState};
pub use question::Candidate;
pub use recall::Recall;
pub use rejected::Rejected;
pub use selector::{InvalidSelector, Selector, is_label_key, is_label_value};
pub use sign::{LEFT_OUT, MAX_COMMENT, Signer};
pub use verdict::{Applicable, DefaultStance, PolicySet, Trust, Verdict};
