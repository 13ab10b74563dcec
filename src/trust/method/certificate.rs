//! Signatures by the owner of an X.509 certificate: read strictly, believed only under an authority that a policy names.

use std::collections::BTreeSet;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use x509_cert::{
    TbsCertificate, Version,
    certificate::Rfc5280,
    der::{Decode as _, Encode as _, Reader as _, SliceReader, asn1::BitString, oid::ObjectIdentifier},
    ext::{
        Extension,
        pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAltName},
    },
    spki::AlgorithmIdentifierOwned,
    time::Validity,
};

use super::{
    SignerId, chain,
    key::PublicKey,
    name::{self, Dn, Kind, Wanted},
};
use crate::{api::Reason, model::Digest, trust::rejected::Rejected};

/// The most certificates that a bundle may carry, and that a policy may name as one authority.
pub const MAX_CERTIFICATES: usize = 16;
/// The longest certificate, in bytes of DER.
pub const MAX_DER: usize = 16 * 1024;
/// The longest text with an authority's certificates, in bytes.
pub const MAX_PEM: usize = 256 * 1024;

const CODE_SIGNING: &str = "1.3.6.1.5.5.7.3.3";
const ANY_PURPOSE: &str = "2.5.29.37.0";

/// A certificate that was read. Nobody has checked it yet.
#[derive(Debug, Clone)]
pub(super) struct Certificate {
    /// What its issuer signed, byte by byte.
    pub tbs: Vec<u8>,
    pub algorithm: AlgorithmIdentifierOwned,
    pub signature: Vec<u8>,
    pub subject: Dn,
    pub subject_der: Vec<u8>,
    pub issuer: Dn,
    pub issuer_der: Vec<u8>,
    /// The first and the last second in which it is valid.
    pub validity: (i64, i64),
    /// The key, as `SubjectPublicKeyInfo`.
    pub spki: Vec<u8>,
    /// What of the extensions decides.
    pub says: Extensions,
    whole: Digest,
}

/// What a certificate's extensions say.
#[derive(Debug, Clone, Default)]
pub(super) struct Extensions {
    pub basic: Option<BasicConstraints>,
    pub usage: Option<KeyUsage>,
    pub purposes: Option<Vec<ObjectIdentifier>>,
    pub names: Vec<(Kind, String)>,
    /// It restricts the names that may stand below it.
    pub is_name_constrained: bool,
    /// A critical one that is not known here.
    pub unknown: Option<ObjectIdentifier>,
}

impl Certificate {
    /// Reads DER; the error is the rest of a sentence that begins with the certificate.
    pub fn parse(der: &[u8]) -> Result<Self, String> {
        if der.len() > MAX_DER {
            return Err(format!("is {} bytes long, more than the {MAX_DER} that are read here", der.len()));
        }
        let unreadable = |error: x509_cert::der::Error| format!("cannot be read as an X.509 certificate: {error}");
        let mut reader = SliceReader::new(der).map_err(unreadable)?;
        let parts = reader.sequence(|inner| {
            let tbs = inner.tlv_bytes()?;
            Ok::<_, x509_cert::der::Error>((tbs, AlgorithmIdentifierOwned::decode(inner)?, BitString::decode(inner)?))
        });
        let (tbs, algorithm, signature) = parts.map_err(unreadable)?;
        reader.finish().map_err(unreadable)?;
        let read = TbsCertificate::from_der(tbs).map_err(unreadable)?;
        if read.version() != Version::V3 {
            return Err("is not of version 3".to_owned());
        }
        if *read.signature() != algorithm {
            return Err("names two different algorithms for its own signature".to_owned());
        }
        Ok(Self {
            signature: signature.as_bytes().ok_or("has a signature that is cut off within a byte")?.to_vec(),
            algorithm,
            subject: Dn::of(read.subject()),
            subject_der: read.subject().to_der().map_err(unreadable)?,
            issuer: Dn::of(read.issuer()),
            issuer_der: read.issuer().to_der().map_err(unreadable)?,
            validity: seconds(read.validity()),
            spki: read.subject_public_key_info().to_der().map_err(unreadable)?,
            says: Extensions::read(read.extensions().map_or(&[], Vec::as_slice))?,
            tbs: tbs.to_vec(),
            whole: Digest::of(der),
        })
    }

    /// Whether it says that it is an authority's.
    pub fn is_authority(&self) -> bool {
        self.says.basic.as_ref().is_some_and(|basic| basic.ca)
    }

