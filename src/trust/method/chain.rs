//! From a signer's certificate to an authority that is trusted: the links, and what every certificate on the way must be.
//!
//! Stricter than RFC 5280 where that costs nobody anything: names are compared byte by byte, every certificate above the signer's
//! counts against a path length, and constraints on names, which decide nothing here, refuse instead of being passed over.

use jiff::Timestamp;
use ring::signature::{
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RsaParameters, UnparsedPublicKey,
};
use sha2::Digest as _;
use x509_cert::{der::Decode as _, spki::SubjectPublicKeyInfoRef};

use super::{certificate::Certificate, key::PublicKey};
use crate::api::Reason;

/// The most certificates between a signer's and the trusted one.
const MAX_DEPTH: usize = 8;
/// The most signatures that are checked for one chain, so that many certificates of one name cost little.
const MAX_CHECKS: usize = 32;

/// Why no path leads to a trusted authority: the rest of a sentence that begins with the bundle's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub reason: Reason,
    pub message: String,
}

/// When the certificate begins or ends next, after `now`.
pub fn edge(certificate: &Certificate, now: Timestamp) -> Option<Timestamp> {
    let (first, last) = certificate.validity;
    let edges = [Some(first), last.checked_add(1)].into_iter().flatten();
    edges.filter(|second| *second > now.as_second()).min().and_then(|second| Timestamp::from_second(second).ok())
}

/// Whether a certificate may stand above others; if not, why: the rest of a sentence that begins with it.
pub fn is_authority(certificate: &Certificate) -> Result<(), String> {
    let says = &certificate.says;
    if !certificate.is_authority() {
        return Err("is no authority's: it has no basicConstraints with CA:TRUE".to_owned());
    }
    if says.usage.as_ref().is_some_and(|usage| !usage.key_cert_sign()) {
        return Err("may not issue certificates: its key usage leaves keyCertSign out".to_owned());
    }
    if says.is_name_constrained {
        return Err("restricts the names below it (nameConstraints), which is not supported here".to_owned());
    }
    if !says.allows_code_signing() {
        return Err("is for other purposes: its extendedKeyUsage leaves codeSigning out".to_owned());
    }
    match says.unknown {
        Some(oid) => Err(format!("has a critical extension {oid} that is not known here")),
        None => Ok(()),
    }
}

/// Looks for a path from `leaf` over some of `others` to one of `roots` on which everything holds; it may be one of them itself.
pub fn lead(leaf: &Certificate, others: &[Certificate], roots: &[Certificate], now: Timestamp) -> Result<(), Refusal> {
    if roots.iter().any(|root| (&root.tbs, &root.signature) == (&leaf.tbs, &leaf.signature)) {
        return is_valid(leaf, true, leaf, now.as_second());
    }
    let mut search = Search { others, roots, now: now.as_second(), checks: 0, nearest: None };
    if search.extend(&mut vec![leaf]) {
        return Ok(());
    }
    Err(search.nearest.map_or_else(|| unconnected(leaf, leaf), |(_, refusal)| refusal))
}

struct Search<'a> {
    others: &'a [Certificate],
    roots: &'a [Certificate],
    now: i64,
    checks: usize,
    /// Of what was wrong, what came nearest to success, and how near.
    nearest: Option<(usize, Refusal)>,
}

impl<'a> Search<'a> {
    fn extend(&mut self, path: &mut Vec<&'a Certificate>) -> bool {
        let Some((&leaf, &last)) = path.first().zip(path.last()) else { return false };
        let mut is_named = false;
        for root in self.roots.iter().filter(|root| root.subject_der == last.issuer_der) {
            if !self.signed(root, last) {
                is_named = true;
                continue;
            }
            path.push(root);
            let found = holds(path, self.now);
            path.pop();
            match found {
                Ok(()) => return true,
                Err(refusal) => self.note(100 + path.len(), refusal),
            }
        }
        if path.len() <= MAX_DEPTH {
            for other in self.others.iter().filter(|other| other.subject_der == last.issuer_der) {
                if path.iter().any(|known| std::ptr::eq(*known, other)) || !self.signed(other, last) {
                    continue;
                }
                path.push(other);
                if self.extend(path) {
                    return true;
                }
                path.pop();
            }
        }
        let refusal = if is_named { another_key(leaf, last) } else { unconnected(leaf, last) };
        self.note(path.len(), refusal);
        false
    }

    fn signed(&mut self, issuer: &Certificate, certificate: &Certificate) -> bool {
        self.checks += 1;
        self.checks <= MAX_CHECKS && signed(issuer, certificate)
    }

    fn note(&mut self, nearness: usize, refusal: Refusal) {
        if self.nearest.as_ref().is_none_or(|(nearest, _)| nearness > *nearest) {
            self.nearest = Some((nearness, refusal));
        }
    }
}

