//! The files of a directory, held against a list of signed ones. Links are not followed.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{Failure, not_genuine, read, unreadable};
use crate::{
    api::Reason,
    model::CleanPath,
    trust::{Bundle, LEFT_OUT},
    weights::WebManifest,
};

/// A model on disk: a directory, or one file in it.
pub(in crate::cli) struct Tree {
    root: PathBuf,
    only: Option<String>,
}

/// What lies where the manifest for a server of files lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Beside {
    /// The manifest, which is no part of the model: what a signature says of it cannot hold, since it lists the signature.
    Manifest,
    /// Nothing, or a file of the model like any other.
    Other,
}

/// What of a tree is the model, and what is not.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::cli) struct Listing {
    /// The model's files, sorted by the bytes of their paths.
    pub files: Vec<CleanPath>,
    /// What lies beside them and is no part of any model, sorted: what git keeps (a directory by its own path only), and
    /// signatures.
    pub left_out: Vec<String>,
}

/// How a tree differs from what was signed, leaving contents aside.
#[derive(Debug, Default)]
pub(super) struct Found {
    missing: Vec<CleanPath>,
    unsigned: Vec<Unsigned>,
}

/// Something that is there and was not signed. Its path may hold anything that a file system takes.
#[derive(Debug)]
struct Unsigned {
    path: String,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    File,
    Link,
    Special,
    Misnamed,
}

