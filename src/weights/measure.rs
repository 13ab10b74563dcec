//! What lies in a directory of a claim: every file that is asked for with its size and SHA-256, and the signatures themselves.
//!
//! Links are followed as long as they stay within the directory that the source names. The hub's cache is understood:
//! `models--OWNER--NAME` with its `refs`, `snapshots` and `blobs`.

use std::{
    collections::BTreeMap,
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use serde::{Deserialize, Serialize};

use super::{
    error::SourceError,
    fetch::{Progress, hash_file},
    refusal::clip,
    tree::{Listing, Tree},
};
use crate::{
    api::{Problem, Reason},
    model::{CleanPath, Digest, Glob, Source},
};

/// The most files that are measured.
const MAX_FILES: usize = 8192;
/// The most bytes of signatures that are passed on: what can be recorded.
const MAX_TEXTS: u64 = 512 * 1024;
/// Files that are hashed at the same time.
const AT_ONCE: usize = 4;

/// What is to be measured.
pub struct Order {
    /// The model, for messages.
    pub source: Source,
    /// Where the claim is mounted.
    pub claim: PathBuf,
    /// The directory within it; empty for all of it.
    pub path: String,
    /// A branch, a tag or a commit of the hub's cache.
    pub revision: Option<String>,
    /// The files that are asked for; all of them when there is no glob.
    pub files: Vec<Glob>,
    /// The file that is the signature; absent: what is called like one.
    pub signature: Option<Glob>,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measured {
    /// The commit, or the hexadecimal digest over all that was measured.
    pub revision: String,
    /// The commit when the directory is one of the hub's cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// The files, by path.
    pub files: Vec<Line>,
    /// Paths that are asked for and cannot be served.
    #[serde(default)]
    pub unclean: Vec<String>,
    /// The contents of signatures, by path.
    #[serde(default)]
    pub texts: BTreeMap<String, String>,
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Its path within the directory.
    pub path: String,
    /// Its length in bytes.
    pub size: u64,
    /// The SHA-256 of its bytes.
    pub sha256: Digest,
}

impl Measured {
    /// The same as a listing of a source.
    pub fn tree(&self, source: &Source) -> Result<Tree, SourceError> {
        let mut listing = Listing::new(source, &self.revision);
        for path in &self.unclean {
            listing.insert(path.clone(), 0, None)?;
        }
        for file in &self.files {
            listing.insert(file.path.clone(), file.size, Some(file.sha256))?;
        }
        Ok(listing.into_tree())
    }
}

/// A file that was found, before it is hashed.
struct Found {
    path: CleanPath,
    real: PathBuf,
    size: u64,
}

/// Measures. The problem is for the ModelDeployment's author.
pub fn measure(order: &Order, progress: &Progress) -> Result<Measured, Problem> {
    let Place { root, files, commit } = locate(order)?;
    let mut walk = Walk { order, root: &root, found: Vec::new(), unclean: Vec::new() };
    walk.directory(&files, "")?;
    let Walk { mut found, unclean, .. } = walk;
    found.sort_by(|a, b| a.path.cmp(&b.path));
    if found.len() > MAX_FILES {
        let message = format!(
            "{} has {} files, and at most {MAX_FILES} are measured. Name fewer in spec.model.files.",
            order.source,
            found.len()
        );
        return Err(Problem::new(Reason::TooManyFiles, message));
    }
    progress.expect(found.iter().map(|file| file.size).sum());
    let digests = hash(order, &found, progress)?;
    let lines: Vec<Line> =
        found.iter().zip(digests).map(|(file, sha256)| Line { path: file.path.to_string(), size: file.size, sha256 }).collect();
    let whole: String = lines.iter().map(|line| format!("{}\0{}\0{}\n", line.path, line.size, line.sha256.hex())).collect();
    let revision = commit.clone().unwrap_or_else(|| Digest::of(whole).hex());
    let texts = texts(order, &found)?;
    Ok(Measured { revision, commit, files: lines, unclean, texts })
}

/// Where the files are, and which directory no link may leave.
struct Place {
    root: PathBuf,
    files: PathBuf,
    commit: Option<String>,
}

fn locate(order: &Order) -> Result<Place, Problem> {
    let Order { source, claim, path, revision, .. } = order;
    let claim = claim.canonicalize().map_err(|error| unreadable(source, "the claim", &error))?;
    let root = match claim.join(path).canonicalize() {
        Ok(root) if root.starts_with(&claim) && root.is_dir() => root,
        Ok(root) if !root.starts_with(&claim) => {
            let message =
                format!("{source} is a link that leads out of the claim. Nothing of it was read. Name the directory itself.");
            return Err(Problem::new(Reason::SourceInvalid, message));
        }
        Ok(_) => {
            return Err(Problem::new(
                Reason::RepositoryNotFound,
                format!("{source} is a file; name the directory that it is in."),
            ));
        }
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Err(Problem::new(
                Reason::RepositoryNotFound,
                format!(
                    "{source}: the claim has no directory {path:?}; at its root there is {}. Correct spec.model.source.",
                    entries(&claim)
                ),
            ));
        }
        Err(error) => return Err(unreadable(source, path, &error)),
    };
    if !(root.join("snapshots").is_dir() && root.join("refs").is_dir()) {
        return Ok(Place { files: root.clone(), root, commit: None });
    }
    let wanted = revision.as_deref().unwrap_or("main");
    let named = fs::read_to_string(root.join("refs").join(wanted)).map(|commit| commit.trim().to_owned());
    let commit = named.unwrap_or_else(|_| wanted.to_owned());
    let plain = commit.len() == 40 && commit.bytes().all(|digit| digit.is_ascii_digit() || matches!(digit, b'a'..=b'f'));
    let files = root.join("snapshots").join(&commit);
    if !plain || !files.is_dir() {
        let (refs, commits) = (entries(&root.join("refs")), entries(&root.join("snapshots")));
        return Err(Problem::new(
            Reason::RevisionNotFound,
            format!("{source}: the hub's cache there has no revision {wanted:?}. It has {refs}, and the commits {commits}."),
        ));
    }
    Ok(Place { files, root, commit: Some(commit) })
}

/// The first names of a directory, for messages.
fn entries(dir: &Path) -> String {
    const SHOWN: usize = 8;
    let mut names: Vec<String> =
        fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| clip(&entry.file_name().to_string_lossy())).collect();
    names.sort();
    let more = names.len().saturating_sub(SHOWN);
    names.truncate(SHOWN);
    match (names.is_empty(), more) {
        (true, _) => "nothing".to_owned(),
        (false, 0) => names.join(", "),
        (false, more) => format!("{} and {more} more", names.join(", ")),
    }
}

