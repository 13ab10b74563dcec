//! An approval held against a tree: it names no file, so all of them together must be what was approved.

use super::{Failure, Hashed, Question, hash, not_genuine};
use crate::{
    api::Reason,
    model::{Digest, File, Manifest},
    trust::LEFT_OUT,
};

/// Whether the files that make up the model have this content digest.
pub(super) fn check(question: &Question<'_>, approved: Digest) -> Result<(usize, Option<Hashed>), Failure> {
    if question.args.signature_only {
        let message = "an approval lists no files, so that --signature-only would compare nothing: leave it out.";
        return Err(Failure::Unknown(message.to_owned()));
    }
    let tree = question.tree;
    let listing = tree.model(Some(question.signature), question.beside, question.ignored)?;
    if let Some(path) = listing.left_out.first().filter(|_| !question.args.ignore_unsigned) {
        let what = if LEFT_OUT.contains(&path.as_str()) { "belongs to git" } else { "is another signature" };
        let message = format!(
            "{path} is there and is no part of what was approved. It {what}: pass --ignore {path} if nothing reads it, or delete it."
        );
        return Err(not_genuine(Reason::UnsignedFile, message));
    }
    let paths: Vec<_> = listing.files.iter().collect();
    let hashed = hash::all(tree.root(), &paths, question.progress)?;
    let files: Vec<_> =
        listing.files.iter().zip(hashed).map(|(path, (size, sha256))| File { path: path.clone(), size, sha256 }).collect();
    let bytes = files.iter().map(|file| file.size).sum();
    let manifest = Manifest::new(files).map_err(|error| Failure::Unknown(format!("{}: {error}.", tree.root().display())))?;
    let found = manifest.digest();
    if found != approved {
        let message = format!(
            "Approved was {approved}, and the files here make {found}. Either a file is another one than then, or others lie beside what was approved: pass --ignore for each of those."
        );
        return Err(not_genuine(Reason::DigestMismatch, message));
    }
    Ok((manifest.files().len(), Some(Hashed { bytes, digest: Some(found) })))
}
