//! What the signatures that were found say about one model: does somebody vouch for every file of it?

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use jiff::Timestamp;

use super::{
    bundle::{Attested, Bundle, Contents, Material},
    method::{Anchor, SignerId},
    question::Candidate,
    rejected::Rejected,
};
use crate::{
    api::Reason,
    model::{CleanPath, Digest, Manifest},
};

/// The bundles found with a model, and what is known about them so far.
pub(super) struct Evidence<'a> {
    manifest: &'a Manifest,
    bundles: Vec<(&'a str, Result<Bundle, Rejected>)>,
    answers: BTreeMap<(String, bool), Answer>,
    now: Timestamp,
    holds_until: Option<Timestamp>,
}

/// Who vouches, as what an anchor means may be several people; or why nobody does.
type Answer = Result<Vec<SignerId>, Box<Failures>>;

/// Why nobody whom an anchor means vouches for the model: of what is wrong with each bundle, what helps most.
#[derive(Debug, Clone)]
pub(super) struct Failures {
    pub nearest: Failure,
    /// Of the bundles that are damaged or were made for other bytes, what is wrong with the one that helps most.
    pub grave: Option<Failure>,
}

/// Why a bundle does not make somebody vouch for the model.
#[derive(Debug, Clone)]
pub(super) enum Failure {
    /// No bundle was found.
    Unsigned,
    /// Everybody vouches, and these are no more than that many people.
    SamePerson { people: usize },
    /// The bundle is not believed.
    Rejected { from: String, why: Rejected, clue: Clue },
    /// The bundle is genuine, and the bundle does not say what is served.
    Gap { from: String, gap: Gap },
}

/// What helps to see whose signature it is instead.
#[derive(Debug, Clone)]
pub(super) enum Clue {
    /// The key that a bundle names when a key is wanted; none when it names none.
    Key(Option<String>),
    /// Why it is rejected says so.
    Told,
}

/// How a genuine signature fails to cover a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Gap {
    /// `path` has other bytes than the signed ones, and so have `more` files.
    Differs { path: CleanPath, signed: Digest, found: Digest, more: usize },
    /// `path` is not among the signed files, and neither are `more` files.
    Unlisted { path: CleanPath, more: usize },
    /// `path` was signed and would not be served, and neither would `more` files.
    LeftOut { path: CleanPath, more: usize },
    /// None of the files is among the `listed` signed ones, of which `example` is one.
    OtherModel { listed: usize, example: CleanPath },
    /// One file was signed, without its name, and there are several.
    Nameless,
    /// Another content was approved than the one `found`.
    OtherContent { approved: Digest, found: Digest },
}

impl<'a> Evidence<'a> {
    pub fn new(candidate: &Candidate<'a>, now: Timestamp) -> Self {
        let read =
            |(from, content): &'a (String, String)| (from.as_str(), Bundle::parse(content.as_bytes(), Bundle::MAX_RECORDED));
        let bundles = candidate.bundles.iter().map(read).collect();
        Self { manifest: candidate.manifest, bundles, answers: BTreeMap::new(), now, holds_until: None }
    }

