//! What several tests need.

pub mod argo;
pub mod bell;
pub mod dice;
pub mod fake_api;
pub mod kstatus;
pub mod restricted;
pub mod rules;
pub mod signer;

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

/// A path below the root of the repository.
pub fn path(below: impl AsRef<Path>) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(below)
}

/// The text of a file below the root of the repository.
pub fn text(below: impl AsRef<Path>) -> String {
    let path = path(below);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The YAML documents of a text; empty ones are left out.
pub fn documents(text: &str) -> Vec<Value> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).unwrap_or_else(|error| panic!("{error} in:\n{text}"));
    documents.into_iter().filter(|document| !document.is_null()).collect()
}

/// The names of the files in a directory below the root, sorted; nothing when there is no such directory.
pub fn files(below: impl AsRef<Path>) -> Vec<String> {
    let Ok(entries) = fs::read_dir(path(below)) else { return vec![] };
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Whether recorded files are to be written anew instead of being compared.
pub fn updating() -> bool {
    std::env::var_os("UPDATE_GOLDEN").is_some()
}

/// Compares `found` with the file, or writes the file.
pub fn recorded(below: impl AsRef<Path>, found: &str) {
    let path = path(below);
    if updating() {
        return fs::write(&path, found).unwrap();
    }
    let expected =
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}; UPDATE_GOLDEN=1 writes it", path.display()));
    let first = expected.lines().zip(found.lines()).enumerate().find(|(_, (a, b))| a != b);
    if let Some((at, (expected, found))) = first {
        panic!(
            "{}:{}: expected\n{expected}\nfound\n{found}\nWhen that is wanted, run with UPDATE_GOLDEN=1 and read the difference.",
            path.display(),
            at + 1
        );
    }
    assert_eq!(found.len(), expected.len(), "{}: one of the two goes on", path.display());
}

/// A JSON merge patch (RFC 7386): an object changes what it names, null removes, anything else replaces.
pub fn merge(base: &Value, patch: &Value) -> Value {
    let (Value::Object(base), Value::Object(patch)) = (base, patch) else { return patch.clone() };
    let mut merged = base.clone();
    for (key, value) in patch {
        if value.is_null() {
            merged.remove(key);
        } else {
            let before = merged.get(key).filter(|_| value.is_object()).cloned().unwrap_or_default();
            let before = if value.is_object() && !before.is_object() { serde_json::json!({}) } else { before };
            merged.insert(key.clone(), merge(&before, value));
        }
    }
    Value::Object(merged)
}
