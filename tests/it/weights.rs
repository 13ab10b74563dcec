//! Sources and the fetch, against a hub on this machine.

mod checks;
mod claims;
mod client;
mod command;
mod disk;
mod fetching;
mod reaching;
mod resolving;
mod web;

use std::{fs, path::Path, sync::Arc, time::Duration};

use bonafide::{
    api::SECRET_TYPE,
    model::{Checks, Digest, File, Manifest, Source},
    weights::{
        Credentials, Resolver, Sources, SystemNames, Timeouts,
        fetch::{self, Job, Limits, Outcome, Progress, Snapshot},
    },
};
use localcluster::hub::{Handle, Hub, Options};
use tempfile::TempDir;

const REPOSITORY: &str = "acme/smollm2";

/// A hub with one repository.
struct Place {
    root: TempDir,
    hub: Handle,
}

impl Place {
    async fn new(files: &[(&str, &[u8])]) -> Self {
        Self::with(files, |_| {}).await
    }

    async fn with(files: &[(&str, &[u8])], set: impl FnOnce(&mut Options)) -> Self {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join(REPOSITORY);
        fs::create_dir_all(&dir).unwrap();
        write(&dir, files);
        let mut options = Options::new(root.path());
        set(&mut options);
        Self { hub: Hub::start(options).await.unwrap(), root }
    }

    /// A table that names the hub, and `allowed` hosts.
    fn table(&self, allowed: &[&str]) -> Sources {
        Sources::parse(&serde_json::json!({"hf": {"endpoint": self.hub.url()}, "allowedHosts": allowed}).to_string()).unwrap()
    }

    fn resolver(&self) -> Resolver {
        Resolver::new(self.table(&[])).unwrap()
    }

    fn commit(&self) -> String {
        self.hub.commit(REPOSITORY).unwrap()
    }

    /// Requests for files, the API's left out.
    fn file_requests(&self) -> Vec<localcluster::hub::Logged> {
        self.hub.requests().into_iter().filter(|request| !request.path.starts_with("/api/")).collect()
    }

    /// The bytes of files that were sent.
    fn sent(&self) -> u64 {
        self.file_requests().iter().map(localcluster::hub::Logged::sent).sum()
    }
}

fn write(dir: &Path, files: &[(&str, &[u8])]) {
    for (path, content) in files {
        let path = dir.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}

fn source() -> Source {
    format!("hf://{REPOSITORY}").parse().unwrap()
}

fn credentials(token: &str, hosts: &str) -> Credentials {
    let data = [("token".to_owned(), token.into()), ("hosts".to_owned(), hosts.into())].into();
    Credentials::from_secret(SECRET_TYPE, &data).unwrap()
}

/// Bytes that do not repeat, the same for the same seed.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

fn manifest(files: &[(&str, &[u8])]) -> Manifest {
    let file = |(path, content): &(&str, &[u8])| File {
        path: path.parse().unwrap(),
        size: content.len() as u64,
        sha256: Digest::of(content),
    };
    Manifest::new(files.iter().map(file).collect()).unwrap()
}

/// A resolver that does not wait long for a silent network.
fn hasty(sources: Sources) -> Resolver {
    let timeouts = Timeouts { connect: Duration::from_millis(500), read: Duration::from_millis(300) };
    Resolver::with(sources, timeouts, Arc::new(SystemNames)).unwrap()
}

fn job(place: &Place, files: &[(&str, &[u8])], into: &Path) -> Job {
    let (into, own) = (into.to_owned(), into.to_owned());
    Job {
        manifest: manifest(files),
        source: source(),
        revision: place.commit(),
        credentials: None,
        into,
        own,
        checks: Checks::default(),
    }
}

/// Small ranges, so that small files have several.
fn limits() -> Limits {
    Limits { range: 1 << 20, patience: Duration::from_secs(20), ..Limits::default() }
}

async fn fetch(resolver: Resolver, job: Job) -> (Outcome, Snapshot) {
    let progress = Arc::new(Progress::default());
    let outcome = fetch::fetch(resolver, job, limits(), Arc::clone(&progress)).await;
    (outcome, progress.snapshot(None))
}

/// A server with TLS before `target`, with a certificate for 127.0.0.1 of an authority of its own; its port and the authority.
async fn tls_before(target: std::net::SocketAddr) -> (u16, String) {
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = rcgen::CertifiedIssuer::self_signed(parameters, authority_key).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let builder =
        tokio_rustls::rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let key = tokio_rustls::rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = builder.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                if let Ok(mut stream) = acceptor.accept(stream).await {
                    let mut behind = tokio::net::TcpStream::connect(target).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut stream, &mut behind).await;
                }
            });
        }
    });
    (port, authority.pem())
}
