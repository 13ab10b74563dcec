//! A signed model, and those who may sign it: publishers, strangers, and owners of certificates of every kind.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bonafide::{model::Digest, trust::PublicKey};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SigningKey as _, date_time_ymd,
};
use serde_json::{Value, json};
use tempfile::TempDir;

/// How a model is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Method {
    /// With a key.
    Key,
    /// With a key and a certificate for it.
    Certificate,
    /// With a key, by model_signing 0.2.
    Old,
}

pub const ALL: &[Method] = &[Method::Key, Method::Certificate, Method::Old];
pub const KEYS: &[Method] = &[Method::Key, Method::Old];
pub const CERTIFICATE: &[Method] = &[Method::Certificate];

impl Method {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Certificate => "certificate",
            Self::Old => "0.2",
        }
    }
}

/// Somebody who signs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// The one who is trusted: by their key, or by a certificate for CN=Models of the authority.
    Publisher,
    /// Somebody else, without a certificate of the authority.
    Stranger,
    /// Owners of certificates of the same authority.
    OtherName,
    Tls,
    Expired,
    NotYet,
    /// The authority itself.
    Authority,
    /// One who issued a certificate for CN=Models to themselves.
    SelfIssued,
    /// One with a certificate for CN=Models of another authority of the same name.
    OtherAuthority,
}

struct Owner {
    key: KeyPair,
    der: Vec<u8>,
}

/// Keys and certificates, made once.
struct People {
    authority: Owner,
    owners: Vec<(Who, Owner)>,
}

impl Who {
    const ALL: [Self; 9] = [
        Self::Publisher,
        Self::Stranger,
        Self::OtherName,
        Self::Tls,
        Self::Expired,
        Self::NotYet,
        Self::Authority,
        Self::SelfIssued,
        Self::OtherAuthority,
    ];

    fn owner(self) -> &'static Owner {
        static PEOPLE: OnceLock<People> = OnceLock::new();
        let people = PEOPLE.get_or_init(People::new);
        if self == Self::Authority {
            return &people.authority;
        }
        &people.owners.iter().find(|(who, _)| *who == self).unwrap().1
    }

    fn params(self) -> CertificateParams {
        let name = match self {
            Self::OtherName => "Interns",
            Self::Tls => "www.acme.example",
            _ => "Models",
        };
        let mut params = named(name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![match self {
            Self::Tls => ExtendedKeyUsagePurpose::ServerAuth,
            _ => ExtendedKeyUsagePurpose::CodeSigning,
        }];
        (params.not_before, params.not_after) = match self {
            Self::Expired => (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1)),
            Self::NotYet => (date_time_ymd(2100, 1, 1), date_time_ymd(2110, 1, 1)),
            _ => (date_time_ymd(2020, 1, 1), date_time_ymd(2110, 1, 1)),
        };
        params
    }
}

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Acme");
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn authority() -> CertificateParams {
    let mut params = named("Root");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    (params.not_before, params.not_after) = (date_time_ymd(2019, 1, 1), date_time_ymd(2120, 1, 1));
    params
}

impl People {
    fn new() -> Self {
        let root = KeyPair::generate().unwrap();
        let other_root = KeyPair::generate().unwrap();
        let der = authority().self_signed(&root).unwrap().der().to_vec();
        let owner = |who: Who| {
            let key = KeyPair::generate().unwrap();
            let certificate = match who {
                Who::SelfIssued | Who::Stranger => who.params().self_signed(&key),
                Who::OtherAuthority => who.params().signed_by(&key, &Issuer::from_params(&authority(), &other_root)),
                _ => who.params().signed_by(&key, &Issuer::from_params(&authority(), &root)),
            };
            (who, Owner { der: certificate.unwrap().der().to_vec(), key })
        };
        let owners = Who::ALL.into_iter().filter(|who| *who != Who::Authority).map(owner).collect();
        Self { authority: Owner { key: root, der }, owners }
    }
}

/// What a signature lists: names and digests in hexadecimal digits.
pub type Listed = Vec<(String, String)>;

/// A model in a directory with its signature, and what it is verified by.
pub struct Scene {
    pub method: Method,
    outer: TempDir,
    /// The method that is asked for, which may be another than the one it was signed by.
    pub asked: Method,
    /// The subject that a certificate is asked to have.
    pub subject: &'static str,
}

/// The files of the model.
pub const FILES: [(&str, &str); 3] = [
    ("config.json", include_str!("../../data/oms/model/config.json")),
    ("model.safetensors", include_str!("../../data/oms/model/model.safetensors")),
    ("original/params.json", include_str!("../../data/oms/model/original/params.json")),
];

/// Another model of the same publisher.
pub const OTHER: [(&str, &str); 2] = [("config.json", "{\"layers\": 1}\n"), ("model.gguf", "older weights\n")];

