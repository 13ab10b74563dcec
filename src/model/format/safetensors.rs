//! safetensors: eight bytes with the header's length, the header in JSON, and the tensors without a gap between them.

use std::{
    collections::HashSet,
    fmt,
    io::{Read, Seek, SeekFrom},
};

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, Visitor},
};

use super::{Unfit, clean_name, malformed};

/// The longest header, in bytes. Those of the largest models in use have a few million.
const LONGEST: u64 = 32 << 20;
/// The most tensors.
const MOST: usize = 1_000_000;
const METADATA: &str = "__metadata__";

/// What a header says of one tensor.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tensor {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

/// The tensors of a header, in its own order; no name twice.
struct Header(Vec<(String, Tensor)>);

/// The part that is for people: texts by name, no name twice.
struct Metadata;

pub(super) fn check<F: Read + Seek>(file: &mut F, size: u64) -> Result<(), Unfit> {
    file.seek(SeekFrom::Start(0))?;
    let mut length = [0; 8];
    if size < 8 {
        return Err(malformed(format!("is no safetensors file: it has {size} bytes, and the header's length alone has 8")));
    }
    file.read_exact(&mut length)?;
    let length = u64::from_le_bytes(length);
    if length > LONGEST || length > size - 8 {
        return Err(malformed(format!(
            "is no safetensors file: by its first 8 bytes its header would have {length} bytes; the file has {size}, and headers of up to {LONGEST} are read"
        )));
    }
    let mut header = Vec::new();
    file.take(length).read_to_end(&mut header)?;
    if header.first() != Some(&b'{') {
        return Err(malformed("is no safetensors file: its header does not begin with {"));
    }
    let Header(tensors) = serde_json::from_slice(&header)
        .map_err(|error| malformed(format!("is no safetensors file: its header cannot be read: {error}")))?;
    accounted(tensors, size - 8 - length)
}

/// Whether the tensors fill `data` bytes, one after the other.
fn accounted(tensors: Vec<(String, Tensor)>, data: u64) -> Result<(), Unfit> {
    let mut spans = Vec::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        clean_name(&name, "a tensor")?;
        let (begin, end) = tensor.data_offsets;
        let bits = bits(&tensor.dtype).ok_or_else(|| {
            malformed(format!("has tensor {name:?} of element type {:?}, which is not known here", tensor.dtype))
        })?;
        let needed = tensor.shape.iter().try_fold(bits, |bits, side| bits.checked_mul(*side)).map(|bits| (bits / 8, bits % 8));
        let given = end.checked_sub(begin).map(|length| (length, 0));
        if needed.is_none() || needed != given {
            return Err(malformed(format!(
                "has tensor {name:?} whose shape {:?} of {} does not need the bytes {begin} to {end} that it is given",
                tensor.shape, tensor.dtype
            )));
        }
        spans.push((begin, end, name));
    }
    spans.sort_unstable();
    let mut at = 0;
    for (begin, end, name) in spans {
        if begin != at {
            let what = if begin > at { "leaves bytes before it that belong to nothing" } else { "lies over another one" };
            return Err(malformed(format!("has tensor {name:?} at byte {begin}, which {what}: the one before it ends at {at}")));
        }
        at = end;
    }
    if at != data {
        return Err(malformed(format!("has {data} bytes after its header, and its tensors account for {at}")));
    }
    Ok(())
}

/// The bits of an element.
fn bits(dtype: &str) -> Option<u64> {
    Some(match dtype {
        "F4" => 4,
        "F6_E2M3" | "F6_E3M2" => 6,
        "BOOL" | "U8" | "I8" | "F8_E5M2" | "F8_E4M3" | "F8_E8M0" | "F8_E4M3FNUZ" | "F8_E5M2FNUZ" => 8,
        "U16" | "I16" | "F16" | "BF16" => 16,
        "U32" | "I32" | "F32" => 32,
        "U64" | "I64" | "F64" | "C64" => 64,
        _ => return None,
    })
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Header;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with the tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                let (mut tensors, mut names) = (Vec::new(), HashSet::new());
                while let Some(name) = map.next_key::<String>()? {
                    if !names.insert(name.clone()) {
                        return Err(A::Error::custom(format!("{name:?} stands in it twice")));
                    }
                    if name == METADATA {
                        map.next_value::<Metadata>()?;
                        continue;
                    }
                    if tensors.len() == MOST {
                        return Err(A::Error::custom(format!("it has more than {MOST} tensors")));
                    }
                    tensors.push((name, map.next_value()?));
                }
                Ok(Header(tensors))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Texts;
        impl<'de> Visitor<'de> for Texts {
            type Value = Metadata;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("texts by name")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Metadata, A::Error> {
                let mut names = HashSet::new();
                while let Some((name, _)) = map.next_entry::<String, String>()? {
                    if !names.insert(name.clone()) {
                        return Err(A::Error::custom(format!("{METADATA} has {name:?} twice")));
                    }
                }
                Ok(Metadata)
            }
        }
        deserializer.deserialize_map(Texts)
    }
}
