//! Bundles that list parts of files, or files by other hashes than SHA-256. They can be checked where the files themselves are,
//! by `bonafide verify`; what a source says of its files (SHA-256 of each) cannot be compared with them.

use super::{
    rejected::{Rejected, malformed, shown},
    wire,
};
use crate::{api::Reason, model::CleanPath};

/// How the bytes of a part are hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hash {
    /// SHA-256.
    Sha256,
    /// BLAKE2b with 512 bits.
    Blake2b,
    /// BLAKE3 with 256 bits.
    Blake3,
}

/// What such a bundle lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parts {
    /// How all of them are hashed.
    pub hash: Hash,
    /// The files, sorted by the bytes of their paths, no path twice.
    pub files: Vec<PartedFile>,
}

/// A file by its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartedFile {
    /// Where it stands in the model.
    pub path: CleanPath,
    /// Its parts in order, without gaps, at least one: all bytes of the file.
    pub parts: Vec<Part>,
}

/// A part of a file, which begins where the one before it ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The byte after its last one; none when it goes on to the end of the file.
    pub end: Option<u64>,
    /// The digest of its bytes.
    pub digest: Vec<u8>,
}

impl Hash {
    /// The name by which bundles call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Blake2b => "blake2b",
            Self::Blake3 => "blake3",
        }
    }

    /// Bytes of its digests.
    const fn length(self) -> usize {
        match self {
            Self::Sha256 | Self::Blake3 => 32,
            Self::Blake2b => 64,
        }
    }

    fn read(name: &str) -> Result<Self, Rejected> {
        let known = [Self::Sha256, Self::Blake2b, Self::Blake3];
        known.into_iter().find(|hash| hash.name() == name).ok_or_else(|| Rejected {
            reason: Reason::SignatureUnsupported,
            message: format!("lists files by their {} hashes, which nobody knows here; {NEXT}", shown(name)),
        })
    }
}

const NEXT: &str = "sign the model again, by whole files and SHA-256, as bonafide sign does";

/// Why a bundle with such parts counts for nothing where only digests of files are known; none when it is another one.
pub(super) fn unsupported(serialization: &wire::Serialization<'_>) -> Option<Rejected> {
    const WHERE: &str = "which bonafide verify can check where the files are, and a cluster cannot";
    let message = match (serialization.method.as_ref(), serialization.hash_type.as_ref()) {
        ("files", "sha256") => return None,
        ("files", hash) => format!("lists files by their {} hashes, {WHERE}; {NEXT}", shown(hash)),
        ("shards", _) => format!("lists parts of files (serialization method \"shards\"), {WHERE}; {NEXT}"),
        (method, _) => format!("uses serialization method {}, which nobody knows here; {NEXT}", shown(method)),
    };
    Some(Rejected { reason: Reason::SignatureUnsupported, message })
}

/// Reads what a bundle lists, whose root digest is looked at elsewhere.
pub(super) fn read(predicate: &wire::Predicate<'_>) -> Result<Parts, Rejected> {
    let serialization = &predicate.serialization;
    let hash = Hash::read(&serialization.hash_type)?;
    let shard_size = match serialization.method.as_ref() {
        "files" => None,
        "shards" => Some(shard_size(serialization)?),
        _ => return Err(unsupported(serialization).unwrap_or_else(|| malformed("lists nothing that can be read".to_owned()))),
    };
    let mut parts = Vec::with_capacity(predicate.resources.len());
    for resource in &predicate.resources {
        check_algorithm(resource, hash, shard_size)?;
        let (name, range) = match shard_size {
            None => (resource.name.as_ref(), None),
            Some(_) => range(&resource.name).map(|(path, range)| (path, Some(range)))?,
        };
        let path: CleanPath = name.parse().map_err(|error| malformed(format!("lists a file that cannot be one: {error}")))?;
        parts.push((path, range, digest(resource, hash)?));
    }
    parts.sort_unstable_by(|(a, at, _), (b, to, _)| (a.as_str().as_bytes(), at).cmp(&(b.as_str().as_bytes(), to)));
    let mut files: Vec<PartedFile> = Vec::new();
    for (path, range, digest) in parts {
        let part = Part { end: range.map(|(_, end)| end), digest };
        let known = files.last_mut().filter(|file| file.path == path);
        let before = known.as_ref().and_then(|file| file.parts.last()).map(|part| part.end);
        check_range(&path, before, range, shard_size)?;
        match known {
            Some(file) => file.parts.push(part),
            None => files.push(PartedFile { path, parts: vec![part] }),
        }
    }
    Ok(Parts { hash, files })
}

