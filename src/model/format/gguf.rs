//! GGUF: a header with keys and tensors, and the tensors' data at offsets that are aligned and follow from one another.

use std::{
    collections::HashSet,
    io::{self, Read, Seek, SeekFrom},
};

use super::{LONGEST_NAME, Unfit, clean_name, malformed};

/// The longest header, in bytes: vocabularies of a few hundred thousand tokens stand in it.
const LONGEST: u64 = 256 << 20;
/// The most keys and the most tensors.
const MOST: u64 = 100_000;
/// The most elements in the arrays of a header, all of them together.
const MOST_ELEMENTS: u64 = 50_000_000;
/// The deepest array in arrays.
const DEEPEST: u8 = 4;
/// What tensors are aligned to where no key says it, in bytes; and the most that a key may say.
const ALIGNMENT: (u64, u64) = (32, 65_536);
const ALIGNMENT_KEY: &str = "general.alignment";

/// A type of value in the header.
const ARRAY: u32 = 9;
const TEXT: u32 = 8;
const BOOL: u32 = 7;
const U32: u32 = 4;

/// Reads the header, and counts what it reads.
struct Header<F> {
    file: F,
    left: u64,
    elements: u64,
}

/// Where a tensor lies, from the beginning of the data, and how long it is.
struct Span {
    name: String,
    offset: u64,
    length: u64,
}

pub(super) fn check<F: Read + Seek>(file: &mut F, size: u64) -> Result<(), Unfit> {
    file.seek(SeekFrom::Start(0))?;
    let most = size.min(LONGEST);
    let mut header = Header { file: io::BufReader::with_capacity(1 << 16, &mut *file).take(most), left: most, elements: 0 };
    let (spans, alignment) = header.read()?;
    let end = most - header.left;
    drop(header);
    accounted(file, size, end, &spans, alignment)
}

/// Whether the tensors follow one another from the end of the header to the end of the file, with nothing but zeros between them.
fn accounted<F: Read + Seek>(file: &mut F, size: u64, end: u64, spans: &[Span], alignment: u64) -> Result<(), Unfit> {
    let overflow = || malformed("has tensors that would end beyond every file");
    let padded = |at: u64| at.checked_next_multiple_of(alignment).ok_or_else(overflow);
    let data = padded(end)?;
    zeros(file, end, data.min(size))?;
    let mut at = 0;
    for Span { name, offset, length } in spans {
        if *offset != at {
            return Err(malformed(format!(
                "has tensor {name:?} at offset {offset} of the data, and the one before it and its padding end at {at}"
            )));
        }
        let over = offset.checked_add(*length).ok_or_else(overflow)?;
        let next = padded(over)?;
        let (from, to) = (data.checked_add(over).ok_or_else(overflow)?, data.checked_add(next).ok_or_else(overflow)?);
        if from > size {
            return Err(malformed(format!("is cut off: tensor {name:?} ends at byte {from}, and the file has {size}")));
        }
        zeros(file, from, to.min(size))?;
        at = next;
    }
    let end = data.checked_add(at).ok_or_else(overflow)?;
    // Some writers leave the padding behind the last tensor out.
    if size > end {
        return Err(malformed(format!("has {} bytes after its last tensor, which belong to nothing", size - end)));
    }
    Ok(())
}

fn zeros<F: Read + Seek>(file: &mut F, from: u64, to: u64) -> Result<(), Unfit> {
    if from >= to {
        return Ok(());
    }
    file.seek(SeekFrom::Start(from))?;
    let mut padding = Vec::new();
    file.take(to - from).read_to_end(&mut padding)?;
    if padding.iter().any(|byte| *byte != 0) {
        return Err(malformed(format!("has something in the padding at byte {from}, where only zeros belong")));
    }
    Ok(())
}

impl<F: Read> Header<F> {
    fn read(&mut self) -> Result<(Vec<Span>, u64), Unfit> {
        if self.bytes::<4>()? != *b"GGUF" {
            return Err(malformed("is no GGUF file: it does not begin with the letters GGUF"));
        }
        let version = self.u32()?;
        if !matches!(version, 2 | 3) {
            return Err(malformed(format!("is a GGUF file of version {version}; read here are versions 2 and 3, little-endian")));
        }
        let (tensors, keys) = (self.u64()?, self.u64()?);
        if tensors > MOST || keys > MOST {
            return Err(malformed(format!("claims to have {tensors} tensors and {keys} keys; up to {MOST} of each are read")));
        }
        let alignment = self.keys(keys)?;
        let mut spans = Vec::new();
        let mut names = HashSet::new();
        for _ in 0..tensors {
            let span = self.tensor()?;
            if !names.insert(span.name.clone()) {
                return Err(malformed(format!("has two tensors of the name {:?}", span.name)));
            }
            spans.push(span);
        }
        Ok((spans, alignment))
    }

    /// Reads the keys; what they say of the alignment.
    fn keys(&mut self, count: u64) -> Result<u64, Unfit> {
        let mut names = HashSet::new();
        let mut alignment = ALIGNMENT.0;
        for _ in 0..count {
            let key = self.text("a key")?;
            clean_name(&key, "a key")?;
            let kind = self.u32()?;
            if key == ALIGNMENT_KEY {
                if kind != U32 {
                    return Err(malformed(format!("says {ALIGNMENT_KEY} as something else than a 32-bit number")));
                }
                alignment = u64::from(self.u32()?);
                if !alignment.is_power_of_two() || !(8..=ALIGNMENT.1).contains(&alignment) {
                    return Err(malformed(format!(
                        "says {ALIGNMENT_KEY} is {alignment}; a power of two from 8 to {} is taken",
                        ALIGNMENT.1
                    )));
                }
            } else {
                self.value(kind, 0, &key)?;
            }
            if !names.insert(key.clone()) {
                return Err(malformed(format!("has the key {key:?} twice")));
            }
        }
        Ok(alignment)
    }

