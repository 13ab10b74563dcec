//! `https://` sources: a real server of files, with TLS, with and without ranges, with a password, behind a mirror.

use std::{
    io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use bonafide::{api::Reason, weights::SourceError};
use serde_json::json;

use super::*;

const MIB: usize = 1 << 20;

/// A server of the files of one directory, as plain as they come: GET, perhaps ranges, perhaps a password, no ETag.
struct Server {
    root: TempDir,
    address: SocketAddr,
    state: Arc<State>,
}

/// Path, range and authorization.
type Request = (String, Option<String>, Option<String>);

#[derive(Default)]
struct State {
    no_ranges: AtomicBool,
    /// Sends everything as a part, also to those who asked for the whole.
    parts: AtomicBool,
    /// What the header `Authorization` has to be.
    password: Mutex<Option<String>>,
    /// Sends whoever asks for the first to the second.
    redirect: Mutex<Option<(String, String)>>,
    requests: Mutex<Vec<Request>>,
}

impl Server {
    fn new(files: &[(&str, &[u8])]) -> Self {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), files);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, state) = (listener.local_addr().unwrap(), Arc::new(State::default()));
        let (dir, shared) = (root.path().to_owned(), Arc::clone(&state));
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let (dir, state) = (dir.clone(), Arc::clone(&shared));
                std::thread::spawn(move || answer(connection.unwrap(), &dir, &state));
            }
        });
        Self { root, address, state }
    }

    /// Writes the manifest of the directory `llama` with the real command.
    fn publish(&self) -> String {
        let dir = self.root.path().join("llama");
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_bonafide")).arg("manifest").arg(&dir).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        fs::write(dir.join("bonafide.json"), &output.stdout).unwrap();
        Digest::of(&output.stdout).hex()
    }

    /// The table that puts this server in the place of `https://models.acme.test/`.
    fn table(&self) -> Sources {
        let mirror = json!({"from": "https://models.acme.test/", "to": format!("http://{}", self.address)});
        Sources::parse(&json!({ "mirrors": [mirror] }).to_string()).unwrap()
    }

    fn resolver(&self) -> Resolver {
        Resolver::new(self.table()).unwrap()
    }

    async fn resolve(&self, revision: Option<&str>) -> Result<bonafide::weights::Tree, SourceError> {
        self.resolver().resolve(&llama(), revision, None).await
    }

    fn asked(&self) -> Vec<Request> {
        std::mem::take(&mut *self.state.requests.lock().unwrap())
    }
}

fn answer(connection: TcpStream, dir: &Path, state: &State) -> Option<()> {
    let mut reader = BufReader::new(connection.try_clone().unwrap());
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let path = line.split(' ').nth(1)?.to_owned();
        let (mut range, mut authorization) = (None, None);
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            let Some((name, value)) = line.trim().split_once(": ") else { break };
            match name.to_ascii_lowercase().as_str() {
                "range" => range = Some(value.to_owned()),
                "authorization" => authorization = Some(value.to_owned()),
                _ => {}
            }
        }
        state.requests.lock().unwrap().push((path.clone(), range.clone(), authorization.clone()));
        let mut writer = &connection;
        let mut say = |head: &str, body: &[u8]| {
            writer.write_all(format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes()).ok()?;
            writer.write_all(body).ok()
        };
        let password = state.password.lock().unwrap().clone();
        if password.is_some() && password != authorization {
            say("401 Unauthorized\r\nWWW-Authenticate: Basic", b"")?;
            continue;
        }
        if let Some((_, to)) = state.redirect.lock().unwrap().clone().filter(|(from, _)| *from == path) {
            say(&format!("302 Found\r\nLocation: {to}"), b"")?;
            continue;
        }
        let Ok(mut file) = fs::File::open(dir.join(decoded(path.trim_start_matches('/')))) else {
            say("404 Not Found", b"")?;
            continue;
        };
        let length = file.metadata().unwrap().len();
        let asked = range.filter(|_| !state.no_ranges.load(Relaxed)).and_then(|range| {
            let (from, to) = range.strip_prefix("bytes=")?.split_once('-')?;
            Some((from.parse::<u64>().ok()?, to.parse::<u64>().ok()?.min(length - 1)))
        });
        let mut body = Vec::new();
        match asked {
            Some((from, to)) => {
                file.seek(SeekFrom::Start(from)).unwrap();
                file.take(to - from + 1).read_to_end(&mut body).unwrap();
                say(&format!("206 Partial Content\r\nContent-Range: bytes {from}-{to}/{length}"), &body)?;
            }
            None => {
                file.read_to_end(&mut body).unwrap();
                let status = if state.parts.load(Relaxed) { "206 Partial Content" } else { "200 OK" };
                say(&format!("{status}\r\nLast-Modified: Thu, 01 Jan 2026 00:00:00 GMT"), &body)?;
            }
        }
    }
}

