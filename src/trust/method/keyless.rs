//! Signatures by a name instead of a key: Sigstore's keyless method. Somebody shows an issuer of identities who they are, gets a
//! certificate for ten minutes, signs with it, and a log notes when.
//!
//! The library `sigstore-verify` checks what is Sigstore's: the certificate and its entry in a log of certificates, the entry in the
//! log of signatures and its proof, timestamps, and the signature over the payload. It gets what was read here, never the bundle's
//! JSON, except for the log's entries, each within a bound. Everything else is decided here and in [`super::super::bundle`]: what the
//! payload says and whether it covers a model, and whether the name is the wanted one.
//!
//! What time it is, the caller says, and no signature from after that counts. The library looks at the machine's clock as well, and
//! there is no way to tell it another time: it refuses entries that a log made in the machine's future, and keys of logs and
//! timestamp authorities whose time has not begun by that clock. It decides nothing else by it. Certificates are judged as of the
//! times that the log and the timestamps prove, never as of now.

use std::fmt;

use jiff::Timestamp;
use serde_json::value::RawValue;
use sigstore_verify::{
    CertificateError, Error, TimestampError, TransparencyLogError, VerificationPolicy,
    bundle::Error as BundleError,
    types::{
        Bundle, CertificateContent, DerCertificate, DsseEnvelope, DsseSignature, KeyId, MediaType, PayloadBytes,
        Rfc3161Timestamp, Sha256Hash, SignatureBytes, SignatureContent, TimestampToken, TimestampVerificationData,
        TransparencyLogEntry, VerificationMaterial, VerificationMaterialContent,
    },
};

use super::{
    SignerId,
    certificate::{Certificate, MAX_DER},
    key::PublicKey,
    name::{Kind, MAX_PATTERN, Pattern},
    roots::TrustRoot,
};
use crate::{
    api::Reason,
    model::Digest,
    trust::{
        rejected::{Cut, PAYLOAD_TYPE, Rejected, decode, malformed},
        wire,
    },
};

/// The most entries of logs, and the most timestamps, that a bundle may carry.
pub const MAX_PROOFS: usize = 4;
/// The longest entry of a log, in bytes of JSON, and the longest timestamp, in bytes of DER.
pub const MAX_PROOF: usize = 64 * 1024;
/// The longest payload whose keyless signature is checked, in bytes: the list of 100,000 files is not as long.
pub const MAX_PAYLOAD: usize = 16 * 1024 * 1024;

/// What a bundle carries to show who signed it, and when. Nobody has checked it yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logged {
    /// DER.
    certificate: Vec<u8>,
    /// JSON, as it stands in the bundle.
    entries: Vec<String>,
    /// DER.
    timestamps: Vec<Vec<u8>>,
}

/// What was signed.
#[derive(Clone, Copy)]
pub(in crate::trust) struct Signed<'a> {
    pub payload: &'a [u8],
    pub signature: &'a [u8],
    /// One that the payload is about.
    pub subject: Digest,
}

impl Logged {
    pub(in crate::trust) fn read(
        certificate: &str,
        entries: Option<&RawValue>,
        timestamps: Option<&RawValue>,
    ) -> Result<Self, Rejected> {
        let unreadable = |error| malformed(format!("has proofs that cannot be read: {error}"));
        let entries: Vec<&RawValue> =
            entries.map_or_else(|| Ok(Vec::new()), |list| serde_json::from_str(list.get()).map_err(unreadable))?;
        let timestamps: wire::Timestamps<'_> = timestamps
            .map_or_else(|| Ok(wire::Timestamps::default()), |data| serde_json::from_str(data.get()).map_err(unreadable))?;
        let timestamps = timestamps.rfc3161_timestamps.unwrap_or_default();
        for (what, count) in [("entries of logs", entries.len()), ("timestamps", timestamps.len())] {
            if count > MAX_PROOFS {
                return Err(malformed(format!("has {count} {what}, more than the {MAX_PROOFS} that are read here")));
            }
        }
        let too_long = |what: &str, length, max| malformed(format!("has a {what} of {length} bytes, more than {max}"));
        if let Some(entry) = entries.iter().find(|entry| entry.get().len() > MAX_PROOF) {
            return Err(too_long("log entry", entry.get().len(), MAX_PROOF));
        }
        let bytes = |what: &str, text: &str, max| {
            let bytes = decode(text).ok_or_else(|| malformed(format!("has a {what} that is not base64")))?;
            if bytes.len() > max { Err(too_long(what, bytes.len(), max)) } else { Ok(bytes) }
        };
        Ok(Self {
            certificate: bytes("certificate", certificate, MAX_DER)?,
            entries: entries.iter().map(|entry| entry.get().to_owned()).collect(),
            timestamps: timestamps
                .iter()
                .map(|stamp| bytes("timestamp", &stamp.signed_timestamp, MAX_PROOF))
                .collect::<Result<_, _>>()?,
        })
    }
}

