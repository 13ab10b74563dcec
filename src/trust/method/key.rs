//! Public keys that signatures are checked with: EC P-256, P-384 and P-521.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use p256::ecdsa::signature::{MultipartVerifier as _, hazmat::PrehashVerifier as _};
use p256::pkcs8::{
    DecodePublicKey, EncodePublicKey, ObjectIdentifier,
    spki::{SubjectPublicKeyInfoRef, der::pem::LineEnding},
};

use crate::model::Digest;

/// A public key on one of the three curves of OpenSSF Model Signing. The curve decides the hash: SHA-256, SHA-384, SHA-512.
#[derive(Clone)]
pub struct PublicKey {
    key: Key,
    hint: Hint,
}

#[derive(Clone)]
enum Key {
    P256(p256::ecdsa::VerifyingKey),
    P384(p384::ecdsa::VerifyingKey),
    P521(p521::ecdsa::VerifyingKey),
}

/// The curve of a [`PublicKey`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is named by its curve")]
pub enum Curve {
    P256,
    P384,
    P521,
}

/// What a bundle calls its key: the SHA-256, in lower-case hexadecimal digits, of the key's PEM text.
///
/// One key has one hint, so two keys are the same key exactly when their hints are equal.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hint(String);

/// A text that is not a public key we can use: what it is instead, and what is needed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{found}; needed is an EC public key on P-256, P-384 or P-521 in a PEM block 'PUBLIC KEY'{how}")]
pub struct InvalidKey {
    found: String,
    how: &'static str,
}

pub(super) const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
pub(super) const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
pub(super) const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
pub(super) const P521: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.35");

impl PublicKey {
    /// The longest text that is looked at, in bytes.
    pub const MAX_PEM: usize = 16 * 1024;

    /// Reads the one PEM block `PUBLIC KEY` of `text`; what stands before and after it is ignored.
    pub fn from_pem(text: &str) -> Result<Self, InvalidKey> {
        if text.len() > Self::MAX_PEM {
            return Err(invalid(format!("the key is {} bytes long, more than {}", text.len(), Self::MAX_PEM)));
        }
        let (label, body) = pem_block(text)?;
        if label != "PUBLIC KEY" {
            return Err(wrong_label(label));
        }
        let der = STANDARD
            .decode(body.split_ascii_whitespace().collect::<String>())
            .map_err(|error| invalid(format!("the PEM block is not base64: {error}")))?;
        Self::from_spki(&der)
    }

    /// The key in a `SubjectPublicKeyInfo` in DER.
    pub(super) fn from_spki(der: &[u8]) -> Result<Self, InvalidKey> {
        let info = SubjectPublicKeyInfoRef::try_from(der)
            .map_err(|_| invalid("the PEM block holds no public key (SubjectPublicKeyInfo)".to_owned()))?;
        if info.algorithm.oid != EC {
            return Err(invalid(format!("this is {}", algorithm_name(info.algorithm.oid))));
        }
        let curve = info
            .algorithm
            .parameters_oid()
            .map_err(|_| invalid("this is an EC key that writes its curve out instead of naming it".to_owned()))?;
        let not_on_curve = |_| invalid("the PEM block names a point that is not on its curve".to_owned());
        let key = match curve {
            P256 => Key::P256(DecodePublicKey::from_public_key_der(der).map_err(not_on_curve)?),
            P384 => Key::P384(DecodePublicKey::from_public_key_der(der).map_err(not_on_curve)?),
            P521 => Key::P521(DecodePublicKey::from_public_key_der(der).map_err(not_on_curve)?),
            other => return Err(invalid(format!("this is an EC key on {}", curve_name(other)))),
        };
        let pem = key.pem().ok_or_else(|| invalid("the key cannot be written as PEM".to_owned()))?;
        Ok(Self { hint: Hint(Digest::of(pem).hex()), key })
    }

    /// What bundles that this key signed call it.
    pub fn hint(&self) -> &Hint {
        &self.hint
    }

    /// The curve.
    pub fn curve(&self) -> Curve {
        match self.key {
            Key::P256(_) => Curve::P256,
            Key::P384(_) => Curve::P384,
            Key::P521(_) => Curve::P521,
        }
    }

    /// Whether `signature`, ECDSA in DER, is this key's over the concatenation of `message`.
    pub(in crate::trust) fn holds(&self, message: &[&[u8]], signature: &[u8]) -> bool {
        match &self.key {
            Key::P256(key) => {
                p256::ecdsa::Signature::from_der(signature).is_ok_and(|it| key.multipart_verify(message, &it).is_ok())
            }
            Key::P384(key) => {
                p384::ecdsa::Signature::from_der(signature).is_ok_and(|it| key.multipart_verify(message, &it).is_ok())
            }
            Key::P521(key) => {
                p521::ecdsa::Signature::from_der(signature).is_ok_and(|it| key.multipart_verify(message, &it).is_ok())
            }
        }
    }
}

