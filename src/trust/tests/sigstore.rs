//! A Sigstore instance, made for tests: an authority, a log of certificates, a log of signatures, and who signs with them.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rcgen::{
    CertificateParams, CustomExtension, DistinguishedName, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, PublicKeyData as _,
    SanType, SigningKey as _, date_time_ymd,
};
use serde_json::{Value, json};
use x509_cert::der::{Decode as _, Encode as _};

use super::{
    authority::{Made, authority, made, pem},
    fixtures::statement,
    timestamp::{Stamps, tlv},
};
use crate::model::Digest;

/// When certificates are given: 2025-06-01T00:00:00Z. They are valid for ten minutes.
pub const ISSUED: i64 = 1_748_736_000;
pub const ISSUER: &str = "https://accounts.acme.example";

const SCT_LIST: [u64; 10] = [1, 3, 6, 1, 4, 1, 11129, 2, 4, 2];
const FULCIO_ISSUER: [u64; 9] = [1, 3, 6, 1, 4, 1, 57264, 1, 8];

/// The keys of an instance.
pub struct Sigstore {
    root: Made,
    middle: Made,
    pub certificates: KeyPair,
    pub log: KeyPair,
    pub stamps: Stamps,
}

impl Sigstore {
    pub fn new() -> Self {
        let root = made(None, authority("sigstore"));
        let middle = made(Some(&root), authority("sigstore-intermediate"));
        Self {
            root,
            middle,
            certificates: KeyPair::generate().unwrap(),
            log: KeyPair::generate().unwrap(),
            stamps: Stamps::new(),
        }
    }

    /// Somebody else's, with a copy of the log's key.
    pub fn with_another_authority(&self) -> Self {
        Self { log: KeyPair::from_pem(&self.log.serialize_pem()).unwrap(), ..Self::new() }
    }

    /// Its `trusted_root.json`.
    pub fn trusted_root(&self) -> Value {
        let log = |key: &KeyPair, name: &str| {
            json!({
                "baseUrl": format!("https://{name}.acme.example"),
                "hashAlgorithm": "SHA2_256",
                "publicKey": {
                    "rawBytes": STANDARD.encode(key.subject_public_key_info()),
                    "keyDetails": "PKIX_ECDSA_P256_SHA_256",
                    "validFor": {"start": "2024-01-01T00:00:00Z"},
                },
                "logId": {"keyId": STANDARD.encode(id(key))},
            })
        };
        let chain = |certificates: [&[u8]; 2]| {
            let certificates = certificates.map(|der| json!({"rawBytes": STANDARD.encode(der)}));
            json!({"certificates": certificates})
        };
        json!({
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": [log(&self.log, "rekor")],
            "certificateAuthorities": [{
                "subject": {"organization": "Acme", "commonName": "sigstore"},
                "uri": "https://fulcio.acme.example",
                "certChain": chain([&self.middle.der, &self.root.der]),
                "validFor": {"start": "2024-01-01T00:00:00Z"},
            }],
            "ctlogs": [log(&self.certificates, "ctfe")],
            "timestampAuthorities": [{
                "subject": {"organization": "Acme", "commonName": "stamps"},
                "certChain": chain(self.stamps.chain()),
                "validFor": {"start": "2024-01-01T00:00:00Z"},
            }],
        })
    }

    /// What `mail` signs over `files`.
    pub fn signs(&self, mail: &str, files: &[(&str, &str)]) -> Ceremony<'_> {
        Ceremony {
            sigstore: self,
            names: vec![SanType::Rfc822Name(mail.try_into().unwrap())],
            issuer: Some(ISSUER.to_owned()),
            payload: statement(files).to_string(),
            logged: ISSUED + 5,
            stamped: None,
            change: |_| {},
            witness: Some(&self.certificates),
        }
    }
}

fn id(key: &KeyPair) -> [u8; 32] {
    *Digest::of(key.subject_public_key_info()).as_bytes()
}

/// How somebody signs. Every part can be another one.
pub struct Ceremony<'a> {
    pub sigstore: &'a Sigstore,
    pub names: Vec<SanType>,
    pub issuer: Option<String>,
    pub payload: String,
    /// When the log notes it, in seconds.
    pub logged: i64,
    /// When a timestamp authority notes it instead, in seconds: the log is one of those that say no time (Rekor 2).
    pub stamped: Option<i64>,
    pub change: fn(&mut CertificateParams),
    /// Whose log the certificate is in.
    pub witness: Option<&'a KeyPair>,
}