/// Whoever an issuer of identities calls by a name, as a Sigstore instance attests it.
#[derive(Debug, Clone)]
pub struct Identity {
    issuer: String,
    name: Pattern,
    root: TrustRoot,
    id: String,
}

impl Identity {
    /// Whom `issuer`, a URL that must be the certificate's to the letter, calls by `name`.
    ///
    /// # Errors
    /// What is wrong with the issuer, in a sentence without its full stop.
    pub fn new(issuer: &str, name: Pattern, root: TrustRoot) -> Result<Self, String> {
        if issuer.len() > MAX_PATTERN {
            return Err(format!("it is {} bytes long, more than {MAX_PATTERN}", issuer.len()));
        }
        let is_url = ["https://", "http://"].iter().any(|scheme| issuer.len() > scheme.len() && issuer.starts_with(scheme));
        if !is_url || issuer.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(format!(
                "{issuer:?} is no URL; write it as it stands in the certificate, such as https://accounts.google.com"
            ));
        }
        let id = format!("keyless {issuer} {name:?} {}", root.digest());
        Ok(Self { issuer: issuer.to_owned(), name, root, id })
    }

    /// Two with one identity ask the same.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The URL of the issuer.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Whether `logged` shows that this is who signed. Moments after `now` at which that may change by itself are put into `edges`.
    ///
    /// # Errors
    /// `SignatureMalformed`, `SignatureUnsupported`, `SignatureInvalid`, `WrongSigner`, `CertificateUnfit` or
    /// `CertificateNotYetValid`; the message is the rest of a sentence that begins with the bundle's name.
    pub(in crate::trust) fn vouches(
        &self,
        logged: &Logged,
        signed: Signed<'_>,
        now: Timestamp,
        edges: &mut Vec<Timestamp>,
    ) -> Result<SignerId, Rejected> {
        edges.extend(self.root.starts_after(now));
        let leaf = Certificate::parse(&logged.certificate).map_err(|why| malformed(format!("has a certificate that {why}")))?;
        let who = Who::of(&leaf);
        let entries = self.entries(logged, &leaf, &who)?;
        let mut not_from_the_future = |time: Timestamp| {
            if time <= now {
                return Ok(());
            }
            edges.push(time);
            let message = format!("was signed by {who} at {time}, which is still to come; wait, or see whether a clock is wrong");
            Err(rejected(Reason::CertificateNotYetValid, message))
        };
        entries.iter().filter_map(|entry| entry.integrated_time).try_for_each(&mut not_from_the_future)?;
        if signed.payload.len() > MAX_PAYLOAD {
            let length = signed.payload.len();
            let message =
                format!("has a payload of {length} bytes; of keyless signatures, up to {MAX_PAYLOAD} are supported here");
            return Err(rejected(Reason::SignatureUnsupported, message));
        }
        let bundle = hand_over(logged, entries, signed);
        let subject = Sha256Hash::from(*signed.subject.as_bytes());
        let proven = self
            .root
            .verifier()
            .verify(subject, &bundle, &VerificationPolicy::any_identity())
            .map_err(|error| self.refusal(error, &leaf, &who))?;
        if !(proven.certificate_verified() && proven.sct_verified() && proven.tlog_verified()) {
            return Err(rejected(Reason::SignatureInvalid, format!("does not prove that {who} signed it")));
        }
        proven.verified_timestamps().iter().copied().try_for_each(&mut not_from_the_future)?;
        // The library reads the first name of a certificate, and Sigstore's have one.
        let is_one = leaf.says.names.len() == 1 && who.name.as_deref() == proven.identity().map(|name| name.as_str());
        let name = proven.identity().map(|name| name.as_str()).filter(|name| is_one && self.name.fits(name));
        match (name, proven.issuer()) {
            (Some(_), Some(issuer)) if issuer == self.issuer => {}
            (_, issuer) => {
                let issuer = issuer.map_or_else(|| "without an issuer".to_owned(), |issuer| format!("issuer {}", Cut(issuer)));
                return Err(rejected(Reason::WrongSigner, format!("was signed by {who} ({issuer}), and wanted is {self}")));
            }
        }
        // Whoever has one name at two issuers is one person here, and the same as who has it from an authority of certificates.
        let names = leaf.says.names.iter().map(|(kind, name)| format!("{kind}:{name}"));
        Ok(SignerId::of_names(names, PublicKey::from_spki(&leaf.spki).ok().map(|key| key.hint().clone())))
    }

    /// The log's entries, as far as they can be looked at without a key.
    fn entries(&self, logged: &Logged, leaf: &Certificate, who: &Who) -> Result<Vec<TransparencyLogEntry>, Rejected> {
        let read = |json: &String| {
            serde_json::from_str(json).map_err(|error| malformed(format!("has a log entry that cannot be read: {error}")))
        };
        let entries = logged.entries.iter().map(read).collect::<Result<Vec<TransparencyLogEntry>, _>>()?;
        let invalid = |message| Err(rejected(Reason::SignatureInvalid, message));
        if entries.is_empty() {
            return invalid(format!(
                "carries a certificate for {who} and no entry of a log, so that nothing shows that it was signed while the certificate was valid; put the whole bundle there, as it was signed"
            ));
        }
        for entry in &entries {
            if !self.root.has_log(entry.log_id.key_id.as_bytes()) {
                let id: String = entry.log_id.key_id.as_bytes().iter().take(4).map(|byte| format!("{byte:02x}")).collect();
                let message = format!("was signed by {who} and noted in log {id}…, which {} does not have", self.root);
                return Err(rejected(Reason::WrongSigner, message));
            }
            if entry.inclusion_proof.as_ref().is_none_or(|proof| proof.checkpoint.is_empty()) {
                return invalid(format!(
                    "carries a log entry for {who} without the proof that it is in the log; put the whole bundle there, as it was signed"
                ));
            }
            let (first, last) = leaf.validity;
            if let Some(time) = entry.integrated_time.filter(|time| !(first..=last).contains(&time.as_second())) {
                return invalid(format!(
                    "was signed by {who} outside the time of the certificate: the log noted it at {time}, and the certificate is from {} to {}; have the model signed again",
                    shown_time(first),
                    shown_time(last)
                ));
            }
        }
        Ok(entries)
    }

    /// Why the library refused, in words of ours.
    fn refusal(&self, error: Error, leaf: &Certificate, who: &Who) -> Rejected {
        let altered = "it was damaged or altered after it was signed";
        let invalid = |message| rejected(Reason::SignatureInvalid, message);
        let outside = || {
            let (first, last) = (shown_time(leaf.validity.0), shown_time(leaf.validity.1));
            invalid(format!(
                "was signed by {who} outside the time of the certificate, from {first} to {last}, or of the authority's; have the model signed again"
            ))
        };
        match error {
            Error::SignatureInvalid(_) => {
                invalid(format!("carries a certificate for {who}, but its key did not sign it: {altered}"))
            }
            Error::Certificate(CertificateError::ChainInvalid(_) | CertificateError::NoValidAuthority { .. }) => {
                let message =
                    format!("was signed with a certificate for {who} that the authority of {} did not issue", self.root);
                match leaf.signs_models() {
                    _ if !self.root.issued(leaf) => rejected(Reason::WrongSigner, message),
                    Err(why) => rejected(Reason::CertificateUnfit, format!("was signed with a certificate for {who} that {why}")),
                    Ok(()) if leaf.is_authority() => rejected(
                        Reason::CertificateUnfit,
                        format!("was signed with a certificate for {who} that is an authority's own, which signs no models"),
                    ),
                    Ok(()) => outside(),
                }
            }
            Error::Certificate(CertificateError::NotYetValid { .. } | CertificateError::Expired { .. }) => outside(),
            Error::Certificate(CertificateError::Sct(_)) => {
                invalid(format!("carries a certificate for {who} that no trusted log of certificates vouches for"))
            }
            Error::Certificate(error) => malformed(format!("has a certificate that cannot be read: {error}")),
            Error::TransparencyLog(TransparencyLogError::MalformedEntry(why)) => {
                malformed(format!("has a log entry that cannot be read: {why}"))
            }
            Error::TransparencyLog(TransparencyLogError::EntryMismatch(_)) | Error::ArtifactMismatch(_) => {
                invalid(format!("carries the log entry of another signature than this one by {who}: {altered}"))
            }
            Error::TransparencyLog(_) | Error::Bundle(BundleError::CheckpointRootMismatch) => {
                invalid(format!("carries a log entry for {who} that the log did not make so: {altered}"))
            }
            Error::Timestamp(TimestampError::NoVerifiedTimestamp(_)) => {
                invalid(format!("carries nothing that proves when {who} signed it"))
            }
            Error::Timestamp(_) => invalid(format!(
                "carries a timestamp for the signature of {who} that no authority of {} made: {altered}",
                self.root
            )),
            Error::UnsupportedBundle(why) => {
                rejected(Reason::SignatureUnsupported, format!("was signed in a way that is not supported here: {why}"))
            }
            Error::Crypto(why) => rejected(
                Reason::SignatureUnsupported,
                format!("was signed with a key of a kind that is not supported here ({why}); EC keys on P-256 and P-384 are"),
            ),
            other => malformed(format!("is not what Sigstore's clients write: {other}")),
        }
    }
}

