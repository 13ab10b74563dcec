//! Authorities and the certificates that they issue, made for tests.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, SigningKey as _, date_time_ymd,
};
use serde_json::{Value, json};

use super::fixtures::statement;

/// When the tests judge.
pub const NOW: Timestamp = Timestamp::constant(1_782_864_000, 0); // 2026-07-01T00:00:00Z

/// A certificate, and the key that belongs to it.
pub struct Made {
    params: CertificateParams,
    pub key: KeyPair,
    pub der: Vec<u8>,
}

impl Made {
    pub fn pem(&self) -> String {
        pem(&self.der)
    }

    pub const fn params(&self) -> &CertificateParams {
        &self.params
    }

    /// A bundle over `files` with this certificate first and `others` after it.
    pub fn signs(&self, files: &[(&str, &str)], others: &[&Self]) -> String {
        let chain: Vec<_> = std::iter::once(self).chain(others.iter().copied()).map(|it| it.der.clone()).collect();
        self.signs_with(files, &chain).to_string()
    }

    /// The same with any chain.
    pub fn signs_with(&self, files: &[(&str, &str)], chain: &[Vec<u8>]) -> Value {
        let payload = statement(files).to_string();
        let signed = format!("DSSEv1 28 application/vnd.in-toto+json {} {payload}", payload.len());
        let signature = self.key.sign(signed.as_bytes()).unwrap();
        let certificates: Vec<_> = chain.iter().map(|der| json!({"rawBytes": STANDARD.encode(der)})).collect();
        json!({
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": {"x509CertificateChain": {"certificates": certificates}, "tlogEntries": []},
            "dsseEnvelope": {
                "payload": STANDARD.encode(payload),
                "payloadType": "application/vnd.in-toto+json",
                "signatures": [{"sig": STANDARD.encode(signature), "keyid": ""}],
            },
        })
    }
}

pub fn pem(der: &[u8]) -> String {
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", STANDARD.encode(der))
}

/// A certificate under `issuer`, or under itself.
pub fn made(issuer: Option<&Made>, params: CertificateParams) -> Made {
    made_with(issuer, params, KeyPair::generate().unwrap())
}

/// Another certificate for the key of `owner`.
pub fn made_for(issuer: &Made, params: CertificateParams, owner: &Made) -> Made {
    made_with(Some(issuer), params, KeyPair::from_pem(&owner.key.serialize_pem()).unwrap())
}

fn made_with(issuer: Option<&Made>, params: CertificateParams, key: KeyPair) -> Made {
    let certificate = match issuer {
        Some(issuer) => params.signed_by(&key, &Issuer::from_params(&issuer.params, &issuer.key)),
        None => params.self_signed(&key),
    };
    Made { der: certificate.unwrap().der().to_vec(), params, key }
}

/// What a certificate for `name` of Acme says, valid through the year 2026.
pub fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Acme");
    params.distinguished_name.push(DnType::CommonName, name);
    (params.not_before, params.not_after) = (date_time_ymd(2026, 1, 1), date_time_ymd(2026, 12, 31));
    params
}

/// What an authority's certificate says.
pub fn authority(name: &str) -> CertificateParams {
    let mut params = params(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2040, 1, 1));
    params
}

/// What a signer's certificate says.
pub fn signer(name: &str) -> CertificateParams {
    let mut params = params(name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
    params.subject_alt_names = vec![
        SanType::Rfc822Name(format!("{name}@acme.example").try_into().unwrap()),
        SanType::URI(format!("spiffe://acme.example/{name}").try_into().unwrap()),
    ];
    params
}

/// A root, an authority under it, and a signer under that.
pub struct Acme {
    pub root: Made,
    pub middle: Made,
    pub models: Made,
}

impl Acme {
    pub fn new() -> Self {
        let root = made(None, authority("root"));
        let middle = made(Some(&root), authority("code"));
        let models = made(Some(&middle), signer("models"));
        Self { root, middle, models }
    }
}
