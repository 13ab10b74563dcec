//! Signatures made here: bundles of OpenSSF Model Signing v1.0 over a model's files, and approvals of a content.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::Digest as _;

use super::{
    bundle::{APPROVAL, STATEMENT},
    method::{
        key::PublicKey,
        own::{self, Own},
        secret::PrivateKey,
    },
    rejected::{PAYLOAD_TYPE, preamble},
};
use crate::model::{CleanPath, Digest};

/// Somebody who signs: with a key, or with a key and the certificates for it.
#[derive(Debug)]
pub struct Signer {
    key: PrivateKey,
    own: Option<Own>,
}

/// The paths that every model's signature leaves out, where they stand at its root (section 6.2 of the specification).
pub const LEFT_OUT: [&str; 4] = [".git", ".gitattributes", ".github", ".gitignore"];

/// The longest comment on an approval, in bytes.
pub const MAX_COMMENT: usize = 4096;

impl Signer {
    /// The owner of a key.
    pub const fn by_key(key: PrivateKey) -> Self {
        Self { key, own: None }
    }

    /// The owner of a key for which there is a certificate in `pem`, valid at `now`, perhaps with those above it.
    ///
    /// # Errors
    /// Why the signature would be worth nothing, in a sentence without its full stop.
    pub fn by_certificate(key: PrivateKey, pem: &str, now: Timestamp) -> Result<Self, String> {
        let own = own::find(key.public(), pem, now)?;
        Ok(Self { key, own: Some(own) })
    }

    /// The public half of the key.
    pub const fn key(&self) -> &PublicKey {
        self.key.public()
    }

    /// Whom the certificate is for, when there is one.
    pub fn subject(&self) -> Option<&str> {
        self.own.as_ref().map(|own| own.subject.as_str())
    }

    /// The bundle that says that the model called `name` consists of `files`, in whatever order they come. `left_out` are the
    /// paths beside [`LEFT_OUT`] that were passed over: told to whoever reads it, and no promise.
    pub fn signs_files(&self, name: &str, files: &[(CleanPath, Digest)], left_out: &[String]) -> String {
        let mut files: Vec<_> = files.iter().collect();
        // The order of UTF-8's bytes is that of the code points.
        files.sort_unstable_by(|(a, _), (b, _)| a.as_str().as_bytes().cmp(b.as_str().as_bytes()));
        let mut root = sha2::Sha256::new();
        files.iter().for_each(|(_, digest)| root.update(digest.as_bytes()));
        let resource =
            |(path, digest): &&(CleanPath, Digest)| json!({"name": path, "algorithm": "sha256", "digest": digest.hex()});
        let mut ignored: Vec<&str> = LEFT_OUT.into_iter().chain(left_out.iter().map(String::as_str)).collect();
        ignored.sort_unstable();
        ignored.dedup();
        self.signs(&json!({
            "_type": STATEMENT,
            "subject": [{"name": name, "digest": {"sha256": Digest::from_bytes(root.finalize().into()).hex()}}],
            "predicateType": "https://model_signing/signature/v1.0",
            "predicate": {
                "resources": files.iter().map(resource).collect::<Vec<_>>(),
                "serialization": {"method": "files", "hash_type": "sha256", "allow_symlinks": false, "ignore_paths": ignored},
            },
        }))
    }

    /// The bundle that says that a content is approved: whatever has this content digest, and nothing else.
    pub fn approves(&self, content: Digest, comment: Option<&str>, time: Timestamp) -> String {
        let mut predicate = json!({"time": time.to_string()});
        if let (Some(predicate), Some(comment)) = (predicate.as_object_mut(), comment) {
            predicate.insert("comment".to_owned(), Value::from(comment));
        }
        self.signs(&json!({
            "_type": STATEMENT,
            "subject": [{"name": "content", "digest": {"sha256": content.hex()}}],
            "predicateType": APPROVAL,
            "predicate": predicate,
        }))
    }

    /// A Sigstore bundle 0.3 with the statement in a DSSE envelope.
    fn signs(&self, statement: &Value) -> String {
        let payload = statement.to_string();
        let signature = self.key.sign(&[preamble(payload.len()).as_bytes(), payload.as_bytes()]);
        let material = match &self.own {
            None => json!({"publicKey": {"hint": self.key().hint().as_str()}, "tlogEntries": []}),
            Some(own) => {
                let certificates: Vec<_> = own.der.iter().map(|der| json!({"rawBytes": STANDARD.encode(der)})).collect();
                json!({"x509CertificateChain": {"certificates": certificates}, "tlogEntries": []})
            }
        };
        json!({
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": material,
            "dsseEnvelope": {
                "payload": STANDARD.encode(payload),
                "payloadType": PAYLOAD_TYPE,
                "signatures": [{"sig": STANDARD.encode(signature), "keyid": ""}],
            },
        })
        .to_string()
    }
}
