//! Paths inside a model: relative, clean, and therefore safe to join to a directory.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A relative path of a file inside a model, with `/` between segments.
///
/// No segment is empty, `.` or `..`; there is no backslash and no control character; at most [`CleanPath::MAX`] bytes.
/// Joining it to a directory can never leave that directory.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct CleanPath(String);

/// A path that may not name a file of a model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "path {path:?} {problem}: a file of a model has a relative path without '.', '..', empty segments, backslashes or control characters"
)]
pub struct InvalidPath {
    path: String,
    problem: &'static str,
}

impl CleanPath {
    /// The longest path accepted, in bytes.
    pub const MAX: usize = 512;
    /// The longest segment accepted, in bytes: what file systems take, less the suffix of a partial download.
    pub const MAX_SEGMENT: usize = 240;

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last segment.
    pub fn file_name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }
}

impl FromStr for CleanPath {
    type Err = InvalidPath;

    fn from_str(path: &str) -> Result<Self, InvalidPath> {
        let invalid = |problem| InvalidPath { path: path.chars().take(120).collect(), problem };
        if path.is_empty() {
            return Err(invalid("is empty"));
        }
        if path.len() > Self::MAX {
            return Err(invalid("is longer than 512 bytes"));
        }
        if path.contains('\\') || path.chars().any(char::is_control) {
            return Err(invalid("holds a backslash or a control character"));
        }
        for segment in path.split('/') {
            match segment {
                "" => return Err(invalid("has an empty segment")),
                "." | ".." => return Err(invalid("has a '.' or '..' segment")),
                long if long.len() > Self::MAX_SEGMENT => return Err(invalid("has a segment longer than 240 bytes")),
                _ => {}
            }
        }
        Ok(Self(path.to_owned()))
    }
}

impl<'de> Deserialize<'de> for CleanPath {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for CleanPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for CleanPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_clean_relative_paths_are_accepted() {
        for good in ["model.gguf", "original/consolidated.00.pth", "a/b/c", "..a", "a..b/c", ".hidden"] {
            assert!(good.parse::<CleanPath>().is_ok(), "{good}");
        }
        let long = "x".repeat(241);
        for bad in ["", "/etc/passwd", "../up", "a/../b", "a//b", "a/", "./a", "a\\b", "a\nb", "a\0", &long] {
            assert!(bad.parse::<CleanPath>().is_err(), "{bad:?}");
        }
    }
}