impl Scene {
    /// The model as its publisher signed it.
    pub fn new(method: Method) -> Self {
        let scene = Self { method, outer: TempDir::new().unwrap(), asked: method, subject: "CN=Models,O=Acme" };
        fs::create_dir(scene.dir()).unwrap();
        FILES.iter().for_each(|(path, content)| scene.write(path, content));
        scene.sign(&scene.listed(), Who::Publisher);
        fs::write(scene.outer.path().join("key.pem"), Who::Publisher.owner().key.public_key_pem()).unwrap();
        fs::write(scene.outer.path().join("ca.pem"), pem(&Who::Authority.owner().der)).unwrap();
        scene
    }

    /// The same model with the signature that the reference client made, by its versions 1.1.1 and 0.2.0.
    pub fn of_the_reference(method: Method) -> Self {
        let mut scene = Self::new(method);
        let (signature, trusted) = match method {
            Method::Key => ("p256.sig", "p256.pub"),
            Method::Certificate => ("acme.sig", "acme-root.pem"),
            Method::Old => ("old-p256.sig", "old-p256.pub"),
        };
        let (key, ca) = scene.trusted();
        let data = crate::support::path("tests/data/oms");
        fs::copy(data.join(signature), scene.signature()).unwrap();
        fs::copy(data.join(trusted), if method == Method::Certificate { ca } else { key }).unwrap();
        scene.subject = "CN=Models,O=Acme,C=NL";
        scene
    }

    pub fn dir(&self) -> PathBuf {
        self.outer.path().join("model")
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.dir().join(path)
    }

    pub fn signature(&self) -> PathBuf {
        self.path("model.sig")
    }

    /// The public key and the authority's certificate that verify it.
    pub fn trusted(&self) -> (PathBuf, PathBuf) {
        (self.outer.path().join("key.pem"), self.outer.path().join("ca.pem"))
    }

    /// What stands for this scene's directory in a message.
    pub fn outer(&self) -> &Path {
        self.outer.path()
    }

    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// The model's files as a signature lists them.
    pub fn listed(&self) -> Listed {
        FILES.iter().map(|(path, content)| ((*path).to_owned(), Digest::of(content).hex())).collect()
    }

    /// Has somebody sign that this is the model.
    pub fn sign(&self, listed: &Listed, who: Who) {
        fs::write(self.signature(), bundle(self.method, &statement(self.method, listed), who)).unwrap();
    }

    /// Has the publisher sign another statement.
    pub fn sign_statement(&self, statement: &Value) {
        fs::write(self.signature(), bundle(self.method, statement, Who::Publisher)).unwrap();
    }
}

/// The statement about a model.
pub fn statement(method: Method, listed: &Listed) -> Value {
    if method == Method::Old {
        let subject = |(name, digest): &(String, String)| json!({"name": name, "digest": {"sha256": digest}});
        return json!({
            "_type": "https://in-toto.io/Statement/v1",
            "subject": listed.iter().map(subject).collect::<Vec<_>>(),
            "predicateType": "https://model_signing/Digests/v0.1",
            "predicate": {},
        });
    }
    let resource = |(name, digest): &(String, String)| json!({"name": name, "algorithm": "sha256", "digest": digest});
    json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "model", "digest": {"sha256": root(listed)}}],
        "predicateType": "https://model_signing/signature/v1.0",
        "predicate": {
            "resources": listed.iter().map(resource).collect::<Vec<_>>(),
            "serialization": {
                "method": "files",
                "hash_type": "sha256",
                "allow_symlinks": false,
                "ignore_paths": [".git", ".gitattributes", ".github", ".gitignore"],
            },
        },
    })
}

fn root(listed: &Listed) -> String {
    let raw: Vec<u8> = listed.iter().flat_map(|(_, digest)| *Digest::from_hex(digest).unwrap().as_bytes()).collect();
    Digest::of(raw).hex()
}

fn bundle(method: Method, statement: &Value, who: Who) -> String {
    let payload = statement.to_string();
    let kind = "application/vnd.in-toto+json";
    let signed = match method {
        // Python's way to write bytes, of text that has nothing to escape.
        Method::Old => format!("DSSEV1 {} {kind} {} b'{payload}'", kind.len(), payload.len()),
        Method::Key | Method::Certificate => format!("DSSEv1 {} {kind} {} {payload}", kind.len(), payload.len()),
    };
    let owner = who.owner();
    let material = match method {
        Method::Certificate => json!({"x509CertificateChain": {"certificates": [{"rawBytes": STANDARD.encode(&owner.der)}]}}),
        Method::Key | Method::Old => {
            let key = PublicKey::from_pem(&owner.key.public_key_pem()).unwrap();
            json!({"publicKey": {"hint": key.hint().as_str()}})
        }
    };
    json!({
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": material,
        "dsseEnvelope": {
            "payload": STANDARD.encode(&payload),
            "payloadType": kind,
            "signatures": [{"sig": STANDARD.encode(owner.key.sign(signed.as_bytes()).unwrap()), "keyid": ""}],
        },
    })
    .to_string()
}

fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}
