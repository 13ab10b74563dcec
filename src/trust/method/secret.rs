//! Private keys that sign: EC P-256, P-384 and P-521. What a key says of itself is its public half; the rest is shown to nobody.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use p256::{
    ecdsa::signature::MultipartSigner as _,
    elliptic_curve::zeroize::Zeroizing,
    pkcs8::{
        DecodePrivateKey as _, EncodePublicKey as _, ObjectIdentifier, PrivateKeyInfoRef,
        spki::der::{
            Decode as _, Error as DerError, Reader as _, SliceReader, TagMode, TagNumber,
            asn1::{BitStringRef, OctetStringRef},
            pem::LineEnding,
        },
    },
};

use super::key::{EC, P256, P384, P521, PublicKey, algorithm_name, curve_name};

/// A private key on one of the three curves of OpenSSF Model Signing. It signs without randomness (RFC 6979): one text has one
/// signature by it.
pub struct PrivateKey {
    secret: Secret,
    public: PublicKey,
}

enum Secret {
    P256(p256::ecdsa::SigningKey),
    P384(p384::ecdsa::SigningKey),
    P521(p521::ecdsa::SigningKey),
}

/// A text that is not a private key we can use: what it is instead, and what is needed. It repeats nothing of the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{found}; needed is an EC private key on P-256, P-384 or P-521 in a PEM block 'PRIVATE KEY' or 'EC PRIVATE KEY'{how}")]
pub struct InvalidPrivateKey {
    found: String,
    how: &'static str,
}

const CUT: &str = "a PEM block is cut off: it has no END line that belongs to its BEGIN line";
const DECRYPT: &str = ": openssl pkey -in FILE -out PLAIN decrypts one; delete PLAIN after signing";

impl PrivateKey {
    /// The longest text that is looked at, in bytes.
    pub const MAX_PEM: usize = PublicKey::MAX_PEM;

    /// Reads the one key in `text`, as `openssl ecparam -genkey` or `openssl genpkey` writes it.
    ///
    /// # Errors
    /// No key, several, one of another kind, or an encrypted one.
    pub fn from_pem(text: &str) -> Result<Self, InvalidPrivateKey> {
        if text.len() > Self::MAX_PEM {
            return Err(invalid(format!("the key is {} bytes long, more than {}", text.len(), Self::MAX_PEM)));
        }
        let mut found = None;
        let mut rest = text;
        while let Some((_, after)) = rest.split_once("-----BEGIN ") {
            let (label, after) = after.split_once("-----").ok_or_else(|| invalid(CUT.to_owned()))?;
            let (body, after) = after.split_once(&format!("-----END {label}-----")).ok_or_else(|| invalid(CUT.to_owned()))?;
            rest = after;
            if label != "EC PARAMETERS" && found.replace((label, body)).is_some() {
                return Err(invalid("there is more than one PEM block, and one signer has one key".to_owned()));
            }
        }
        let (label, body) = found.ok_or_else(|| {
            let what = if text.trim().is_empty() { "there is nothing" } else { "there is no PEM block" };
            invalid(what.to_owned())
        })?;
        let is_pkcs8 = check_label(label, body)?;
        let base64 = Zeroizing::new(body.split_ascii_whitespace().collect::<String>());
        // Not even where it goes wrong is told: that would say something of the rest.
        let der = STANDARD.decode(base64.as_bytes()).map_err(|_| invalid("the PEM block is not base64".to_owned()))?;
        let der = Zeroizing::new(der);
        Self::read(&der, is_pkcs8)
    }

