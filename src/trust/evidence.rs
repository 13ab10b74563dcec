//! What the signatures that were found say about one model: does a given key vouch for every file of it?

use std::{cmp::Reverse, collections::BTreeMap};

use super::{
    bundle::{Attested, Bundle, Contents, Material, Rejected},
    key::{Hint, PublicKey},
    question::Candidate,
};
use crate::{
    api::Reason,
    model::{CleanPath, Digest, Manifest},
};

/// The bundles found with a model, and what is known about them so far.
pub(super) struct Evidence<'a> {
    manifest: &'a Manifest,
    bundles: Vec<(&'a str, Result<Bundle, Rejected>)>,
    answers: BTreeMap<Hint, Result<(), Box<Failures>>>,
}

/// Why a key does not vouch for the model: of what is wrong with each bundle, what helps most.
#[derive(Debug, Clone)]
pub(super) struct Failures {
    pub nearest: Failure,
    /// Of the bundles that are damaged or were made for other bytes, what is wrong with the one that helps most.
    pub grave: Option<Failure>,
}

/// Why a bundle does not make a key vouch for the model.
#[derive(Debug, Clone)]
pub(super) enum Failure {
    /// No bundle was found.
    Unsigned,
    /// The bundle is not believed.
    Rejected { from: String, why: Rejected, hint: Option<String> },
    /// The key signed the bundle, and the bundle does not say what is served.
    Gap { from: String, gap: Gap },
}

/// How a genuine signature fails to cover a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Gap {
    /// `path` has other bytes than the signed ones, and so have `more` files.
    Differs { path: CleanPath, signed: Digest, found: Digest, more: usize },
    /// `path` is not among the signed files, and neither are `more` files.
    Unlisted { path: CleanPath, more: usize },
    /// None of the files is among the `listed` signed ones, of which `example` is one.
    OtherModel { listed: usize, example: CleanPath },
    /// One file was signed, without its name, and there are several.
    Nameless,
}

impl<'a> Evidence<'a> {
    pub fn new(candidate: &Candidate<'a>) -> Self {
        let read =
            |(from, content): &'a (String, String)| (from.as_str(), Bundle::parse(content.as_bytes(), Bundle::MAX_RECORDED));
        Self { manifest: candidate.manifest, bundles: candidate.bundles.iter().map(read).collect(), answers: BTreeMap::new() }
    }

    /// Whether one of the bundles is `key`'s and covers every file. Of several failures, the one that helps most.
    pub fn vouches(&mut self, key: &PublicKey) -> Result<(), Box<Failures>> {
        if let Some(known) = self.answers.get(key.hint()) {
            return known.clone();
        }
        let mut failures = Vec::new();
        for (from, bundle) in &self.bundles {
            match check(from, bundle, key, self.manifest) {
                Ok(()) => return self.remember(key, Ok(())),
                Err(failure) => failures.push(failure),
            }
        }
        let helps = |failure: &Failure| Reverse(failure.helps());
        let grave = failures.iter().filter(|failure| failure.is_grave()).min_by_key(|failure| helps(failure)).cloned();
        let nearest = failures.into_iter().min_by_key(helps).unwrap_or(Failure::Unsigned);
        self.remember(key, Err(Box::new(Failures { nearest, grave })))
    }

    /// Where the bundles come from that cannot be read.
    pub fn unreadable(&self) -> Vec<String> {
        self.bundles.iter().filter(|(_, bundle)| bundle.is_err()).map(|(from, _)| (*from).to_owned()).collect()
    }

    fn remember(&mut self, key: &PublicKey, answer: Result<(), Box<Failures>>) -> Result<(), Box<Failures>> {
        self.answers.insert(key.hint().clone(), answer.clone());
        answer
    }
}

fn check(from: &str, bundle: &Result<Bundle, Rejected>, key: &PublicKey, manifest: &Manifest) -> Result<(), Failure> {
    let rejected = |why: &Rejected, hint| Failure::Rejected { from: from.to_owned(), why: why.clone(), hint };
    let bundle = bundle.as_ref().map_err(|why| rejected(why, None))?;
    let attested = bundle.verify(key).map_err(|why| {
        let hint = match bundle.material() {
            Material::Key { hint } => hint.clone(),
            Material::Certificate | Material::Keyless => None,
        };
        rejected(&why, hint)
    })?;
    covers(attested, manifest).map_err(|gap| Failure::Gap { from: from.to_owned(), gap })
}

/// Whether every file of `manifest` was signed with the digest it has. Files that were signed and are not served do not
/// matter: what is served is a subset, and a README that has changed since is not in it.
fn covers(attested: Attested<'_>, manifest: &Manifest) -> Result<(), Gap> {
    let listed = match (attested.contents(), manifest.files()) {
        (Contents::Nameless(signed), [only]) => return differs(only.path.clone(), *signed, only.sha256, 0),
        (Contents::Nameless(_), _) => return Err(Gap::Nameless),
        (Contents::Tree(listed), _) => listed,
    };
    let mut unlisted = Vec::new();
    let mut different = Vec::new();
    for file in manifest.files() {
        match attested.digest_of(&file.path) {
            None => unlisted.push(file),
            Some(signed) if signed != file.sha256 => different.push((file, signed)),
            Some(_) => {}
        }
    }
    if let Some((file, signed)) = different.first() {
        return differs(file.path.clone(), *signed, file.sha256, different.len() - 1);
    }
    match (unlisted.first(), listed.first()) {
        (None, _) => Ok(()),
        (Some(_), Some((example, _))) if unlisted.len() == manifest.files().len() => {
            Err(Gap::OtherModel { listed: listed.len(), example: example.clone() })
        }
        (Some(file), _) => Err(Gap::Unlisted { path: file.path.clone(), more: unlisted.len() - 1 }),
    }
}

fn differs(path: CleanPath, signed: Digest, found: Digest, more: usize) -> Result<(), Gap> {
    if signed == found { Ok(()) } else { Err(Gap::Differs { path, signed, found, more }) }
}

impl Failure {
    /// Where the bundle comes from, if there is one.
    pub fn from(&self) -> Option<&str> {
        match self {
            Self::Unsigned => None,
            Self::Rejected { from, .. } | Self::Gap { from, .. } => Some(from),
        }
    }

    /// The reason for machines.
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Unsigned => Reason::Unsigned,
            Self::Rejected { why, .. } => why.reason,
            Self::Gap { gap: Gap::Differs { .. }, .. } => Reason::DigestMismatch,
            Self::Gap { .. } => Reason::UnsignedFile,
        }
    }

    /// Whether it says more than that a signature is missing: something was damaged, or a signed file has other bytes. No mode of
    /// a policy passes over that.
    pub const fn is_grave(&self) -> bool {
        matches!(self.reason(), Reason::DigestMismatch | Reason::SignatureMalformed | Reason::SignatureInvalid)
    }

    /// How much it helps to hear of this failure rather than of another one: the nearer to success, the more.
    pub const fn helps(&self) -> u8 {
        match self {
            Self::Unsigned => 0,
            Self::Rejected { why, .. } => match why.reason {
                Reason::SignatureMalformed => 1,
                Reason::SignatureUnsupported => 2,
                Reason::WrongSigner => 3,
                _ => 4,
            },
            Self::Gap { gap: Gap::OtherModel { .. } | Gap::Nameless, .. } => 5,
            Self::Gap { gap: Gap::Unlisted { .. }, .. } => 6,
            Self::Gap { gap: Gap::Differs { .. }, .. } => 7,
        }
    }
}
