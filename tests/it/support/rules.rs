//! The table of `tests/cel`: for every rule of every CustomResourceDefinition what it lets through and what it refuses.

use bonafide::api;
use serde::Deserialize;
use serde_json::Value;

use super::{files, merge, text};

/// The cases of one kind.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// An object that is accepted. Cases are merge patches of it.
    pub base: Value,
    /// Rules in CEL.
    pub rules: Vec<Case>,
    /// What the schema itself refuses; only an API server can tell.
    #[serde(default)]
    pub schema: Vec<Case>,
}

/// What is accepted and what is refused, for one reason.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// The field that the rule stands at: `spec.engine.env[]` for what each entry obeys; empty for the whole object.
    pub at: String,
    /// A part of the message.
    pub says: String,
    /// Whether the cases are changes of the base, which is there already.
    #[serde(default)]
    pub update: bool,
    #[serde(default)]
    pub accept: Vec<Value>,
    pub refuse: Vec<Value>,
}

/// One rule of a schema.
#[derive(Debug, PartialEq)]
pub struct Rule {
    /// As in [`Case::at`].
    pub at: String,
    /// What is said to those who break it.
    pub message: String,
    /// Where it stands in the schema, as a JSON pointer.
    pub pointer: String,
}

impl Table {
    /// All tables: the definition that each belongs to, and the table.
    pub fn all() -> Vec<(Value, Self)> {
        let definitions = api::crds();
        let expected: Vec<&str> = definitions.iter().map(|(file, _)| *file).collect();
        for file in files("tests/cel") {
            assert!(expected.contains(&file.as_str()), "tests/cel/{file} belongs to no definition: {expected:?}");
        }
        let table = |file: &str| {
            serde_saphyr::from_str(&text(format!("tests/cel/{file}"))).unwrap_or_else(|error| panic!("tests/cel/{file}: {error}"))
        };
        definitions.into_iter().map(|(file, definition)| (definition, table(file))).collect()
    }

    /// The base with a patch.
    pub fn object(&self, patch: &Value) -> Value {
        merge(&self.base, patch)
    }
}

/// The schema of the one version of a definition.
pub fn schema(definition: &Value) -> &Value {
    definition.pointer("/spec/versions/0/schema/openAPIV3Schema").unwrap()
}

/// Every rule in a schema.
pub fn rules(schema: &Value) -> Vec<Rule> {
    let mut found = Vec::new();
    collect(schema, "", "", &mut found);
    found
}

fn collect(schema: &Value, at: &str, pointer: &str, found: &mut Vec<Rule>) {
    for (index, rule) in schema["x-kubernetes-validations"].as_array().into_iter().flatten().enumerate() {
        let message = rule["message"].as_str().unwrap_or_else(|| panic!("a rule at {at:?} has no message: {rule}"));
        found.push(Rule {
            at: at.to_owned(),
            message: message.to_owned(),
            pointer: format!("{pointer}/x-kubernetes-validations/{index}/rule"),
        });
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let at = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
        collect(property, &at, &format!("{pointer}/properties/{name}"), found);
    }
    for (key, suffix) in [("items", "[]"), ("additionalProperties", "{}")] {
        if schema[key].is_object() {
            collect(&schema[key], &format!("{at}{suffix}"), &format!("{pointer}/{key}"), found);
        }
    }
}
