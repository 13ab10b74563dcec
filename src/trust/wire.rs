//! The JSON of a signature, layer by layer: Sigstore bundle, DSSE envelope, in-toto statement, predicate of OpenSSF Model
//! Signing v1.0. Unknown fields are passed over, as that specification asks; a field given twice is an error.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bundle<'a> {
    #[serde(borrow)]
    pub media_type: Cow<'a, str>,
    #[serde(borrow)]
    pub verification_material: Option<VerificationMaterial<'a>>,
    #[serde(borrow)]
    pub dsse_envelope: Option<Envelope<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VerificationMaterial<'a> {
    #[serde(borrow)]
    pub public_key: Option<PublicKey<'a>>,
    #[serde(borrow)]
    pub x509_certificate_chain: Option<CertificateChain<'a>>,
    #[serde(borrow)]
    pub certificate: Option<Certificate<'a>>,
    /// Read where a certificate needs them, and no matter what they are elsewhere.
    #[serde(borrow)]
    pub tlog_entries: Option<&'a RawValue>,
    #[serde(borrow)]
    pub timestamp_verification_data: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
pub struct Timestamps<'a> {
    #[serde(borrow)]
    pub rfc3161_timestamps: Option<Vec<Timestamp<'a>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Timestamp<'a> {
    /// base64 of DER.
    #[serde(borrow)]
    pub signed_timestamp: Cow<'a, str>,
}

#[derive(Deserialize)]
pub struct CertificateChain<'a> {
    #[serde(borrow)]
    pub certificates: Vec<Certificate<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Certificate<'a> {
    /// base64 of DER.
    #[serde(borrow)]
    pub raw_bytes: Cow<'a, str>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PublicKey<'a> {
    #[serde(borrow)]
    pub hint: Option<Cow<'a, str>>,
    /// What clients before 1.1 wrote instead: base64 of the key's PEM text.
    #[serde(borrow)]
    pub raw_bytes: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Envelope<'a> {
    #[serde(borrow)]
    pub payload_type: Cow<'a, str>,
    #[serde(borrow)]
    pub payload: Cow<'a, str>,
    #[serde(borrow)]
    pub signatures: Vec<Signature<'a>>,
}

#[derive(Deserialize)]
pub struct Signature<'a> {
    #[serde(borrow)]
    pub sig: Cow<'a, str>,
}

/// What a statement says it is, read before its predicate: that of another kind has another shape.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StatementKind<'a> {
    #[serde(borrow, rename = "_type")]
    pub kind: Cow<'a, str>,
    #[serde(borrow)]
    pub predicate_type: Cow<'a, str>,
}

/// The statement of model_signing 0.2: each file is a subject.
#[derive(Deserialize)]
pub struct OldStatement<'a> {
    #[serde(borrow)]
    pub subject: Vec<OldSubject<'a>>,
}

#[derive(Deserialize)]
pub struct OldSubject<'a> {
    #[serde(borrow)]
    pub name: Cow<'a, str>,
    #[serde(borrow)]
    pub digest: OldDigest<'a>,
    #[serde(borrow)]
    pub annotations: Option<OldAnnotations<'a>>,
}

#[derive(Deserialize)]
pub struct OldDigest<'a> {
    #[serde(borrow)]
    pub sha256: Cow<'a, str>,
}

#[derive(Deserialize)]
pub struct OldAnnotations<'a> {
    #[serde(borrow)]
    pub actual_hash_algorithm: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
pub struct Statement<'a> {
    pub subject: Vec<Subject>,
    #[serde(borrow)]
    pub predicate: Predicate<'a>,
}

/// An approval, of which only the subject decides.
#[derive(Deserialize)]
pub struct Approval {
    pub subject: Vec<Subject>,
}

#[derive(Deserialize)]
pub struct Subject {
    pub digest: SubjectDigest,
}

#[derive(Deserialize)]
pub struct SubjectDigest {
    pub sha256: Option<String>,
}

#[derive(Deserialize)]
pub struct Predicate<'a> {
    #[serde(borrow)]
    pub serialization: Serialization<'a>,
    #[serde(borrow)]
    pub resources: Vec<Resource<'a>>,
}

#[derive(Deserialize)]
pub struct Serialization<'a> {
    #[serde(borrow)]
    pub method: Cow<'a, str>,
    #[serde(borrow)]
    pub hash_type: Cow<'a, str>,
    pub shard_size: Option<serde_json::Number>,
}

#[derive(Deserialize)]
pub struct Resource<'a> {
    #[serde(borrow)]
    pub name: Cow<'a, str>,
    #[serde(borrow)]
    pub algorithm: Cow<'a, str>,
    #[serde(borrow)]
    pub digest: Cow<'a, str>,
}