    fn read(der: &[u8], is_pkcs8: bool) -> Result<Self, InvalidPrivateKey> {
        let unreadable = || invalid("the PEM block holds no EC private key that can be read".to_owned());
        let curve = if is_pkcs8 { pkcs8_curve(der)? } else { sec1_curve(der).ok_or_else(unreadable)? };
        macro_rules! secret {
            ($curve:ident, $variant:ident) => {
                Secret::$variant(if is_pkcs8 {
                    $curve::ecdsa::SigningKey::from_pkcs8_der(der).map_err(|_| unreadable())?
                } else {
                    $curve::SecretKey::from_sec1_der(der).map_err(|_| unreadable())?.into()
                })
            };
        }
        let secret = match curve {
            P256 => secret!(p256, P256),
            P384 => secret!(p384, P384),
            P521 => secret!(p521, P521),
            other => return Err(invalid(format!("this is an EC key on {}", curve_name(other)))),
        };
        let pem = match &secret {
            Secret::P256(key) => key.verifying_key().to_public_key_pem(LineEnding::LF),
            Secret::P384(key) => key.verifying_key().to_public_key_pem(LineEnding::LF),
            Secret::P521(key) => key.verifying_key().to_public_key_pem(LineEnding::LF),
        };
        let public = pem.ok().and_then(|pem| PublicKey::from_pem(&pem).ok()).ok_or_else(unreadable)?;
        Ok(Self { secret, public })
    }

    /// The public half.
    pub const fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The signature over the concatenation of `message`, ECDSA in DER, with the hash that belongs to the curve.
    pub(in crate::trust) fn sign(&self, message: &[&[u8]]) -> Vec<u8> {
        match &self.secret {
            Secret::P256(key) => {
                let signature: p256::ecdsa::Signature = key.multipart_sign(message);
                signature.to_der().as_bytes().to_vec()
            }
            Secret::P384(key) => {
                let signature: p384::ecdsa::Signature = key.multipart_sign(message);
                signature.to_der().as_bytes().to_vec()
            }
            Secret::P521(key) => {
                let signature: p521::ecdsa::Signature = key.multipart_sign(message);
                signature.to_der().as_bytes().to_vec()
            }
        }
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "private half of {:?}", self.public)
    }
}

const fn invalid(found: String) -> InvalidPrivateKey {
    InvalidPrivateKey { found, how: "" }
}

/// Whether a block with this label is PKCS#8; if not, it is SEC1.
fn check_label(label: &str, body: &str) -> Result<bool, InvalidPrivateKey> {
    let known = |found: &str, how| Err(InvalidPrivateKey { found: found.to_owned(), how });
    match label {
        "ENCRYPTED PRIVATE KEY" => known("the key is encrypted", DECRYPT),
        "EC PRIVATE KEY" if body.contains("ENCRYPTED") => known("the key is encrypted", DECRYPT),
        "PRIVATE KEY" => Ok(true),
        "EC PRIVATE KEY" => Ok(false),
        "RSA PRIVATE KEY" => known("this is an RSA key", ""),
        "DSA PRIVATE KEY" => known("this is a DSA key", ""),
        "OPENSSH PRIVATE KEY" => {
            known("this is an OpenSSH key", ": ssh-keygen -p -m PKCS8 -f COPY writes one over a copy of an ECDSA key")
        }
        "PUBLIC KEY" => known("this is a public key, with which nothing can be signed", ""),
        "CERTIFICATE" => known("this is a certificate, with which nothing can be signed", ": it belongs to --certificate-chain"),
        other => Err(invalid(format!("this is a PEM block {:?}", other.chars().take(40).collect::<String>()))),
    }
}

fn pkcs8_curve(der: &[u8]) -> Result<ObjectIdentifier, InvalidPrivateKey> {
    let info = PrivateKeyInfoRef::try_from(der)
        .map_err(|_| invalid("the PEM block holds no private key (PrivateKeyInfo)".to_owned()))?;
    if info.algorithm.oid != EC {
        return Err(invalid(format!("this is {}", algorithm_name(info.algorithm.oid))));
    }
    let written_out = |_| invalid("this is an EC key that writes its curve out instead of naming it".to_owned());
    info.algorithm.parameters_oid().map_err(written_out)
}

