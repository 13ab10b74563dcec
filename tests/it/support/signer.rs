//! People who sign models, as the reference client does.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bonafide::{model::Digest, trust::PublicKey};
use p256::{
    ecdsa::{Signature, SigningKey, signature::Signer as _},
    pkcs8::{EncodePublicKey as _, LineEnding},
};
use serde_json::{Value, json};

/// A person with a key; every number is another one.
pub struct Person(SigningKey);

impl Person {
    pub fn new(number: u8) -> Self {
        Self(SigningKey::from_slice(&[number; 32]).unwrap())
    }

    /// The public key.
    pub fn pem(&self) -> String {
        self.0.verifying_key().to_public_key_pem(LineEnding::LF).unwrap()
    }

    /// A bundle over files, names and contents.
    pub fn signs(&self, files: &[(&str, &str)]) -> String {
        self.signs_statement(&statement(files))
    }

    /// An approval of the content with this digest, `sha256:…`.
    pub fn approves(&self, digest: &str) -> String {
        self.signs_statement(&json!({
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"name": "content", "digest": {"sha256": digest.strip_prefix("sha256:").unwrap()}}],
            "predicateType": "https://bonafide.dev/approval/v1",
            "predicate": {},
        }))
    }

    fn signs_statement(&self, statement: &Value) -> String {
        let payload = statement.to_string();
        let signed = format!("DSSEv1 28 application/vnd.in-toto+json {} {payload}", payload.len());
        let signature: Signature = self.0.sign(signed.as_bytes());
        let hint = PublicKey::from_pem(&self.pem()).unwrap().hint().as_str().to_owned();
        json!({
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": {"publicKey": {"hint": hint}, "tlogEntries": []},
            "dsseEnvelope": {
                "payload": STANDARD.encode(payload),
                "payloadType": "application/vnd.in-toto+json",
                "signatures": [{"sig": STANDARD.encode(signature.to_der().as_bytes()), "keyid": ""}],
            },
        })
        .to_string()
    }
}

fn statement(files: &[(&str, &str)]) -> Value {
    let resource =
        |(name, content): &(&str, &str)| json!({"name": name, "algorithm": "sha256", "digest": Digest::of(content).hex()});
    let root: Vec<u8> = files.iter().flat_map(|(_, content)| *Digest::of(content).as_bytes()).collect();
    json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "model", "digest": {"sha256": Digest::of(root).hex()}}],
        "predicateType": "https://model_signing/signature/v1.0",
        "predicate": {
            "resources": files.iter().map(resource).collect::<Vec<_>>(),
            "serialization": {"method": "files", "hash_type": "sha256", "allow_symlinks": false, "ignore_paths": [".git"]},
        },
    })
}