impl Tree {
    pub fn at(path: &Path) -> Result<Self, Failure> {
        let metadata = fs::metadata(path).map_err(|error| unreadable(path, &error))?;
        if metadata.is_dir() {
            return Ok(Self { root: path.to_owned(), only: None });
        }
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| Failure::Unknown(format!("{} has a name that is not UTF-8.", path.display())))?;
        let root = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Ok(Self { root: root.to_owned(), only: Some(name.to_owned()) })
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Whether the manifest of the directory lies in it. It lists the signature, so it changes whenever the model is signed.
    pub fn beside(&self) -> Result<Beside, Failure> {
        let path = self.root.join(WebManifest::FILE);
        match fs::symlink_metadata(&path) {
            _ if self.only.is_some() => Ok(Beside::Other),
            Ok(found) if found.is_file() && found.len() <= WebManifest::MAX as u64 => {
                let is_one = WebManifest::is_one(&read(&path, WebManifest::MAX)?);
                Ok(if is_one { Beside::Manifest } else { Beside::Other })
            }
            Ok(_) => Ok(Beside::Other),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Beside::Other),
            Err(error) => Err(unreadable(&path, &error)),
        }
    }

    /// The signature beside the model: `model.sig`, else the one `*.oms.sig`, else the one `*.sig`.
    pub fn find_signature(&self) -> Result<PathBuf, Failure> {
        let names = self.signature_names()?;
        let of_kind = |suffix: &str| names.iter().filter(|name| name.ends_with(suffix)).collect::<Vec<_>>();
        let first = match &self.only {
            Some(only) => vec![format!("{only}.sig"), "model.sig".to_owned()],
            None => vec!["model.sig".to_owned()],
        };
        if let Some(name) = first.iter().find(|name| names.contains(name)) {
            return Ok(self.root.join(name));
        }
        for candidates in [of_kind(".oms.sig"), of_kind(".sig")] {
            match candidates.as_slice() {
                [one] if self.only.is_none() => return Ok(self.root.join(one)),
                [_, _, ..] if self.only.is_none() => {
                    let several = names.join(", ");
                    let message =
                        format!("{} has several signatures: {several}. Choose one with --signature.", self.root.display());
                    return Err(Failure::Unknown(message));
                }
                _ => {}
            }
        }
        let message = format!(
            "{} has no signature: no model.sig, *.oms.sig or *.sig. If it is elsewhere, name it with --signature.",
            self.root.display()
        );
        Err(not_genuine(Reason::Unsigned, message))
    }

    fn signature_names(&self) -> Result<Vec<String>, Failure> {
        let failed = |error: io::Error| unreadable(&self.root, &error);
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.root).map_err(failed)? {
            names.extend(entry.map_err(failed)?.file_name().into_string().ok().filter(|name| name.ends_with(".sig")));
        }
        names.sort_unstable();
        Ok(names)
    }

    /// The one file of the model, for a signature that does not say its name.
    pub fn only_file(&self, signature: &Path, beside: Beside) -> Result<CleanPath, Failure> {
        let mut files = Vec::new();
        self.walk(&mut |path, kind| {
            if kind == Kind::File {
                files.push(path);
            }
        })?;
        let signature = self.inside(signature);
        files.retain(|path| Some(path) != signature.as_ref() && !beside.is(path));
        let several = || {
            let message = format!(
                "{} is not the model that was signed: the signature is one of a single file, and there are {}. Name that file instead of the directory.",
                self.root.display(),
                files.len()
            );
            not_genuine(Reason::UnsignedFile, message)
        };
        match files.as_slice() {
            [one] => one.parse().map_err(|error| Failure::Unknown(format!("{error}."))),
            _ => Err(several()),
        }
    }

    /// Holds the tree against `signed`, which is sorted by the bytes of the paths.
    pub(super) fn compare(&self, signed: &[&CleanPath], signature: &Path, beside: Beside) -> Result<Found, Failure> {
        let signature = self.inside(signature);
        let mut seen = vec![false; signed.len()];
        let mut unsigned = Vec::new();
        self.walk(&mut |path, kind| {
            let at = signed.binary_search_by(|name| name.as_str().as_bytes().cmp(path.as_bytes()));
            match at.ok().and_then(|at| seen.get_mut(at)) {
                Some(seen) if kind == Kind::File => *seen = true,
                _ if signature.as_ref() == Some(&path) || beside.is(&path) => {}
                _ => unsigned.push(Unsigned { path, kind }),
            }
        })?;
        unsigned.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        let missing = signed.iter().zip(seen).filter(|(_, seen)| !seen).map(|(path, _)| (*path).clone()).collect();
        Ok(Found { missing, unsigned })
    }

    /// The files that make up the model, leaving out `signature`, the manifest for a server, what is `ignored`, and
    /// [`Listing::left_out`].
    ///
    /// # Errors
    /// What can be no part of a model, by its name: links, devices, names that are not clean; and that there is nothing.
    pub fn model(&self, signature: Option<&Path>, beside: Beside, ignored: &[CleanPath]) -> Result<Listing, Failure> {
        let signature = signature.and_then(|signature| self.inside(signature));
        let mut found = Vec::new();
        self.walk(&mut |path, kind| found.push((path, kind)))?;
        found.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        let mut listing = Listing::default();
        for (path, kind) in found {
            let is_ignored = ignored.iter().any(|ignored| is_at_or_below(&path, ignored.as_str()));
            if is_ignored || beside.is(&path) || signature.as_ref() == Some(&path) {
                continue;
            }
            let of_git = LEFT_OUT.into_iter().find(|left_out| self.only.is_none() && is_at_or_below(&path, left_out));
            if let Some(of_git) = of_git {
                listing.left_out.push(of_git.to_owned());
                continue;
            }
            let shown = if path.chars().any(char::is_control) { format!("{path:?}") } else { path.clone() };
            let cannot = |why: &str| Err(Failure::Unknown(format!("{shown} cannot be part of a model: {why}.")));
            match kind {
                Kind::File if self.is_another_signature(&path)? => listing.left_out.push(path),
                Kind::File => listing.files.push(path.parse().map_err(|error| Failure::Unknown(format!("{error}.")))?),
                Kind::Link => {
                    return cannot(
                        "it is a symbolic link, and what it points to can change at any time. Put the files themselves there, for example with hf download --local-dir",
                    );
                }
                Kind::Special => {
                    return cannot("it is neither a file nor a directory. Take it away, or pass --ignore with its path");
                }
                Kind::Misnamed => return cannot("its name is not UTF-8. Rename it"),
            }
        }
        listing.left_out.dedup();
        if listing.files.is_empty() {
            return Err(Failure::Unknown(format!("{} has no file that is part of a model.", self.root.display())));
        }
        Ok(listing)
    }

    /// Whether the file at this path is a signature of a model: those sign nothing of each other, since each may be made anew.
    fn is_another_signature(&self, path: &str) -> Result<bool, Failure> {
        if self.only.is_some() || !is_signature(path) {
            return Ok(false);
        }
        let at = self.root.join(path);
        let length = fs::symlink_metadata(&at).map_err(|error| unreadable(&at, &error))?.len();
        if length > Bundle::MAX_FILE as u64 {
            return Ok(false);
        }
        Ok(Bundle::parse_any(&read(&at, Bundle::MAX_FILE)?, Bundle::MAX_FILE).is_ok())
    }

    /// The name of the model: the last part of its path.
    pub fn name(&self) -> String {
        let of_directory = || self.root.canonicalize().ok()?.file_name()?.to_str().map(str::to_owned);
        self.only.clone().or_else(of_directory).unwrap_or_else(|| "model".to_owned())
    }

    /// Where its signature lies when nobody says otherwise: where [`Tree::find_signature`] looks first.
    pub fn own_signature(&self) -> PathBuf {
        let name = self.only.as_ref().map_or_else(|| "model.sig".to_owned(), |only| format!("{only}.sig"));
        self.root.join(name)
    }

    /// The signature's path relative to the model, when it lies inside.
    fn inside(&self, signature: &Path) -> Option<String> {
        let parent = signature.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let full = parent.canonicalize().ok()?.join(signature.file_name()?);
        full.strip_prefix(self.root.canonicalize().ok()?).ok()?.to_str().map(str::to_owned)
    }

    /// Every entry that is not a directory, with `/` between the segments of its relative path.
    fn walk(&self, visit: &mut dyn FnMut(String, Kind)) -> Result<(), Failure> {
        if let Some(only) = &self.only {
            let path = self.root.join(only);
            let metadata = fs::symlink_metadata(&path).map_err(|error| unreadable(&path, &error))?;
            visit(only.clone(), kind(metadata.file_type()));
            return Ok(());
        }
        let mut directories = vec![String::new()];
        while let Some(directory) = directories.pop() {
            let at = self.root.join(&directory);
            let failed = |error: io::Error| unreadable(&at, &error);
            for entry in fs::read_dir(&at).map_err(failed)? {
                let entry = entry.map_err(failed)?;
                let name = entry.file_name();
                let is_text = name.to_str().is_some();
                let name = name.to_string_lossy();
                let path = if directory.is_empty() { name.into_owned() } else { format!("{directory}/{name}") };
                let file_type = entry.file_type().map_err(failed)?;
                match (is_text, file_type.is_dir()) {
                    (true, true) => directories.push(path),
                    (true, false) => visit(path, kind(file_type)),
                    // What is not UTF-8 cannot have been signed, and its text must not pass for a name that was.
                    (false, _) => visit(path, Kind::Misnamed),
                }
            }
        }
        Ok(())
    }
}