/// Whether everything holds on a path whose links hold: the signer's certificate first, the trusted one last.
fn holds(path: &[&Certificate], now: i64) -> Result<(), Refusal> {
    let Some((leaf, above)) = path.split_first() else { return Ok(()) };
    for (below, authority) in above.iter().enumerate() {
        let unfit = |why: &str| Refusal {
            reason: Reason::CertificateUnfit,
            message: format!(
                "was signed with a certificate for {} under one for {} that {why}; have the model signed under another authority",
                leaf.subject, authority.subject
            ),
        };
        is_authority(authority).map_err(|why| unfit(&why))?;
        let allowed = authority.says.basic.as_ref().and_then(|basic| basic.path_len_constraint);
        if allowed.is_some_and(|allowed| below > usize::from(allowed)) {
            let allowed = allowed.unwrap_or_default();
            return Err(unfit(&format!("allows {allowed} authorities between itself and a signer, and there are {below}")));
        }
    }
    path.iter().enumerate().try_for_each(|(index, certificate)| is_valid(certificate, index == 0, leaf, now))
}

fn is_valid(certificate: &Certificate, is_leaf: bool, leaf: &Certificate, now: i64) -> Result<(), Refusal> {
    let (first, last) = certificate.validity;
    let whose = match is_leaf {
        true => format!("was signed with a certificate for {}, which", leaf.subject),
        false => format!("was signed with a certificate for {} under one for {}, which", leaf.subject, certificate.subject),
    };
    if now > last {
        let message =
            format!("{whose} has expired: it was valid until {}; have the model signed with one that is valid", shown(last));
        return Err(Refusal { reason: Reason::CertificateExpired, message });
    }
    if now < first {
        let message = format!("{whose} is not valid yet: it is from {} on; wait, or see whether a clock is wrong", shown(first));
        return Err(Refusal { reason: Reason::CertificateNotYetValid, message });
    }
    Ok(())
}

/// Whether a certificate is valid now; if not, why: the rest of a sentence that begins with it.
pub fn is_in_time(certificate: &Certificate, now: Timestamp) -> Result<(), String> {
    let (first, last) = certificate.validity;
    match now.as_second() {
        now if now > last => Err(format!("has expired: it was valid until {}", shown(last))),
        now if now < first => Err(format!("is not valid yet: it is from {} on", shown(first))),
        _ => Ok(()),
    }
}

fn shown(second: i64) -> String {
    Timestamp::from_second(second).map_or_else(|_| "another age".to_owned(), |time| time.to_string())
}

fn unconnected(leaf: &Certificate, last: &Certificate) -> Refusal {
    let message = if std::ptr::eq(leaf, last) && leaf.subject_der == leaf.issuer_der {
        format!(
            "was signed with a certificate for {} that nobody but itself vouches for, not with one of the authority that is wanted",
            leaf.subject
        )
    } else {
        format!(
            "was signed with a certificate for {} that leads to {}, which neither is the authority that is wanted nor has a certificate in the chain",
            leaf.subject, last.issuer
        )
    };
    Refusal { reason: Reason::WrongSigner, message }
}

fn another_key(leaf: &Certificate, last: &Certificate) -> Refusal {
    let message = format!(
        "was signed with a certificate for {} that leads to {}: the authority that is wanted has that name, and its key did not issue the certificate for {}",
        leaf.subject, last.issuer, last.subject
    );
    Refusal { reason: Reason::WrongSigner, message }
}

/// Whether the key of `issuer` signed `certificate`.
pub fn signed(issuer: &Certificate, certificate: &Certificate) -> bool {
    let (tbs, signature) = (certificate.tbs.as_slice(), certificate.signature.as_slice());
    let parameters = certificate.algorithm.parameters.as_ref();
    let is_null = parameters.is_none_or(x509_cert::der::Any::is_null);
    let rsa = |algorithm: &'static RsaParameters| {
        is_null && rsa_key(&issuer.spki).is_some_and(|key| UnparsedPublicKey::new(algorithm, key).verify(tbs, signature).is_ok())
    };
    let ec = |digest: &[u8]| {
        parameters.is_none() && PublicKey::from_spki(&issuer.spki).is_ok_and(|key| key.holds_digest(digest, signature))
    };
    match certificate.algorithm.oid.to_string().as_str() {
        "1.2.840.113549.1.1.11" => rsa(&RSA_PKCS1_2048_8192_SHA256),
        "1.2.840.113549.1.1.12" => rsa(&RSA_PKCS1_2048_8192_SHA384),
        "1.2.840.113549.1.1.13" => rsa(&RSA_PKCS1_2048_8192_SHA512),
        "1.2.840.10045.4.3.2" => ec(&sha2::Sha256::digest(tbs)),
        "1.2.840.10045.4.3.3" => ec(&sha2::Sha384::digest(tbs)),
        "1.2.840.10045.4.3.4" => ec(&sha2::Sha512::digest(tbs)),
        _ => false,
    }
}

/// The `RSAPublicKey` in there, if it is one.
fn rsa_key(spki: &[u8]) -> Option<&[u8]> {
    let info = SubjectPublicKeyInfoRef::from_der(spki).ok()?;
    if info.algorithm.oid.to_string() != "1.2.840.113549.1.1.1" {
        return None;
    }
    info.subject_public_key.as_bytes()
}
