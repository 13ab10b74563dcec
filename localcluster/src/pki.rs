//! Who is who in a cluster: its certificates, its users and their kubeconfigs.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use serde_json::json;

use crate::state::State;

/// The users of a cluster by the name of their kubeconfig, and the groups each is in.
const USERS: [(&str, &str, &str); 5] = [
    (ADMIN, "admin", "system:masters"),
    ("controller-manager", "system:kube-controller-manager", ""),
    ("scheduler", "system:kube-scheduler", ""),
    ("proxy", "system:kube-proxy", ""),
    ("dns", "localcluster:dns", ""),
];

/// Who may do everything.
pub(crate) const ADMIN: &str = "admin";

/// The paths of what [`create`] made.
#[derive(Debug, Clone)]
pub(crate) struct Pki {
    pub ca: PathBuf,
    pub ca_key: PathBuf,
    pub server: PathBuf,
    pub server_key: PathBuf,
    pub service_accounts: PathBuf,
    pub service_accounts_key: PathBuf,
    pub tokens: PathBuf,
    secrets: Vec<(String, String)>,
}

/// Makes the certificates and tokens of a cluster whose API server is reached under `names` and `addresses`, and of its
/// `nodes`, each of which is a user too.
pub(crate) fn create(state: &State, names: &[&str], addresses: &[std::net::IpAddr], nodes: &[String]) -> Result<Pki> {
    let directory = state.path("pki");
    let ca_key = KeyPair::generate().context("cannot generate a key")?;
    let mut ca = CertificateParams::default();
    ca.distinguished_name.push(DnType::CommonName, "localcluster");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    let ca_certificate = ca.self_signed(&ca_key).context("cannot make the cluster's authority")?;

    let server_key = KeyPair::generate().context("cannot generate a key")?;
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut server = CertificateParams::new(names).context("the API server has a name that a certificate cannot hold")?;
    server.distinguished_name.push(DnType::CommonName, "kube-apiserver");
    server.subject_alt_names.extend(addresses.iter().map(|address| SanType::IpAddress(*address)));
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let server_certificate =
        server.signed_by(&server_key, &Issuer::from_params(&ca, &ca_key)).context("cannot certify the API server")?;

    let mut secrets = Vec::new();
    let mut tokens = String::new();
    let components = USERS.map(|(name, user, groups)| (name.to_owned(), user.to_owned(), groups)).into_iter();
    let nodes = nodes.iter().map(|node| (node.clone(), format!("system:node:{node}"), "system:nodes"));
    for (index, (name, user, groups)) in components.chain(nodes).enumerate() {
        let secret = secret()?;
        let groups = if groups.is_empty() { String::new() } else { format!(",\"{groups}\"") };
        tokens.push_str(&format!("{secret},{user},{index}{groups}\n"));
        secrets.push((name, secret));
    }
    let pki = Pki {
        ca: directory.join("ca.crt"),
        ca_key: directory.join("ca.key"),
        server: directory.join("server.crt"),
        server_key: directory.join("server.key"),
        service_accounts: directory.join("service-accounts.pub"),
        service_accounts_key: directory.join("service-accounts.key"),
        tokens: directory.join("tokens.csv"),
        secrets,
    };
    let service_accounts = KeyPair::generate().context("cannot generate a key")?;
    write_private(&pki.ca, &ca_certificate.pem())?;
    write_private(&pki.ca_key, &ca_key.serialize_pem())?;
    write_private(&pki.server, &server_certificate.pem())?;
    write_private(&pki.server_key, &server_key.serialize_pem())?;
    write_private(&pki.service_accounts, &service_accounts.public_key_pem())?;
    write_private(&pki.service_accounts_key, &service_accounts.serialize_pem())?;
    write_private(&pki.tokens, &tokens)?;
    Ok(pki)
}

impl Pki {
    /// Writes a kubeconfig for every user of the cluster at `server`.
    pub(crate) fn write_kubeconfigs(&self, state: &State, server: &str) -> Result<()> {
        for (name, secret) in &self.secrets {
            write_kubeconfig(&state.kubeconfig(name), server, &self.ca, secret)?;
        }
        Ok(())
    }
}

/// Writes a kubeconfig that can be carried elsewhere: it refers to no file.
pub(crate) fn write_kubeconfig(path: &Path, server: &str, ca: &Path, token: &str) -> Result<()> {
    let authority = fs::read(ca).with_context(|| format!("cannot read {}", ca.display()))?;
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "localcluster", "cluster": {"server": server, "certificate-authority-data": STANDARD.encode(authority)}}],
        "users": [{"name": "localcluster", "user": {"token": token}}],
        "contexts": [{"name": "localcluster", "context": {"cluster": "localcluster", "user": "localcluster"}}],
        "current-context": "localcluster",
    });
    let text = serde_json::to_string_pretty(&config).context("cannot write a kubeconfig")?;
    write_private(path, &text)
}

fn write_private(path: &Path, text: &str) -> Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let written = options.open(path).and_then(|mut file| file.write_all(text.as_bytes()));
    written.with_context(|| format!("cannot write {}", path.display()))
}

/// 256 bits that nobody can guess, as text that needs no quoting.
fn secret() -> Result<String> {
    let mut bytes = [0_u8; 32];
    let mut source = fs::File::open("/dev/urandom").context("cannot open /dev/urandom")?;
    std::io::Read::read_exact(&mut source, &mut bytes).context("cannot read /dev/urandom")?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}