fn decoded(path: &str) -> String {
    let mut parts = path.split('%');
    let mut bytes = parts.next().unwrap().as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(&part[..2], 16).unwrap());
        bytes.extend(&part.as_bytes()[2..]);
    }
    String::from_utf8(bytes).unwrap()
}

fn llama() -> Source {
    "https://models.acme.test/llama/bonafide.json".parse().unwrap()
}

fn job(files: &[(&str, &[u8])], revision: &str, into: &Path) -> Job {
    let (into, own) = (into.to_owned(), into.to_owned());
    Job {
        manifest: manifest(files),
        source: llama(),
        revision: revision.to_owned(),
        credentials: None,
        into,
        own,
        checks: Checks::default(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_with_a_manifest_is_resolved_and_fetched_in_ranges() {
    let model = noise(5 * MIB + 3, 50);
    let server = Server::new(&[("llama/model.gguf", &model), ("llama/sub dir/ü.json", b"{}"), ("llama/model.sig", b"{sig}")]);
    let revision = server.publish();
    let tree = server.resolve(None).await.unwrap();
    assert_eq!(tree.revision, revision);
    let listed: Vec<_> = tree.files.iter().map(|file| (file.path.as_str(), file.size, file.sha256.unwrap())).collect();
    let expected = [("model.gguf", model.as_slice()), ("model.sig", b"{sig}"), ("sub dir/ü.json", b"{}")];
    assert_eq!(listed, expected.map(|(path, content)| (path, content.len() as u64, Digest::of(content))));
    let sig = "model.sig".parse().unwrap();
    assert_eq!(server.resolver().read(&llama(), &revision, &sig, 5, None).await.unwrap(), b"{sig}");

    server.asked();
    let served: [(&str, &[u8]); 2] = [("model.gguf", &model), ("sub dir/ü.json", b"{}")];
    let into = tempfile::tempdir().unwrap();
    let (outcome, _) = fetch(server.resolver(), job(&served, &revision, into.path())).await;
    assert_eq!(outcome, Outcome::Complete { received: model.len() as u64 + 2 });
    assert_eq!(fs::read(into.path().join("tree/model.gguf")).unwrap(), model);
    assert_eq!(fs::read(into.path().join("tree/sub dir/ü.json")).unwrap(), b"{}");
    let ranges = server.asked().into_iter().filter(|(path, range, _)| path == "/llama/model.gguf" && range.is_some()).count();
    assert_eq!(ranges, 6);

    let (again, _) = fetch(server.resolver(), job(&served, &revision, into.path())).await;
    assert_eq!(again, Outcome::Complete { received: 0 });
    assert_eq!(server.asked(), vec![], "what is there needs no server");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_ranges_sends_whole_files_and_a_cut_is_continued() {
    let model = noise(3 * MIB, 51);
    let server = Server::new(&[("llama/model.gguf", &model)]);
    server.state.no_ranges.store(true, Relaxed);
    let revision = server.publish();
    let served: [(&str, &[u8]); 1] = [("model.gguf", &model)];
    let into = tempfile::tempdir().unwrap();
    fs::create_dir(into.path().join("partial")).unwrap();
    let partial = into.path().join(format!("partial/{}.part", Digest::of(&model).hex()));
    fs::write(partial, &model[..MIB]).unwrap();
    let (outcome, progress) = fetch(server.resolver(), job(&served, &revision, into.path())).await;
    assert!(matches!(outcome, Outcome::Complete { .. }), "{outcome:?}");
    assert_eq!(progress.received, (2 * MIB) as u64);
    assert_eq!(fs::read(into.path().join("tree/model.gguf")).unwrap(), model);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_changed_is_refused_and_so_is_a_file() {
    let model = noise(MIB, 52);
    let server = Server::new(&[("llama/model.gguf", &model), ("llama/config.json", b"{}")]);
    let revision = server.publish();
    let served: [(&str, &[u8]); 1] = [("model.gguf", &model)];
    assert!(server.resolve(Some(&revision)).await.is_ok());

    // Another file in place of a listed one.
    let mut other = model.clone();
    other[7] ^= 1;
    fs::write(server.root.path().join("llama/model.gguf"), &other).unwrap();
    let into = tempfile::tempdir().unwrap();
    let (outcome, _) = fetch(server.resolver(), job(&served, &revision, into.path())).await;
    let Outcome::Refused(refused) = outcome else { panic!("{outcome:?}") };
    assert_eq!((refused.file.as_str(), refused.found), ("model.gguf", Digest::of(&other).to_string()));
    fs::write(server.root.path().join("llama/model.gguf"), &model[..MIB - 1]).unwrap();
    let into = tempfile::tempdir().unwrap();
    let (outcome, _) = fetch(server.resolver(), job(&served, &revision, into.path())).await;
    assert!(matches!(&outcome, Outcome::Refused(refused) if refused.found.contains("1048575 bytes")), "{outcome:?}");

    // Another manifest.
    fs::write(server.root.path().join("llama/model.gguf"), &model).unwrap();
    fs::write(server.root.path().join("llama/config.json"), b"{} ").unwrap();
    let new = server.publish();
    let error = server.resolve(Some(&revision)).await.unwrap_err().problem;
    assert_eq!(error.reason, Reason::RevisionNotFound);
    assert!(error.message.contains(&new) && error.message.contains(&revision), "{error}");
    let into = tempfile::tempdir().unwrap();
    server.asked();
    let (outcome, _) = fetch(server.resolver(), job(&served, &revision, into.path())).await;
    let Outcome::Refused(refused) = outcome else { panic!("{outcome:?}") };
    assert!(refused.file == "bonafide.json" && refused.message.contains(&new), "{refused:?}");
    assert_eq!(server.asked().len(), 1, "no byte of the model was asked for");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_sent_to_the_hosts_of_its_secret_and_not_where_they_redirect() {
    let model = noise(MIB, 53);
    let (server, store) =
        (Server::new(&[("llama/config.json", b"{}"), ("llama/model.gguf", &model)]), Server::new(&[("blob", &model)]));
    let revision = server.publish();
    *server.state.password.lock().unwrap() = Some("Basic YWNtZTpzM2NyM3Q=".to_owned());
    let blob = format!("http://localhost:{}/blob", store.address.port());
    *server.state.redirect.lock().unwrap() = Some(("/llama/model.gguf".to_owned(), blob));
    let secret = |hosts: &str| {
        let entries = [("username", "acme"), ("password", "s3cr3t"), ("hosts", hosts)];
        let data = entries.map(|(key, value)| (key.to_owned(), value.into())).into();
        Credentials::from_secret(SECRET_TYPE, &data).unwrap()
    };
    let mut table = serde_json::to_value(server.table()).unwrap();
    table["allowedHosts"] = json!(["localhost"]);
    let resolver = Resolver::new(serde_json::from_value(table).unwrap()).unwrap();
    for (credentials, said) in [(None, "name a Secret"), (Some(secret("elsewhere.test")), "were not sent")] {
        let error = resolver.resolve(&llama(), None, credentials.as_ref()).await.unwrap_err().problem;
        assert_eq!(error.reason, Reason::AccessDenied);
        assert!(error.message.contains(said), "{error}");
    }
    let credentials = secret("127.0.0.1");
    assert_eq!(resolver.resolve(&llama(), None, Some(&credentials)).await.unwrap().revision, revision);
    let into = tempfile::tempdir().unwrap();
    let served: [(&str, &[u8]); 1] = [("model.gguf", &model)];
    let job = Job { credentials: Some(credentials), ..job(&served, &revision, into.path()) };
    let (outcome, _) = fetch(resolver, job).await;
    assert_eq!(outcome, Outcome::Complete { received: model.len() as u64 });
    let asked = store.asked();
    assert!(!asked.is_empty() && asked.iter().all(|(_, _, authorization)| authorization.is_none()), "{asked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_and_what_is_no_manifest_says_so() {
    let server = Server::new(&[("llama/model.gguf", b"GGUF"), ("llama/other.txt", b"x")]);
    let error = server.resolve(None).await.unwrap_err().problem;
    assert_eq!(error.reason, Reason::RepositoryNotFound);
    assert!(error.message.contains("bonafide manifest DIR"), "{error}");
    fs::write(server.root.path().join("llama/bonafide.json"), "<html>").unwrap();
    assert_eq!(server.resolve(None).await.unwrap_err().problem.reason, Reason::SourceInvalid);
    let revision = server.publish();
    fs::remove_file(server.root.path().join("llama/model.gguf")).unwrap();
    let into = tempfile::tempdir().unwrap();
    let (outcome, _) = fetch(server.resolver(), job(&[("model.gguf", b"GGUF")], &revision, into.path())).await;
    let Outcome::Failed(problem) = outcome else { panic!("{outcome:?}") };
    assert!(problem.reason == Reason::SourceInvalid && problem.message.contains("Files lie beside"), "{problem}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_nobody_asked_for_is_taken_for_no_whole() {
    let server = Server::new(&[("llama/config.json", b"{}")]);
    let revision = server.publish();
    let path = "config.json".parse().unwrap();
    let read = async || server.resolver().read(&llama(), &revision, &path, 2, None).await;
    assert_eq!(read().await.unwrap(), b"{}");
    server.state.parts.store(true, Relaxed);
    let error = read().await.unwrap_err().problem;
    assert_eq!(error.reason, Reason::SourceInvalid);
    assert!(error.message.contains("206"), "{error}");
    assert_eq!(server.resolve(None).await.unwrap_err().problem.reason, Reason::SourceInvalid);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_at_a_private_address_needs_the_administrators_table() {
    let source = "https://127.0.0.1:9/llama/bonafide.json".parse().unwrap();
    let error = |table: &str| {
        let resolver = hasty(Sources::parse(table).unwrap());
        let source: Source = Source::clone(&source);
        async move { resolver.resolve(&source, None, None).await.unwrap_err().problem.reason }
    };
    assert_eq!(error("{}").await, Reason::HostNotAllowed);
    assert_eq!(error("{allowedHosts: ['127.0.0.1']}").await, Reason::SourceUnavailable);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_a_certificate_of_ones_own_authority_is_trusted_once_the_administrator_names_it() {
    let model = noise(3 * MIB, 54);
    let server = Server::new(&[("llama/model.gguf", &model)]);
    let revision = server.publish();
    let (port, authority) = tls_before(server.address).await;
    let source: Source = format!("https://127.0.0.1:{port}/llama/bonafide.json").parse().unwrap();
    let table = |authority: Option<&str>| json!({"hf": {"caBundle": authority}, "allowedHosts": ["127.0.0.1"]}).to_string();
    let resolver = Resolver::new(Sources::parse(&table(None)).unwrap()).unwrap();
    let error = resolver.resolve(&source, None, None).await.unwrap_err().problem;
    assert_eq!(error.reason, Reason::SourceUnavailable);
    assert!(error.message.contains("TLS") && error.message.contains("sources.hf.caBundle"), "{error}");
    let resolver = Resolver::new(Sources::parse(&table(Some(&authority))).unwrap()).unwrap();
    assert_eq!(resolver.resolve(&source, None, None).await.unwrap().revision, revision);

    // The same as the container does it that fetches.
    let served: [(&str, &[u8]); 1] = [("model.gguf", &model)];
    let (dir, manifest) = (tempfile::tempdir().unwrap(), manifest(&served));
    let path = |name: &str| dir.path().join(name);
    fs::create_dir(path("into")).unwrap();
    fs::write(path("manifest.json"), serde_json::to_string(&manifest).unwrap()).unwrap();
    for (authority, code) in [(None, 75), (Some(authority.as_str()), 0)] {
        fs::write(path("sources.json"), table(authority)).unwrap();
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_bonafide"));
        command.env_clear().args(["fetch", "--source", &source.to_string(), "--revision", &revision, "--patience", "1"]);
        command.args(["--digest", &manifest.digest().to_string()]).arg("--manifest").arg(path("manifest.json"));
        command.arg("--sources").arg(path("sources.json")).arg("--into").arg(path("into"));
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        assert_eq!(output.status.code(), Some(code), "{}", String::from_utf8_lossy(&output.stderr));
    }
    assert_eq!(fs::read(path("into/tree/model.gguf")).unwrap(), model);
}
