//! Signatures by model_signing 0.2, which are in use although their format was an experiment: another statement, and a mistake in
//! what is signed. Everything about them stands here; nothing of it holds for later ones.

use std::fmt::Write as _;

use super::{
    rejected::{PAYLOAD_TYPE, Rejected, malformed, shown},
    wire,
};
use crate::{api::Reason, model::Digest};

/// The predicate type by which they are told.
pub(super) const PREDICATE_TYPE: &str = "https://model_signing/Digests/v0.1";

/// The files that such a statement lists, at most `most`: its subjects, with a digest each and no root.
pub(super) fn files(payload: &[u8], most: usize) -> Result<Vec<(String, Digest)>, Rejected> {
    let statement: wire::OldStatement<'_> = serde_json::from_slice(payload).map_err(|error| {
        malformed(format!("was made by model_signing 0.2 and signs something that is not its statement about a model: {error}"))
    })?;
    if statement.subject.len() > most {
        return Err(malformed(format!("lists {} files, more than {}", statement.subject.len(), most)));
    }
    let file = |subject: &wire::OldSubject<'_>| {
        let hash = subject.annotations.as_ref().and_then(|annotations| annotations.actual_hash_algorithm.as_deref());
        if let Some(hash) = hash.filter(|hash| *hash != "file-sha256") {
            return Err(Rejected {
                reason: Reason::SignatureUnsupported,
                message: format!(
                    "lists {} by its {} hash, which is not supported here; SHA-256 of whole files is: sign the model again with it",
                    shown(&subject.name),
                    shown(hash)
                ),
            });
        }
        let digest = Digest::from_hex(&subject.digest.sha256).map_err(|_| {
            malformed(format!(
                "lists {} with digest {}, which is not 64 lower-case hexadecimal digits",
                shown(&subject.name),
                shown(&subject.digest.sha256)
            ))
        })?;
        Ok((subject.name.clone().into_owned(), digest))
    };
    statement.subject.iter().map(file).collect()
}

/// What 0.2 signed instead of DSSE's encoding, always with SHA-256: Python's way to write bytes into a text stands for the payload.
pub(super) fn signed(payload: &[u8]) -> Vec<u8> {
    let quote = if payload.contains(&b'\'') && !payload.contains(&b'"') { '"' } else { '\'' };
    let mut text = format!("DSSEV1 {} {PAYLOAD_TYPE} {} b{quote}", PAYLOAD_TYPE.len(), payload.len());
    for &byte in payload {
        match byte {
            b'\\' => text.push_str("\\\\"),
            b'\t' => text.push_str("\\t"),
            b'\n' => text.push_str("\\n"),
            b'\r' => text.push_str("\\r"),
            byte if char::from(byte) == quote => text.extend(['\\', quote]),
            b' '..=b'~' => text.push(char::from(byte)),
            byte => {
                // Writing into a String does not fail.
                let _ = write!(text, "\\x{byte:02x}");
            }
        }
    }
    text.push(quote);
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_written_as_python_writes_them() {
        let body = |payload: &[u8]| {
            let text = String::from_utf8(signed(payload)).unwrap();
            let (head, body) = text.split_once(" b").unwrap();
            assert_eq!(head, format!("DSSEV1 28 application/vnd.in-toto+json {}", payload.len()));
            body.to_owned()
        };
        assert_eq!(body(b"{\n \"a\"}"), r#"'{\n "a"}'"#);
        assert_eq!(body(b"it's"), r#""it's""#);
        assert_eq!(body(b"it's \"a\""), r#"'it\'s "a"'"#);
        assert_eq!(body(b"\\\t\r\x00\x1f\x7f\xc3\xa9~ "), r"'\\\t\r\x00\x1f\x7f\xc3\xa9~ '");
        assert_eq!(body(b""), "''");
    }
}