impl PublicKey {
    /// Whether `signature`, ECDSA in DER, is this key's over something that has this digest, whatever made the digest.
    pub(super) fn holds_digest(&self, digest: &[u8], signature: &[u8]) -> bool {
        match &self.key {
            Key::P256(key) => p256::ecdsa::Signature::from_der(signature).is_ok_and(|it| key.verify_prehash(digest, &it).is_ok()),
            Key::P384(key) => p384::ecdsa::Signature::from_der(signature).is_ok_and(|it| key.verify_prehash(digest, &it).is_ok()),
            Key::P521(key) => {
                // ECDSA takes a digest as a number; the library wants more digits than SHA-256 has, and zeros before change nothing.
                let padded = [[0; 32].as_slice(), digest].concat();
                let digest = if digest.len() < 48 { padded.as_slice() } else { digest };
                p521::ecdsa::Signature::from_der(signature).is_ok_and(|it| key.verify_prehash(digest, &it).is_ok())
            }
        }
    }

    /// Whether `signature` is this key's over `message`, hashed with SHA-256 whatever the curve.
    pub(in crate::trust) fn holds_sha256(&self, message: &[u8], signature: &[u8]) -> bool {
        self.holds_digest(Digest::of(message).as_bytes(), signature)
    }
}

impl Key {
    /// The text that hints are made of: 64 columns, the point uncompressed, a line feed at the end.
    fn pem(&self) -> Option<String> {
        match self {
            Self::P256(key) => key.to_public_key_pem(LineEnding::LF),
            Self::P384(key) => key.to_public_key_pem(LineEnding::LF),
            Self::P521(key) => key.to_public_key_pem(LineEnding::LF),
        }
        .ok()
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.hint == other.hint
    }
}

impl Eq for PublicKey {}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.curve(), self.hint)
    }
}

impl Hint {
    /// All 64 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first eight digits: enough for a person, never enough for a check.
    pub fn short(&self) -> &str {
        self.0.get(..8).unwrap_or(&self.0)
    }
}

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

const fn invalid(found: String) -> InvalidKey {
    InvalidKey { found, how: "" }
}

/// The label and the body of the one key in `text`. Curve parameters, which openssl writes before a key, are passed over.
fn pem_block(text: &str) -> Result<(&str, &str), InvalidKey> {
    const CUT: &str = "the PEM block is cut off: it has no END line that belongs to its BEGIN line";
    let mut found = None;
    let mut rest = text;
    while let Some((_, after)) = rest.split_once("-----BEGIN ") {
        let (label, after) = after.split_once("-----").ok_or_else(|| invalid(CUT.to_owned()))?;
        let (body, after) = after.split_once(&format!("-----END {label}-----")).ok_or_else(|| invalid(CUT.to_owned()))?;
        rest = after;
        if label == "EC PARAMETERS" {
            continue;
        }
        if found.replace((label, body)).is_some() {
            return Err(invalid("there is more than one PEM block, and one signer has one key".to_owned()));
        }
    }
    found.ok_or_else(|| no_block(text))
}

fn no_block(text: &str) -> InvalidKey {
    let text = text.trim();
    if text.is_empty() {
        return invalid("there is nothing".to_owned());
    }
    if text.starts_with("ssh-") || text.starts_with("ecdsa-sha2-") {
        return InvalidKey { found: "this is an OpenSSH key".to_owned(), how: ": ssh-keygen -e -m PKCS8 -f FILE writes one" };
    }
    invalid("there is no PEM block".to_owned())
}

fn wrong_label(label: &str) -> InvalidKey {
    if label.contains("PRIVATE KEY") {
        return InvalidKey {
            found: "this is a private key, which belongs to its owner only and should be replaced if others could read it here"
                .to_owned(),
            how: ": openssl pkey -in FILE -pubout writes one",
        };
    }
    match label {
        "CERTIFICATE" => InvalidKey {
            found: "this is a certificate".to_owned(),
            how: ": openssl x509 -in FILE -noout -pubkey writes one, if its key is of that kind",
        },
        "RSA PUBLIC KEY" => invalid("this is an RSA key".to_owned()),
        other => invalid(format!("this is a PEM block {:?}", other.chars().take(40).collect::<String>())),
    }
}

pub(super) fn algorithm_name(oid: ObjectIdentifier) -> String {
    match oid.to_string().as_str() {
        "1.2.840.113549.1.1.1" | "1.2.840.113549.1.1.10" => "an RSA key".to_owned(),
        "1.2.840.10040.4.1" => "a DSA key".to_owned(),
        "1.3.101.110" | "1.3.101.111" => "a key for key agreement (X25519 or X448)".to_owned(),
        "1.3.101.112" => "an Ed25519 key".to_owned(),
        "1.3.101.113" => "an Ed448 key".to_owned(),
        "2.16.840.1.101.3.4.3.17" | "2.16.840.1.101.3.4.3.18" | "2.16.840.1.101.3.4.3.19" => "an ML-DSA key".to_owned(),
        other => format!("a key of algorithm {other}"),
    }
}

pub(super) fn curve_name(oid: ObjectIdentifier) -> String {
    match oid.to_string().as_str() {
        "1.3.132.0.10" => "secp256k1".to_owned(),
        "1.3.132.0.33" => "P-224".to_owned(),
        "1.2.840.10045.3.1.1" => "P-192".to_owned(),
        other => format!("curve {other}"),
    }
}
