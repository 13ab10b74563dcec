//! What a file of weights really is: its header is read within bounds, and every byte of the file has to be accounted for.
//!
//! A name proves nothing: a pickle can be called `model.safetensors`, and an archive with code in it can begin like weights. What
//! passes here is of the format that its name says and of no other that a loader would find in it.

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

/// Loaders of archives look for the end of one at the end of the file, and pass over what stands before: such a file is two things.
fn refuse_archive<F: Read + Seek>(file: &mut F, size: u64) -> Result<(), Unfit> {
    const END: &[u8] = b"PK\x05\x06";
    const FIXED: usize = 22;
    const LONGEST: u64 = (FIXED + u16::MAX as usize) as u64;
    let length = size.min(LONGEST);
    file.seek(SeekFrom::Start(size - length))?;
    let mut tail = Vec::new();
    file.take(length).read_to_end(&mut tail)?;
    let ends_here = |record: &[u8]| {
        let comment = record.get(FIXED - 2..FIXED).and_then(|bytes| bytes.try_into().ok()).map(u16::from_le_bytes);
        record.starts_with(END) && comment.is_some_and(|comment| record.len() == FIXED + usize::from(comment))
    };
    let is_archive =
        tail.windows(FIXED).enumerate().any(|(at, record)| record.starts_with(END) && tail.get(at..).is_some_and(ends_here));
    if is_archive {
        return Err(malformed("is a zip archive too: loaders that unpack archives would find other things in it"));
    }
    Ok(())
}

fn malformed(message: impl Into<String>) -> Unfit {
    Unfit::Malformed(message.into())
}

/// A name in a header: text without control characters, for two readers could end it in two places.
fn clean_name(name: &str) -> Result<(), Unfit> {
    const LONGEST: usize = 512;
    if name.len() > LONGEST || name.is_empty() {
        return Err(malformed(format!("has a tensor whose name has {} bytes, where 1 to {LONGEST} are taken", name.len())));
    }
    if name.chars().any(char::is_control) {
        return Err(malformed(format!("has a tensor whose name has a control character: {name:?}")));
    }
    Ok(())
}
