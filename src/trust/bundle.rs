//! Signature bundles of OpenSSF Model Signing v1.0: read within bounds, and believed only once the signature holds.

use jiff::Timestamp;
use sha2::Digest as _;

use super::{
    legacy,
    method::{
        Anchor, SignerId, certificate,
        key::PublicKey,
        keyless::{Logged, Signed},
    },
    parts::{self, Parts},
    rejected::{Cut, PAYLOAD_TYPE, Rejected, decode, malformed, preamble, shown},
    wire,
};
use crate::{
    api::Reason,
    model::{CleanPath, Digest},
};

/// A bundle that could be read: somebody claims that these files have these digests. Nobody has proven it yet.
#[derive(Debug, Clone)]
pub struct Bundle {
    material: Material,
    payload: Vec<u8>,
    signature: Vec<u8>,
    contents: Contents,
    /// A digest that its statement is about: that of the whole model, or of its first file where there is none of the whole.
    subject: Digest,
    /// Whether it was made by model_signing 0.2.
    is_old: bool,
}

/// How a bundle says its signature can be checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Material {
    /// By a public key, which the bundle names by its hint (see [`super::Hint`]) or not at all.
    Key {
        /// As it stands in the bundle.
        hint: Option<String>,
    },
    /// By the key of the first of these X.509 certificates, in DER; the others lead from it to an authority.
    Certificate(Vec<Vec<u8>>),
    /// By a short-lived certificate and a transparency log.
    Keyless(Logged),
}

/// What was signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Contents {
    /// Files, sorted by the bytes of their paths, no path twice.
    Tree(Vec<(CleanPath, Digest)>),
    /// One file, whose name the signing client did not write down.
    Nameless(Digest),
    /// Whatever has this content digest, file by file, and nothing else: an approval (see [`crate::model::Manifest::digest`]).
    Whole(Digest),
    /// Files of which no SHA-256 is known. Only [`Bundle::parse_any`] reads such a bundle.
    Parts(Parts),
}

/// The contents of a bundle whose signature holds. Only [`Bundle::verify`] and [`Bundle::verify_as`] make one.
#[derive(Debug, Clone, Copy)]
pub struct Attested<'a> {
    contents: &'a Contents,
}

pub(super) const STATEMENT: &str = "https://in-toto.io/Statement/v1";
/// The predicate type of a statement whose subject is a content that somebody approves.
pub(super) const APPROVAL: &str = "https://bonafide.dev/approval/v1";
const MEDIA_TYPES: [&str; 4] = [
    "application/vnd.dev.sigstore.bundle.v0.3+json",
    "application/vnd.dev.sigstore.bundle+json;version=0.3",
    "application/vnd.dev.sigstore.bundle+json;version=0.2",
    "application/vnd.dev.sigstore.bundle+json;version=0.1",
];

impl Bundle {
    /// The longest bundle that an API object records, in bytes.
    pub const MAX_RECORDED: usize = 512 * 1024;
    /// The longest bundle that is read from a file, in bytes.
    pub const MAX_FILE: usize = 64 * 1024 * 1024;
    /// The most files that a bundle may list.
    pub const MAX_RESOURCES: usize = 100_000;

    /// Reads a bundle of at most `max` bytes that can be compared with what a source says of its files.
    pub fn parse(json: &[u8], max: usize) -> Result<Self, Rejected> {
        Self::read(json, max, false)
    }

    /// Reads also a bundle of parts of files or of other hashes ([`Contents::Parts`]), for whoever has the files at hand.
    pub fn parse_any(json: &[u8], max: usize) -> Result<Self, Rejected> {
        Self::read(json, max, true)
    }

    fn read(json: &[u8], max: usize, any: bool) -> Result<Self, Rejected> {
        if json.len() > max {
            return Err(malformed(format!("is {} bytes long, more than the {max} that are read here", json.len())));
        }
        let bundle: wire::Bundle<'_> =
            serde_json::from_slice(json).map_err(|error| malformed(format!("is not a Sigstore bundle: {error}")))?;
        if !MEDIA_TYPES.contains(&bundle.media_type.as_ref()) {
            return Err(malformed(format!(
                "has media type {}, not that of a Sigstore bundle up to 0.3",
                shown(&bundle.media_type)
            )));
        }
        let envelope = bundle.dsse_envelope.ok_or_else(|| {
            malformed("has no dsseEnvelope: it is a Sigstore bundle, but not one of OpenSSF Model Signing".to_owned())
        })?;
        let material = bundle.verification_material.ok_or_else(|| malformed("has no verificationMaterial".to_owned()))?;
        let material = Material::read(material)?;
        if envelope.payload_type != PAYLOAD_TYPE {
            return Err(malformed(format!("has payload type {}, not {PAYLOAD_TYPE}", shown(&envelope.payload_type))));
        }
        let signature = match envelope.signatures.as_slice() {
            [one] => decode(&one.sig).ok_or_else(|| malformed("has a signature that is not base64".to_owned()))?,
            several => return Err(malformed(format!("has {} signatures, where exactly one is needed", several.len()))),
        };
        let payload = decode(&envelope.payload).ok_or_else(|| malformed("has a payload that is not base64".to_owned()))?;
        let (contents, subject, is_old) = Contents::read(&payload, any)?;
        Ok(Self { material, payload, signature, contents, subject, is_old })
    }

