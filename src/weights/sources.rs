//! The administrator's table of sources: where bytes come from. Nobody else decides that.

use std::fmt;

use serde::{Deserialize, Serialize};
use url::Url;

use super::hosts::{HostPattern, Site};
use crate::model::Source;

/// Where each kind of source is fetched from, and which private hosts may be reached.
///
/// It never changes what a source is called: mirrors and endpoints serve the same identity.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Sources {
    /// The hub behind `hf://`.
    pub hf: Hub,
    /// Servers that stand in for a hub or a server: for all of it, or for a part. The longest `from` wins.
    #[serde(deserialize_with = "distinct")]
    pub mirrors: Vec<Mirror>,
    /// Hosts that may be reached although their addresses are private, or by redirect without TLS: `NAME`, `NAME:PORT` or
    /// `*.SUFFIX`.
    pub allowed_hosts: Vec<AllowedHost>,
}

/// The hub behind `hf://`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Hub {
    /// Its address; may have a path, as repository managers use.
    pub endpoint: Endpoint,
    /// PEM certificates of authorities that are trusted besides the system's, for every connection to a source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<String>,
}

impl Default for Hub {
    fn default() -> Self {
        Self { endpoint: Endpoint::hugging_face(), ca_bundle: None }
    }
}

/// One mirror.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mirror {
    /// What it stands in for.
    pub from: Prefix,
    /// Its address; in place of a hub it speaks the hub's API.
    pub to: Endpoint,
}

/// The part of the sources that a mirror serves: `hf://`, `hf://OWNER/`, or `https://HOST/` with as much of a path as wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Prefix(String);

impl TryFrom<String> for Prefix {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let whole = text == "hf://";
        let part = text.ends_with('/') && format!("{text}x").parse::<Source>().is_ok_and(|source| !source.is_in_place());
        if whole || part {
            Ok(Self(text))
        } else {
            Err(format!("{text:?} is no prefix of sources: write hf://, hf://OWNER/ or https://HOST/"))
        }
    }
}

impl From<Prefix> for String {
    fn from(prefix: Prefix) -> Self {
        prefix.0
    }
}

/// A line of `allowedHosts`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AllowedHost(HostPattern);

impl TryFrom<String> for AllowedHost {
    type Error = super::hosts::InvalidHost;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse().map(Self)
    }
}

impl From<AllowedHost> for String {
    fn from(host: AllowedHost) -> Self {
        host.0.to_string()
    }
}

/// The address of a server: `http` or `https`, a host, and perhaps a path; nothing secret in it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Endpoint {
    url: Url,
    site: Site,
}

impl Endpoint {
    fn hugging_face() -> Self {
        let site = Site { host: "huggingface.co".to_owned(), port: 443, address: None };
        #[allow(clippy::expect_used, reason = "a constant, and a test holds it")]
        let url = Url::parse("https://huggingface.co/").expect("a URL");
        Self { url, site }
    }

    /// The host and port it names.
    pub fn site(&self) -> &Site {
        &self.site
    }

    /// The URL of `segments` below it, each percent-encoded as one segment.
    pub fn join<'a>(&self, segments: impl IntoIterator<Item = &'a str>) -> Url {
        let mut url = self.url.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        url
    }
}

impl TryFrom<String> for Endpoint {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = |what: &str| format!("{text:?} {what}: write it as https://HOST or https://HOST/PATH");
        let url = Url::parse(&text).map_err(|error| wrong(&format!("is not a URL ({error})")))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(wrong("is neither http nor https"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(
                "the address of a source holds a user or a password: leave it out, a Secret is the place for it".to_owned()
            );
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(wrong("has a query or a fragment"));
        }
        let site = Site::of(&url).ok_or_else(|| wrong("names no host"))?;
        Ok(Self { url, site })
    }
}

