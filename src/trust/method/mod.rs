//! The ways to vouch: who a policy can name, and what tells people apart.

pub(super) mod certificate;
mod chain;
pub(super) mod key;
pub(super) mod keyless;
pub(super) mod name;
pub(super) mod own;
pub(super) mod people;
mod primitives;
pub(super) mod roots;
pub(super) mod secret;

use std::collections::BTreeSet;

use certificate::Authority;
use key::{Hint, PublicKey};
use keyless::Identity;

/// Somebody who can vouch: the owner of a key, or whoever an authority or an issuer of identities calls by a name.
#[derive(Debug, Clone)]
pub enum Anchor {
    /// The owner of this key.
    Key(PublicKey),
    /// The owner of a certificate.
    Certificate(Authority),
    /// Whoever has an identity, without a key that lasts.
    Keyless(Identity),
}

impl Anchor {
    /// Two anchors with one identity ask the same.
    pub fn id(&self) -> &str {
        match self {
            Self::Key(key) => key.hint().as_str(),
            Self::Certificate(authority) => authority.id(),
            Self::Keyless(identity) => identity.id(),
        }
    }

    /// The key, when it is one.
    pub const fn key(&self) -> Option<&PublicKey> {
        match self {
            Self::Key(key) => Some(key),
            Self::Certificate(_) | Self::Keyless(_) => None,
        }
    }
}

/// Who signed. Two that have a key or a name in common are one person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignerId {
    marks: BTreeSet<Mark>,
}

/// Something that one person has.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Mark {
    /// A key, however it was handed over.
    Key(Hint),
    /// A name that an authority gave: a subject, or a name beside it.
    Name(String),
}

impl SignerId {
    /// The owner of a key of which nothing else is known.
    pub(super) fn of_key(hint: Hint) -> Self {
        Self { marks: BTreeSet::from([Mark::Key(hint)]) }
    }

    /// The names that an authority or an issuer gave: subjects as RFC 4514 writes them, others as `email:ann@acme.example`.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.marks.iter().filter_map(|mark| match mark {
            Mark::Name(name) => Some(name.as_str()),
            Mark::Key(_) => None,
        })
    }

    /// The owner of a certificate for the key, who has these names.
    pub(super) fn of_certificate(hint: Hint, names: impl IntoIterator<Item = String>) -> Self {
        Self::of_names(names, Some(hint))
    }

    /// Whoever has these names, and that key if it is known.
    pub(super) fn of_names(names: impl IntoIterator<Item = String>, hint: Option<Hint>) -> Self {
        let marks = names.into_iter().map(Mark::Name).chain(hint.map(Mark::Key)).collect();
        Self { marks }
    }
}
