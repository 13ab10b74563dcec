//! The hub's HTTP API: what a branch or tag stands for today, which files a commit has, and small files whole.

use std::{ops::Range, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use jiff::Timestamp;
use reqwest::Response;
use serde::{Deserialize, de::DeserializeOwned};
use url::Url;

use super::{
    credentials::Credentials,
    error::SourceError,
    hosts::Site,
    http::{Answer, Ask, Client, Names, SystemNames, Timeouts, cause},
    refusal::{Asked, Refusal, clip},
    sources::Sources,
    tree::{Entry, Listing, Tree},
};
use crate::{
    api::{Problem, Reason},
    model::{CleanPath, Source},
};

/// Asks sources what a model is. Cheap to clone; holds the connections.
#[derive(Clone)]
pub struct Resolver {
    client: Client,
}

/// Where the bytes of a file were found in the end, for the next range of the same file.
#[derive(Debug, Clone)]
pub(super) struct Location {
    pub url: Url,
    pub etag: Option<HeaderValue>,
}

/// A file, or a part of it.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub source: &'a Source,
    pub commit: &'a str,
    pub path: &'a CleanPath,
    pub credentials: Option<&'a Credentials>,
}

/// The hub's answer about a repository.
#[derive(Deserialize)]
struct Info {
    id: Option<String>,
    #[serde(rename = "modelId")]
    model_id: Option<String>,
    sha: Option<String>,
    gated: Option<serde_json::Value>,
}

impl Resolver {
    /// The largest file that [`Resolver::read`] reads, in bytes.
    pub const MAX_READ: u64 = 16 << 20;
    /// The most pages of a listing.
    const MAX_PAGES: usize = 200;
    /// How long a hub may take for all that one question needs: a server that sends byte after byte must not hold us for ever.
    const MAX_TIME: Duration = Duration::from_secs(60);
    /// The longest answer of the API, in bytes.
    const MAX_ANSWER: usize = 16 << 20;

    /// A resolver for the administrator's table. Fails when its CA bundle is none.
    pub fn new(sources: Sources) -> Result<Self, Problem> {
        Self::with(sources, Timeouts::default(), Arc::new(SystemNames))
    }

    /// The same, with other time limits and another way to resolve names.
    pub fn with(sources: Sources, timeouts: Timeouts, names: Arc<dyn Names>) -> Result<Self, Problem> {
        Ok(Self { client: Client::new(Arc::new(sources), timeouts, names)? })
    }

    /// The table.
    pub fn sources(&self) -> &Sources {
        self.client.sources()
    }

    /// What `source` has at `revision` (a branch, tag or commit; nothing: the default branch), as of now.
    ///
    /// Downloads no weights: one request for the commit, one for each thousand files.
    pub async fn resolve(
        &self,
        source: &Source,
        revision: Option<&str>,
        credentials: Option<&Credentials>,
    ) -> Result<Tree, SourceError> {
        let asked = Asked { source, revision, path: None };
        check_revision(asked)?;
        self.in_time(source, self.ask(asked, credentials)).await
    }

    async fn ask(&self, asked: Asked<'_>, credentials: Option<&Credentials>) -> Result<Tree, SourceError> {
        let Asked { source, revision, .. } = asked;
        let Source::Hub { owner, name } = source;
        let endpoint = self.sources().endpoint(source);
        let mut segments = vec!["api", "models", owner, name];
        segments.extend(revision.iter().flat_map(|revision| ["revision", *revision]));
        let answer = self.get(endpoint.join(segments), asked, credentials).await?;
        let info: Info = json(answer, source).await?;
        self.check_name(&info, source)?;
        let commit = check_commit(&info, asked, endpoint.site())?;
        let tree = self.list(source, &commit, credentials).await?;
        self.check_gate(&info, source, &tree, credentials).await?;
        Ok(tree)
    }