    /// How the bundle says its signature can be checked. A claim.
    pub const fn material(&self) -> &Material {
        &self.material
    }

    /// What the bundle says was signed. A claim: it may narrow what is fetched, and decides nothing.
    pub const fn claimed(&self) -> &Contents {
        &self.contents
    }

    /// Checks that `key` signed this. An absent hint is no obstacle; one that names another key is.
    pub fn verify(&self, key: &PublicKey) -> Result<Attested<'_>, Rejected> {
        let rejected = |reason, message| Err(Rejected { reason, message });
        match &self.material {
            Material::Key { hint: Some(hint) } if hint != key.hint().as_str() => rejected(
                Reason::WrongSigner,
                format!("was signed with another key: it names key {}, and the key given is {}", Cut(hint), key.hint()),
            ),
            Material::Key { .. } if self.is_signed_by(key) => Ok(Attested { contents: &self.contents }),
            Material::Key { hint: Some(_) } => rejected(
                Reason::SignatureInvalid,
                format!("names key {}, but that key did not sign it: it was damaged or altered after it was signed", key.hint()),
            ),
            Material::Key { hint: None } => {
                rejected(Reason::WrongSigner, format!("names no key, and key {} did not sign it", key.hint()))
            }
            Material::Certificate(_) => rejected(
                Reason::WrongSigner,
                format!("was signed with an X.509 certificate, and wanted is a signature of key {}", key.hint()),
            ),
            Material::Keyless(_) => rejected(
                Reason::WrongSigner,
                format!("was signed with Sigstore's keyless method, and wanted is a signature of key {}", key.hint()),
            ),
        }
    }

    /// Checks that the one whom `anchor` means signed this, and says who that is. `edges` gets the moments after `now` at which
    /// that may change by itself.
    pub fn verify_as(
        &self,
        anchor: &Anchor,
        now: Timestamp,
        edges: &mut Vec<Timestamp>,
    ) -> Result<(Attested<'_>, SignerId), Rejected> {
        let wrong = |what: &str| {
            let wanted = match anchor {
                Anchor::Key(key) => format!("key {}", key.hint()),
                Anchor::Certificate(authority) => format!("one with a certificate for {}", authority.wanted()),
                Anchor::Keyless(identity) => format!("one of {identity}, with Sigstore's keyless method"),
            };
            Err(Rejected { reason: Reason::WrongSigner, message: format!("{what}, and wanted is {wanted}") })
        };
        let signer = match (anchor, &self.material) {
            (Anchor::Key(key), _) => return Ok((self.verify(key)?, SignerId::of_key(key.hint().clone()))),
            (Anchor::Certificate(authority), Material::Certificate(chain)) => {
                authority.vouches(chain, |key| self.is_signed_by(key), now, edges)?
            }
            (Anchor::Keyless(identity), Material::Keyless(logged)) => {
                let signed = Signed { payload: &self.payload, signature: &self.signature, subject: self.subject };
                identity.vouches(logged, signed, now, edges)?
            }
            (_, Material::Key { hint: Some(hint) }) => {
                return wrong(&format!("has a signature of key {} without a certificate", Cut(hint)));
            }
            (_, Material::Key { hint: None }) => return wrong("has a signature by a key without a certificate"),
            (_, Material::Certificate(_)) => return wrong("has a signature with the certificate of an X.509 authority"),
            (_, Material::Keyless(_)) => return wrong("has a signature with Sigstore's keyless method"),
        };
        Ok((Attested { contents: &self.contents }, signer))
    }

    /// Whether the signature is that key's over the payload, as the bundle's own format has it.
    fn is_signed_by(&self, key: &PublicKey) -> bool {
        if self.is_old {
            return key.holds_sha256(&legacy::signed(&self.payload), &self.signature);
        }
        key.holds(&[preamble(self.payload.len()).as_bytes(), &self.payload], &self.signature)
    }
}

