//! Signers, bundles, models and policies for tests.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use p256::{
    ecdsa::{Signature, SigningKey, signature::Signer as _},
    pkcs8::{EncodePublicKey as _, LineEnding},
};
use serde_json::{Value, json};

use crate::{
    api::ClusterModelPolicy,
    model::{Digest, File, Manifest},
    trust::PublicKey,
};

/// A file of `tests/data/oms`: what the reference client wrote.
pub fn data(name: &str) -> String {
    std::fs::read_to_string(format!("{}/tests/data/oms/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// A person with a key; every number is another one.
pub struct Person(SigningKey);

impl Person {
    pub fn new(number: u8) -> Self {
        Self(SigningKey::from_slice(&[number; 32]).unwrap())
    }

    pub fn pem(&self) -> String {
        self.0.verifying_key().to_public_key_pem(LineEnding::LF).unwrap()
    }

    pub fn key(&self) -> PublicKey {
        PublicKey::from_pem(&self.pem()).unwrap()
    }

    /// A bundle over `files`, names and contents.
    pub fn signs(&self, files: &[(&str, &str)]) -> String {
        self.signs_statement(&statement(files))
    }

    pub fn signs_statement(&self, statement: &Value) -> String {
        self.bundle(&statement.to_string()).to_string()
    }

    /// A bundle over any payload.
    pub fn bundle(&self, payload: &str) -> Value {
        let signed = format!("DSSEv1 28 application/vnd.in-toto+json {} {payload}", payload.len());
        let signature: Signature = self.0.sign(signed.as_bytes());
        json!({
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": {"publicKey": {"hint": self.key().hint().as_str()}, "tlogEntries": []},
            "dsseEnvelope": {
                "payload": STANDARD.encode(payload),
                "payloadType": "application/vnd.in-toto+json",
                "signatures": [{"sig": STANDARD.encode(signature.to_der().as_bytes()), "keyid": ""}],
            },
        })
    }
}

/// The statement of a model.
pub fn statement(files: &[(&str, &str)]) -> Value {
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

/// The manifest of `files`, names and contents.
pub fn manifest(files: &[(&str, &str)]) -> Manifest {
    let file = |(name, content): &(&str, &str)| File {
        path: name.parse().unwrap(),
        size: content.len() as u64,
        sha256: Digest::of(content),
    };
    Manifest::new(files.iter().map(file).collect()).unwrap()
}

/// A policy with this spec, of generation 7.
pub fn policy(name: &str, spec: Value) -> ClusterModelPolicy {
    serde_json::from_value(json!({
        "apiVersion": "bonafide.dev/v1alpha1",
        "kind": "ClusterModelPolicy",
        "metadata": {"name": name, "generation": 7},
        "spec": spec,
    }))
    .unwrap()
}

pub fn signer(name: &str, person: &Person) -> Value {
    json!({"name": name, "publicKey": {"pem": person.pem()}})
}
