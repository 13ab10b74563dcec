//! What a source has at one revision: its files, as the source lists them.

use std::collections::HashSet;

use serde::Deserialize;

use super::{error::SourceError, refusal::clip};
use crate::{
    api::{Problem, Reason},
    model::{CleanPath, Digest, Source},
};

/// The most entries of a listing.
const MAX_ENTRIES: usize = 50_000;

/// What a source has at one immutable revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    /// The immutable revision: for a hub, the commit.
    pub revision: String,
    /// Its files, in the source's order; no path twice.
    pub files: Vec<TreeFile>,
    /// Paths that are not clean and therefore cannot be served; see [`Tree::refuse_unclean`].
    pub unclean: Vec<String>,
}

/// One file of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeFile {
    /// The path within the source.
    pub path: CleanPath,
    /// The length in bytes.
    pub size: u64,
    /// The SHA-256 that the source states. Hubs state it for large files only.
    pub sha256: Option<Digest>,
}

impl Tree {
    /// Fails with [`Reason::SourceInvalid`] when a path that is not clean would be `served`, and names it.
    pub fn refuse_unclean(&self, source: &Source, served: impl Fn(&str) -> bool) -> Result<(), Problem> {
        match self.unclean.iter().find(|path| served(path)) {
            None => Ok(()),
            Some(path) => Err(Problem::new(
                Reason::SourceInvalid,
                format!(
                    "{source}@{} has a file at {:?}, which is no relative path without '.', '..', empty segments, backslashes or control \
                     characters. Nothing was fetched. Leave it out with spec.model.files, or tell the repository's owner.",
                    self.revision,
                    clip(path)
                ),
            )),
        }
    }
}

/// One line of the hub's listing.
#[derive(Deserialize)]
pub(super) struct Entry {
    r#type: String,
    path: String,
    #[serde(default)]
    size: u64,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
pub(super) struct Lfs {
    oid: String,
    size: u64,
}

/// A listing as it grows.
pub(super) struct Listing<'a> {
    source: &'a Source,
    commit: &'a str,
    seen: HashSet<String>,
    files: Vec<TreeFile>,
    unclean: Vec<String>,
}

impl<'a> Listing<'a> {
    pub fn new(source: &'a Source, commit: &'a str) -> Self {
        Self { source, commit, seen: HashSet::new(), files: Vec::new(), unclean: Vec::new() }
    }

    pub fn into_tree(self) -> Tree {
        Tree { revision: self.commit.to_owned(), files: self.files, unclean: self.unclean }
    }

    pub fn add(&mut self, entry: Entry) -> Result<(), SourceError> {
        if entry.r#type != "file" {
            return Ok(());
        }
        let Self { source, commit, .. } = self;
        let (size, sha256) = match entry.lfs {
            None => (entry.size, None),
            Some(Lfs { oid, size }) => {
                let hex = oid.strip_prefix("sha256:").unwrap_or(&oid);
                let digest = Digest::from_hex(hex).map_err(|error| {
                    let path = clip(&entry.path);
                    SourceError::invalid(format!("{path}: {source}@{commit} states its digest as {error}."))
                })?;
                (size, Some(digest))
            }
        };
        self.insert(entry.path, size, sha256)
    }

    /// Adds one file; a path that is not clean is kept apart.
    pub fn insert(&mut self, path: String, size: u64, sha256: Option<Digest>) -> Result<(), SourceError> {
        if self.seen.len() >= MAX_ENTRIES {
            return Err(self.too_many());
        }
        let Self { source, commit, .. } = self;
        if !self.seen.insert(path.clone()) {
            let path = clip(&path);
            return Err(SourceError::invalid(format!("{source}@{commit} lists {path:?} twice. Tell those who made the list.")));
        }
        match path.parse::<CleanPath>() {
            Ok(path) => self.files.push(TreeFile { path, size, sha256 }),
            Err(_) => self.unclean.push(path),
        }
        Ok(())
    }

    pub fn too_many(&self) -> SourceError {
        SourceError::never(
            Reason::TooManyFiles,
            format!(
                "{}@{} has more than {} files. A model with so many cannot be recorded; use a repository that holds the model alone.",
                self.source, self.commit, MAX_ENTRIES
            ),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(kind: &str, path: &str, lfs: Option<(&str, u64)>) -> Entry {
        let lfs = lfs.map(|(oid, size)| Lfs { oid: oid.to_owned(), size });
        Entry { r#type: kind.to_owned(), path: path.to_owned(), size: 130, lfs }
    }

    #[test]
    fn of_a_large_file_the_size_and_the_digest_are_those_of_what_the_pointer_points_to() {
        let source = "hf://a/b".parse().unwrap();
        let mut listing = Listing::new(&source, "c");
        let digest = Digest::of("weights");
        for (path, oid) in [("a.gguf", digest.hex()), ("b.gguf", format!("sha256:{}", digest.hex()))] {
            listing.add(entry("file", path, Some((&oid, 7)))).unwrap();
        }
        listing.add(entry("directory", "c", None)).unwrap();
        let broken = listing.add(entry("file", "d.gguf", Some(("sha1:00", 7)))).unwrap_err().problem;
        assert_eq!(broken.reason, Reason::SourceInvalid);
        assert!(broken.message.starts_with("d.gguf: hf://a/b@c states its digest as"), "{broken}");
        let twice = listing.add(entry("file", "a.gguf", None)).unwrap_err().problem;
        assert!(twice.message.contains("twice"), "{twice}");
        let files: Vec<_> = listing.into_tree().files.into_iter().map(|file| (file.size, file.sha256)).collect();
        assert_eq!(files, [(7, Some(digest)), (7, Some(digest))]);
    }

    #[test]
    fn a_listing_has_a_bound() {
        let source = "hf://a/b".parse().unwrap();
        let mut listing = Listing::new(&source, "c");
        for number in 0..MAX_ENTRIES {
            listing.insert(number.to_string(), 1, None).unwrap();
        }
        let error = listing.insert("one-more".to_owned(), 1, None).unwrap_err();
        assert_eq!((error.problem.reason, error.retry), (Reason::TooManyFiles, super::super::error::Retry::Never));
    }

    #[test]
    fn an_unclean_path_is_refused_only_when_it_would_be_served() {
        let source = "hf://a/b".parse().unwrap();
        let mut listing = Listing::new(&source, "c");
        for path in ["../evil.gguf", "model.gguf"] {
            listing.add(Entry { r#type: "file".to_owned(), path: path.to_owned(), size: 1, lfs: None }).unwrap();
        }
        let tree = listing.into_tree();
        assert_eq!(tree.files.len(), 1);
        assert_eq!(tree.refuse_unclean(&source, |path| path == "model.gguf"), Ok(()));
        let problem = tree.refuse_unclean(&source, |path| path.ends_with(".gguf")).unwrap_err();
        assert_eq!(problem.reason, Reason::SourceInvalid);
        assert!(problem.message.contains("../evil.gguf"));
    }
}
