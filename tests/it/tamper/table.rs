//! The table: what is done to a signed model, and what `bonafide verify` says of it.

use std::{fs, os::unix::fs::symlink};

use bonafide::model::Digest;
use serde_json::{Value, json};

use super::scene::{ALL, CERTIFICATE, FILES, KEYS, Listed, Method, OTHER, Scene, Who, statement};

/// One way to tamper.
pub struct Row {
    /// What was done, for people.
    pub what: &'static str,
    /// The ways to sign of which the row speaks.
    pub methods: &'static [Method],
    pub does: fn(&mut Scene),
    pub ours: Ours,
}

/// What `bonafide verify` says.
pub enum Ours {
    Verified,
    /// The reason, and a part of the sentence.
    Refused(&'static str, &'static str),
}

use Ours::{Refused, Verified};

/// The table, by groups.
pub const TABLE: &[(&str, &[Row])] = &[("The files", FILES_OF_IT), ("The signature", SIGNATURE), ("The signer", SIGNER)];

const FILES_OF_IT: &[Row] = &[
    Row { what: "nothing", methods: ALL, does: |_| {}, ours: Verified },
    Row {
        what: "a bit of the weights flipped",
        methods: ALL,
        does: |scene| scene.write("model.safetensors", "thesd are weights\n"),
        ours: Refused("DigestMismatch", "model.safetensors: signed as sha256 "),
    },
    Row {
        what: "the weights cut short",
        methods: ALL,
        does: |scene| scene.write("model.safetensors", "these are"),
        ours: Refused("DigestMismatch", "model.safetensors: signed as sha256 "),
    },
    Row {
        what: "the weights emptied",
        methods: ALL,
        does: |scene| scene.write("model.safetensors", ""),
        ours: Refused("DigestMismatch", "model.safetensors: signed as sha256 "),
    },
    Row {
        what: "the contents of two files exchanged",
        methods: ALL,
        does: |scene| {
            scene.write("config.json", FILES[2].1);
            scene.write("original/params.json", FILES[0].1);
        },
        ours: Refused("DigestMismatch", "One more file differs."),
    },
    Row {
        what: "a file more",
        methods: ALL,
        does: |scene| scene.write("modeling_evil.py", "import os"),
        ours: Refused("UnsignedFile", "modeling_evil.py is there and was not signed."),
    },
    Row {
        what: "a file more in .git",
        methods: ALL,
        does: |scene| scene.write(".git/evil.py", "import os"),
        ours: Refused("UnsignedFile", ".git/evil.py is there and was not signed."),
    },
    Row {
        what: "a file more in .github",
        methods: ALL,
        does: |scene| scene.write(".github/evil.py", "import os"),
        ours: Refused("UnsignedFile", ".github/evil.py is there and was not signed."),
    },
    Row {
        what: "an empty directory more",
        methods: ALL,
        does: |scene| fs::create_dir(scene.path("empty")).unwrap(),
        ours: Verified,
    },
    Row {
        what: "what `hf download` leaves in .cache/huggingface",
        methods: ALL,
        does: |scene| scene.write(".cache/huggingface/download/config.json.metadata", "x"),
        ours: Refused("UnsignedFile", "--ignore .cache/huggingface"),
    },
    Row {
        what: "a file missing",
        methods: ALL,
        does: |scene| fs::remove_file(scene.path("config.json")).unwrap(),
        ours: Refused("SignedFileMissing", "config.json was signed and is not there."),
    },
    Row {
        what: "a file renamed, in case only",
        methods: ALL,
        does: |scene| fs::rename(scene.path("config.json"), scene.path("Config.json")).unwrap(),
        ours: Refused("SignedFileMissing", "config.json was signed and is not there."),
    },
    Row {
        what: "a file replaced by a symbolic link to the same bytes",
        methods: ALL,
        does: |scene| {
            let elsewhere = scene.outer().join("config.json");
            fs::rename(scene.path("config.json"), &elsewhere).unwrap();
            symlink(elsewhere, scene.path("config.json")).unwrap();
        },
        ours: Refused("SignedFileMissing", "config.json is a symbolic link"),
    },
    Row {
        what: "a symbolic link more",
        methods: ALL,
        does: |scene| symlink("config.json", scene.path("alias.json")).unwrap(),
        ours: Refused("UnsignedFile", "alias.json (a symbolic link) is there and was not signed."),
    },
    Row {
        what: "a directory replaced by a symbolic link to the same files",
        methods: ALL,
        does: |scene| {
            let elsewhere = scene.outer().join("original");
            fs::rename(scene.path("original"), &elsewhere).unwrap();
            symlink(elsewhere, scene.path("original")).unwrap();
        },
        ours: Refused("SignedFileMissing", "original is a symbolic link"),
    },
    Row {
        what: "the whole directory replaced by an older model of the same signer, with its signature",
        methods: ALL,
        does: |scene| {
            fs::remove_dir_all(scene.dir()).unwrap();
            OTHER.iter().for_each(|(path, content)| scene.write(path, content));
            scene.sign(&other(), Who::Publisher);
        },
        ours: Verified,
    },
];