    /// Whose bundles cover every file, of those whom `anchor` means; with `complete`, only those of which no file is left out. Of
    /// several failures, the one that helps most.
    pub fn vouches(&mut self, anchor: &Anchor, complete: bool) -> Answer {
        let key = (anchor.id().to_owned(), complete);
        if let Some(known) = self.answers.get(&key) {
            return known.clone();
        }
        let (mut signers, mut failures, mut edges) = (Vec::new(), Vec::new(), Vec::new());
        for (from, bundle) in &self.bundles {
            match check(from, bundle, anchor, (self.manifest, complete), self.now, &mut edges) {
                Ok(signer) => signers.push(signer),
                Err(failure) => failures.push(failure),
            }
        }
        self.holds_until = self.holds_until.into_iter().chain(edges).min();
        if !signers.is_empty() {
            return self.remember(key, Ok(signers));
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

    /// When time alone may change an answer that was given.
    pub const fn holds_until(&self) -> Option<Timestamp> {
        self.holds_until
    }

    fn remember(&mut self, key: (String, bool), answer: Answer) -> Answer {
        self.answers.insert(key, answer.clone());
        answer
    }
}

fn check(
    from: &str,
    bundle: &Result<Bundle, Rejected>,
    anchor: &Anchor,
    (manifest, complete): (&Manifest, bool),
    now: Timestamp,
    edges: &mut Vec<Timestamp>,
) -> Result<SignerId, Failure> {
    let rejected = |why: &Rejected, clue| Failure::Rejected { from: from.to_owned(), why: why.clone(), clue };
    let bundle = bundle.as_ref().map_err(|why| rejected(why, Clue::Told))?;
    let (attested, signer) = bundle.verify_as(anchor, now, edges).map_err(|why| {
        let clue = match (anchor, bundle.material()) {
            (Anchor::Key(_), Material::Key { hint }) => Clue::Key(hint.clone()),
            _ => Clue::Told,
        };
        // The certificate's key did sign it, though nobody may lean on it: that other bytes were signed is worse than that.
        let is_spent =
            matches!(why.reason, Reason::CertificateExpired | Reason::CertificateNotYetValid | Reason::CertificateUnfit);
        match covers(bundle.claimed(), manifest) {
            Err(gap @ Gap::Differs { .. }) if is_spent => Failure::Gap { from: from.to_owned(), gap },
            _ => rejected(&why, clue),
        }
    })?;
    let gap = |gap| Failure::Gap { from: from.to_owned(), gap };
    covers(attested.contents(), manifest).map_err(gap)?;
    match left_out(attested, manifest).filter(|_| complete) {
        None => Ok(signer),
        Some(left) => Err(gap(left)),
    }
}

/// Whether every file of `manifest` was signed with the digest it has. Files that were signed and are not served do not
/// matter: what is served is a subset, and a README that has changed since is not in it.
fn covers(signed: &Contents, manifest: &Manifest) -> Result<(), Gap> {
    let listed = match (signed, manifest.files()) {
        (Contents::Nameless(digest), [only]) => return differs(only.path.clone(), *digest, only.sha256, 0),
        (Contents::Whole(approved), _) if *approved == manifest.digest() => return Ok(()),
        (Contents::Whole(approved), _) => return Err(Gap::OtherContent { approved: *approved, found: manifest.digest() }),
        // Of parts, which is not read here, nothing is known either.
        (Contents::Nameless(_) | Contents::Parts(_), _) => return Err(Gap::Nameless),
        (Contents::Tree(listed), _) => listed,
    };
    let mut unlisted = Vec::new();
    let mut different = Vec::new();
    for file in manifest.files() {
        match signed.digest_of(&file.path) {
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

/// That files were signed which `manifest` lacks.
fn left_out(attested: Attested<'_>, manifest: &Manifest) -> Option<Gap> {
    let Contents::Tree(listed) = attested.contents() else { return None };
    let served: BTreeSet<&str> = manifest.files().iter().map(|file| file.path.as_str()).collect();
    let mut lacking = listed.iter().filter(|(path, _)| !served.contains(path.as_str()));
    let (path, _) = lacking.next()?;
    Some(Gap::LeftOut { path: path.clone(), more: lacking.count() })
}

fn differs(path: CleanPath, signed: Digest, found: Digest, more: usize) -> Result<(), Gap> {
    if signed == found { Ok(()) } else { Err(Gap::Differs { path, signed, found, more }) }
}

impl Failure {
    /// Where the bundle comes from, if there is one.
    pub fn from(&self) -> Option<&str> {
        match self {
            Self::Unsigned | Self::SamePerson { .. } => None,
            Self::Rejected { from, .. } | Self::Gap { from, .. } => Some(from),
        }
    }

    /// The reason for machines.
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Unsigned => Reason::Unsigned,
            Self::SamePerson { .. } => Reason::WrongSigner,
            Self::Rejected { why, .. } => why.reason,
            Self::Gap { gap: Gap::Differs { .. } | Gap::OtherContent { .. }, .. } => Reason::DigestMismatch,
            Self::Gap { gap: Gap::LeftOut { .. }, .. } => Reason::SignedFileLeftOut,
            Self::Gap { .. } => Reason::UnsignedFile,
        }
    }

    /// Whether it says more than that a signature is missing: something was damaged, or a signed file has other bytes. No mode of
    /// a policy passes over that. An approval of another content does not say so: it may be of an older one, or of more files.
    pub const fn is_grave(&self) -> bool {
        if let Self::Gap { gap: Gap::OtherContent { .. }, .. } = self {
            return false;
        }
        matches!(self.reason(), Reason::DigestMismatch | Reason::SignatureMalformed | Reason::SignatureInvalid)
    }

    /// How much it helps to hear of this failure rather than of another one: the nearer to success, the more.
    pub const fn helps(&self) -> u8 {
        match self {
            Self::Unsigned | Self::SamePerson { .. } => 0,
            Self::Rejected { why, .. } => match why.reason {
                Reason::SignatureMalformed => 1,
                Reason::SignatureUnsupported => 2,
                Reason::WrongSigner => 3,
                Reason::CertificateUnfit => 4,
                _ => 5,
            },
            Self::Gap { gap: Gap::OtherModel { .. } | Gap::Nameless | Gap::OtherContent { .. }, .. } => 6,
            Self::Gap { gap: Gap::Unlisted { .. }, .. } => 7,
            Self::Gap { gap: Gap::LeftOut { .. }, .. } => 8,
            Self::Gap { gap: Gap::Differs { .. }, .. } => 9,
        }
    }
}