/// Bytes in every part but a file's last. The reference client writes the whole number as `8.0`.
fn shard_size(serialization: &wire::Serialization<'_>) -> Result<u64, Rejected> {
    const EXACT: f64 = 9_007_199_254_740_992.0; // up to here every whole number is itself as a float
    let number = serialization.shard_size.as_ref();
    let whole = number.and_then(serde_json::Number::as_u64);
    let float = || number.and_then(serde_json::Number::as_f64).filter(|size| size.fract() == 0.0 && (1.0..EXACT).contains(size));
    // In that range nothing is lost.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a whole number between 1 and 2^53")]
    let size = whole.or_else(|| float().map(|size| size as u64));
    size.filter(|size| *size > 0).ok_or_else(|| {
        let found = number.map_or_else(|| "none".to_owned(), ToString::to_string);
        malformed(format!("lists parts of files without a usable shard_size: it is {found}"))
    })
}

/// `weights.bin:0:1000`; the path itself may hold colons.
fn range(name: &str) -> Result<(&str, (u64, u64)), Rejected> {
    let number = |text: &str| text.parse::<u64>().ok().filter(|number| number.to_string() == text);
    let mut pieces = name.rsplitn(3, ':');
    let (end, start, path) = (pieces.next().and_then(number), pieces.next().and_then(number), pieces.next());
    match (path, start, end) {
        (Some(path), Some(start), Some(end)) if start < end => Ok((path, (start, end))),
        _ => Err(malformed(format!("lists {}, which names no part of a file: a part is PATH:START:END", shown(name)))),
    }
}

fn check_algorithm(resource: &wire::Resource<'_>, hash: Hash, shard_size: Option<u64>) -> Result<(), Rejected> {
    // The reference client writes the size of the parts into the name of the hash.
    let sharded = shard_size.map(|size| format!("{}-sharded-{size}", hash.name()));
    if resource.algorithm == hash.name() || sharded.is_some_and(|sharded| resource.algorithm == sharded) {
        return Ok(());
    }
    Err(malformed(format!(
        "lists {} by its {} hash, and says of all that they are listed by {}",
        shown(&resource.name),
        shown(&resource.algorithm),
        hash.name()
    )))
}

fn digest(resource: &wire::Resource<'_>, hash: Hash) -> Result<Vec<u8>, Rejected> {
    let bytes = hex(&resource.digest).filter(|bytes| bytes.len() == hash.length());
    bytes.ok_or_else(|| {
        malformed(format!(
            "lists {} with digest {}, which is not {} lower-case hexadecimal digits",
            shown(&resource.name),
            shown(&resource.digest),
            2 * hash.length()
        ))
    })
}

/// Whether a part follows the one `before` it, of which the end is known.
fn check_range(
    path: &CleanPath,
    before: Option<Option<u64>>,
    range: Option<(u64, u64)>,
    shard_size: Option<u64>,
) -> Result<(), Rejected> {
    let wrong = |what: String| Err(malformed(what));
    let (Some((start, end)), Some(size)) = (range, shard_size) else {
        return if before.is_some() { wrong(format!("lists {path} twice")) } else { Ok(()) };
    };
    let expected = before.flatten().unwrap_or(0);
    if start != expected {
        return wrong(format!("lists the bytes of {path} from {start} on where those from {expected} on are due"));
    }
    // Only the last part may be shorter: one after a short one begins where none can.
    if start % size != 0 || end - start > size {
        return wrong(format!("lists the bytes {start} to {end} of {path}, and says that every part has {size}"));
    }
    Ok(())
}

/// Lower-case hexadecimal digits as bytes.
pub(super) fn hex(text: &str) -> Option<Vec<u8>> {
    let nibble = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let pairs = text.as_bytes().chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return None;
    }
    pairs.map(|pair| Some(nibble(*pair.first()?)? << 4 | nibble(*pair.last()?)?)).collect()
}
