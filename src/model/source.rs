//! The canonical identity of where a model comes from. Policies match it, so there is one parser and one spelling.

use std::{borrow::Cow, fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use url::Url;

/// Where a model comes from, in its one canonical spelling.
///
/// Mirrors, endpoints and redirects decide where bytes are fetched; they never change this identity.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// `hf://OWNER/NAME`: a repository of a hub that speaks Hugging Face's API.
    Hub {
        /// The user or organisation.
        owner: String,
        /// The repository's name.
        name: String,
    },
    /// `https://HOST/PATH`: a manifest file on a server; the files that it lists lie beside and below it.
    Web {
        /// The whole address.
        url: String,
    },
    /// `pvc://NAMESPACE/CLAIM/PATH`: a directory in a PersistentVolumeClaim.
    Claim {
        /// The claim's namespace, which is the ModelDeployment's.
        namespace: String,
        /// The claim's name.
        claim: String,
        /// The directory within the claim, without `/` at an end; empty for the whole claim.
        path: String,
    },
}

/// A text that is not the canonical spelling of a source.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "source {text:?} {problem}; write it as hf://OWNER/NAME (hf://HuggingFaceTB/SmolLM2-135M-Instruct), https://HOST/PATH of a manifest, or pvc://CLAIM/PATH"
)]
pub struct InvalidSource {
    text: String,
    problem: Cow<'static, str>,
}

impl Source {
    /// The longest segment a hub accepts, in bytes.
    pub const MAX_SEGMENT: usize = 96;
    /// The longest source, in bytes.
    pub const MAX: usize = 512;

    /// The source that a ModelDeployment of `namespace` writes as `text`: a claim is named without its namespace there, because
    /// it can be no other.
    pub fn in_namespace(text: &str, namespace: &str) -> Result<Self, InvalidSource> {
        match text.strip_prefix("pvc://") {
            None => text.parse(),
            Some(rest) => format!("pvc://{namespace}/{rest}").parse().map_err(|error| InvalidSource { text: cut(text), ..error }),
        }
    }

    /// The last part of the identity: what a model is served as when nobody names it.
    pub fn base_name(&self) -> &str {
        match self {
            Self::Hub { name, .. } => name,
            Self::Claim { claim, path, .. } => {
                let last = path.rsplit('/').next().filter(|last| !last.is_empty()).unwrap_or(claim);
                // The hub's cache has directories models--OWNER--NAME.
                last.strip_prefix("models--").and_then(|rest| rest.rsplit("--").next()).unwrap_or(last)
            }
            Self::Web { url } => {
                let mut segments = url.rsplit('/');
                let file = segments.next().unwrap_or_default();
                let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
                // Scheme and host are the first three parts.
                let directory = segments.next().filter(|_| url.matches('/').count() > 3);
                match directory {
                    Some(directory) if matches!(stem, "bonafide" | "manifest" | "index") => directory,
                    _ => stem,
                }
            }
        }
    }

    /// Whether the files are read where they lie, and not brought to a place of the pod's own.
    pub const fn is_in_place(&self) -> bool {
        matches!(self, Self::Claim { .. })
    }
}

impl FromStr for Source {
    type Err = InvalidSource;

    fn from_str(text: &str) -> Result<Self, InvalidSource> {
        let parse = || {
            if text.len() > Self::MAX {
                return Err("is longer than 512 bytes");
            }
            match text.split_once("://") {
                Some(("hf", rest)) => hub(rest),
                _ if text.starts_with("http") && page(text).is_some() => Err("is the address of a page of the hub"),
                Some(("https", rest)) => web(text, rest),
                Some(("pvc", rest)) => claim(rest),
                _ => Err("begins with none of 'hf://', 'https://' and 'pvc://'"),
            }
        };
        parse().map_err(|problem| {
            let problem = match page(text) {
                Some(repository) => Cow::Owned(format!("is the address of a page of the hub, whose repository is {repository}")),
                None => Cow::Borrowed(problem),
            };
            InvalidSource { text: cut(text), problem }
        })
    }
}