impl Beside {
    /// Whether the file at this path is the manifest.
    pub fn is(self, path: &str) -> bool {
        self == Self::Manifest && path == WebManifest::FILE
    }
}

/// Whether a file at this path may be a signature.
pub(super) fn is_signature(path: &str) -> bool {
    path.ends_with(".sig") && !path.contains('/')
}

fn kind(file_type: fs::FileType) -> Kind {
    if file_type.is_symlink() {
        Kind::Link
    } else if file_type.is_file() {
        Kind::File
    } else {
        Kind::Special
    }
}

impl Found {
    /// Whether exactly the signed files are there.
    pub fn check(&self, ignored: &[CleanPath], ignore_unsigned: bool) -> Result<(), Failure> {
        if let Some(path) = self.missing.first() {
            return Err(self.missing_problem(path));
        }
        let is_ignored = |found: &&Unsigned| ignored.iter().any(|ignored| is_at_or_below(&found.path, ignored.as_str()));
        let mut unsigned = self.unsigned.iter().filter(|found| !is_ignored(found));
        match unsigned.next() {
            Some(first) if !ignore_unsigned => Err(unsigned_problem(first, unsigned.count())),
            _ => Ok(()),
        }
    }

    fn missing_problem(&self, path: &CleanPath) -> Failure {
        let instead = self.unsigned.iter().find(|found| is_at_or_below(path.as_str(), &found.path));
        let message = match instead.map(|found| (found, found.kind)) {
            Some((found, Kind::Link)) => format!(
                "{path} was signed, and {} is a symbolic link: what it points to can change at any time. Put the files themselves there, for example with hf download --local-dir.",
                found.path
            ),
            Some((found, _)) => format!("{path} was signed, and {} is neither a file nor a directory.", found.path),
            None => {
                let more = match self.missing.len() - 1 {
                    0 => String::new(),
                    1 => " One more file is missing.".to_owned(),
                    more => format!(" {more} more files are missing."),
                };
                let next = if path.as_str() == WebManifest::FILE {
                    "Write it anew with bonafide manifest, or fetch the model again."
                } else {
                    "Fetch the model again."
                };
                format!("{path} was signed and is not there.{more} {next}")
            }
        };
        not_genuine(Reason::SignedFileMissing, message)
    }
}

fn unsigned_problem(first: &Unsigned, more: usize) -> Failure {
    let what = match first.kind {
        Kind::File => "",
        Kind::Link => " (a symbolic link)",
        Kind::Special => " (neither a file nor a link)",
        Kind::Misnamed => " (with a name that is not UTF-8)",
    };
    let more = match more {
        0 => String::new(),
        1 => " One more file was not signed either.".to_owned(),
        more => format!(" {more} more files were not signed either."),
    };
    let known = [(".cache/huggingface", "hf download"), (".git", "git"), (".gitattributes", "git"), (".gitignore", "git")];
    let left_by = known.iter().find(|(path, _)| is_at_or_below(&first.path, path));
    let next = match left_by {
        Some((path, tool)) => format!("It belongs to {tool}: delete {path}, or pass --ignore {path} if nothing reads it."),
        None if is_signature(&first.path) => {
            format!("If it is another signature of this model, pass --ignore {}; if not, delete it.", first.path)
        }
        None => "Delete it, have the model signed again with it, or pass --ignore-unsigned if nothing reads it.".to_owned(),
    };
    let path = if first.path.chars().any(char::is_control) { format!("{:?}", first.path) } else { first.path.clone() };
    not_genuine(Reason::UnsignedFile, format!("{path}{what} is there and was not signed.{more} {next}"))
}

fn is_at_or_below(path: &str, ancestor: &str) -> bool {
    path.strip_prefix(ancestor).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
