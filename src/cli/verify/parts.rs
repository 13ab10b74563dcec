//! Bundles of parts of files and of other hashes, held against the files themselves. Each file is read once; its SHA-256 is
//! made on the way, since that is how everybody else calls it.

use std::{io, path::Path, sync::atomic::AtomicU64};

use sha2::Digest as _;

use super::{Failure, Hashed, Question, hash, not_genuine};
use crate::{
    api::Reason,
    model::{Digest, File, Manifest},
    trust::{Hash, Part, PartedFile, Parts},
};

/// What reading one file showed.
#[derive(Debug, Clone)]
struct Read {
    size: u64,
    sha256: Digest,
    /// The first part that differs: where it begins, and the digest that was found.
    differs: Option<(u64, Vec<u8>)>,
}

/// Whether every file is the one that was signed, part by part.
pub(super) fn check(question: &Question<'_>, parts: &Parts) -> Result<(usize, Option<Hashed>), Failure> {
    let signed: Vec<&PartedFile> = parts.files.iter().filter(|file| !question.beside.is(file.path.as_str())).collect();
    let paths: Vec<_> = signed.iter().map(|file| &file.path).collect();
    question.names(&paths)?;
    if question.args.signature_only {
        return Ok((signed.len(), None));
    }
    let one = |index: usize, path: &Path, buffer: &mut [u8], bytes: &AtomicU64| {
        let parts_of_it = signed.get(index).map_or(&[][..], |file| &file.parts);
        one(parts.hash, parts_of_it, path, buffer, bytes)
    };
    let read = hash::each(question.tree.root(), &paths, question.progress, &one)?;
    let mut different = signed.iter().zip(&read).filter_map(|(file, read)| problem(parts.hash, file, read));
    if let Some(first) = different.next() {
        let more = match different.count() {
            0 => String::new(),
            1 => " One more file differs.".to_owned(),
            more => format!(" {more} more files differ."),
        };
        let message =
            format!("{first}{more} It was damaged or replaced after it was signed: fetch it again, and do not use it as it is.");
        return Err(not_genuine(Reason::DigestMismatch, message));
    }
    let bytes = read.iter().map(|read| read.size).sum();
    let files =
        signed.iter().zip(read).map(|(file, read)| File { path: file.path.clone(), size: read.size, sha256: read.sha256 });
    Ok((signed.len(), Some(Hashed { bytes, digest: Manifest::new(files.collect()).ok().map(|manifest| manifest.digest()) })))
}

/// How a file differs from what was signed.
fn problem(hash: Hash, file: &PartedFile, read: &Read) -> Option<String> {
    let (path, name) = (&file.path, hash.name());
    if let Some((start, found)) = &read.differs {
        let part = file.parts.iter().find(|part| begins(file, part) == *start);
        let signed = part.map(|part| hex(&part.digest)).unwrap_or_default();
        let place = match part.and_then(|part| part.end) {
            None => String::new(),
            Some(end) => format!(" bytes {start} to {end}"),
        };
        return Some(format!("{path}:{place} signed as {name} {signed}, found {}.", hex(found)));
    }
    let signed = file.parts.last().and_then(|part| part.end)?;
    (read.size != signed).then(|| format!("{path}: signed with {signed} bytes, found {}.", read.size))
}

/// Where a part of the file begins.
fn begins(file: &PartedFile, part: &Part) -> u64 {
    let before = file.parts.iter().take_while(|other| *other != part).last();
    before.and_then(|before| before.end).unwrap_or(0)
}

fn one(hash: Hash, parts: &[Part], path: &Path, buffer: &mut [u8], bytes: &AtomicU64) -> io::Result<Read> {
    let mut sha256 = sha2::Sha256::new();
    let mut compare = Compare { kind: hash, parts, number: 0, at: 0, begun: 0, hasher: Hasher::new(hash), differs: None };
    let size = hash::pieces(path, buffer, bytes, &mut |piece| {
        sha256.update(piece);
        compare.take(piece);
    })?;
    compare.end();
    Ok(Read { size, sha256: Digest::from_bytes(sha256.finalize().into()), differs: compare.differs })
}

/// Compares parts with what was signed while the bytes come by.
struct Compare<'a> {
    kind: Hash,
    parts: &'a [Part],
    /// Which part is read.
    number: usize,
    /// How many bytes of the file came by, and how many before the part.
    at: u64,
    begun: u64,
    hasher: Hasher,
    differs: Option<(u64, Vec<u8>)>,
}

impl Compare<'_> {
    fn take(&mut self, mut piece: &[u8]) {
        while !piece.is_empty() {
            // What follows the last part shows in the file's size.
            let Some(part) = self.parts.get(self.number) else { return };
            let due = part.end.map_or(u64::MAX, |end| end - self.at);
            let count = usize::try_from(due).unwrap_or(usize::MAX).min(piece.len());
            let (now, later) = piece.split_at(count);
            self.hasher.update(now);
            self.at += u64::try_from(count).unwrap_or_default();
            piece = later;
            if part.end == Some(self.at) {
                self.end();
            }
        }
    }

    /// The part is over, or the file.
    fn end(&mut self) {
        let Some(part) = self.parts.get(self.number) else { return };
        let found = std::mem::replace(&mut self.hasher, Hasher::new(self.kind)).finish();
        if found != part.digest && self.differs.is_none() {
            self.differs = Some((self.begun, found));
        }
        self.number += 1;
        self.begun = self.at;
    }
}

enum Hasher {
    Sha256(sha2::Sha256),
    Blake2b(Box<blake2::Blake2b512>),
    Blake3(Box<blake3::Hasher>),
}

impl Hasher {
    fn new(hash: Hash) -> Self {
        match hash {
            Hash::Sha256 => Self::Sha256(sha2::Sha256::new()),
            Hash::Blake2b => Self::Blake2b(Box::default()),
            Hash::Blake3 => Self::Blake3(Box::default()),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Blake2b(hasher) => hasher.update(bytes),
            Self::Blake3(hasher) => {
                hasher.update(bytes);
            }
        }
    }

    fn finish(self) -> Vec<u8> {
        match self {
            Self::Sha256(hasher) => hasher.finalize().to_vec(),
            Self::Blake2b(hasher) => hasher.finalize().to_vec(),
            Self::Blake3(hasher) => hasher.finalize().as_bytes().to_vec(),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