    fn value(&mut self, kind: u32, depth: u8, key: &str) -> Result<(), Unfit> {
        match kind {
            TEXT => {
                let length = self.u64()?;
                self.skip(length)
            }
            BOOL => match self.bytes::<1>()? {
                [0 | 1] => Ok(()),
                [other] => Err(malformed(format!("has the key {key:?} with a truth value of {other}"))),
            },
            ARRAY if depth == DEEPEST => Err(malformed(format!("has the key {key:?} with arrays deeper than {DEEPEST}"))),
            ARRAY => {
                let (kind, count) = (self.u32()?, self.u64()?);
                self.elements = self.elements.saturating_add(count);
                if self.elements > MOST_ELEMENTS {
                    return Err(malformed(format!("has arrays with more than {MOST_ELEMENTS} elements")));
                }
                match width(kind) {
                    Some(width) => self.skip(count.saturating_mul(width)),
                    None => (0..count).try_for_each(|_| self.value(kind, depth + 1, key)),
                }
            }
            kind => match width(kind) {
                Some(width) => self.skip(width),
                None => Err(malformed(format!("has the key {key:?} of type {kind}, which there is not"))),
            },
        }
    }

    fn tensor(&mut self) -> Result<Span, Unfit> {
        let name = self.text("a tensor's name")?;
        clean_name(&name, "a tensor")?;
        let dimensions = self.u32()?;
        if !(1..=4).contains(&dimensions) {
            return Err(malformed(format!("has tensor {name:?} with {dimensions} dimensions; it may have 1 to 4")));
        }
        let mut sides = Vec::new();
        for _ in 0..dimensions {
            sides.push(self.u64()?);
        }
        let (kind, offset) = (self.u32()?, self.u64()?);
        let (block, bytes) =
            block(kind).ok_or_else(|| malformed(format!("has tensor {name:?} of type {kind}, which is not known here")))?;
        let elements = sides.iter().try_fold(1_u64, |product, side| product.checked_mul(*side));
        let row = sides.first().copied().unwrap_or(0);
        let length = elements.filter(|_| row % block == 0).and_then(|elements| (elements / block).checked_mul(bytes));
        let length = length.ok_or_else(|| {
            malformed(format!("has tensor {name:?} whose dimensions {sides:?} do not go with blocks of {block} elements"))
        })?;
        Ok(Span { name, offset, length })
    }

    fn text(&mut self, what: &str) -> Result<String, Unfit> {
        let length = self.u64()?;
        if length > LONGEST_NAME as u64 {
            return Err(malformed(format!("has {what} of {length} bytes; up to {LONGEST_NAME} are read")));
        }
        self.spend(length)?;
        let mut text = Vec::new();
        (&mut self.file).take(length).read_to_end(&mut text)?;
        if text.len() as u64 != length {
            return Err(cut_off());
        }
        String::from_utf8(text).map_err(|_| malformed(format!("has {what} that is no text")))
    }

    fn skip(&mut self, length: u64) -> Result<(), Unfit> {
        self.spend(length)?;
        if io::copy(&mut (&mut self.file).take(length), &mut io::sink())? == length { Ok(()) } else { Err(cut_off()) }
    }

    fn u32(&mut self) -> Result<u32, Unfit> {
        Ok(u32::from_le_bytes(self.bytes()?))
    }

    fn u64(&mut self) -> Result<u64, Unfit> {
        Ok(u64::from_le_bytes(self.bytes()?))
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], Unfit> {
        self.spend(N as u64)?;
        let mut bytes = [0; N];
        self.file.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn spend(&mut self, length: u64) -> Result<(), Unfit> {
        self.left = self.left.checked_sub(length).ok_or_else(cut_off)?;
        Ok(())
    }
}

fn cut_off() -> Unfit {
    malformed(format!("ends within its header, or has one of more than {LONGEST} bytes"))
}

/// The bytes of a value of a fixed width; none for truth values, texts and arrays, which are looked at one by one.
const fn width(kind: u32) -> Option<u64> {
    match kind {
        0 | 1 => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        10..=12 => Some(8),
        _ => None,
    }
}

/// The elements and the bytes of a block of ggml's types (`ggml.h`, `ggml-common.h`).
const fn block(kind: u32) -> Option<(u64, u64)> {
    Some(match kind {
        0 | 26 => (1, 4),
        1 | 25 | 30 => (1, 2),
        24 => (1, 1),
        27 | 28 => (1, 8),
        2 | 20 => (32, 18),
        3 => (32, 20),
        6 => (32, 22),
        7 => (32, 24),
        8 => (32, 34),
        9 => (32, 36),
        10 => (256, 84),
        11 | 21 => (256, 110),
        12 => (256, 144),
        13 => (256, 176),
        14 => (256, 210),
        15 => (256, 292),
        16 | 35 => (256, 66),
        17 => (256, 74),
        18 => (256, 98),
        19 => (256, 50),
        22 => (256, 82),
        23 => (256, 136),
        29 => (256, 56),
        34 => (256, 54),
        39 => (32, 17),
        _ => return None,
    })
}
