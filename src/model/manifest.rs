//! The list of files that are served, and the digest that names their content.

use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use super::{CleanPath, Digest};

/// One file of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// Where it stands in the served tree.
    pub path: CleanPath,
    /// Its length in bytes.
    pub size: u64,
    /// The SHA-256 of its bytes.
    pub sha256: Digest,
}

/// The files of a model: sorted by the bytes of their paths, no path twice, no path below another one, never empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Manifest(Vec<File>);

/// A list of files that cannot be served as a tree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidManifest {
    /// There is nothing to serve.
    #[error("the list of files is empty: there is nothing to serve")]
    Empty,
    /// More files than an API object can record.
    #[error("{0} files are more than the {max} that can be recorded; narrow them with spec.model.files", max = Manifest::MAX_FILES)]
    TooMany(usize),
    /// One path, two files.
    #[error("{0} is listed twice")]
    Duplicate(CleanPath),
    /// A path that would have to be a file and a directory.
    #[error("{0} is listed as a file, and {1} needs it to be a directory")]
    Nested(CleanPath, CleanPath),
}

impl Manifest {
    /// The most files one model may have: what fits an API object together with its signature.
    pub const MAX_FILES: usize = 4096;

    /// Sorts `files` and checks that they can stand in one tree.
    pub fn new(mut files: Vec<File>) -> Result<Self, InvalidManifest> {
        if files.is_empty() {
            return Err(InvalidManifest::Empty);
        }
        if files.len() > Self::MAX_FILES {
            return Err(InvalidManifest::TooMany(files.len()));
        }
        files.sort_by(|a, b| a.path.as_str().as_bytes().cmp(b.path.as_str().as_bytes()));
        let paths: std::collections::HashSet<&str> = files.iter().map(|file| file.path.as_str()).collect();
        if paths.len() != files.len() {
            let twice = files.windows(2).find_map(|pair| match pair {
                [a, b] if a.path == b.path => Some(a.path.clone()),
                _ => None,
            });
            return Err(twice.map_or(InvalidManifest::Empty, InvalidManifest::Duplicate));
        }
        for file in &files {
            let path = file.path.as_str();
            let parents = path.match_indices('/').filter_map(|(at, _)| path.get(..at));
            for parent in parents {
                if paths.contains(parent)
                    && let Ok(blocking) = parent.parse()
                {
                    return Err(InvalidManifest::Nested(blocking, file.path.clone()));
                }
            }
        }
        Ok(Self(files))
    }

    /// The files, sorted by the bytes of their paths.
    pub fn files(&self) -> &[File] {
        &self.0
    }

    /// The bytes of all files together.
    pub fn size(&self) -> u64 {
        self.0.iter().fold(0, |sum, file| sum.saturating_add(file.size))
    }

    /// The content digest: SHA-256 over the lines `PATH NUL SIZE-in-decimal NUL SHA256-in-hex LF`, sorted by path.
    ///
    /// It names the content wherever it comes from: two sources with the same files have the same digest.
    pub fn digest(&self) -> Digest {
        let mut hash = sha2::Sha256::new();
        for file in &self.0 {
            hash.update(format!("{}\0{}\0{}\n", file.path, file.size, file.sha256.hex()));
        }
        Digest::from_bytes(hash.finalize().into())
    }
}

impl<'de> Deserialize<'de> for Manifest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(Vec::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, content: &str) -> File {
        File { path: path.parse().unwrap(), size: content.len() as u64, sha256: Digest::of(content) }
    }

    #[test]
    fn the_content_digest_is_the_one_that_the_documentation_defines() {
        let manifest = Manifest::new(vec![file("b/c", "two"), file("a", "one")]).unwrap();
        let lines = format!("a\x003\x00{}\nb/c\x003\x00{}\n", Digest::of("one").hex(), Digest::of("two").hex());
        assert_eq!(manifest.digest(), Digest::of(lines));
        assert_eq!(manifest.size(), 6);
    }

    #[test]
    fn every_part_of_a_file_changes_the_content_digest() {
        let base = Manifest::new(vec![file("a", "one")]).unwrap().digest();
        assert_ne!(Manifest::new(vec![file("b", "one")]).unwrap().digest(), base);
        assert_ne!(Manifest::new(vec![file("a", "eno")]).unwrap().digest(), base);
        assert_ne!(Manifest::new(vec![file("a", "one"), file("b", "")]).unwrap().digest(), base);
    }

    #[test]
    fn a_list_that_cannot_stand_in_one_tree_is_refused() {
        assert_eq!(Manifest::new(vec![]), Err(InvalidManifest::Empty));
        let twice = Manifest::new(vec![file("a", "1"), file("a", "2")]);
        assert_eq!(twice, Err(InvalidManifest::Duplicate("a".parse().unwrap())));
        let nested = Manifest::new(vec![file("a", "1"), file("a.b", "x"), file("a/b", "2")]);
        assert_eq!(nested, Err(InvalidManifest::Nested("a".parse().unwrap(), "a/b".parse().unwrap())));
    }
}
