//! Why a bundle is not believed, and how what stands in one is read and shown: what bundles and the methods of signing share.

use std::fmt;

use base64::{
    Engine as _,
    alphabet::{STANDARD, URL_SAFE},
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

use crate::api::Reason;

/// The type of payload that is signed: an in-toto statement.
pub(super) const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";

/// Why a bundle is not believed. The message is the rest of a sentence that begins with the bundle's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Rejected {
    /// `SignatureMalformed`, `SignatureUnsupported`, `WrongSigner`, `SignatureInvalid`, or one of those about certificates.
    pub reason: Reason,
    /// What is wrong with it.
    pub message: String,
}

/// What DSSE puts before a payload of that many bytes when it is signed (`PAE`).
pub(super) fn preamble(length: usize) -> String {
    format!("DSSEv1 {} {PAYLOAD_TYPE} {length} ", PAYLOAD_TYPE.len())
}

pub(super) const fn malformed(message: String) -> Rejected {
    Rejected { reason: Reason::SignatureMalformed, message }
}

/// DSSE and protobuf's JSON take both alphabets of base64, padded or not.
pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let alphabet = if text.contains(['-', '_']) { URL_SAFE } else { STANDARD };
    GeneralPurpose::new(&alphabet, config).decode(text).ok()
}

/// What a bundle says, cut to a length that a message can bear, control characters made visible.
pub(super) fn shown(text: &str) -> String {
    format!("{:?}", Cut(text).to_string())
}

pub(super) struct Cut<'a>(pub &'a str);

impl fmt::Display for Cut<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars().take(100) {
            write!(f, "{}", if c.is_control() { '\u{fffd}' } else { c })?;
        }
        Ok(())
    }
}
