use std::io::Cursor;

use super::{Format, Unfit, is_auxiliary};

fn said(format: Format, bytes: &[u8]) -> String {
    match format.check(&mut Cursor::new(bytes), bytes.len() as u64) {
        Ok(()) => "good".to_owned(),
        Err(Unfit::Malformed(message)) => message,
        Err(Unfit::Unread(error)) => panic!("{error}"),
    }
}

fn safetensors(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend(vec![7; data]);
    bytes
}

fn tensor(shape: &str, begin: usize, end: usize) -> String {
    format!(r#"{{"dtype":"F32","shape":{shape},"data_offsets":[{begin},{end}]}}"#)
}

/// A GGUF file: keys as they are encoded, tensors by name, type, sides and offset, and the data.
struct Gguf {
    version: u32,
    keys: Vec<Vec<u8>>,
    tensors: Vec<(&'static str, u32, Vec<u64>, u64)>,
    data: Vec<u8>,
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

fn key(name: &str, kind: u32, value: &[u8]) -> Vec<u8> {
    [&text(name), &kind.to_le_bytes()[..], value].concat()
}

impl Gguf {
    /// Two tensors: 3 numbers of 4 bytes, padded to 32, and one block of 34 bytes.
    fn good() -> Self {
        let tokens = [&8_u32.to_le_bytes()[..], &2_u64.to_le_bytes(), &text("a"), &text("b")].concat();
        Self {
            version: 3,
            keys: vec![
                key("general.architecture", 8, &text("llama")),
                key("tokenizer.ggml.tokens", 9, &tokens),
                key("tokenizer.ggml.add_bos_token", 7, &[1]),
                key("general.size", 10, &5_u64.to_le_bytes()),
            ],
            tensors: vec![("norm", 0, vec![3], 0), ("output", 8, vec![32, 1], 32)],
            data: [vec![1; 12], vec![0; 20], vec![2; 34], vec![0; 30]].concat(),
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(self.version.to_le_bytes());
        bytes.extend((self.tensors.len() as u64).to_le_bytes());
        bytes.extend((self.keys.len() as u64).to_le_bytes());
        bytes.extend(self.keys.concat());
        for (name, kind, sides, offset) in &self.tensors {
            bytes.extend(text(name));
            bytes.extend((sides.len() as u32).to_le_bytes());
            bytes.extend(sides.iter().flat_map(|side| side.to_le_bytes()));
            bytes.extend(kind.to_le_bytes());
            bytes.extend(offset.to_le_bytes());
        }
        bytes.resize(bytes.len().next_multiple_of(32), 0);
        bytes.extend(&self.data);
        bytes
    }

    fn said(change: impl FnOnce(&mut Self)) -> String {
        let mut gguf = Self::good();
        change(&mut gguf);
        said(Format::Gguf, &gguf.bytes())
    }
}

#[test]
fn a_format_is_known_by_the_end_of_the_name() {
    assert_eq!(Format::of("a/model-00001-of-2.SafeTensors"), Some(Format::Safetensors));
    assert_eq!(Format::of("model.gguf"), Some(Format::Gguf));
    for other in ["model.bin", "gguf", "model.gguf/readme", "model.gguf.zip"] {
        assert_eq!(Format::of(other), None, "{other}");
    }
    for name in ["config.json", "a/tokenizer.model", "LICENSE", "chat_template.jinja"] {
        assert!(is_auxiliary(name), "{name}");
    }
    for name in ["model.bin", "model.pt", "modeling.py", "a.so", "weights.npz", "model", "x.pkl", "x.json.py"] {
        assert!(!is_auxiliary(name), "{name}");
    }
}

#[test]
fn a_safetensors_file_is_accounted_for_byte_by_byte() {
    let two = |a: &str, b: &str| format!(r#"{{"__metadata__":{{"format":"pt"}},"a":{a},"b":{b}}}  "#);
    let good = safetensors(&two(&tensor("[2]", 4, 12), &tensor("[]", 0, 4)), 12);
    assert_eq!(said(Format::Safetensors, &good), "good");
    assert_eq!(said(Format::Safetensors, &safetensors("{}", 0)), "good");
    for (header, data, why) in [
        (two(&tensor("[2]", 4, 12), &tensor("[]", 0, 4)), 13, "has 13 bytes after its header, and its tensors account for 12"),
        (two(&tensor("[2]", 4, 12), &tensor("[]", 0, 4)), 11, "has 11 bytes after its header"),
        (two(&tensor("[2]", 8, 16), &tensor("[]", 0, 4)), 16, "leaves bytes before it that belong to nothing"),
        (two(&tensor("[2]", 2, 10), &tensor("[]", 0, 4)), 10, "lies over another one"),
        (two(&tensor("[3]", 4, 12), &tensor("[]", 0, 4)), 12, "does not need the bytes 4 to 12"),
        (two(&tensor("[2]", 12, 4), &tensor("[]", 0, 4)), 12, "does not need the bytes 12 to 4"),
        (two(&tensor("[4611686018427387904, 4]", 4, 4), &tensor("[]", 0, 4)), 4, "does not need"),
        // Neither the shape nor the span makes a number.
        (two(&tensor("[18446744073709551615]", 4, 0), &tensor("[]", 0, 4)), 0, "does not need the bytes 4 to 0"),
        (two(&tensor("[2]", 4, 12), r#"{"dtype":"X","shape":[],"data_offsets":[0,4]}"#), 12, "element type \"X\""),
        (two(&tensor("[2]", 4, 12), r#"{"dtype":"F32","shape":[],"data_offsets":[0,4],"code":1}"#), 12, "unknown field `code`"),
        (
            r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}"#.into(),
            2,
            "\"a\" stands in it twice",
        ),
        (r#"{"a\u0000b":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#.into(), 1, "control character"),
        (r#"{"__metadata__":{"a":"1","a":"2"}}"#.into(), 0, "twice"),
        (r#"{"__metadata__":{"a":1}}"#.into(), 0, "cannot be read"),
        ("[]".into(), 0, "does not begin with {"),
        (r#"{"a":NaN}"#.into(), 0, "cannot be read"),
        ("{}x".into(), 0, "cannot be read"),
    ] {
        let found = said(Format::Safetensors, &safetensors(&header, data));
        assert!(found.contains(why), "{header}: {found}");
    }
}

#[test]
fn what_is_only_called_safetensors_is_told() {
    let pickle = b"\x80\x04\x95\x20\x00\x00\x00\x00\x00\x00\x00\x8c\x08builtins\x94";
    assert!(said(Format::Safetensors, pickle).contains("by its first 8 bytes its header would have"));
    assert!(said(Format::Safetensors, b"PK\x03\x04").contains("it has 4 bytes"));
    let longer_than_the_file = safetensors("{}", 0)[..9].to_vec();
    assert!(said(Format::Safetensors, &longer_than_the_file).contains("its header would have 2 bytes"));
}

#[test]
fn a_gguf_file_is_accounted_for_byte_by_byte() {
    assert_eq!(Gguf::said(|_| ()), "good");
    assert_eq!(Gguf::said(|gguf| gguf.data.truncate(66)), "good", "without the last padding");
    assert_eq!(Gguf::said(|gguf| (gguf.tensors.clear(), gguf.data.clear()).1), "good", "a vocabulary alone");
    let aligned = Gguf::said(|gguf| {
        gguf.keys.push(key("general.alignment", 4, &16_u32.to_le_bytes()));
        gguf.tensors[1].3 = 16;
        gguf.data = [vec![1; 12], vec![0; 4], vec![2; 34]].concat();
    });
    assert_eq!(aligned, "good");
    type Change = fn(&mut Gguf);
    let cases: [(&str, Change); 17] = [
        ("version 1", |gguf| gguf.version = 1),
        ("version 50331648", |gguf| gguf.version = 3_u32.swap_bytes()),
        ("has 1 bytes after its last tensor", |gguf| gguf.data.push(0)),
        ("is cut off: tensor \"output\"", |gguf| gguf.data.truncate(65)),
        ("where only zeros belong", |gguf| gguf.data[20] = 9),
        ("where only zeros belong", |gguf| gguf.data[70] = 9),
        ("at offset 64", |gguf| gguf.tensors[1].3 = 64),
        ("at offset 0", |gguf| gguf.tensors[1].3 = 0),
        ("two tensors of the name \"norm\"", |gguf| gguf.tensors[1].0 = "norm"),
        ("control character", |gguf| gguf.tensors[1].0 = "a\0b"),
        ("type 99", |gguf| gguf.tensors[1].1 = 99),
        ("blocks of 32", |gguf| gguf.tensors[1].2 = vec![31, 1]),
        ("with 0 dimensions", |gguf| gguf.tensors[1].2 = vec![]),
        ("twice", |gguf| gguf.keys.push(gguf.keys[0].clone())),
        ("type 13", |gguf| gguf.keys.push(key("x", 13, &[]))),
        ("truth value of 2", |gguf| gguf.keys.push(key("x", 7, &[2]))),
        ("general.alignment is 24", |gguf| gguf.keys.push(key("general.alignment", 4, &24_u32.to_le_bytes()))),
    ];
    for (why, change) in cases {
        let found = Gguf::said(change);
        assert!(found.contains(why), "{why}: {found}");
    }
}

#[test]
fn a_gguf_header_that_claims_too_much_is_refused_before_it_is_believed() {
    let claims = |tensors: u64, keys: u64| {
        let bytes = [&b"GGUF"[..], &3_u32.to_le_bytes(), &tensors.to_le_bytes(), &keys.to_le_bytes()].concat();
        said(Format::Gguf, &bytes)
    };
    assert!(claims(u64::MAX, 0).contains("claims to have"));
    assert!(claims(0, 1).contains("ends within its header"), "{}", claims(0, 1));
    let array = |kind: u32, count: u64| [&kind.to_le_bytes()[..], &count.to_le_bytes()].concat();
    assert!(Gguf::said(|gguf| gguf.keys.push(key("x", 9, &array(0, u64::MAX)))).contains("more than 50000000 elements"));
    assert!(Gguf::said(|gguf| gguf.keys.push(key("x", 9, &array(0, 40_000_000)))).contains("ends within its header"));
    let deep: Vec<u8> = (0..5).flat_map(|_| array(9, 1)).collect();
    assert!(Gguf::said(|gguf| gguf.keys.push(key("x", 9, &deep))).contains("arrays deeper than 4"));
    assert!(said(Format::Gguf, b"PK\x03\x04 and more").contains("does not begin with the letters GGUF"));
    assert!(said(Format::Gguf, b"GG").contains("ends within its header"));
}

/// A safetensors file with these bytes as its one tensor.
fn holding(content: &[u8]) -> String {
    let length = content.len();
    let mut bytes = safetensors(&format!(r#"{{"a":{{"dtype":"U8","shape":[{length}],"data_offsets":[0,{length}]}}}}"#), 0);
    bytes.extend(content);
    said(Format::Safetensors, &bytes)
}

/// A zip's directory and its last record, which says that the directory has `length` bytes.
fn zip(length: u32, comment: u16) -> Vec<u8> {
    let directory = [b"PK\x01\x02".as_slice(), &[0; 42]].concat();
    let end = [b"PK\x05\x06".as_slice(), &[0; 4], &[1, 0, 1, 0], &length.to_le_bytes(), &[0; 4], &comment.to_le_bytes()].concat();
    [directory, end].concat()
}

#[test]
fn weights_that_are_a_zip_archive_too_are_refused_whatever_stands_behind_it() {
    for tail in [0, 1, 300, 60_000] {
        let found = holding(&[vec![1; 40], zip(46, 0), vec![b'c'; tail]].concat());
        assert!(found.contains("zip archive too"), "{tail}: {found}");
    }
    assert!(holding(&[vec![1; 40], zip(46, 300), vec![b'c'; 300]].concat()).contains("zip archive too"), "with a comment");
    let empty = [b"PK\x05\x06".as_slice(), &[0; 18]].concat();
    assert!(holding(&empty).contains("zip archive too"));
    let large = [b"PK\x06\x07".as_slice(), &[0; 16], &zip(u32::MAX, 0)[46..]].concat();
    assert!(holding(&large).contains("zip archive too"), "a large one");
    assert_eq!(holding(&zip(45, 0)), "good", "no directory lies where it says");
    assert_eq!(holding(&zip(u32::MAX - 1, 0)), "good", "nor before the file");
    assert_eq!(holding(b"PK\x05\x06"), "good");
}

#[test]
fn weights_that_are_a_tar_archive_too_are_refused() {
    let header = |checksum: &str| {
        let mut text = format!(r#"{{"__metadata__":{{"{}":"{}"}}}}"#, "n".repeat(100), "v".repeat(400));
        // The header's length stands in the first eight bytes.
        text.replace_range(140..148, checksum);
        text
    };
    let bytes = safetensors(&header("       0"), 0);
    let sum: u64 =
        bytes[..512].iter().enumerate().map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u64::from(*byte) }).sum();
    assert_eq!(said(Format::Safetensors, &bytes), "good");
    let found = said(Format::Safetensors, &safetensors(&header(&format!("{sum:>8o}")), 0));
    assert!(found.contains("tar archive too"), "{found}");
}

/// Whatever bytes come: an answer, and no panic.
#[test]
fn damaged_files_never_do_more_than_be_refused() {
    let mut seed = 7_u64;
    let mut next = |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % below
    };
    let header = format!(r#"{{"a":{},"b":{}}}"#, tensor("[2]", 4, 12), tensor("[]", 0, 4));
    for (format, good) in [(Format::Gguf, Gguf::good().bytes()), (Format::Safetensors, safetensors(&header, 12))] {
        for _ in 0..3000 {
            let mut bytes = good.clone();
            for _ in 0..=next(3) {
                let at = next(bytes.len());
                bytes[at] = next(256) as u8;
            }
            bytes.truncate(good.len() - next(4) * next(good.len()) / 8);
            said(format, &bytes);
        }
    }
}