    /// The whole of a small file: exactly `size` bytes, at most [`Resolver::MAX_READ`].
    ///
    /// The bytes are as genuine as the connection; whoever knows a digest compares it.
    pub async fn read(
        &self,
        source: &Source,
        commit: &str,
        path: &CleanPath,
        size: u64,
        credentials: Option<&Credentials>,
    ) -> Result<Vec<u8>, SourceError> {
        if size > Self::MAX_READ {
            return Err(SourceError::never(
                Reason::SourceInvalid,
                format!("{path} in {source} has {size} bytes, and at most {} are read for a look at it.", Self::MAX_READ),
            ));
        }
        let reading = async {
            let answer = self.open(Wanted { source, commit, path, credentials }, None, None).await?;
            let site = Site::of(&answer.url);
            body(answer.response, usize::try_from(size).unwrap_or(usize::MAX), site.as_ref()).await
        };
        let bytes = self.in_time(source, reading).await?;
        if bytes.as_ref().is_none_or(|bytes| bytes.len() as u64 != size) {
            let found = bytes.map_or_else(|| "more".to_owned(), |bytes| bytes.len().to_string());
            return Err(SourceError::invalid(format!(
                "{path}: {source}@{commit} lists it with {size} bytes and sends {found}. This is a mistake of the server, or of a proxy before it; \
                 tell those who run it."
            )));
        }
        Ok(bytes.unwrap_or_default())
    }

    async fn in_time<T>(
        &self,
        source: &Source,
        question: impl Future<Output = Result<T, SourceError>>,
    ) -> Result<T, SourceError> {
        let slow = || {
            let (site, seconds) = (self.sources().endpoint(source).site(), Self::MAX_TIME.as_secs());
            let message =
                format!("{site} did not finish its answer about {source} within {seconds} s. It is tried again by itself.");
            SourceError::later(Reason::SourceUnavailable, message, None)
        };
        tokio::time::timeout(Self::MAX_TIME, question).await.unwrap_or_else(|_| Err(slow()))
    }

    /// Opens a file, or the bytes of `range`, at a known `location` or where the hub leads. The answer's status is 200, 206
    /// or 416; every other one is an error.
    pub(super) async fn open(
        &self,
        wanted: Wanted<'_>,
        range: Option<Range<u64>>,
        location: Option<&Location>,
    ) -> Result<Answer, SourceError> {
        let Wanted { source, commit, path, credentials } = wanted;
        let Source::Hub { owner, name } = source;
        let mut headers = HeaderMap::new();
        if let Some(range) = &range {
            let value = format!("bytes={}-{}", range.start, range.end.saturating_sub(1));
            headers.extend(HeaderValue::try_from(value).ok().map(|value| (header::RANGE, value)));
            let etag = location.and_then(|location| location.etag.clone());
            headers.extend(etag.map(|etag| (header::IF_RANGE, etag)));
        }
        let url = location.map_or_else(
            || {
                let segments = [owner.as_str(), name, "resolve", commit].into_iter().chain(path.as_str().split('/'));
                self.sources().endpoint(source).join(segments)
            },
            |location| location.url.clone(),
        );
        // A remembered location is another host's, or one that the hub signed: it gets no token.
        let credentials = credentials.filter(|_| location.is_none());
        let answer = self.client.send(Ask { method: Method::GET, url, credentials, headers }).await?;
        let expected = match answer.response.status() {
            StatusCode::OK => true,
            StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => range.is_some(),
            _ => false,
        };
        if expected { Ok(answer) } else { Err(self.refused(&answer, Asked { source, revision: Some(commit), path: Some(path) })) }
    }

    async fn get(&self, url: Url, asked: Asked<'_>, credentials: Option<&Credentials>) -> Result<Answer, SourceError> {
        let answer = self.client.send(Ask { method: Method::GET, url, credentials, headers: HeaderMap::new() }).await?;
        if answer.response.status() == StatusCode::OK { Ok(answer) } else { Err(self.refused(&answer, asked)) }
    }

    fn refused(&self, answer: &Answer, asked: Asked<'_>) -> SourceError {
        let Some(site) = Site::of(&answer.url) else {
            return SourceError::invalid(format!("{}: a URL without a host", asked.source));
        };
        let refusal =
            Refusal { status: answer.response.status(), headers: answer.response.headers(), site: &site, token: answer.token };
        refusal.explain(asked, self.sources(), Timestamp::now())
    }

