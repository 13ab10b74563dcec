//! `https://` sources: a manifest file on any server that serves files, and the files beside and below it.

use serde::{Deserialize, Serialize};

use super::{
    body::body,
    credentials::Credentials,
    error::SourceError,
    hosts::Site,
    http::Token,
    refusal::{Asked, Refusal, clip},
    resolver::Resolver,
    tree::{Listing, Tree},
};
use crate::{
    api::Reason,
    model::{CleanPath, Digest, Source},
};

/// The manifest file of an `https://` source, as `bonafide manifest` writes it. Members that are not named here are passed over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebManifest {
    /// The version of this format: 1, also when it is absent.
    #[serde(default = "one")]
    pub version: u32,
    /// The files, each at the same path relative to the directory in which the manifest lies.
    pub files: Vec<Listed>,
}

/// One line of a [`WebManifest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// The path.
    pub path: String,
    /// The length in bytes.
    pub size: u64,
    /// The SHA-256 of the bytes: 64 hexadecimal digits, perhaps after `sha256:`.
    pub sha256: String,
}

const fn one() -> u32 {
    1
}

impl WebManifest {
    /// The version that is written and the newest one that is read.
    pub const VERSION: u32 = 1;
    /// The name that it usually has, in the directory whose files it lists.
    pub const FILE: &str = "bonafide.json";

    /// The longest one that is read, in bytes.
    pub const MAX: usize = Resolver::MAX_ANSWER;

    /// Whether this is such a manifest: what a source that names it would be read as.
    pub fn is_one(bytes: &[u8]) -> bool {
        bytes.len() <= Self::MAX && Self::files(bytes).is_ok()
    }

    /// The manifest that `source` itself is, relative to its files. It is none of them, as it lists their signature: it is never
    /// served, and what a signature says of it is not asked for.
    pub fn itself(source: &Source) -> Option<CleanPath> {
        let Source::Web { .. } = source else { return None };
        source.to_string().rsplit('/').next()?.parse().ok()
    }

    /// The files that a manifest lists, each with its digest. An error is the rest of a sentence that begins with its name.
    fn files(bytes: &[u8]) -> Result<Vec<(String, u64, Digest)>, String> {
        let manifest: Self = serde_json::from_slice(bytes).map_err(|error| format!("is no manifest of a model: {error}"))?;
        if manifest.version != Self::VERSION {
            return Err(format!("has version {}, and this version of Bonafide reads 1", manifest.version));
        }
        if manifest.files.is_empty() {
            return Err("lists no file".to_owned());
        }
        let digest = |file: Listed| {
            let hex = file.sha256.strip_prefix("sha256:").unwrap_or(&file.sha256);
            let sha256 = Digest::from_hex(hex).map_err(|error| format!("lists {:?}: {error}", clip(&file.path)))?;
            Ok((file.path, file.size, sha256))
        };
        manifest.files.into_iter().map(digest).collect()
    }

    /// What the manifest of `source` says, with the digest of its bytes as the revision.
    ///
    /// # Errors
    /// [`Reason::SourceInvalid`] when it is no manifest; the message names the line.
    fn read(source: &Source, bytes: &[u8]) -> Result<Tree, SourceError> {
        let wrong = |what: String| SourceError::invalid(format!("{source} {what}. `bonafide manifest DIR` writes a right one."));
        let revision = Digest::of(bytes).hex();
        let mut listing = Listing::new(source, &revision);
        for (path, size, sha256) in Self::files(bytes).map_err(wrong)? {
            listing.insert(path, size, Some(sha256))?;
        }
        Ok(listing.into_tree())
    }
}

impl Resolver {
    /// Reads the manifest. Another one than that with the digest asked for is [`Reason::RevisionNotFound`].
    pub(super) async fn ask_web(&self, asked: Asked<'_>, credentials: Option<&Credentials>) -> Result<Tree, SourceError> {
        let Asked { source, revision, .. } = asked;
        let file = WebManifest::itself(source);
        let file = file.iter().map(CleanPath::as_str);
        let answer = self.get(self.sources().endpoint(source).join(file), asked, credentials).await?;
        let site = Site::of(&answer.url);
        let bytes = body(answer.response, WebManifest::MAX, site.as_ref()).await?.ok_or_else(|| {
            SourceError::invalid(format!("{source} has more than {} bytes: it is no manifest of a model.", WebManifest::MAX))
        })?;
        let found = Digest::of(&bytes).hex();
        if let Some(wanted) = revision
            && wanted != found
        {
            return Err(SourceError::later(
                Reason::RevisionNotFound,
                format!(
                    "{source}: the manifest with SHA-256 {} is asked for, and the one that is there now has {found}. Nothing of it was fetched. \
                     If the new one is wanted, set spec.model.revision to {found} or leave it out; if not, restore the old file.",
                    clip(wanted)
                ),
                None,
            ));
        }
        WebManifest::read(source, &bytes)
    }
}

