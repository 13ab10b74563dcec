//! Asks the servers behind sources: what a model is, small files whole, and files as streams.

use std::{ops::Range, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use jiff::Timestamp;
use url::Url;

use super::{
    body::body,
    credentials::Credentials,
    error::SourceError,
    hosts::Site,
    http::{Answer, Ask, Client, Names, SystemNames, Timeouts},
    refusal::{Asked, Refusal},
    sources::Sources,
    tree::Tree,
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

impl Resolver {
    /// The largest file that [`Resolver::read`] reads, in bytes.
    pub const MAX_READ: u64 = 16 << 20;
    /// How long a server may take for all that one question needs: one that sends byte after byte must not hold us for ever.
    const MAX_TIME: Duration = Duration::from_secs(60);
    /// The longest answer to a question about a model, in bytes.
    pub(super) const MAX_ANSWER: usize = 16 << 20;

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

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// What `source` has at `revision` (a branch, tag or commit; nothing: the default branch), as of now.
    ///
    /// Downloads no weights: of a hub one request for the commit, one for each thousand files; of a server one for the manifest.
    pub async fn resolve(
        &self,
        source: &Source,
        revision: Option<&str>,
        credentials: Option<&Credentials>,
    ) -> Result<Tree, SourceError> {
        let asked = Asked { source, revision, path: None };
        asked.check_revision()?;
        match source {
            Source::Hub { .. } => self.in_time(source, self.ask_hub(asked, credentials)).await,
            Source::Web { .. } => self.in_time(source, self.ask_web(asked, credentials)).await,
            Source::Claim { .. } => Err(SourceError::never(
                Reason::InternalError,
                format!("{source} is read by a pod that mounts the claim, and was asked for over the network."),
            )),
        }
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
            let (endpoint, seconds) = (self.sources().endpoint(source), Self::MAX_TIME.as_secs());
            let site = endpoint.site();
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
        let mut headers = HeaderMap::new();
        if let Some(range) = &range {
            let value = format!("bytes={}-{}", range.start, range.end.saturating_sub(1));
            headers.extend(HeaderValue::try_from(value).ok().map(|value| (header::RANGE, value)));
            let etag = location.and_then(|location| location.etag.clone());
            headers.extend(etag.map(|etag| (header::IF_RANGE, etag)));
        }
        let url = location.map_or_else(
            || {
                let repository: &[&str] = match source {
                    Source::Hub { owner, name } => &[owner, name, "resolve", commit],
                    Source::Web { .. } | Source::Claim { .. } => &[],
                };
                self.sources().endpoint(source).join(repository.iter().copied().chain(path.as_str().split('/')))
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

    pub(super) async fn get(&self, url: Url, asked: Asked<'_>, credentials: Option<&Credentials>) -> Result<Answer, SourceError> {
        let answer = self.client.send(Ask { method: Method::GET, url, credentials, headers: HeaderMap::new() }).await?;
        if answer.response.status() == StatusCode::OK { Ok(answer) } else { Err(self.refused(&answer, asked)) }
    }

    pub(super) fn refused(&self, answer: &Answer, asked: Asked<'_>) -> SourceError {
        let Some(site) = Site::of(&answer.url) else {
            return SourceError::invalid(format!("{}: a URL without a host", asked.source));
        };
        let refusal =
            Refusal { status: answer.response.status(), headers: answer.response.headers(), site: &site, token: answer.token };
        refusal.explain(asked, self.sources(), Timestamp::now())
    }
}
