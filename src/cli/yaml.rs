//! YAML with the places where things stand, so that messages can name lines and edits can be made between comments.

use std::{
    fmt,
    io::Read as _,
    path::{Path, PathBuf},
};

use serde::{
    Deserialize,
    de::{Deserializer, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Number, Value};
use serde_saphyr::Spanned;

/// Where a thing begins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Place {
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// The byte in the text, from 0.
    pub byte: usize,
}

/// A value and where it stands.
#[derive(Debug, Clone)]
pub struct Node {
    /// Where it begins.
    pub place: Place,
    /// What it is.
    pub kind: Kind,
}

/// What a node is.
#[derive(Debug, Clone)]
pub enum Kind {
    /// A mapping; each key with its place.
    Map(Vec<(String, Place, Node)>),
    /// A sequence.
    List(Vec<Node>),
    /// Anything else.
    Scalar(Value),
}

/// One step of a path into a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Into a mapping.
    Key(String),
    /// Into a sequence.
    Index(usize),
}

impl Node {
    /// The value without its places.
    pub fn value(&self) -> Value {
        match &self.kind {
            Kind::Map(entries) => Value::Object(entries.iter().map(|(key, _, node)| (key.clone(), node.value())).collect()),
            Kind::List(items) => Value::Array(items.iter().map(Self::value).collect()),
            Kind::Scalar(value) => value.clone(),
        }
    }

    /// The entry `key` of a mapping: the place of the key, and the value.
    pub fn get(&self, key: &str) -> Option<(Place, &Self)> {
        let Kind::Map(entries) = &self.kind else { return None };
        entries.iter().find(|(name, ..)| name == key).map(|(_, place, node)| (*place, node))
    }

    /// Where `path` leads: its key, or the nearest thing above that exists.
    pub fn place_of(&self, path: &[Step]) -> Place {
        let (mut place, mut node) = (self.place, self);
        for step in path {
            let next = match (step, &node.kind) {
                (Step::Key(key), _) => node.get(key),
                (Step::Index(index), Kind::List(items)) => items.get(*index).map(|item| (item.place, item)),
                _ => None,
            };
            let Some(next) = next else { break };
            (place, node) = next;
        }
        place
    }
}

/// A path as people write it: `spec.engine.env[1].name`.
pub fn written(path: &[Step]) -> String {
    let mut text = String::new();
    for step in path {
        match step {
            Step::Key(key) if text.is_empty() => text.push_str(key),
            Step::Key(key) => text.extend([".", key]),
            Step::Index(index) => text.push_str(&format!("[{index}]")),
        }
    }
    text
}

/// The documents of a text; empty ones are left out.
///
/// # Errors
/// What is wrong with the text, with its line.
pub fn documents(text: &str) -> Result<Vec<Node>, String> {
    let documents: Vec<Spanned<Raw>> = serde_saphyr::from_multiple(text).map_err(|error| {
        // Of the library's report its first line, which has the place, and no word of its options.
        let said = error.to_string();
        let line = said.lines().next().unwrap_or_default();
        let line = line.split_once(", set ").map_or(line, |(line, _)| line);
        line.strip_prefix("error: ").unwrap_or(line).to_owned()
    })?;
    let nodes = documents.into_iter().map(|document| document.into_node(text));
    Ok(nodes.filter(|node| !matches!(node.kind, Kind::Scalar(Value::Null))).collect())
}

/// Reads a file; `-` is the standard input.
///
/// # Errors
/// The file, and why it cannot be read.
pub fn text(path: &Path) -> Result<String, String> {
    if path == Path::new("-") {
        let mut text = String::new();
        return match std::io::stdin().read_to_string(&mut text) {
            Ok(_) => Ok(text),
            Err(error) => Err(format!("the standard input: {error}")),
        };
    }
    std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

/// The files that `paths` mean: a directory stands for what is in it and ends in .yaml, .yml or .json.
///
/// # Errors
/// The directory that cannot be read, or in which there is none.
pub fn files(paths: &[PathBuf], recursive: bool) -> Result<Vec<PathBuf>, String> {
    let mut files = vec![];
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let before = files.len();
        let mut pending = vec![path.clone()];
        while let Some(directory) = pending.pop() {
            let unreadable = |error: std::io::Error| format!("{}: {error}", directory.display());
            for entry in std::fs::read_dir(&directory).map_err(unreadable)? {
                let entry = entry.map_err(unreadable)?.path();
                let known = entry.extension().is_some_and(|end| ["yaml", "yml", "json"].iter().any(|known| end == *known));
                if entry.is_dir() && recursive {
                    pending.push(entry);
                } else if entry.is_file() && known {
                    files.push(entry);
                }
            }
        }
        files.get_mut(before..).unwrap_or_default().sort();
        if files.len() == before {
            let deeper = if recursive { "" } else { "; --recursive looks deeper" };
            return Err(format!("{}: there is no file that ends in .yaml, .yml or .json{deeper}", path.display()));
        }
    }
    Ok(files)
}

/// A value as it is read, each part of it with its place.
enum Raw {
    Map(Vec<(Spanned<String>, Spanned<Raw>)>),
    List(Vec<Spanned<Raw>>),
    Scalar(Value),
}

trait IntoNode {
    fn into_node(self, text: &str) -> Node;
}