fn unreadable(source: &Source, what: &str, error: &dyn std::fmt::Display) -> Problem {
    Problem::new(
        Reason::SourceUnavailable,
        format!(
            "{source}: {what:?} cannot be read: {error}. It is read as user and group 65532: let them, or everybody, read it."
        ),
    )
}

struct Walk<'a> {
    order: &'a Order,
    root: &'a Path,
    found: Vec<Found>,
    unclean: Vec<String>,
}

impl Walk<'_> {
    fn directory(&mut self, dir: &Path, below: &str) -> Result<(), Problem> {
        let failed = |error: std::io::Error| unreadable(&self.order.source, below, &error);
        for entry in fs::read_dir(dir).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let path = if below.is_empty() {
                name.to_string_lossy().into_owned()
            } else {
                format!("{below}/{}", name.to_string_lossy())
            };
            let kind = entry.file_type().map_err(failed)?;
            if kind.is_dir() {
                self.directory(&entry.path(), &path)?;
            } else if self.is_asked_for(&path) {
                self.file(&entry.path(), path, kind.is_symlink())?;
            }
        }
        Ok(())
    }

    fn is_asked_for(&self, path: &str) -> bool {
        let Order { files, .. } = self.order;
        files.is_empty() || files.iter().any(|glob| glob.matches(path)) || is_signature(self.order, path)
    }

    /// A link to a directory, a device and the like are passed over: they are no files of a model.
    fn file(&mut self, at: &Path, path: String, link: bool) -> Result<(), Problem> {
        let source = &self.order.source;
        let real = at.canonicalize().map_err(|error| unreadable(source, &path, &error))?;
        if link && !real.starts_with(self.root) {
            let message = format!(
                "{path}: {source} has a link there that leads out of the directory. Nothing new is served. Put the file itself there, or leave \
                 it out with spec.model.files."
            );
            return Err(Problem::new(Reason::SourceInvalid, message));
        }
        let metadata = real.metadata().map_err(|error| unreadable(source, &path, &error))?;
        if !metadata.is_file() {
            return Ok(());
        }
        match path.parse() {
            Ok(path) => self.found.push(Found { path, real, size: metadata.len() }),
            Err(_) => self.unclean.push(path),
        }
        Ok(())
    }
}

fn hash(order: &Order, found: &[Found], progress: &Progress) -> Result<Vec<Digest>, Problem> {
    let next = AtomicUsize::new(0);
    let results: Mutex<Vec<Option<Result<Digest, Problem>>>> = Mutex::new(found.iter().map(|_| None).collect());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(found.len()) {
            scope.spawn(|| {
                while let Some((at, file)) = Some(next.fetch_add(1, Relaxed)).and_then(|at| Some((at, found.get(at)?))) {
                    let result = match hash_file(&file.real, file.size, progress) {
                        Ok(Some(digest)) => Ok(digest),
                        Ok(None) => Err(Problem::new(
                            Reason::SourceUnavailable,
                            format!("{}: it changed in {} while it was read. It is measured again.", file.path, order.source),
                        )),
                        Err(error) => Err(unreadable(&order.source, file.path.as_str(), &error)),
                    };
                    if let Some(slot) = results.lock().unwrap_or_else(PoisonError::into_inner).get_mut(at) {
                        *slot = Some(result);
                    }
                }
            });
        }
    });
    let unread = || Err(Problem::new(Reason::InternalError, "A file was not read."));
    results.into_inner().unwrap_or_else(PoisonError::into_inner).into_iter().map(|result| result.unwrap_or_else(unread)).collect()
}

fn is_signature(order: &Order, path: &str) -> bool {
    match &order.signature {
        Some(named) => named.matches(path),
        None => path.ends_with(".sig") && !path.contains('/'),
    }
}

fn texts(order: &Order, found: &[Found]) -> Result<BTreeMap<String, String>, Problem> {
    let mut left = MAX_TEXTS;
    let mut texts = BTreeMap::new();
    for file in found.iter().filter(|file| is_signature(order, file.path.as_str())) {
        // What is too long to be recorded is refused where it is wanted.
        let Some(rest) = left.checked_sub(file.size) else { continue };
        left = rest;
        let content = fs::read(&file.real).map_err(|error| unreadable(&order.source, file.path.as_str(), &error))?;
        texts.insert(file.path.to_string(), String::from_utf8_lossy(&content).into_owned());
    }
    Ok(texts)
}

#[cfg(test)]
mod tests;