    /// A hub that answers for another repository has renamed the one asked for. Policies name sources, so the new name must be
    /// written down, not followed.
    fn check_name(&self, info: &Info, source: &Source) -> Result<(), SourceError> {
        let Source::Hub { owner, name } = source;
        let site = self.sources().endpoint(source).site();
        let Some(id) = info.id.as_ref().or(info.model_id.as_ref()) else {
            return Err(SourceError::invalid(format!(
                "{site} answers a question about {source} without 'id', which a hub does not do."
            )));
        };
        if *id == format!("{owner}/{name}") {
            return Ok(());
        }
        Err(SourceError::never(
            Reason::RepositoryRenamed,
            format!(
                "{source} is called hf://{} now, says {site}. If that is the model you want, write that name in spec.model.source; policies \
                 judge a model by the name that is written there.",
                clip(id)
            ),
        ))
    }

    async fn list(&self, source: &Source, commit: &str, credentials: Option<&Credentials>) -> Result<Tree, SourceError> {
        let Source::Hub { owner, name } = source;
        let first = self.sources().endpoint(source).join(["api", "models", owner, name, "tree", commit]);
        let mut url = first.clone();
        url.set_query(Some("recursive=true&expand=false"));
        let mut listing = Listing::new(source, commit);
        for _ in 0..Self::MAX_PAGES {
            let asked = Asked { source, revision: Some(commit), path: None };
            let answer = self.get(url.clone(), asked, credentials).await?;
            let next = next_query(answer.response.headers(), &first);
            let entries: Vec<Entry> = json(answer, source).await?;
            for entry in entries {
                listing.add(entry)?;
            }
            let Some(query) = next else { return Ok(listing.into_tree()) };
            // The next page is asked of the same server: mirrors often pass on the links of the hub behind them.
            url.set_query(Some(&query));
        }
        Err(listing.too_many())
    }

    /// Repositories with a gate show their listing to everybody; whether the files may be read is known only by trying.
    async fn check_gate(
        &self,
        info: &Info,
        source: &Source,
        tree: &Tree,
        credentials: Option<&Credentials>,
    ) -> Result<(), SourceError> {
        let gated = info.gated.as_ref().is_some_and(|gated| gated.is_string() || gated == true);
        let Some(file) = tree.files.first().filter(|_| gated) else { return Ok(()) };
        let Source::Hub { owner, name } = source;
        let segments = [owner.as_str(), name, "resolve", &tree.revision].into_iter().chain(file.path.as_str().split('/'));
        let url = self.sources().endpoint(source).join(segments);
        let answer = self.client.send(Ask { method: Method::HEAD, url, credentials, headers: HeaderMap::new() }).await?;
        let closed = matches!(answer.response.status().as_u16(), 401 | 403);
        let asked = Asked { source, revision: Some(&tree.revision), path: Some(&file.path) };
        if closed { Err(self.refused(&answer, asked)) } else { Ok(()) }
    }
}

fn check_revision(asked: Asked<'_>) -> Result<(), SourceError> {
    let Some(revision) = asked.revision else { return Ok(()) };
    // Git's own rules, as far as they matter in a URL.
    let bad = revision.is_empty()
        || revision.len() > 255
        || revision.split('/').any(|part| matches!(part, "" | "." | ".."))
        || revision.chars().any(|c| c.is_control() || matches!(c, ' ' | '\\' | '?' | '*' | '[' | '~' | '^' | ':'));
    if bad {
        return Err(SourceError::never(
            Reason::RevisionNotFound,
            format!(
                "spec.model.revision {:?} cannot be the name of a branch, a tag or a commit. Write main, a tag or 40 hexadecimal digits.",
                clip(revision)
            ),
        ));
    }
    Ok(())
}