    /// Whether it may sign code, as far as it says for what it is.
    pub fn signs_models(&self) -> Result<(), String> {
        let Extensions { usage, purposes, unknown, .. } = &self.says;
        let next =
            "have the model signed with a certificate for code signing (keyUsage digitalSignature, extendedKeyUsage codeSigning)";
        if let Some(oid) = unknown {
            return Err(format!("has a critical extension {oid} that is not known here; {next}"));
        }
        let signs_code = purposes.as_ref().map(|purposes| purposes.iter().any(|purpose| purpose.to_string() == CODE_SIGNING));
        if let (Some(purposes), Some(false)) = (purposes, signs_code) {
            return Err(format!("{}, and signing a model needs codeSigning; {next}", purpose_of(purposes)));
        }
        let digital = usage.as_ref().map(KeyUsage::digital_signature);
        if digital == Some(false) {
            return Err(format!("is not for signatures: its key usage leaves digitalSignature out; {next}"));
        }
        // The reference client's own leaves say CA:TRUE, but cannot issue anything: such a one is a signer's. A real authority is not.
        let issues = usage.as_ref().is_none_or(KeyUsage::key_cert_sign);
        if self.is_authority() && (issues || signs_code != Some(true)) {
            return Err(format!("is an authority's own, which issues certificates and signs no models; {next}"));
        }
        if digital.is_none() && signs_code.is_none() {
            return Err(format!("does not say that it is for signing; {next}"));
        }
        Ok(())
    }
}

fn purpose_of(purposes: &[ObjectIdentifier]) -> String {
    let names = |purpose: &ObjectIdentifier| match purpose.to_string().as_str() {
        "1.3.6.1.5.5.7.3.1" => "serverAuth".to_owned(),
        "1.3.6.1.5.5.7.3.2" => "clientAuth".to_owned(),
        "1.3.6.1.5.5.7.3.4" => "emailProtection".to_owned(),
        "1.3.6.1.5.5.7.3.8" => "timeStamping".to_owned(),
        "1.3.6.1.5.5.7.3.9" => "OCSPSigning".to_owned(),
        ANY_PURPOSE => "anyExtendedKeyUsage".to_owned(),
        other => other.to_owned(),
    };
    let names: Vec<_> = purposes.iter().take(4).map(names).collect();
    let kind = match names.first().map(String::as_str) {
        Some("serverAuth") => "is a TLS server's",
        Some("clientAuth") => "is a TLS client's",
        _ => "is for something else",
    };
    format!("{kind} (extendedKeyUsage {})", names.join(", "))
}

fn seconds(validity: &Validity<Rfc5280>) -> (i64, i64) {
    let second = |time: x509_cert::time::Time| i64::try_from(time.to_unix_duration().as_secs()).unwrap_or(i64::MAX);
    (second(validity.not_before), second(validity.not_after))
}

impl Extensions {
    fn read(list: &[Extension]) -> Result<Self, String> {
        let mut says = Self::default();
        let mut seen = BTreeSet::new();
        for extension in list {
            let oid = extension.extn_id.to_string();
            let content = extension.extn_value.as_bytes();
            let unreadable = |error: x509_cert::der::Error| format!("has an extension {oid} that cannot be read: {error}");
            if !seen.insert(extension.extn_id) {
                return Err(format!("has extension {oid} twice"));
            }
            match oid.as_str() {
                "2.5.29.19" => says.basic = Some(BasicConstraints::from_der(content).map_err(unreadable)?),
                "2.5.29.15" => says.usage = Some(KeyUsage::from_der(content).map_err(unreadable)?),
                "2.5.29.37" => says.purposes = Some(ExtendedKeyUsage::from_der(content).map_err(unreadable)?.0),
                "2.5.29.17" => says.names = name::beside(&SubjectAltName::from_der(content).map_err(unreadable)?.0),
                "2.5.29.30" => says.is_name_constrained = true,
                // Identifiers of keys help to find a path, and a policy OID restricts nothing here: signatures decide.
                "2.5.29.14" | "2.5.29.35" | "2.5.29.32" => {}
                _ if extension.critical => says.unknown = says.unknown.or(Some(extension.extn_id)),
                _ => {}
            }
        }
        Ok(says)
    }

    /// Whether an authority's certificate lets code be signed below it.
    pub fn allows_code_signing(&self) -> bool {
        let allows = |purpose: &ObjectIdentifier| matches!(purpose.to_string().as_str(), CODE_SIGNING | ANY_PURPOSE);
        self.purposes.as_ref().is_none_or(|purposes| purposes.iter().any(allows))
    }
}

/// The DER of the blocks `CERTIFICATE` in `text`, of which there is at least one; what stands around them is ignored.
pub(super) fn pem_blocks(text: &str, needed: &str) -> Result<Vec<Vec<u8>>, String> {
    if text.len() > MAX_PEM {
        return Err(format!("it is {} bytes long, more than {MAX_PEM}", text.len()));
    }
    let mut blocks = Vec::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once("-----BEGIN ") {
        let cut = || format!("a PEM block is cut off; {needed}");
        let (label, after) = after.split_once("-----").ok_or_else(cut)?;
        let (body, after) = after.split_once(&format!("-----END {label}-----")).ok_or_else(cut)?;
        rest = after;
        if label.contains("PRIVATE KEY") {
            return Err(format!("there is a private key in it, which belongs to its owner only; {needed}"));
        }
        if label != "CERTIFICATE" {
            return Err(format!("there is a PEM block {:?}; {needed}", label.chars().take(40).collect::<String>()));
        }
        if blocks.len() == MAX_CERTIFICATES {
            return Err(format!("there are more than {MAX_CERTIFICATES} certificates"));
        }
        let der = STANDARD.decode(body.split_ascii_whitespace().collect::<String>());
        blocks.push(der.map_err(|error| format!("certificate {} is not base64: {error}", blocks.len() + 1))?);
    }
    if blocks.is_empty() { Err(format!("there is no certificate; {needed}")) } else { Ok(blocks) }
}