const SIGNATURE: &[Row] = &[
    Row {
        what: "no signature",
        methods: ALL,
        does: |scene| fs::remove_file(scene.signature()).unwrap(),
        ours: Refused("Unsigned", "has no signature"),
    },
    Row {
        what: "the signature cut short",
        methods: ALL,
        does: |scene| change(scene, |text| text.truncate(text.len() / 2)),
        ours: Refused("SignatureMalformed", "is not a Sigstore bundle: "),
    },
    Row {
        what: "a digest in the signature altered with the file",
        methods: KEYS,
        does: |scene| {
            scene.write("config.json", "{}");
            altered(scene);
        },
        ours: Refused("SignatureInvalid", "but that key did not sign it: it was damaged or altered after it was signed"),
    },
    Row {
        what: "a digest in the signature altered with the file",
        methods: CERTIFICATE,
        does: |scene| {
            scene.write("config.json", "{}");
            altered(scene);
        },
        ours: Refused("SignatureInvalid", "but its key did not sign it: it was damaged or altered after it was signed"),
    },
    Row {
        what: "the signature of another model of the same signer",
        methods: ALL,
        does: |scene| scene.sign(&other(), Who::Publisher),
        ours: Refused("SignedFileMissing", "model.gguf was signed and is not there."),
    },
    Row {
        what: "it lists `../config.json`, and the signer signed that",
        methods: ALL,
        does: |scene| {
            fs::write(scene.outer().join("config.json"), FILES[0].1).unwrap();
            relisted(scene, |listed| listed.push(("../config.json".to_owned(), Digest::of(FILES[0].1).hex())));
        },
        ours: Refused("SignatureMalformed", "lists a file that cannot be one: path \"../config.json\""),
    },
    Row {
        what: "it lists `/etc/hostname`, and the signer signed that",
        methods: ALL,
        does: |scene| relisted(scene, |listed| listed.push(("/etc/hostname".to_owned(), Digest::of("").hex()))),
        ours: Refused("SignatureMalformed", "lists a file that cannot be one: path \"/etc/hostname\""),
    },
    Row {
        what: "it lists a file twice, first with other bytes",
        methods: ALL,
        does: |scene| relisted(scene, |listed| listed.insert(0, ("config.json".to_owned(), Digest::of("other").hex()))),
        ours: Refused("SignatureMalformed", "lists config.json twice"),
    },
    Row {
        what: "it lists two names that differ in case only, and both are there",
        methods: ALL,
        does: |scene| {
            scene.write("CONFIG.JSON", "other");
            relisted(scene, |listed| listed.insert(0, ("CONFIG.JSON".to_owned(), Digest::of("other").hex())));
        },
        ours: Verified,
    },
    Row {
        what: "it lists two names that differ in case only, and one is there, as a file system that folds case leaves it",
        methods: ALL,
        does: |scene| relisted(scene, |listed| listed.insert(0, ("CONFIG.JSON".to_owned(), Digest::of("other").hex()))),
        ours: Refused("SignedFileMissing", "CONFIG.JSON was signed and is not there."),
    },
    Row {
        what: "its root digest is another than its files make, and the signer signed that",
        methods: &[Method::Key, Method::Certificate],
        does: |scene| {
            let mut statement = statement(scene.method, &scene.listed());
            statement["subject"][0]["digest"]["sha256"] = json!(Digest::of("other").hex());
            scene.sign_statement(&statement);
        },
        ours: Refused("SignatureMalformed", "contradicts itself: its root digest is "),
    },
    Row {
        what: "it is a statement of another kind about the same root digest (an SBOM)",
        methods: &[Method::Key, Method::Certificate],
        does: |scene| {
            let mut statement = statement(scene.method, &scene.listed());
            statement["predicateType"] = json!("https://spdx.dev/Document/v2.3");
            scene.sign_statement(&statement);
        },
        ours: Refused("SignatureMalformed", "signs a statement about something else than a model"),
    },
    Row {
        what: "two signatures in one envelope",
        methods: ALL,
        does: |scene| {
            change(scene, |text| {
                let mut bundle: Value = serde_json::from_str(text).unwrap();
                let first = bundle["dsseEnvelope"]["signatures"][0].clone();
                bundle["dsseEnvelope"]["signatures"].as_array_mut().unwrap().push(first);
                *text = bundle.to_string();
            });
        },
        ours: Refused("SignatureMalformed", "has 2 signatures, where exactly one is needed"),
    },
];