fn check_commit(info: &Info, asked: Asked<'_>, site: &Site) -> Result<String, SourceError> {
    let is_commit =
        |text: &str| matches!(text.len(), 40 | 64) && text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'a'..=b'f'));
    let source = asked.source;
    let Some(commit) = info.sha.as_deref().filter(|commit| is_commit(commit)) else {
        let found = info.sha.as_deref().map_or_else(|| "nothing".to_owned(), |sha| format!("{:?}", clip(sha)));
        return Err(SourceError::invalid(format!(
            "{site} names {found} as the commit of {source}, where 40 hexadecimal digits are expected."
        )));
    };
    match asked.revision {
        Some(wanted) if is_commit(wanted) && wanted != commit => Err(SourceError::invalid(format!(
            "{site} was asked for commit {wanted} of {source}, and answers for commit {commit}."
        ))),
        _ => Ok(commit.to_owned()),
    }
}

/// The query of the link to the next page (RFC 8288), if there is one.
fn next_query(headers: &HeaderMap, base: &Url) -> Option<String> {
    headers.get_all(header::LINK).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(", ")).find_map(
        |link| {
            let (target, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
            let next = parameters.split(';').any(|parameter| matches!(parameter.trim(), "rel=\"next\"" | "rel=next"));
            let url = base.join(target).ok().filter(|_| next)?;
            url.query().map(str::to_owned)
        },
    )
}

async fn json<T: DeserializeOwned>(answer: Answer, source: &Source) -> Result<T, SourceError> {
    let site = Site::of(&answer.url);
    let who = site.as_ref().map(ToString::to_string).unwrap_or_default();
    let wrong = |what: String| {
        SourceError::invalid(format!(
            "{who} answers a question about {source} with {what}. Check the endpoint and the mirrors in the administrator's table of sources."
        ))
    };
    let bytes = body(answer.response, Resolver::MAX_ANSWER, site.as_ref()).await?;
    let bytes = bytes.ok_or_else(|| wrong(format!("more than {} bytes", Resolver::MAX_ANSWER)))?;
    serde_json::from_slice(&bytes).map_err(|error| wrong(format!("something that is not what a hub says ({error})")))
}

/// The whole body, or nothing when it is longer than `max` bytes.
async fn body(mut response: Response, max: usize, site: Option<&Site>) -> Result<Option<Vec<u8>>, SourceError> {
    let mut bytes = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if bytes.len() + chunk.len() > max => return Ok(None),
            Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
            Ok(None) => return Ok(Some(bytes)),
            Err(error) => {
                let who = site.map(ToString::to_string).unwrap_or_default();
                let why = cause(&error);
                let message = format!("{who} broke off in the middle of an answer: {why}. It is tried again by itself.");
                return Err(SourceError::later(Reason::SourceUnavailable, message, None));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_found_among_links_whatever_server_they_name() {
        let base = Url::parse("http://mirror.corp/hub/api/models/a/b/tree/c").unwrap();
        let query = |link: &'static str| {
            let headers = [(header::LINK, HeaderValue::from_static(link))].into_iter().collect();
            next_query(&headers, &base)
        };
        assert_eq!(
            query(r#"<https://huggingface.co/api/x?cursor=ab%3D&limit=2>; rel="next""#).as_deref(),
            Some("cursor=ab%3D&limit=2")
        );
        assert_eq!(query(r#"<?a=1>; rel="prev", </x?b=2>; rel=next"#).as_deref(), Some("b=2"));
        assert_eq!(query(r#"<?a=1>; rel="prev""#), None);
        assert_eq!(query("nonsense"), None);
    }

    #[test]
    fn what_cannot_name_a_revision_is_never_put_into_a_url() {
        let source = "hf://a/b".parse().unwrap();
        let check = |revision| check_revision(Asked { source: &source, revision: Some(revision), path: None });
        for good in ["main", "v1.0", "refs/pr/1", "feature/x-y", "12fd25f77366fa6b3b4b768ec3050bf629380bac"] {
            assert!(check(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/../b", "a//b", "/a", "a b", "a\nb", "a?b", "a\\b", &"x".repeat(256)] {
            assert_eq!(check(bad).unwrap_err().problem.reason, Reason::RevisionNotFound, "{bad:?}");
        }
    }
}
