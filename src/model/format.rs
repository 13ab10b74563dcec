//! What a file of weights really is: its header is read within bounds, and every byte of the file has to be accounted for.
//!
//! A name proves nothing: a pickle can be called `model.safetensors`, and an archive with code in it can begin like weights. What
//! passes here is of the format that its name says, and no zip or tar archive beside that. Whoever unpickles weights by force can find a
//! pickle in anything.

mod gguf;
mod safetensors;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    io::{self, Read, Seek, SeekFrom},
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A format of weights that can be told from every other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// A JSON header and the tensors that it lists: <https://huggingface.co/docs/safetensors>.
    Safetensors,
    /// llama.cpp's: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>, versions 2 and 3, little-endian.
    Gguf,
}

/// Why a file is not of a format.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// The bytes say so. The message is the rest of a sentence that begins with the file's name.
    #[error("{0}")]
    Malformed(String),
    /// They could not be read.
    #[error(transparent)]
    Unread(#[from] io::Error),
}

impl Format {
    /// The format that a file's name promises, whatever the case of its extension.
    pub fn of(path: &str) -> Option<Self> {
        match extension(path)?.to_ascii_lowercase().as_str() {
            "safetensors" => Some(Self::Safetensors),
            "gguf" => Some(Self::Gguf),
            _ => None,
        }
    }

    /// Whether the `size` bytes of `file` are of this format, from the first to the last, and of no other.
    ///
    /// # Errors
    /// [`Unfit::Malformed`] with what was expected and what was found.
    pub fn check<F: Read + Seek>(self, file: &mut F, size: u64) -> Result<(), Unfit> {
        match self {
            Self::Safetensors => safetensors::check(file, size)?,
            Self::Gguf => gguf::check(file, size)?,
        }
        refuse_archive(file, size)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Safetensors => "safetensors",
            Self::Gguf => "gguf",
        })
    }
}

/// The longest name in a header, in bytes.
const LONGEST_NAME: usize = 512;

/// What a file's name ends with, after the last dot.
pub fn extension(path: &str) -> Option<&str> {
    let name = path.rsplit('/').next()?;
    name.rsplit_once('.').map(|(_, extension)| extension)
}

/// Files beside the weights that no engine runs: configuration, tokenizers, templates and texts.
pub fn is_auxiliary(path: &str) -> bool {
    const KINDS: [&str; 10] = ["json", "jsonl", "txt", "md", "jinja", "model", "spm", "tiktoken", "vocab", "yaml"];
    const NAMES: [&str; 4] = ["LICENSE", "LICENCE", "NOTICE", "README"];
    let name = path.rsplit('/').next().unwrap_or(path);
    match extension(path) {
        Some(extension) => KINDS.contains(&extension.to_ascii_lowercase().as_str()),
        None => NAMES.contains(&name),
    }
}

/// Loaders of archives look for one in any file: a zip's end stands near the end of the file, whatever stands before and behind it; a
/// tar's first header is the first 512 bytes. Such a file is two things.
fn refuse_archive<F: Read + Seek>(file: &mut F, size: u64) -> Result<(), Unfit> {
    const AFTER: usize = 64 * 1024;
    let length = size.min((AFTER + ZIP_END) as u64);
    file.seek(SeekFrom::Start(size - length))?;
    let mut tail = Vec::new();
    file.by_ref().take(length).read_to_end(&mut tail)?;
    for (at, record) in tail.windows(ZIP_END).enumerate().filter(|(_, record)| record.starts_with(b"PK\x05\x06")) {
        if is_zip(file, size - length + at as u64, record)? {
            return Err(malformed("is a zip archive too: loaders that unpack archives would find other things in it"));
        }
    }
    file.seek(SeekFrom::Start(0))?;
    let mut head = Vec::new();
    file.by_ref().take(TAR_HEADER as u64).read_to_end(&mut head)?;
    if is_tar(&head) {
        return Err(malformed("is a tar archive too: loaders that unpack archives would find other things in it"));
    }
    Ok(())
}

/// The bytes of a zip's last record, without its comment.
const ZIP_END: usize = 22;
/// The bytes of a tar's header.
const TAR_HEADER: usize = 512;

/// Whether what looks like a zip's last record at `at` is one: before it lies its directory, or it has none.
fn is_zip<F: Read + Seek>(file: &mut F, at: u64, record: &[u8]) -> Result<bool, Unfit> {
    let number = |from: usize, to: usize| {
        record.get(from..to).map_or(0, |bytes| bytes.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b)))
    };
    let (entries, length) = (number(10, 12), number(12, 16));
    // So a larger archive says that its numbers stand in another record, just before this one.
    if length == u64::from(u32::MAX) {
        return stands(file, at.checked_sub(20), b"PK\x06\x07");
    }
    match (entries, length) {
        (0, 0) => Ok(true),
        _ => stands(file, at.checked_sub(length), b"PK\x01\x02"),
    }
}

fn stands<F: Read + Seek>(file: &mut F, at: Option<u64>, mark: &[u8]) -> Result<bool, Unfit> {
    let Some(at) = at else { return Ok(false) };
    file.seek(SeekFrom::Start(at))?;
    let mut found = Vec::new();
    file.by_ref().take(mark.len() as u64).read_to_end(&mut found)?;
    Ok(found == mark)
}

/// Whether the checksum of a tar's header holds: the sum of its bytes, with blanks in the place of itself.
fn is_tar(head: &[u8]) -> bool {
    let Some(field) = head.get(148..156).filter(|_| head.len() == TAR_HEADER) else { return false };
    let text: String = field.iter().map(|byte| char::from(*byte)).collect();
    let Ok(said) = u64::from_str_radix(text.trim_matches([' ', '\0']), 8) else { return false };
    let sum = head.iter().enumerate().map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u64::from(*byte) }).sum::<u64>();
    said == sum
}

fn malformed(message: impl Into<String>) -> Unfit {
    Unfit::Malformed(message.into())
}

/// The name of `what` in a header: text without control characters, for two readers could end it in two places.
fn clean_name(name: &str, what: &str) -> Result<(), Unfit> {
    if name.len() > LONGEST_NAME || name.is_empty() {
        return Err(malformed(format!("has {what} whose name has {} bytes, where 1 to {LONGEST_NAME} are taken", name.len())));
    }
    if name.chars().any(char::is_control) {
        return Err(malformed(format!("has {what} whose name has a control character: {name:?}")));
    }
    Ok(())
}
