//! The certificates that a signer puts into a signature: their own first, then those that lead from it towards an authority.

use std::fmt::Display;

use jiff::Timestamp;

use super::{
    certificate::{self, Certificate, MAX_CERTIFICATES},
    chain,
    key::PublicKey,
};

/// Certificates for a key, fit to sign models with.
#[derive(Debug, Clone)]
pub struct Own {
    /// In DER, the signer's first. A root, whom everybody has to know by themselves, is not among them.
    pub der: Vec<Vec<u8>>,
    /// Whom the first one is for.
    pub subject: String,
}

const NEEDED: &str = "needed are the signer's certificate and those above it, PEM blocks 'CERTIFICATE'";

/// Finds among the certificates in `pem` the one for `key` and those above it, in whatever order they stand.
///
/// # Errors
/// What would make the signature worthless, in a sentence without its full stop.
pub fn find(key: &PublicKey, pem: &str, now: Timestamp) -> Result<Own, String> {
    let blocks = certificate::pem_blocks(pem, NEEDED)?;
    let mut all = Vec::with_capacity(blocks.len());
    for (index, der) in blocks.into_iter().enumerate() {
        // One that stands there twice, as where somebody is their own authority, says nothing more.
        if all.iter().any(|(known, _)| *known == der) {
            continue;
        }
        let read = Certificate::parse(&der).map_err(|why| format!("certificate {} {why}", index + 1))?;
        all.push((der, read));
    }
    let is_ours = |certificate: &Certificate| PublicKey::from_spki(&certificate.spki).is_ok_and(|found| found == *key);
    let (ours, mut others): (Vec<_>, Vec<_>) = all.into_iter().partition(|(_, certificate)| is_ours(certificate));
    let count = others.len();
    let [leaf] = <[_; 1]>::try_from(ours).map_err(|ours: Vec<_>| match ours.len() {
        0 if count == 1 => format!("its one certificate is not for the private key, whose public half is {}", key.hint()),
        0 => format!("none of its {count} certificates is for the private key, whose public half is {}", key.hint()),
        several => format!("{several} of its certificates are for the private key: leave the one in it that is to be used"),
    })?;
    let subject = leaf.1.subject.to_string();
    let named = |certificate: &Certificate, why: &dyn Display| format!("the certificate for {} {why}", certificate.subject);
    leaf.1.signs_models().map_err(|why| named(&leaf.1, &why))?;
    let mut path = vec![leaf];
    let mut next = 0;
    while let Some((_, below)) = path.get(next).cloned() {
        let is_above =
            |(_, above): &(Vec<u8>, Certificate)| above.subject_der == below.issuer_der && chain::signed(above, &below);
        let (above, rest): (Vec<_>, Vec<_>) = others.into_iter().partition(is_above);
        others = rest;
        path.extend(above);
        next += 1;
    }
    if let Some((_, stranger)) = others.first() {
        return Err(named(stranger, &"did not issue the signer's or one above it: take it out"));
    }
    for (index, (_, certificate)) in path.iter().enumerate() {
        if index > 0 {
            chain::is_authority(certificate).map_err(|why| named(certificate, &why))?;
        }
        chain::is_in_time(certificate, now).map_err(|why| named(certificate, &why))?;
    }
    let is_root = |it: &Certificate| it.subject_der == it.issuer_der && chain::signed(it, it);
    let der = path.into_iter().enumerate().filter(|(index, (_, it))| *index == 0 || !is_root(it)).map(|(_, (der, _))| der);
    Ok(Own { der: der.take(MAX_CERTIFICATES).collect(), subject })
}