/// The repository whose page on Hugging Face's hub somebody copied from a browser. A file there (`/resolve/`) is no page.
fn page(text: &str) -> Option<Source> {
    let (_, rest) = text.split_once("://")?;
    let (host, path) = rest.split_once('/')?;
    if !matches!(host.strip_prefix("www.").unwrap_or(host), "huggingface.co" | "hf.co") {
        return None;
    }
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let mut segments = path.trim_end_matches('/').split('/');
    let (owner, name) = (segments.next()?, segments.next()?);
    let shown = matches!(segments.next(), None | Some("tree" | "blob" | "discussions"));
    hub(&format!("{owner}/{name}")).ok().filter(|_| shown)
}

fn cut(text: &str) -> String {
    text.chars().take(120).collect()
}

fn hub(rest: &str) -> Result<Source, &'static str> {
    let (owner, name) = rest.split_once('/').ok_or("names no repository")?;
    if name.contains('/') {
        return Err("has more than an owner and a name");
    }
    for segment in [owner, name] {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if segment.is_empty() || segment.len() > Source::MAX_SEGMENT {
            return Err("has an owner or a name that is empty or longer than 96 characters");
        }
        if !segment.chars().all(plain) {
            return Err("has a character other than letters, digits, '-', '_' and '.'");
        }
        if segment.starts_with(['.', '-']) || segment.ends_with(['.', '-']) || segment.contains("..") || segment.contains("--") {
            return Err("has an owner or a name with '..' or '--', or with '.' or '-' at an end");
        }
    }
    Ok(Source::Hub { owner: owner.to_owned(), name: name.to_owned() })
}

fn web(text: &str, rest: &str) -> Result<Source, &'static str> {
    let (host, path) = rest.split_once('/').ok_or("names no file")?;
    if !host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | ':')) || host.contains("..") {
        return Err("has a host with a character other than letters, digits, '-' and '.', or with a user before it");
    }
    path.split('/').try_for_each(segment)?;
    // Whatever a server would be asked for in another spelling (upper case, the scheme's own port, an address in a short form)
    // would be another name for the same thing.
    let url = Url::parse(text).map_err(|_| "is no address")?;
    let host = url.host_str().unwrap_or_default();
    if url.as_str() != text || host.ends_with('.') || host.starts_with('[') {
        return Err("is not written as addresses are: the host in lower case, no port 443");
    }
    Ok(Source::Web { url: text.to_owned() })
}

fn claim(rest: &str) -> Result<Source, &'static str> {
    let mut parts = rest.splitn(3, '/');
    let (namespace, claim) = (parts.next().unwrap_or_default(), parts.next().ok_or("names no claim")?);
    let label = |label: &str| {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        !label.is_empty() && label.len() <= 63 && label.bytes().all(plain) && !label.starts_with('-') && !label.ends_with('-')
    };
    if !label(namespace) {
        return Err("has a namespace that is none");
    }
    if claim.len() > 253 || !claim.split('.').all(label) {
        return Err("has a claim that is none: lower-case letters, digits, '-' and '.'");
    }
    let path = parts.next().unwrap_or_default();
    if rest.matches('/').count() > 1 {
        path.split('/').try_for_each(segment)?;
    }
    Ok(Source::Claim { namespace: namespace.to_owned(), claim: claim.to_owned(), path: path.to_owned() })
}