impl IntoNode for Spanned<Raw> {
    fn into_node(self, text: &str) -> Node {
        let place = place(&self.referenced);
        let kind = match self.value {
            Raw::Map(entries) => Kind::Map(
                entries
                    .into_iter()
                    .map(|(key, value)| {
                        let at = self::place(&key.referenced);
                        (key.value, at, value.into_node(text))
                    })
                    .collect(),
            ),
            Raw::List(items) => Kind::List(items.into_iter().map(|item| item.into_node(text)).collect()),
            Raw::Scalar(value) => Kind::Scalar(as_kubectl_reads(value, text.get(place.byte..).unwrap_or_default())),
        };
        Node { place, kind }
    }
}

fn place(location: &serde_saphyr::Location) -> Place {
    let number = |number: u64| usize::try_from(number).unwrap_or_default();
    let byte = location.span().byte_offset().map(number).unwrap_or_default();
    Place { line: number(location.line()), column: number(location.column()), byte }
}

/// kubectl and Helm read YAML 1.1: a word `yes` without quotes is true.
fn as_kubectl_reads(value: Value, text: &str) -> Value {
    match value.as_str() {
        Some(word) if text.starts_with(word) => match word {
            "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => Value::Bool(true),
            "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => Value::Bool(false),
            _ => value,
        },
        _ => value,
    }
}

/// kubectl and API servers take `2.0` and `1e1` for whole numbers.
pub fn whole_or_fraction(value: f64) -> Value {
    let whole = (value.fract() == 0.0).then(|| format!("{value:.0}").parse::<i64>().ok()).flatten();
    whole.map(Value::from).or_else(|| Number::from_f64(value).map(Value::Number)).unwrap_or_default()
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        macro_rules! scalar {
            ($($name:ident: $kind:ty => $make:expr;)*) => {
                $(fn $name<E>(self, value: $kind) -> Result<Raw, E> {
                    let make: fn($kind) -> Value = $make;
                    Ok(Raw::Scalar(make(value)))
                })*
            };
        }

        impl<'de> Visitor<'de> for Any {
            type Value = Raw;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            scalar! {
                visit_bool: bool => Value::Bool;
                visit_i64: i64 => Value::from;
                visit_u64: u64 => Value::from;
                visit_f64: f64 => whole_or_fraction;
                visit_str: &str => |value| Value::String(value.to_owned());
                visit_string: String => Value::String;
            }

            fn visit_unit<E>(self) -> Result<Raw, E> {
                Ok(Raw::Scalar(Value::Null))
            }

            fn visit_none<E>(self) -> Result<Raw, E> {
                Ok(Raw::Scalar(Value::Null))
            }

            fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw, D::Error> {
                Raw::deserialize(deserializer)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Raw, A::Error> {
                let mut items = vec![];
                while let Some(item) = sequence.next_element()? {
                    items.push(item);
                }
                Ok(Raw::List(items))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
                let mut entries = vec![];
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Raw::Map(entries))
            }
        }

        deserializer.deserialize_any(Any)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn everything_has_its_place() {
        let text = "# a comment\nspec:\n  model: # another\n    source: hf://a/b\n  list:\n  - {name: x}\n  - 'y'\n";
        let node = documents(text).unwrap().remove(0);
        assert_eq!(node.value(), json!({"spec": {"model": {"source": "hf://a/b"}, "list": [{"name": "x"}, "y"]}}));
        let at = |path: &[&str]| {
            let steps: Vec<Step> =
                path.iter().map(|step| step.parse().map(Step::Index).unwrap_or_else(|_| Step::Key((*step).to_owned()))).collect();
            let place = node.place_of(&steps);
            (place.line, place.column, &text[place.byte..place.byte + 2])
        };
        assert_eq!(at(&["spec", "model", "source"]), (4, 5, "so"));
        assert_eq!(at(&["spec", "list", "0", "name"]), (6, 6, "na"));
        assert_eq!(at(&["spec", "list", "1"]), (7, 5, "'y"));
        assert_eq!(at(&["spec", "model", "sauce"]), (3, 3, "mo"), "what is not there stands in what it would be in");
    }

    #[test]
    fn anchors_merges_json_and_several_documents_are_read() {
        let text = "a: &x {k: 1}\nb: *x\nc: {<<: *x, l: 2}\n---\n# nothing\n---\n{\"d\": [true, null, 1.5, -3, \"x\"]}\n";
        let documents = documents(text).unwrap();
        let values: Vec<Value> = documents.iter().map(Node::value).collect();
        assert_eq!(
            values,
            [json!({"a": {"k": 1}, "b": {"k": 1}, "c": {"k": 1, "l": 2}}), json!({"d": [true, null, 1.5, -3, "x"]})]
        );
    }

    #[test]
    fn words_without_quotes_are_what_kubectl_takes_them_for() {
        let documents = documents("a: yes\nb: 'yes'\nc: off\nd: yes please\ne: \"no\"\n").unwrap();
        assert_eq!(documents[0].value(), json!({"a": true, "b": "yes", "c": false, "d": "yes please", "e": "no"}));
    }

    #[test]
    fn a_number_without_a_fraction_is_whole() {
        let documents = documents("a: 2.0\nb: 1e1\nc: -3.0\nd: 2.5\ne: 1e300\nf: '2.0'\n").unwrap();
        assert_eq!(documents[0].value(), json!({"a": 2, "b": 10, "c": -3, "d": 2.5, "e": 1e300, "f": "2.0"}));
    }

    #[test]
    fn a_broken_text_says_where() {
        let error = documents("a: 1\nb: [1, 2\n").unwrap_err();
        assert!(error.starts_with("line "), "{error}");
        let twice = documents("a: 1\na: 2\n").unwrap_err();
        assert_eq!(twice, "line 2 column 1: duplicate mapping key: a", "one of the two would be lost");
    }
}