impl Material {
    fn read(material: wire::VerificationMaterial<'_>) -> Result<Self, Rejected> {
        match (material.public_key, material.x509_certificate_chain, material.certificate) {
            (Some(key), None, None) => {
                let hint = key.hint.filter(|hint| !hint.is_empty()).map(std::borrow::Cow::into_owned);
                let written_out = || {
                    let pem = String::from_utf8(decode(key.raw_bytes.as_deref()?)?).ok()?;
                    PublicKey::from_pem(&pem).ok().map(|key| key.hint().to_string())
                };
                Ok(Self::Key { hint: hint.or_else(written_out) })
            }
            (None, Some(chain), None) => {
                let (count, most) = (chain.certificates.len(), certificate::MAX_CERTIFICATES);
                if count == 0 || count > most {
                    return Err(malformed(format!("has {count} certificates in its chain, where 1 to {most} are read here")));
                }
                let der = chain.certificates.iter().map(|certificate| decode(&certificate.raw_bytes)).collect::<Option<_>>();
                der.map(Self::Certificate).ok_or_else(|| malformed("has a certificate that is not base64".to_owned()))
            }
            (None, None, Some(certificate)) => {
                let (entries, timestamps) = (material.tlog_entries, material.timestamp_verification_data);
                Logged::read(&certificate.raw_bytes, entries, timestamps).map(Self::Keyless)
            }
            _ => Err(malformed(
                "does not say by which one of publicKey, x509CertificateChain and certificate it can be checked".to_owned(),
            )),
        }
    }
}

impl Contents {
    /// What the statement says was signed, a digest that it is about, and whether it is one of model_signing 0.2.
    fn read(payload: &[u8], any: bool) -> Result<(Self, Digest, bool), Rejected> {
        let not_a_statement =
            |error| malformed(format!("signs something that is not an in-toto statement about a model: {error}"));
        let kind: wire::StatementKind<'_> = serde_json::from_slice(payload).map_err(not_a_statement)?;
        if kind.kind != STATEMENT {
            return Err(malformed(format!("signs a statement of type {}, not {STATEMENT}", shown(&kind.kind))));
        }
        if kind.predicate_type == legacy::PREDICATE_TYPE {
            let files = legacy::files(payload, Bundle::MAX_RESOURCES)?;
            let first = files.first().map(|(_, digest)| *digest).ok_or_else(|| malformed("lists no file".to_owned()))?;
            return Ok((Self::tree(files)?, first, true));
        }
        if kind.predicate_type == APPROVAL {
            let approval: wire::Approval = serde_json::from_slice(payload).map_err(not_a_statement)?;
            let content = approved(&approval.subject)?;
            return Ok((Self::Whole(content), content, false));
        }
        check_predicate_type(&kind.predicate_type)?;
        let statement: wire::Statement<'_> = serde_json::from_slice(payload).map_err(not_a_statement)?;
        let unsupported = parts::unsupported(&statement.predicate.serialization);
        let in_parts = unsupported.is_some();
        if let Some(rejected) = unsupported.filter(|_| !any) {
            return Err(rejected);
        }
        let resources = &statement.predicate.resources;
        if resources.is_empty() {
            return Err(malformed("lists no file".to_owned()));
        }
        if resources.len() > Bundle::MAX_RESOURCES {
            return Err(malformed(format!("lists {} files, more than {}", resources.len(), Bundle::MAX_RESOURCES)));
        }
        if in_parts {
            let parts = parts::read(&statement.predicate)?;
            let root = check_root(&statement.subject, resources.iter().filter_map(|resource| parts::hex(&resource.digest)))?;
            return Ok((Self::Parts(parts), root, false));
        }
        let digests = resources.iter().map(resource_digest).collect::<Result<Vec<_>, _>>()?;
        let root = check_root(&statement.subject, &digests)?;
        if let ([only], [digest]) = (resources.as_slice(), digests.as_slice())
            && only.name == "."
        {
            return Ok((Self::Nameless(*digest), root, false));
        }
        let names = resources.iter().map(|resource| resource.name.clone().into_owned());
        Ok((Self::tree(names.zip(digests).collect())?, root, false))
    }