/// One part of a path, with nothing in it that could be read in two ways.
fn segment(segment: &str) -> Result<(), &'static str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '~' | '+' | '@' | '=');
    if segment.is_empty() {
        return Err("has '//' in its path, or a '/' at its end");
    }
    if segment == "." || segment.contains("..") {
        return Err("has '.' or '..' in its path");
    }
    if !segment.chars().all(plain) || segment.len() > 240 {
        return Err(
            "has a path with a character other than letters, digits, '-', '_', '.', '~', '+', '@' and '=': no query, no '%'",
        );
    }
    Ok(())
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hub { owner, name } => write!(f, "hf://{owner}/{name}"),
            Self::Web { url } => f.write_str(url),
            Self::Claim { namespace, claim, path } if path.is_empty() => write!(f, "pvc://{namespace}/{claim}"),
            Self::Claim { namespace, claim, path } => write!(f, "pvc://{namespace}/{claim}/{path}"),
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Source {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Source {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_spelling_is_accepted_and_written_back_unchanged() {
        for good in [
            "hf://HuggingFaceTB/SmolLM2-135M-Instruct",
            "hf://a/b",
            "hf://a_b/c.d",
            "https://models.acme.test/llama/bonafide.json",
            "https://models.acme.test:8443/llama.json",
            "https://10.1.2.3/a/b_c~d+e@f=g.json",
            "pvc://chat/models",
            "pvc://chat/models/llama/v1",
            "pvc://chat/models/hub/models--acme--smollm2",
        ] {
            assert_eq!(good.parse::<Source>().unwrap().to_string(), good);
        }
    }

    #[test]
    fn every_other_spelling_is_refused() {
        let long = format!("hf://a/{}", "x".repeat(97));
        let longer = format!("https://a/{}", "x/".repeat(300));
        for bad in [
            "",
            "a/b",
            "HF://a/b",
            "hf:/a/b",
            "hf://a",
            "hf://a/",
            "hf:///b",
            "hf://a/b/c",
            "hf://a/b?x",
            "hf://u@a/b",
            "hf://a/b%2e",
            "hf://a/..",
            "hf://../b",
            "hf://a/b..c",
            "hf://a//b",
            "hf://a/b ",
            "hf://a/ü",
            "hf://a/.b",
            "hf://a/b-",
            &long,
            "http://a/b",
            "HTTPS://a/b",
            "https://a",
            "https://a/",
            "https://A/b",
            "https://a:443/b",
            "https://a:0443/b",
            "https://a:x/b",
            "https://u@a/b",
            "https://u:p@a/b",
            "https://a/b?c",
            "https://a/b#c",
            "https://a/b%2fc",
            "https://a//b",
            "https://a/b/",
            "https://a/./b",
            "https://a/../b",
            "https://a/b..c",
            "https://a./b",
            "https://127.1/b",
            "https://0x7f.0.0.1/b",
            "https://[::1]/b",
            "https://a\\b/c",
            "https://a/b c",
            &longer,
            "pvc://chat",
            "pvc://chat/",
            "pvc:///models",
            "pvc://Chat/models",
            "pvc://chat/Models",
            "pvc://chat/models/",
            "pvc://chat/models//x",
            "pvc://chat/models/../x",
            "pvc://chat/models/./x",
            "pvc://chat/models/x y",
            "pvc://chat/-models",
        ] {
            assert!(bad.parse::<Source>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_page_of_a_repository_is_answered_with_the_repository() {
        for (page, repository) in [
            ("https://huggingface.co/acme/x", "hf://acme/x"),
            ("https://huggingface.co/acme/x/", "hf://acme/x"),
            ("http://www.huggingface.co/acme/x/tree/main", "hf://acme/x"),
            ("https://hf.co/acme/x?library=gguf", "hf://acme/x"),
            ("https://huggingface.co/acme/x/blob/main/x.gguf", "hf://acme/x"),
        ] {
            let error = page.parse::<Source>().unwrap_err().to_string();
            assert!(error.contains(&format!("whose repository is {repository};")), "{error}");
        }
        // A manifest may lie there as anywhere else, and another server may have such paths.
        for other in ["https://huggingface.co/acme/x/resolve/main/bonafide.json", "https://files.huggingface.co.test/acme/x"] {
            assert_eq!(other.parse::<Source>().unwrap().to_string(), other);
        }
        assert!(!"https://huggingface.co/acme".parse::<Source>().is_err_and(|error| error.to_string().contains("page")));
    }

    #[test]
    fn a_claim_is_always_one_of_the_namespace_that_writes_it() {
        let canonical = |text| Source::in_namespace(text, "chat").map(|source| source.to_string()).unwrap_or_default();
        assert_eq!(canonical("pvc://models"), "pvc://chat/models");
        assert_eq!(canonical("pvc://other/models"), "pvc://chat/other/models", "a path in a claim named other");
        assert_eq!(canonical("pvc:///other/models"), "");
        assert_eq!(canonical("pvc://../other/models"), "");
        assert_eq!(canonical("hf://a/b"), "hf://a/b");
    }

    #[test]
    fn a_model_is_called_after_the_last_part_that_says_something() {
        let name = |text: &str| text.parse::<Source>().unwrap().base_name().to_owned();
        assert_eq!(name("https://acme.test/llama/bonafide.json"), "llama");
        assert_eq!(name("https://acme.test/models/llama-3.2.json"), "llama-3.2");
        assert_eq!(name("https://acme.test/bonafide.json"), "bonafide");
        assert_eq!(name("pvc://chat/models/a/llama"), "llama");
        assert_eq!(name("pvc://chat/models"), "models");
        assert_eq!(name("pvc://chat/models/hub/models--acme--smollm2"), "smollm2");
    }
}