/// The curve that an `ECPrivateKey` (RFC 5915) names.
fn sec1_curve(der: &[u8]) -> Option<ObjectIdentifier> {
    let mut reader = SliceReader::new(der).ok()?;
    let curve = reader.sequence(|inner| {
        u8::decode(inner)?;
        <&OctetStringRef>::decode(inner)?;
        let curve = inner.context_specific::<ObjectIdentifier>(TagNumber(0), TagMode::Explicit)?;
        inner.context_specific::<BitStringRef<'_>>(TagNumber(1), TagMode::Explicit)?;
        Ok::<_, DerError>(curve)
    });
    curve.ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust::Curve;

    /// Keys made for these tests by OpenSSL 3.0, in both formats; the third is the first one encrypted with "secret".
    const SEC1: &str = include_str!("../../../tests/data/oms/keys/sec1-p256.key");

    fn data(name: &str) -> String {
        std::fs::read_to_string(format!("{}/tests/data/oms/keys/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
    }

    #[test]
    fn keys_of_the_three_curves_are_read_in_both_formats_and_what_they_sign_holds() {
        for (name, curve) in [("p256", Curve::P256), ("p384", Curve::P384), ("p521", Curve::P521)] {
            let [sec1, pkcs8] =
                ["sec1", "pkcs8"].map(|format| PrivateKey::from_pem(&data(&format!("{format}-{name}.key"))).unwrap());
            assert_eq!((sec1.public().curve(), sec1.public()), (curve, pkcs8.public()));
            let signature = sec1.sign(&[b"one, ", b"two"]);
            assert_eq!(signature, pkcs8.sign(&[b"one, two"]), "one text has one signature");
            assert!(sec1.public().holds(&[b"one, two"], &signature));
            assert!(!sec1.public().holds(&[b"one, twO"], &signature));
        }
    }

    #[test]
    fn what_is_no_key_of_ours_is_refused_by_its_name() {
        let two = format!("{SEC1}{SEC1}");
        let cut = SEC1.replace("-----END EC PRIV", "----END EC PRIV");
        let damaged = SEC1.replacen("MHc", "MHd", 1);
        let long = "x".repeat(PrivateKey::MAX_PEM + 1);
        let openssh = "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----";
        for (text, found) in [
            (data("encrypted-pkcs8.key").as_str(), "the key is encrypted"),
            (&data("encrypted-sec1.key"), "openssl pkey -in FILE -out PLAIN"),
            (&data("rsa.key"), "an RSA key"),
            (&data("ed25519.key"), "an Ed25519 key"),
            (&data("secp256k1.key"), "an EC key on secp256k1"),
            (&data("../p256.pub"), "a public key"),
            (&data("../acme-root.pem"), "--certificate-chain"),
            ("-----BEGIN RSA PRIVATE KEY-----\nMA==\n-----END RSA PRIVATE KEY-----", "an RSA key"),
            ("-----BEGIN PRIVATE KEY-----\nMA==\n-----END PRIVATE KEY-----", "no private key"),
            ("-----BEGIN EC PRIVATE KEY-----\n!!\n-----END EC PRIVATE KEY-----", "not base64"),
            (openssh, "ssh-keygen"),
            ("", "nothing"),
            ("hello", "no PEM block"),
            (&two, "more than one"),
            (&cut, "cut off"),
            (&damaged, "can be read"),
            (&long, "bytes long"),
        ] {
            let message = PrivateKey::from_pem(text).unwrap_err().to_string();
            assert!(message.contains(found), "{found}: {message}");
            assert!(message.contains("needed is an EC private key on P-256, P-384 or P-521"), "{message}");
        }
    }

    #[test]
    fn nothing_of_a_private_key_is_repeated() {
        let body: String = SEC1.lines().filter(|line| !line.starts_with("-----") && line.len() > 20).collect();
        let key = PrivateKey::from_pem(SEC1).unwrap();
        let refused = PrivateKey::from_pem(&SEC1.replace("-----END EC", "----END EC")).unwrap_err();
        for shown in [format!("{key:?}"), format!("{refused} {refused:?}")] {
            assert!(body.as_bytes().chunks(12).all(|chunk| !shown.contains(std::str::from_utf8(chunk).unwrap())), "{shown}");
        }
    }
}