impl From<Endpoint> for String {
    fn from(endpoint: Endpoint) -> Self {
        endpoint.url.into()
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.url.as_str().trim_end_matches('/'))
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Sources {
    /// Reads a table from YAML or JSON.
    pub fn parse(text: &str) -> Result<Self, String> {
        // Without the lines around a mistake: people write passwords into addresses.
        let options = serde_saphyr::options! { with_snippet: false };
        serde_saphyr::from_str_with_options(text, options).map_err(|error| error.to_string())
    }

    /// Where `source` is served: by the mirror with the longest matching `from`, else by the hub, or by the server that the source
    /// names. Of the latter it is the directory in which the manifest lies.
    pub fn endpoint(&self, source: &Source) -> Endpoint {
        let name = source.to_string();
        let matching = self.mirrors.iter().filter(|mirror| name.starts_with(&mirror.from.0));
        let mirror = matching.max_by_key(|mirror| mirror.from.0.len());
        match source {
            Source::Web { .. } => {
                let (directory, _) = name.rsplit_once('/').unwrap_or((&name, ""));
                let mirrored = mirror.map(|mirror| {
                    let below = directory.get(mirror.from.0.len()..).unwrap_or_default();
                    let url = mirror.to.join(below.split('/').filter(|segment| !segment.is_empty()));
                    Endpoint { site: mirror.to.site.clone(), url }
                });
                // A canonical source is always an address.
                mirrored.or_else(|| directory.to_owned().try_into().ok()).unwrap_or_else(|| self.hf.endpoint.clone())
            }
            Source::Hub { .. } | Source::Claim { .. } => mirror.map_or(&self.hf.endpoint, |mirror| &mirror.to).clone(),
        }
    }

    /// The page of `source` that people open in a browser: always the hub's, never a mirror's.
    pub fn page(&self, source: &Source) -> Url {
        match source {
            Source::Hub { owner, name } => self.hf.endpoint.join([owner.as_str(), name.as_str()]),
            Source::Web { .. } | Source::Claim { .. } => self.endpoint(source).url,
        }
    }

    /// Whether the administrator named `site`, so that it may be reached also at a private address or without TLS.
    pub fn names(&self, site: &Site) -> bool {
        let endpoints = std::iter::once(&self.hf.endpoint).chain(self.mirrors.iter().map(|mirror| &mirror.to));
        endpoints.map(Endpoint::site).any(|known| known == site)
            || self.allowed_hosts.iter().any(|allowed| allowed.0.matches(site))
    }
}

fn distinct<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<Mirror>, D::Error> {
    let mirrors = Vec::<Mirror>::deserialize(deserializer)?;
    let mut seen = std::collections::HashSet::new();
    for mirror in &mirrors {
        if !seen.insert(&mirror.from.0) {
            return Err(serde::de::Error::custom(format!("mirrors: {} stands there twice; keep one of the two", mirror.from.0)));
        }
    }
    Ok(mirrors)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> Sources {
        Sources::parse(text).unwrap()
    }

    fn source(text: &str) -> Source {
        text.parse().unwrap()
    }

    #[test]
    fn an_empty_table_means_the_public_hub_and_nothing_private() {
        let table = table("{}");
        assert_eq!(table, Sources::default());
        assert_eq!(table.endpoint(&source("hf://acme/chat")).to_string(), "https://huggingface.co");
        assert_eq!(Endpoint::try_from("https://huggingface.co".to_owned()), Ok(Endpoint::hugging_face()));
        let site = |url: &str| Site::of(&Url::parse(url).unwrap()).unwrap();
        assert!(table.names(&site("https://huggingface.co/x")));
        assert!(!table.names(&site("https://huggingface.co:444/x")));
        assert!(!table.names(&site("http://10.0.0.1/")));
    }

    #[test]
    fn the_mirror_with_the_longest_prefix_serves_a_source() {
        let table = table(
            "mirrors: [{from: 'hf://', to: 'https://all.corp'}, {from: 'hf://acme/', to: 'http://acme.corp:81/hub/'}]\nallowedHosts: ['*.cdn.corp']",
        );
        assert_eq!(
            table.endpoint(&source("hf://acme/chat")).join(["a b", "c/d"]).as_str(),
            "http://acme.corp:81/hub/a%20b/c%2Fd"
        );
        assert_eq!(table.endpoint(&source("hf://acme-evil/chat")).join(["x"]).as_str(), "https://all.corp/x");
        assert_eq!(table.page(&source("hf://acme/chat")).as_str(), "https://huggingface.co/acme/chat");
        let site = |url: &str| Site::of(&Url::parse(url).unwrap()).unwrap();
        for named in ["https://huggingface.co/", "https://all.corp/", "http://acme.corp:81/", "https://a.cdn.corp/"] {
            assert!(table.names(&site(named)), "{named}");
        }
        assert!(!table.names(&site("http://acme.corp/")));
    }

    #[test]
    fn a_table_survives_being_written_and_read() {
        let table = table(
            "{hf: {endpoint: 'http://127.0.0.1:8080', caBundle: 'PEM'}, mirrors: [{from: 'hf://a/', to: 'https://b'}], allowedHosts: ['c:1']}",
        );
        assert_eq!(serde_json::from_str::<Sources>(&serde_json::to_string(&table).unwrap()).unwrap(), table);
    }

    #[test]
    fn a_table_with_a_mistake_is_refused_and_names_it() {
        for (text, said) in [
            ("{hf: {endpoint: 'ftp://x'}}", "neither http nor https"),
            ("{hf: {endpoint: 'https://u:secret@x'}}", "a Secret is the place"),
            ("{hf: {endpoint: 'https://x?y'}}", "query"),
            ("{hf: {endpoint: 'x'}}", "not a URL"),
            ("{hf: {url: 'https://x'}}", "url"),
            ("{mirrors: [{from: 'hf://a', to: 'https://x'}]}", "no prefix of sources"),
            ("{mirrors: [{from: 's3://', to: 'https://x'}]}", "no prefix of sources"),
            ("{mirrors: [{from: 'hf://', to: 'https://x'}, {from: 'hf://', to: 'https://y'}]}", "twice"),
            ("{allowedHosts: ['http://x']}", "names no host"),
        ] {
            let error = Sources::parse(text).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
            assert!(!error.contains("u:secret"), "{error}");
        }
    }
}