impl Refusal<'_> {
    /// What a plain server of files means when it refuses.
    pub(super) fn of_a_server(&self, asked: Asked<'_>) -> SourceError {
        let Self { status, site, token, .. } = self;
        let Asked { source, path, .. } = asked;
        let said = self.said();
        match (status.as_u16(), path) {
            (401 | 403, _) => {
                let next = match token {
                    Token::None => {
                        "If it asks for credentials, name a Secret of type bonafide.dev/source with username and password, or \
                                    token, in spec.model.secretRef."
                            .to_owned()
                    }
                    Token::Withheld => format!(
                        "The credentials of spec.model.secretRef were not sent, because the Secret's key 'hosts' does not name {site}: add it \
                         if that host may see them."
                    ),
                    Token::Sent => {
                        "It does not accept the credentials of spec.model.secretRef: put right ones into the Secret.".to_owned()
                    }
                };
                SourceError::later(
                    Reason::AccessDenied,
                    format!("{site} forbids reading {source} ({status}){said}. {next}"),
                    None,
                )
            }
            (404 | 410, None) => SourceError::later(
                Reason::RepositoryNotFound,
                format!(
                    "{source} does not exist at {site} ({status}){said}. The source names the manifest file of a model, which `bonafide manifest \
                     DIR` writes; check the spelling."
                ),
                None,
            ),
            (404 | 410, Some(path)) => SourceError::invalid(format!(
                "{path}: {source} lists it, and {site} says that it does not exist ({status}){said}. Files lie beside and below their manifest; \
                 put it there, or write the manifest anew."
            )),
            _ => SourceError::invalid(format!("{site} answers {status} to a request for {source}{said}.")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Tree, SourceError> {
        WebManifest::read(&"https://acme.test/chat/bonafide.json".parse().unwrap(), text.as_bytes())
    }

    #[test]
    fn a_manifest_lists_files_and_its_own_digest_is_the_revision() {
        let digest = Digest::of("x");
        let text = format!(
            r#"{{"note": "ours", "files": [{{"path": "a/b.gguf", "size": 1, "sha256": "{}"}}, {{"path": "c", "size": 1, "sha256": "{digest}"}}]}}"#,
            digest.hex()
        );
        let tree = read(&text).unwrap();
        assert_eq!(tree.revision, Digest::of(&text).hex());
        let files: Vec<_> = tree.files.iter().map(|file| (file.path.as_str(), file.size, file.sha256)).collect();
        assert_eq!(files, [("a/b.gguf", 1, Some(digest)), ("c", 1, Some(digest))]);
    }

    #[test]
    fn what_is_no_manifest_says_why() {
        let digest = Digest::of("x").hex();
        let file = |path: &str| format!(r#"{{"path": "{path}", "size": 1, "sha256": "{digest}"}}"#);
        let cases = [
            ("<html>".to_owned(), "is no manifest"),
            ("{}".to_owned(), "files"),
            (r#"{"files": []}"#.to_owned(), "lists no file"),
            (format!(r#"{{"version": 2, "files": [{}]}}"#, file("a")), "version 2"),
            (format!(r#"{{"files": [{}, {}]}}"#, file("a"), file("a")), "twice"),
            (r#"{"files": [{"path": "a", "size": 1, "sha256": "abc"}]}"#.to_owned(), "64 lower-case"),
            (r#"{"files": [{"path": "a", "size": -1, "sha256": ""}]}"#.to_owned(), "is no manifest"),
        ];
        for (text, said) in cases {
            let problem = read(&text).unwrap_err().problem;
            assert_eq!(problem.reason, Reason::SourceInvalid, "{text}");
            assert!(problem.message.contains(said), "{said}: {}", problem.message);
        }
        let tree = read(&format!(r#"{{"files": [{}, {}]}}"#, file("../up"), file("ok"))).unwrap();
        assert_eq!((tree.unclean.as_slice(), tree.files.len()), (&["../up".to_owned()][..], 1), "it is never asked for");
    }
}