/// The certificates of an authority, several while it changes its key.
#[derive(Debug, Clone)]
pub struct Roots(Vec<Certificate>);

impl Roots {
    /// Reads the blocks `CERTIFICATE` of `text`; what stands around them is ignored.
    ///
    /// # Errors
    /// What is wrong, in a sentence without its full stop: no block, too many, one that cannot be read or is no authority's.
    pub fn from_pem(text: &str) -> Result<Self, String> {
        const NEEDED: &str = "needed is a PEM block 'CERTIFICATE' of the authority that issues the signers' certificates";
        let mut roots = Vec::new();
        for (index, der) in pem_blocks(text, NEEDED)?.iter().enumerate() {
            let number = index + 1;
            let root = Certificate::parse(der).map_err(|why| format!("certificate {number} {why}"))?;
            // Who issued a certificate for signing to themselves is meant by exactly that one: it stands above no other.
            let is_own = root.subject_der == root.issuer_der && root.signs_models().is_ok();
            if !is_own {
                chain::is_authority(&root).map_err(|why| format!("certificate {number} ({}) {why}", root.subject))?;
            }
            roots.push(root);
        }
        Ok(Self(roots))
    }
}

/// Whoever has a certificate with a given name from a given authority.
#[derive(Debug, Clone)]
pub struct Authority {
    roots: Roots,
    wanted: Wanted,
    id: String,
}

impl Authority {
    /// Whom the authority of `roots` calls as `wanted` says.
    pub fn new(roots: Roots, wanted: Wanted) -> Self {
        let digests: BTreeSet<_> = roots.0.iter().map(|root| root.whole.hex()).collect();
        let id = format!("certificate {wanted:?} {}", digests.into_iter().collect::<Vec<_>>().join(" "));
        Self { roots, wanted, id }
    }

    /// Two with one identity ask the same.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whom it names.
    pub const fn wanted(&self) -> &Wanted {
        &self.wanted
    }

    /// Whether the owner of the first certificate of `chain` is meant, and `holds` for its key. What the certificates say of
    /// time is put into `edges`: the moments after `now` at which one of them begins or ends.
    ///
    /// # Errors
    /// `SignatureMalformed`, `SignatureUnsupported`, `SignatureInvalid`, `WrongSigner`, `CertificateExpired`,
    /// `CertificateNotYetValid` or `CertificateUnfit`; the message is the rest of a sentence that begins with the bundle's name.
    pub fn vouches(
        &self,
        chain: &[Vec<u8>],
        holds: impl Fn(&PublicKey) -> bool,
        now: Timestamp,
        edges: &mut Vec<Timestamp>,
    ) -> Result<SignerId, Rejected> {
        let rejected = |reason, message| Rejected { reason, message };
        let read = |(index, der): (usize, &Vec<u8>)| {
            let number = index + 1;
            Certificate::parse(der).map_err(|why| {
                rejected(Reason::SignatureMalformed, format!("has a chain of certificates whose certificate {number} {why}"))
            })
        };
        let chain = chain.iter().enumerate().map(read).collect::<Result<Vec<_>, _>>()?;
        let Some((leaf, others)) = chain.split_first() else {
            return Err(rejected(Reason::SignatureMalformed, "has no certificate in its chain".to_owned()));
        };
        edges.extend(chain.iter().chain(&self.roots.0).filter_map(|certificate| chain::edge(certificate, now)));
        let key = PublicKey::from_spki(&leaf.spki).map_err(|_| {
            let message = "was signed with a certificate whose key is of a kind that model signatures do not use; EC keys on P-256, P-384 and P-521 are: have the model signed with one";
            rejected(Reason::SignatureUnsupported, message.to_owned())
        })?;
        if !holds(&key) {
            let message = format!(
                "carries a certificate for {}, but its key did not sign it: it was damaged or altered after it was signed",
                leaf.subject
            );
            return Err(rejected(Reason::SignatureInvalid, message));
        }
        let path = chain::lead(leaf, others, &self.roots.0, now);
        if let Err(refusal @ chain::Refusal { reason: Reason::WrongSigner, .. }) = &path {
            return Err(rejected(refusal.reason, refusal.message.clone()));
        }
        let names = &leaf.says.names;
        self.wanted.check(&leaf.subject, names).map_err(|why| rejected(Reason::WrongSigner, format!("was signed with {why}")))?;
        leaf.signs_models().map_err(|why| {
            rejected(Reason::CertificateUnfit, format!("was signed with a certificate for {} that {why}", leaf.subject))
        })?;
        path.map_err(|refusal| rejected(refusal.reason, refusal.message))?;
        let subject = (!leaf.subject.is_empty()).then(|| format!("subject {}", leaf.subject));
        Ok(SignerId::of_certificate(
            key.hint().clone(),
            subject.into_iter().chain(names.iter().map(|(kind, name)| format!("{kind}:{name}"))),
        ))
    }
}
