//! The hub's HTTP API: what a branch or tag stands for today, and which files a commit has.

use http::{HeaderMap, Method, header};
use serde::{Deserialize, de::DeserializeOwned};
use url::Url;

use super::{
    body::body,
    credentials::Credentials,
    error::SourceError,
    hosts::Site,
    http::{Answer, Ask},
    refusal::{Asked, clip},
    resolver::Resolver,
    tree::{Entry, Listing, Tree},
};
use crate::{api::Reason, model::Source};

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
    /// The most pages of a listing.
    const MAX_PAGES: usize = 200;

    /// What a hub has.
    pub(super) async fn ask_hub(&self, asked: Asked<'_>, credentials: Option<&Credentials>) -> Result<Tree, SourceError> {
        let Asked { source, revision, .. } = asked;
        let Source::Hub { owner, name } = source else { return Err(no_hub(source)) };
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

    /// A hub that answers for another repository has renamed the one asked for. Policies name sources, so the new name must be
    /// written down, not followed.
    fn check_name(&self, info: &Info, source: &Source) -> Result<(), SourceError> {
        let Source::Hub { owner, name } = source else { return Err(no_hub(source)) };
        let site = self.sources().endpoint(source).site().clone();
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
        let Source::Hub { owner, name } = source else { return Err(no_hub(source)) };
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
        let Source::Hub { owner, name } = source else { return Err(no_hub(source)) };
        let segments = [owner.as_str(), name, "resolve", &tree.revision].into_iter().chain(file.path.as_str().split('/'));
        let url = self.sources().endpoint(source).join(segments);
        let answer = self.client().send(Ask { method: Method::HEAD, url, credentials, headers: HeaderMap::new() }).await?;
        let closed = matches!(answer.response.status().as_u16(), 401 | 403);
        let asked = Asked { source, revision: Some(&tree.revision), path: Some(&file.path) };
        if closed { Err(self.refused(&answer, asked)) } else { Ok(()) }
    }
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

fn no_hub(source: &Source) -> SourceError {
    SourceError::never(Reason::InternalError, format!("{source} is no repository of a hub, and a hub was to be asked for it."))
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

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_hub_that_answers_for_no_commit_or_for_another_one_is_not_believed() {
        let source = "hf://acme/chat".parse().unwrap();
        let site = Site { host: "hub.test".to_owned(), port: 443, address: None };
        let commit = |sha: Option<&str>, revision: Option<&str>| {
            let info = Info { id: None, model_id: None, sha: sha.map(str::to_owned), gated: None };
            check_commit(&info, Asked { source: &source, revision, path: None }, &site).map_err(|error| error.problem)
        };
        let (asked, other) = ("ab".repeat(20), "cd".repeat(20));
        for revision in [None, Some("main"), Some(&*asked)] {
            assert_eq!(commit(Some(&asked), revision).unwrap(), asked, "{revision:?}");
        }
        assert_eq!(commit(Some(&"0".repeat(64)), None).unwrap().len(), 64);
        let problem = commit(Some(&other), Some(&asked)).unwrap_err();
        assert_eq!(problem.reason, Reason::SourceInvalid);
        assert!(problem.message.contains(&asked) && problem.message.contains(&other), "{problem}");
        for none in ["", "main", "abcdef1", "../../api", &"g".repeat(40), &"AB".repeat(20), &"a".repeat(41)] {
            assert_eq!(commit(Some(none), Some("main")).unwrap_err().reason, Reason::SourceInvalid, "{none:?}");
        }
        assert!(commit(None, None).unwrap_err().message.contains("names nothing as the commit"));
    }

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
}