/// The library's bundle, made of what was read.
fn hand_over(logged: &Logged, entries: Vec<TransparencyLogEntry>, signed: Signed<'_>) -> Bundle {
    let stamp = |der: &Vec<u8>| Rfc3161Timestamp::new(TimestampToken::from_bytes(der));
    let certificate = CertificateContent::new(DerCertificate::from_bytes(&logged.certificate));
    let material = VerificationMaterial::new(VerificationMaterialContent::Certificate(certificate))
        .with_tlog_entries(entries)
        .with_timestamp_verification_data(TimestampVerificationData::new(logged.timestamps.iter().map(stamp).collect()));
    let signature = DsseSignature::new(SignatureBytes::from_bytes(signed.signature), KeyId::default());
    let envelope = DsseEnvelope::new(PAYLOAD_TYPE, PayloadBytes::from_bytes(signed.payload), signature);
    // The strictest form, whatever the bundle calls itself.
    Bundle::new(MediaType::Bundle0_3, material, SignatureContent::DsseEnvelope(envelope))
}

/// The name in a certificate, for messages.
struct Who {
    name: Option<String>,
}

impl Who {
    fn of(leaf: &Certificate) -> Self {
        let name = leaf.says.names.iter().find(|(kind, _)| matches!(kind, Kind::Email | Kind::Uri));
        Self { name: name.map(|(_, name)| name.clone()) }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => Cut(name).fmt(f),
            None => f.write_str("somebody without a name"),
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (issuer {})", self.name, self.issuer)
    }
}

fn shown_time(second: i64) -> String {
    Timestamp::from_second(second).map_or_else(|_| "another age".to_owned(), |time| time.to_string())
}

const fn rejected(reason: Reason, message: String) -> Rejected {
    Rejected { reason, message }
}
