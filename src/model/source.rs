//! The canonical identity of where a model comes from. Policies match it, so there is one parser and one spelling.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

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
}

/// A text that is not the canonical spelling of a source.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("source {text:?} {problem}; write it as hf://OWNER/NAME, for example hf://HuggingFaceTB/SmolLM2-135M-Instruct")]
pub struct InvalidSource {
    text: String,
    problem: &'static str,
}

impl Source {
    /// The longest segment a hub accepts, in bytes.
    pub const MAX_SEGMENT: usize = 96;

    /// The last part of the identity: what a model is served as when nobody names it.
    pub fn base_name(&self) -> &str {
        match self {
            Self::Hub { name, .. } => name,
        }
    }
}

impl FromStr for Source {
    type Err = InvalidSource;

    fn from_str(text: &str) -> Result<Self, InvalidSource> {
        let invalid = |problem| InvalidSource { text: text.chars().take(120).collect(), problem };
        let rest = text.strip_prefix("hf://").ok_or_else(|| invalid("does not begin with 'hf://'"))?;
        let (owner, name) = rest.split_once('/').ok_or_else(|| invalid("names no repository"))?;
        if name.contains('/') {
            return Err(invalid("has more than an owner and a name"));
        }
        for segment in [owner, name] {
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            if segment.is_empty() || segment.len() > Self::MAX_SEGMENT {
                return Err(invalid("has an owner or a name that is empty or longer than 96 characters"));
            }
            if !segment.chars().all(plain) {
                return Err(invalid("has a character other than letters, digits, '-', '_' and '.'"));
            }
            if segment.starts_with(['.', '-'])
                || segment.ends_with(['.', '-'])
                || segment.contains("..")
                || segment.contains("--")
            {
                return Err(invalid("has an owner or a name with '..' or '--', or with '.' or '-' at an end"));
            }
        }
        Ok(Self::Hub { owner: owner.to_owned(), name: name.to_owned() })
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hub { owner, name } => write!(f, "hf://{owner}/{name}"),
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
        for good in ["hf://HuggingFaceTB/SmolLM2-135M-Instruct", "hf://a/b", "hf://a_b/c.d"] {
            assert_eq!(good.parse::<Source>().unwrap().to_string(), good);
        }
    }

    #[test]
    fn every_other_spelling_is_refused() {
        let long = format!("hf://a/{}", "x".repeat(97));
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
            "https://a/b",
            "hf://a/.b",
            "hf://a/b-",
            &long,
        ] {
            assert!(bad.parse::<Source>().is_err(), "{bad:?}");
        }
    }
}
