//! Code that a model brings along: files that a loader would run, and configuration that tells it to load some.
//!
//! `transformers` and what builds on it run Python from a model's repository when `trust_remote_code` is set, as named by `auto_map`,
//! `custom_generate` and the `impl` of `custom_pipelines` – in any configuration file, and also from another repository
//! (`OTHER/REPO--module.Class`). `sentence-transformers` does so by the `type` of each entry of `modules.json`. Some loaders set the
//! switch by themselves, so leaving it off is no protection. These keys are the whole list: one that a loader adds later is not known
//! here.

use std::{fmt, io::Read};

use schemars::JsonSchema;
use serde::{
    Deserialize, Deserializer as _, Serialize,
    de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

/// The longest configuration that is read, in bytes: tokenizers have tens of millions.
pub const LONGEST: u64 = 256 << 20;
/// The keys that name code, in all that stands below them.
const KEYS: [&str; 2] = ["auto_map", "custom_generate"];
/// The key below which only one other names code.
const PIPELINES: (&str, &str) = ("custom_pipelines", "impl");
/// The file whose entries name code by their type, and the beginning of what is the loader's own.
const MODULES: (&str, &str, &str) = ("modules.json", "type", "sentence_transformers.");
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
    /// The key that names it, such as `auto_map`.
    pub key: String,
    /// What it names, the first of it; control characters and the end of a long name left out.
    pub name: String,
    /// Whether some of it is in another repository.
    pub is_elsewhere: bool,
}

/// Whether a loader would run the file.
pub fn is_code(path: &str) -> bool {
    const KINDS: [&str; 12] = ["py", "pyc", "pyd", "pyx", "pyw", "pyz", "whl", "egg", "so", "dll", "dylib", "sh"];
    let path = path.to_ascii_lowercase();
    // A library may have its version behind its kind.
    let is_versioned = path.rsplit('/').next().is_some_and(|name| name.contains(".so."));
    is_versioned || super::format::extension(&path).is_some_and(|extension| KINDS.contains(&extension))
}

/// Whether the file is configuration that may name code.
pub fn may_name_code(path: &str) -> bool {
    super::format::extension(path).is_some_and(|extension| extension.eq_ignore_ascii_case("json"))
}

/// The code that the configuration file `path` names, at any depth.
///
/// # Errors
/// Why it cannot be read as JSON of at most [`LONGEST`] bytes: then nobody can say what a more lenient reader would find.
pub fn named(path: &str, file: impl Read) -> Result<Option<Code>, serde_json::Error> {
    let mut found = None;
    // One byte more than may be there, so that a longer file is no JSON to its end.
    let mut bounded = file.take(LONGEST + 1);
    let mut json = serde_json::Deserializer::from_reader(std::io::BufReader::new(&mut bounded));
    let is_modules = path.rsplit('/').next() == Some(MODULES.0);
    (&mut json)
        .deserialize_any(Look { within: if is_modules { Within::Modules } else { Within::Anything }, found: &mut found })?;
    json.end()?;
    if bounded.limit() == 0 {
        return Err(serde_json::Error::custom(format!("it has more than {LONGEST} bytes")));
    }
    Ok(found)
}

/// Where a walk is.
#[derive(Clone, Copy, PartialEq)]
enum Within {
    Anything,
    Pipelines,
    Modules,
}

/// Walks through everything.
struct Look<'a> {
    within: Within,
    found: &'a mut Option<Code>,
}

/// Walks through what stands below a key that names code.
struct Name<'a> {
    key: &'a str,
    /// What begins so is the loader's own.
    own: &'a str,
    found: &'a mut Option<Code>,
}

impl Name<'_> {
    fn note(&mut self, name: &str) {
        if !self.own.is_empty() && name.starts_with(self.own) && !name.contains("--") {
            return;
        }
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
        while list.next_element_seed(Look { within: self.within, found: &mut *self.found })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            let key = key.as_str();
            let is_own = self.within == Within::Modules && key == MODULES.1;
            if KEYS.contains(&key) || (self.within == Within::Pipelines && key == PIPELINES.1) || is_own {
                map.next_value_seed(Name { key, own: if is_own { MODULES.2 } else { "" }, found: &mut *self.found })?;
            } else {
                let within = if key == PIPELINES.0 { Within::Pipelines } else { self.within };
                map.next_value_seed(Look { within, found: &mut *self.found })?;
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
        while list.next_element_seed(Name { key: self.key, own: self.own, found: &mut *self.found })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while map.next_key::<IgnoredAny>().map_err(A::Error::custom)?.is_some() {
            map.next_value_seed(Name { key: self.key, own: self.own, found: &mut *self.found })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(json: &str) -> Option<(String, String, bool)> {
        named("sub/config.json", json.as_bytes()).unwrap().map(|code| (code.key, code.name, code.is_elsewhere))
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
    fn pipelines_and_modules_name_code_in_their_own_ways() {
        let pipeline = r#"{"custom_pipelines": {"t": {"impl": "evil/repo--pipe.P", "pt": ["AutoModel"]}}}"#;
        assert_eq!(found(pipeline), Some(("impl".to_owned(), "evil/repo--pipe.P".to_owned(), true)));
        let modules = |kind: &str| {
            let json = format!(r#"[{{"idx": 0, "name": "0", "path": "", "type": "{kind}"}}]"#);
            named("modules.json", json.as_bytes()).unwrap().map(|code| (code.name, code.is_elsewhere))
        };
        assert_eq!(modules("sentence_transformers.models.Transformer"), None);
        assert_eq!(modules("custom.Pool"), Some(("custom.Pool".to_owned(), false)));
        assert_eq!(modules("evil/repo--mod.C"), Some(("evil/repo--mod.C".to_owned(), true)));
        assert_eq!(found(r#"[{"type": "custom.Pool"}]"#), None, "elsewhere it means something else");
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
            assert!(named("config.json", text.as_bytes()).is_err(), "{text:?}");
        }
        assert!(named("config.json", "[".repeat(100_000).as_bytes()).is_err(), "bounded depth");
        let long = std::io::Read::chain(&b"{}"[..], std::io::repeat(b' '));
        assert!(named("config.json", long).unwrap_err().to_string().contains("more than 268435456 bytes"));
    }

    #[test]
    fn code_is_told_by_the_end_of_its_name() {
        for path in ["modeling_x.py", "a/b.SO", "lib.so.1", "x.pyz", "x.whl"] {
            assert!(is_code(path), "{path}");
        }
        assert!(!is_code("py") && !is_code("a.json") && !is_code("a.so.d/b.json"));
        assert!(may_name_code("sub/config.json") && !may_name_code("model.gguf"));
    }
}