impl Ceremony<'_> {
    /// The bundle, as text.
    pub fn text(&self) -> String {
        self.bundle().to_string()
    }

    pub fn bundle(&self) -> Value {
        let key = KeyPair::generate().unwrap();
        let certificate = self.certificate(&key);
        let signed = format!("DSSEv1 28 application/vnd.in-toto+json {} {}", self.payload.len(), self.payload);
        let signature = key.sign(signed.as_bytes()).unwrap();
        let token = |second| json!({"signedTimestamp": STANDARD.encode(self.sigstore.stamps.stamp(&signature, second))});
        json!({
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": {
                "certificate": {"rawBytes": STANDARD.encode(&certificate)},
                "tlogEntries": [self.entry(&certificate, signed.as_bytes(), &signature)],
                "timestampVerificationData": {"rfc3161Timestamps": self.stamped.map(token).as_slice()},
            },
            "dsseEnvelope": {
                "payload": STANDARD.encode(&self.payload),
                "payloadType": "application/vnd.in-toto+json",
                "signatures": [{"sig": STANDARD.encode(signature), "keyid": ""}],
            },
        })
    }

    fn certificate(&self, key: &KeyPair) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.not_before = date_time_ymd(2025, 6, 1);
        params.not_after = params.not_before + std::time::Duration::from_mins(10);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
        params.subject_alt_names = self.names.clone();
        if let Some(issuer) = &self.issuer {
            let text = tlv(12, &[issuer.as_bytes()]);
            params.custom_extensions.push(CustomExtension::from_oid_content(&FULCIO_ISSUER, text));
        }
        (self.change)(&mut params);
        let authority = &self.sigstore.middle;
        let issue = |params: &CertificateParams| {
            params.signed_by(key, &rcgen::Issuer::from_params(authority.params(), &authority.key)).unwrap().der().to_vec()
        };
        let Some(witness) = self.witness else { return issue(&params) };
        let noted = noted(witness, &authority.key, &issue(&params));
        params.custom_extensions.push(CustomExtension::from_oid_content(&SCT_LIST, noted));
        issue(&params)
    }

    /// The entry of the log, second of two, with the promise and the proof.
    fn entry(&self, certificate: &[u8], signed: &[u8], signature: &[u8]) -> Value {
        let hash = |bytes: &str| json!({"algorithm": "sha256", "value": Digest::of(bytes).hex()});
        let second = json!({
            "apiVersion": "0.0.2",
            "kind": "hashedrekord",
            "spec": {"hashedRekordV002": {
                "data": {"algorithm": "SHA2_256", "digest": STANDARD.encode(Digest::of(signed).as_bytes())},
                "signature": {
                    "content": STANDARD.encode(signature),
                    "verifier": {
                        "keyDetails": "PKIX_ECDSA_P256_SHA_256",
                        "x509Certificate": {"rawBytes": STANDARD.encode(certificate)},
                    },
                },
            }},
        });
        let first = json!({
            "apiVersion": "0.0.1",
            "kind": "dsse",
            "spec": {
                "envelopeHash": hash("the envelope's JSON"),
                "payloadHash": hash(&self.payload),
                "signatures": [{"signature": STANDARD.encode(signature), "verifier": STANDARD.encode(pem(certificate))}],
            },
        });
        let body = if self.stamped.is_some() { second } else { first }.to_string();
        let log = &self.sigstore.log;
        let encoded = STANDARD.encode(&body);
        let log_id: String = id(log).iter().map(|byte| format!("{byte:02x}")).collect();
        let promise = format!(r#"{{"body":"{encoded}","integratedTime":{},"logID":"{log_id}","logIndex":41}}"#, self.logged);
        let sibling = Digest::of("the first entry");
        let leaf = Digest::of([&[0], body.as_bytes()].concat());
        let root = Digest::of([&[1], sibling.as_bytes().as_slice(), leaf.as_bytes()].concat());
        let root = STANDARD.encode(root.as_bytes());
        let note = format!("rekor.acme.example - 7\n2\n{root}\n");
        let signed = [&id(log)[..4], &log.sign(note.as_bytes()).unwrap()].concat();
        let mut entry = json!({
            "logIndex": "41",
            "logId": {"keyId": STANDARD.encode(id(log))},
            "kindVersion": {"kind": "dsse", "version": "0.0.1"},
            "integratedTime": self.logged.to_string(),
            "inclusionPromise": {"signedEntryTimestamp": STANDARD.encode(log.sign(promise.as_bytes()).unwrap())},
            "inclusionProof": {
                "logIndex": "1",
                "rootHash": root,
                "treeSize": "2",
                "hashes": [STANDARD.encode(sibling.as_bytes())],
                "checkpoint": {"envelope": format!("{note}\n— rekor.acme.example {}\n", STANDARD.encode(signed))},
            },
            "canonicalizedBody": encoded,
        });
        if self.stamped.is_some() {
            entry["kindVersion"] = json!({"kind": "hashedrekord", "version": "0.0.2"});
            entry["logIndex"] = json!("1");
            let without = ["integratedTime", "inclusionPromise"];
            entry.as_object_mut().unwrap().retain(|field, _| !without.contains(&field.as_str()));
        }
        entry
    }
}

/// What a log of certificates says of one that does not have its word yet (RFC 6962).
fn noted(log: &KeyPair, issuer: &KeyPair, certificate: &[u8]) -> Vec<u8> {
    let tbs = x509_cert::Certificate::from_der(certificate).unwrap().tbs_certificate().to_der().unwrap();
    let time = (u64::try_from(ISSUED).unwrap() * 1000).to_be_bytes();
    let mut said = vec![0, 0];
    said.extend(time);
    said.extend([0, 1]);
    said.extend(Digest::of(issuer.subject_public_key_info()).as_bytes());
    said.extend(&u32::try_from(tbs.len()).unwrap().to_be_bytes()[1..]);
    said.extend(&tbs);
    said.extend([0, 0]);
    let with_length = |bytes: Vec<u8>| [u16::try_from(bytes.len()).unwrap().to_be_bytes().as_slice(), &bytes].concat();
    let mut word = vec![0];
    word.extend(id(log));
    word.extend(time);
    word.extend([0, 0, 4, 3]);
    word.extend(with_length(log.sign(&said).unwrap()));
    tlv(4, &[&with_length(with_length(word))])
}
