//! The routes: what is asked, whether it may be seen, and the answers' shapes, as the real hub has them.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, atomic::AtomicU64},
    time::{SystemTime, UNIX_EPOCH},
};

use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderName, HeaderValue, Method, StatusCode, header},
    response::Response,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{
    Hub, Logged,
    faults::Which,
    files::{self, value},
    repository::{Entry, Head, hex},
    request::{Asked, encode},
};

const ERROR_CODE: HeaderName = HeaderName::from_static("x-error-code");
const ERROR_MESSAGE: HeaderName = HeaderName::from_static("x-error-message");
const REPO_COMMIT: HeaderName = HeaderName::from_static("x-repo-commit");
const LINKED_ETAG: HeaderName = HeaderName::from_static("x-linked-etag");
const LINKED_SIZE: HeaderName = HeaderName::from_static("x-linked-size");

/// How long a link to a large file is good, in seconds.
const LINK_LIFETIME: u64 = 3600;

/// What somebody may see.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Rights {
    Public,
    Private,
    Gated,
}

/// Answers one request.
pub(super) async fn answer(State((hub, local)): State<(Arc<Hub>, SocketAddr)>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let asked = Asked::new(parts.method, &parts.uri, parts.headers);
    let sent = Arc::new(AtomicU64::new(0));
    let answer = hub.route(&asked, local, &sent).await.unwrap_or_else(|error| {
        let status =
            if error.kind() == io::ErrorKind::NotFound { StatusCode::NOT_FOUND } else { StatusCode::INTERNAL_SERVER_ERROR };
        refuse(status, "", &error.to_string())
    });
    hub.log(Logged::new(local.port(), &asked, answer.status().as_u16(), sent));
    answer
}

