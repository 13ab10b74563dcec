//! Code that a model brings along: files that a loader would run, and configuration that tells it to load some.
//!
//! `transformers` and what builds on it run Python from a model's repository when `trust_remote_code` is set, as named by `auto_map`
//! and `custom_generate` – in any configuration file, and also from another repository (`OTHER/REPO--module.Class`). Some loaders set
//! the switch by themselves, so leaving it off is no protection.

use std::{fmt, io::Read};

use schemars::JsonSchema;
use serde::{
    Deserialize, Deserializer as _, Serialize,
    de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

/// The longest configuration that is read, in bytes: tokenizers have tens of millions.
pub const LONGEST: u64 = 256 << 20;
/// The keys that name code.
const KEYS: [&str; 2] = ["auto_map", "custom_generate"];
/// The longest name that is repeated, in characters.
const SHOWN: usize = 120;

/// What becomes of a model that brings code along. The stricter one is the lesser.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum RemoteCode {
    #[default]
    Deny,
    AllowIfSigned,
}

/// Configuration that names code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Code {
    /// `auto_map` or `custom_generate`.
    pub key: String,
    /// What it names, the first of it; control characters and the end of a long name left out.
    pub name: String,
    /// Whether some of it is in another repository.
    pub is_elsewhere: bool,
}

/// Whether a loader would run the file.
pub fn is_code(path: &str) -> bool {
    const KINDS: [&str; 8] = ["py", "pyc", "pyd", "pyx", "so", "dll", "dylib", "sh"];
    super::format::extension(path).is_some_and(|extension| KINDS.contains(&extension.to_ascii_lowercase().as_str()))
}

/// Whether the file is configuration that may name code.
pub fn may_name_code(path: &str) -> bool {
    super::format::extension(path).is_some_and(|extension| extension.eq_ignore_ascii_case("json"))
}

/// The code that a configuration file names, at any depth.
///
/// # Errors
/// Why it cannot be read as JSON: then nobody can say what a more lenient reader would find.
pub fn named(file: impl Read) -> Result<Option<Code>, serde_json::Error> {
    let mut found = None;
    let mut json = serde_json::Deserializer::from_reader(std::io::BufReader::new(file.take(LONGEST)));
    (&mut json).deserialize_any(Look { found: &mut found })?;
    json.end()?;
    Ok(found)
}

/// Walks through everything.
struct Look<'a> {
    found: &'a mut Option<Code>,
}

/// Walks through what stands below a key that names code.
struct Name<'a> {
    key: &'a str,
    found: &'a mut Option<Code>,
}

impl Name<'_> {
    fn note(&mut self, name: &str) {
        let is_elsewhere = name.contains("--");
        match self.found {
            Some(code) => code.is_elsewhere |= is_elsewhere,
            None => {
                let shown = name.chars().filter(|c| !c.is_control()).take(SHOWN).collect();
                *self.found = Some(Code { key: self.key.to_owned(), name: shown, is_elsewhere });
            }
        }
    }
}

impl<'de> DeserializeSeed<'de> for Look<'_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

/// What names no code by itself.
macro_rules! nothing {
    ($($visit:ident: $value:ty),*) => {
        $(fn $visit<E: serde::de::Error>(self, _: $value) -> Result<(), E> { Ok(()) })*
        fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> { Ok(()) }
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str("JSON") }
    };
}

impl<'de> Visitor<'de> for Look<'_> {
    type Value = ();

    nothing!(visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_f64: f64, visit_str: &str);

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element_seed(Look { found: &mut *self.found })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            if KEYS.contains(&key.as_str()) {
                map.next_value_seed(Name { key: &key, found: &mut *self.found })?;
            } else {
                map.next_value_seed(Look { found: &mut *self.found })?;
            }
        }
        Ok(())
    }
}

impl<'de> Visitor<'de> for Name<'_> {
    type Value = ();

    // A word of a vocabulary may be called so, too: its value is a number.
    nothing!(visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_f64: f64);

    fn visit_str<E: serde::de::Error>(mut self, name: &str) -> Result<(), E> {
        self.note(name);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element_seed(Name { key: self.key, found: &mut *self.found })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while map.next_key::<IgnoredAny>().map_err(A::Error::custom)?.is_some() {
            map.next_value_seed(Name { key: self.key, found: &mut *self.found })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(json: &str) -> Option<(String, String, bool)> {
        named(json.as_bytes()).unwrap().map(|code| (code.key, code.name, code.is_elsewhere))
    }

    #[test]
    fn code_is_found_at_any_depth_and_in_any_shape() {
        let expected = |key: &str, name: &str, elsewhere| Some((key.to_owned(), name.to_owned(), elsewhere));
        assert_eq!(found(r#"{"auto_map": {"AutoModel": "modeling_x.X"}}"#), expected("auto_map", "modeling_x.X", false));
        assert_eq!(found(r#"{"a": [1, {"b": {"auto_map": {"T": [null, "tok.T"]}}}]}"#), expected("auto_map", "tok.T", false));
        assert_eq!(found(r#"[{"custom_generate": "acme/gen"}]"#), expected("custom_generate", "acme/gen", false));
        let elsewhere = r#"{"auto_map": {"AutoConfig": "conf.C", "AutoModel": "evil/repo--m.X"}}"#;
        assert_eq!(found(elsewhere), expected("auto_map", "conf.C", true));
        assert_eq!(found(r#"{"auto_map": null, "auto_map": "x"}"#), expected("auto_map", "x", false), "given twice");
        assert_eq!(found(r#"{"\u0061uto_map": "x"}"#), expected("auto_map", "x", false), "however it is spelled");
    }

    #[test]
    fn what_names_no_code_is_passed_over() {
        for json in
            [r#"{"model": {"vocab": {"auto_map": 7, "b": 1.5}}}"#, r#"{"auto_map": {}}"#, r#"{"x": "auto_map"}"#, "[]", "null"]
        {
            assert_eq!(found(json), None, "{json}");
        }
    }

    #[test]
    fn what_is_no_json_is_an_error() {
        for text in ["", "{", "{} {}", r#"{"a": NaN}"#, "\u{feff}{}"] {
            assert!(named(text.as_bytes()).is_err(), "{text:?}");
        }
        assert!(named("[".repeat(100_000).as_bytes()).is_err(), "bounded depth");
    }

    #[test]
    fn code_is_told_by_the_end_of_its_name() {
        assert!(is_code("modeling_x.py") && is_code("a/b.SO") && !is_code("py") && !is_code("a.json"));
        assert!(may_name_code("sub/config.json") && !may_name_code("model.gguf"));
    }
}