    fn tree(listed: Vec<(String, Digest)>) -> Result<Self, Rejected> {
        let mut files = listed
            .into_iter()
            .map(|(name, digest)| match name.parse::<CleanPath>() {
                Ok(path) => Ok((path, digest)),
                Err(error) => Err(malformed(format!("lists a file that cannot be one: {error}"))),
            })
            .collect::<Result<Vec<_>, _>>()?;
        files.sort_unstable_by(|(a, _), (b, _)| a.as_str().as_bytes().cmp(b.as_str().as_bytes()));
        let twice = files.windows(2).find_map(|pair| match pair {
            [(a, _), (b, _)] if a == b => Some(a),
            _ => None,
        });
        match twice {
            Some(path) => Err(malformed(format!("lists {path} twice"))),
            None => Ok(Self::Tree(files)),
        }
    }
}

fn check_predicate_type(predicate_type: &str) -> Result<(), Rejected> {
    let minor = predicate_type.strip_prefix("https://model_signing/signature/v1.");
    if minor.is_some_and(|minor| !minor.is_empty() && minor.bytes().all(|digit| digit.is_ascii_digit())) {
        return Ok(());
    }
    Err(malformed(format!(
        "signs a statement about something else than a model: its predicate type is {}",
        shown(predicate_type)
    )))
}

fn resource_digest(resource: &wire::Resource<'_>) -> Result<Digest, Rejected> {
    if resource.algorithm != "sha256" {
        return Err(Rejected {
            reason: Reason::SignatureUnsupported,
            message: format!(
                "lists {} by its {} hash, which is not supported here; SHA-256 is: sign the model again with it",
                shown(&resource.name),
                shown(&resource.algorithm)
            ),
        });
    }
    Digest::from_hex(&resource.digest).map_err(|_| {
        malformed(format!(
            "lists {} with digest {}, which is not 64 lower-case hexadecimal digits",
            shown(&resource.name),
            shown(&resource.digest)
        ))
    })
}

/// The subject is the SHA-256 over the raw digests of all files, in the order in which they are listed.
fn check_root(subjects: &[wire::Subject], digests: impl IntoIterator<Item: AsRef<[u8]>>) -> Result<Digest, Rejected> {
    let [subject] = subjects else {
        return Err(malformed(format!("is about {} subjects, where exactly one is needed", subjects.len())));
    };
    let claimed = subject.digest.sha256.as_deref().unwrap_or_default();
    let mut hash = sha2::Sha256::new();
    for digest in digests {
        hash.update(digest.as_ref());
    }
    let computed = Digest::from_bytes(hash.finalize().into());
    if Digest::from_hex(claimed) == Ok(computed) {
        return Ok(computed);
    }
    Err(malformed(format!("contradicts itself: its root digest is {}, and its files make {}", shown(claimed), computed.hex())))
}

/// What an approval is about.
fn approved(subjects: &[wire::Subject]) -> Result<Digest, Rejected> {
    let [subject] = subjects else {
        return Err(malformed(format!("approves {} contents, where exactly one is needed", subjects.len())));
    };
    let digest = subject.digest.sha256.as_deref().unwrap_or_default();
    Digest::from_hex(digest).map_err(|_| {
        malformed(format!("approves a content with digest {}, which is not 64 lower-case hexadecimal digits", shown(digest)))
    })
}

impl<'a> Attested<'a> {
    /// What was signed.
    pub const fn contents(&self) -> &'a Contents {
        self.contents
    }

    /// The signed digest of the file at `path`; none when the signature does not list it.
    pub fn digest_of(&self, path: &CleanPath) -> Option<Digest> {
        self.contents.digest_of(path)
    }
}

impl Contents {
    /// The digest that is listed for the file at `path`, if it is.
    pub(super) fn digest_of(&self, path: &CleanPath) -> Option<Digest> {
        let Self::Tree(files) = self else { return None };
        let at = files.binary_search_by(|(name, _)| name.as_str().as_bytes().cmp(path.as_str().as_bytes())).ok()?;
        files.get(at).map(|(_, digest)| *digest)
    }
}

/// The names that a bundle lists; none when it cannot be read, is longer than [`Bundle::MAX_RECORDED`], or names nothing.
///
/// Nobody has checked the signature: the answer may narrow what is served, and never widens it.
pub fn listed_names(json: &str) -> Option<Vec<CleanPath>> {
    match Bundle::parse(json.as_bytes(), Bundle::MAX_RECORDED).ok()?.contents {
        Contents::Tree(files) => Some(files.into_iter().map(|(path, _)| path).collect()),
        Contents::Nameless(_) | Contents::Whole(_) | Contents::Parts(_) => None,
    }
}