impl Hub {
    async fn route(&self, asked: &Asked, local: SocketAddr, sent: &Arc<AtomicU64>) -> io::Result<Response> {
        let segments: Vec<&str> = asked.segments.iter().map(String::as_str).collect();
        if !matches!(asked.method, Method::GET | Method::HEAD) {
            return Ok(refuse(StatusCode::METHOD_NOT_ALLOWED, "", "Only GET and HEAD are served here"));
        }
        let which = if segments.first() == Some(&"api") { Which::Api } else { Which::Files };
        if let Some(fail) = self.faults.fail(which) {
            let status = StatusCode::from_u16(fail.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            let mut answer = refuse(status, "", "As the faults say");
            if let Some(after) = fail.retry_after {
                answer.headers_mut().insert(header::RETRY_AFTER, value(&after));
            }
            return Ok(answer);
        }
        let is_cdn = segments.first() == Some(&"cdn");
        if self.cdn.is_some() && is_cdn != (self.cdn == Some(local)) {
            return Ok(refuse(StatusCode::NOT_FOUND, "", "Not on this port"));
        }
        if let ["cdn", owner, name, commit, path @ ..] = segments.as_slice() {
            return self.large_file(asked, &format!("{owner}/{name}"), commit, &path.join("/"), sent).await;
        }
        let rights = match self.rights(asked) {
            Ok(rights) => rights,
            Err(refused) => return Ok(*refused),
        };
        if let ["api", "whoami-v2"] = segments.as_slice() {
            return Ok(if rights == Rights::Public {
                unauthorized()
            } else {
                json_answer(&json!({"type": "user", "name": "somebody"}))
            });
        }
        let repository = match segments.as_slice() {
            ["api", "models", owner, name, ..] | [owner, name, "resolve", ..] => format!("{owner}/{name}"),
            _ => return Ok(refuse(StatusCode::NOT_FOUND, "", "Sorry, we can't find the page you are looking for.")),
        };
        if let Some((_, new)) = self.options.renamed.iter().find(|(old, _)| *old == repository) {
            let mut answer = refuse(StatusCode::TEMPORARY_REDIRECT, "", "");
            let query = if asked.query.is_empty() { String::new() } else { format!("?{}", asked.query) };
            answer.headers_mut().insert(header::LOCATION, value(&format!("{}{query}", asked.path.replacen(&repository, new, 1))));
            return Ok(answer);
        }
        let hidden = self.options.private.contains(&repository) || self.faults.now().token_required;
        if !self.repositories.exists(&repository) || (hidden && rights == Rights::Public) {
            return Ok(if rights == Rights::Public {
                unauthorized()
            } else {
                refuse(StatusCode::NOT_FOUND, "RepoNotFound", "Repository not found")
            });
        }
        match segments.as_slice() {
            ["api", "models", _, _] => self.info(&repository, "main"),
            ["api", "models", _, _, "revision", revision] => self.info(&repository, revision),
            ["api", "models", _, _, "auth-check"] => {
                Ok(self.gate(&repository, &rights).unwrap_or_else(|| json_answer(&json!({}))))
            }
            ["api", "models", _, _, "tree", revision, below @ ..] => {
                self.tree(asked, &repository, revision, &below.join("/"), local)
            }
            [_, _, "resolve", revision, path @ ..] => {
                self.resolve(asked, &repository, revision, &path.join("/"), &rights, sent).await
            }
            _ => Ok(refuse(StatusCode::NOT_FOUND, "", "Sorry, we can't find the page you are looking for.")),
        }
    }

    fn rights(&self, asked: &Asked) -> Result<Rights, Box<Response>> {
        let has = |tokens: &[String], token: &str| tokens.iter().any(|known| known == token);
        match asked.token() {
            None => Ok(Rights::Public),
            Some(token) if has(&self.options.licensed_tokens, token) => Ok(Rights::Gated),
            Some(token) if has(&self.options.tokens, token) => Ok(Rights::Private),
            Some(_) => Err(Box::new(refuse(StatusCode::UNAUTHORIZED, "", "Invalid credentials in Authorization header"))),
        }
    }

    fn is_gated(&self, repository: &str) -> bool {
        self.options.gated.iter().chain(&self.faults.now().gated).any(|gated| gated == repository)
    }

    fn gate(&self, repository: &str, rights: &Rights) -> Option<Response> {
        if !self.is_gated(repository) || *rights == Rights::Gated {
            return None;
        }
        Some(match rights {
            Rights::Public => refuse(
                StatusCode::UNAUTHORIZED,
                "GatedRepo",
                &format!(
                    "Access to model {repository} is restricted. You must have access to it and be authenticated to access it. Please log in."
                ),
            ),
            _ => refuse(
                StatusCode::FORBIDDEN,
                "GatedRepo",
                &format!(
                    "Access to model {repository} is restricted and you are not in the authorized list. Visit its page to ask for access."
                ),
            ),
        })
    }

    fn info(&self, repository: &str, revision: &str) -> io::Result<Response> {
        let Some(head) = self.repositories.find(repository, revision)? else { return Ok(no_revision(revision)) };
        let siblings: Vec<Value> = head.files.keys().map(|path| json!({"rfilename": path})).collect();
        let used: u64 = head.files.values().map(|entry| entry.size).sum();
        Ok(json_answer(&json!({
            "_id": head.commit.get(..24),
            "id": repository,
            "modelId": repository,
            "author": repository.split('/').next(),
            "sha": head.commit,
            "lastModified": "2026-01-01T00:00:00.000Z",
            "createdAt": "2026-01-01T00:00:00.000Z",
            "private": self.options.private.iter().any(|private| private == repository),
            "gated": if self.is_gated(repository) { json!("manual") } else { json!(false) },
            "disabled": false,
            "downloads": 0,
            "likes": 0,
            "tags": [],
            "siblings": siblings,
            "spaces": [],
            "usedStorage": used,
        })))
    }

    fn tree(&self, asked: &Asked, repository: &str, revision: &str, below: &str, local: SocketAddr) -> io::Result<Response> {
        let Some(head) = self.repositories.find(repository, revision)? else { return Ok(no_revision(revision)) };
        let mut entries = listing(&head, below, asked.flag("recursive"));
        if entries.is_empty() && !below.is_empty() {
            return Ok(refuse(StatusCode::NOT_FOUND, "EntryNotFound", &format!("{below} does not exist on \"{revision}\"")));
        }
        let made_up = |path: &String| json!({"type": "file", "oid": "0".repeat(40), "size": 1, "path": path});
        entries.extend(self.faults.now().extra_paths.iter().map(made_up));
        let from: usize = asked.parameter("cursor").and_then(|cursor| cursor.strip_suffix("==")?.parse().ok()).unwrap_or(0);
        let limit = asked
            .parameter("limit")
            .and_then(|limit| limit.parse().ok())
            .unwrap_or(self.options.page)
            .clamp(1, self.options.page.max(1));
        let page: Vec<&Value> = entries.iter().skip(from).take(limit).collect();
        let mut answer = json_answer(&json!(page));
        let next = from + page.len();
        if next < entries.len() {
            let host = asked.header(&header::HOST).map_or_else(|| local.to_string(), str::to_owned);
            let (recursive, expand) = (asked.flag("recursive"), asked.flag("expand"));
            let cursor = encode(&format!("{next}=="));
            let link = format!(
                "<http://{host}{}?recursive={recursive}&expand={expand}&limit={limit}&cursor={cursor}>; rel=\"next\"",
                asked.path
            );
            answer.headers_mut().insert(header::LINK, value(&link));
        }
        Ok(answer)
    }

    async fn resolve(
        &self,
        asked: &Asked,
        repository: &str,
        revision: &str,
        path: &str,
        rights: &Rights,
        sent: &Arc<AtomicU64>,
    ) -> io::Result<Response> {
        if let Some(refused) = self.gate(repository, rights) {
            return Ok(refused);
        }
        let Some(head) = self.repositories.find(repository, revision)? else { return Ok(no_revision(revision)) };
        let Some(entry) = head.files.get(path) else {
            let mut answer = refuse(StatusCode::NOT_FOUND, "EntryNotFound", "Entry not found");
            answer.headers_mut().insert(REPO_COMMIT, value(&head.commit));
            return Ok(answer);
        };
        if let Some(elsewhere) = &self.faults.now().redirect {
            let mut answer = refuse(StatusCode::FOUND, "", "");
            answer.headers_mut().insert(header::LOCATION, value(&format!("{elsewhere}{}", asked.path)));
            return Ok(answer);
        }
        let name = format!("{repository}/{path}");
        let mut answer = match entry.pointer {
            None => files::send(self, asked, entry, &name, &format!("\"{}\"", entry.oid), Arc::clone(sent)).await?,
            Some(_) => self.link(asked, repository, &head.commit, path, entry),
        };
        answer.headers_mut().insert(REPO_COMMIT, value(&head.commit));
        Ok(answer)
    }

    /// Large files come from elsewhere, by a link that needs no token and runs out.
    fn link(&self, asked: &Asked, repository: &str, commit: &str, path: &str, entry: &Entry) -> Response {
        let expires = now() + LINK_LIFETIME;
        let encoded: Vec<String> = path.split('/').map(encode).collect();
        let target = format!("/cdn/{repository}/{commit}/{}", encoded.join("/"));
        let signature = self.sign(repository, commit, path, expires);
        let host = match (self.cdn, asked.header(&header::HOST)) {
            (Some(cdn), _) => format!("http://{cdn}"),
            (None, Some(host)) => format!("http://{host}"),
            (None, None) => String::new(),
        };
        let mut answer = refuse(StatusCode::FOUND, "", "");
        let headers = answer.headers_mut();
        headers.insert(header::LOCATION, value(&format!("{host}{target}?Expires={expires}&Signature={signature}")));
        headers.insert(LINKED_ETAG, value(&format!("\"{}\"", entry.sha256)));
        headers.insert(LINKED_SIZE, HeaderValue::from(entry.size));
        headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        answer
    }

    async fn large_file(
        &self,
        asked: &Asked,
        repository: &str,
        commit: &str,
        path: &str,
        sent: &Arc<AtomicU64>,
    ) -> io::Result<Response> {
        let expires: u64 = asked.parameter("Expires").and_then(|expires| expires.parse().ok()).unwrap_or(0);
        let signed =
            asked.parameter("Signature").is_some_and(|signature| signature == self.sign(repository, commit, path, expires));
        if !signed || expires < now() {
            return Ok(refuse(StatusCode::FORBIDDEN, "", ""));
        }
        let head = self.repositories.find(repository, commit)?;
        let Some(entry) = head.as_ref().and_then(|head| head.files.get(path)) else {
            return Ok(refuse(StatusCode::NOT_FOUND, "", ""));
        };
        // A storage server knows its own mark of the content, not the SHA-256.
        let etag = format!("\"{}\"", entry.sha256.get(..32).unwrap_or_default());
        let mut answer = files::send(self, asked, entry, &format!("{repository}/{path}"), &etag, Arc::clone(sent)).await?;
        if self.cdn.is_none() {
            // Hugging Face's client follows redirects within one host before it looks for these.
            let headers = answer.headers_mut();
            headers.insert(REPO_COMMIT, value(commit));
            headers.insert(LINKED_ETAG, value(&format!("\"{}\"", entry.sha256)));
            headers.insert(LINKED_SIZE, HeaderValue::from(entry.size));
        }
        Ok(answer)
    }

    fn sign(&self, repository: &str, commit: &str, path: &str, expires: u64) -> String {
        hex(&Sha256::digest(format!("{}\0{repository}\0{commit}\0{path}\0{expires}", self.secret)))
    }
}

/// The entries below a directory: files, and the directories that they need.
fn listing(head: &Head, below: &str, recursive: bool) -> Vec<Value> {
    let prefix = if below.is_empty() { String::new() } else { format!("{below}/") };
    let mut entries = std::collections::BTreeMap::new();
    for (path, entry) in &head.files {
        let Some(rest) = path.strip_prefix(&prefix) else { continue };
        for (at, _) in rest.match_indices('/').take(if recursive { usize::MAX } else { 1 }) {
            let dir = path.get(..prefix.len() + at).unwrap_or_default();
            let oid = hex(&Sha256::digest(format!("{}\0{dir}", head.commit))).chars().take(40).collect::<String>();
            entries.insert(dir.to_owned(), json!({"type": "directory", "oid": oid, "size": 0, "path": dir}));
        }
        if recursive || !rest.contains('/') {
            let mut file = json!({"type": "file", "oid": entry.oid, "size": entry.size, "path": path});
            if let (Some(pointer), Some(file)) = (entry.pointer, file.as_object_mut()) {
                file.insert("lfs".to_owned(), json!({"oid": entry.sha256, "size": entry.size, "pointerSize": pointer}));
            }
            entries.insert(path.clone(), file);
        }
    }
    entries.into_values().collect()
}

fn json_answer(body: &Value) -> Response {
    let mut answer = Response::new(Body::from(body.to_string()));
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
    answer
}

/// An answer without content, and why.
fn refuse(status: StatusCode, code: &str, message: &str) -> Response {
    let mut answer = json_answer(&json!({"error": message}));
    *answer.status_mut() = status;
    for (name, text) in [(ERROR_CODE, code), (ERROR_MESSAGE, message)] {
        if !text.is_empty() {
            answer.headers_mut().insert(name, value(text));
        }
    }
    answer
}

/// The hub does not say whether a private repository exists.
fn unauthorized() -> Response {
    let mut answer = refuse(StatusCode::UNAUTHORIZED, "RepoNotFound", "Invalid username or password.");
    answer.headers_mut().insert(
        header::WWW_AUTHENTICATE,
        HeaderValue::from_static("Bearer realm=\"Authentication required\", charset=\"UTF-8\""),
    );
    answer
}

fn no_revision(revision: &str) -> Response {
    refuse(StatusCode::NOT_FOUND, "RevisionNotFound", &format!("Invalid rev id: {revision}"))
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