const SIGNER: &[Row] = &[
    Row {
        what: "another key",
        methods: KEYS,
        does: |scene| scene.sign(&scene.listed(), Who::Stranger),
        ours: Refused("WrongSigner", "was signed with another key: it names key "),
    },
    Row {
        what: "a key where a certificate is wanted",
        methods: KEYS,
        does: |scene| scene.asked = Method::Certificate,
        ours: Refused("WrongSigner", "without a certificate, and wanted is one with a certificate for CN=Models,O=Acme"),
    },
    Row {
        what: "a certificate where a key is wanted",
        methods: CERTIFICATE,
        does: |scene| scene.asked = Method::Key,
        ours: Refused("WrongSigner", "was signed with an X.509 certificate, and wanted is a signature of key "),
    },
    Row {
        what: "a certificate of the same authority for another subject",
        methods: CERTIFICATE,
        does: |scene| scene.sign(&scene.listed(), Who::OtherName),
        ours: Refused("WrongSigner", "a certificate for CN=Interns,O=Acme, and wanted is CN=Models,O=Acme"),
    },
    Row {
        what: "a certificate that has expired",
        methods: CERTIFICATE,
        does: |scene| scene.sign(&scene.listed(), Who::Expired),
        ours: Refused("CertificateExpired", "which has expired: it was valid until 2021-01-01T00:00:00Z"),
    },
    Row {
        what: "a certificate that is not valid yet",
        methods: CERTIFICATE,
        does: |scene| scene.sign(&scene.listed(), Who::NotYet),
        ours: Refused("CertificateNotYetValid", "which is not valid yet: it is from 2100-01-01T00:00:00Z on"),
    },
    Row {
        what: "a TLS server's certificate of the same authority",
        methods: CERTIFICATE,
        does: |scene| scene.sign(&scene.listed(), Who::Tls),
        ours: Refused("WrongSigner", "a certificate for CN=www.acme.example,O=Acme, and wanted is CN=Models,O=Acme"),
    },
    Row {
        what: "a TLS server's certificate, whose subject is the wanted one",
        methods: CERTIFICATE,
        does: |scene| {
            scene.subject = "CN=www.acme.example,O=Acme";
            scene.sign(&scene.listed(), Who::Tls);
        },
        ours: Refused(
            "CertificateUnfit",
            "is a TLS server's (extendedKeyUsage serverAuth), and signing a model needs codeSigning",
        ),
    },
    Row {
        what: "the authority's own certificate, whose subject is the wanted one",
        methods: CERTIFICATE,
        does: |scene| {
            scene.subject = "CN=Root,O=Acme";
            scene.sign(&scene.listed(), Who::Authority);
        },
        ours: Refused("CertificateUnfit", "is an authority's own, which issues certificates and signs no models"),
    },
    Row {
        what: "a certificate for the wanted subject that nobody but itself vouches for",
        methods: CERTIFICATE,
        does: |scene| scene.sign(&scene.listed(), Who::SelfIssued),
        ours: Refused("WrongSigner", "that nobody but itself vouches for"),
    },
    Row {
        what: "a certificate for the wanted subject of another authority of the same name",
        methods: CERTIFICATE,
        does: |scene| scene.sign(&scene.listed(), Who::OtherAuthority),
        ours: Refused("WrongSigner", "the authority that is wanted has that name, and its key did not issue the certificate"),
    },
];

fn other() -> Listed {
    OTHER.iter().map(|(path, content)| ((*path).to_owned(), Digest::of(content).hex())).collect()
}

/// Has the publisher sign another list.
fn relisted(scene: &Scene, change: impl FnOnce(&mut Listed)) {
    let mut listed = scene.listed();
    change(&mut listed);
    scene.sign(&listed, Who::Publisher);
}

fn change(scene: &Scene, change: impl FnOnce(&mut String)) {
    let mut text = fs::read_to_string(scene.signature()).unwrap();
    change(&mut text);
    fs::write(scene.signature(), text).unwrap();
}

/// Puts the digest of `{}` for config.json into the payload, and leaves the signature as it is.
fn altered(scene: &Scene) {
    let mut listed = scene.listed();
    listed[0].1 = Digest::of("{}").hex();
    let old = fs::read_to_string(scene.signature()).unwrap();
    let old: Value = serde_json::from_str(&old).unwrap();
    scene.sign(&listed, Who::Publisher);
    change(scene, |text| {
        let mut bundle: Value = serde_json::from_str(text).unwrap();
        bundle["dsseEnvelope"]["signatures"] = old["dsseEnvelope"]["signatures"].clone();
        *text = bundle.to_string();
    });
}
