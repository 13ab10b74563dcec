//! Sets of fields, and who owns them: `metadata.managedFields`.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::{
    kinds::Kind,
    schema::{Shape, shape},
};

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// `f:name`
    Field(String),
    /// `k:{"name":"engine"}`
    Key(String),
    /// `v:"value"`
    Value(String),
}

pub type Path = Vec<Step>;

/// Paths to leaves, and to entries of lists.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Set(pub BTreeSet<Path>);

/// Fields that nobody owns.
const OF_THE_SYSTEM: [&str; 11] = [
    "name",
    "generateName",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "managedFields",
    "selfLink",
];

impl Set {
    /// The fields that `object` has.
    pub fn of(kind: &Kind, object: &Value) -> Self {
        let mut set = Self::default();
        collect(kind, object, &mut vec![], &mut vec![], &mut set.0);
        set.0.retain(|path| match path.as_slice() {
            [Step::Field(top)] => !["apiVersion", "kind", "metadata"].contains(&top.as_str()),
            [Step::Field(top), Step::Field(field), ..] => top != "metadata" || !OF_THE_SYSTEM.contains(&field.as_str()),
            _ => true,
        });
        set
    }

    /// The fields that are new or other in `after`, and those that are gone.
    pub fn changes(kind: &Kind, before: &Value, after: &Value) -> (Self, Self) {
        let (old, new) = (Self::of(kind, before), Self::of(kind, after));
        let is_other = |path: &&Path| !old.0.contains(*path) || at(before, path) != at(after, path);
        let entry = |path: &Path| matches!(path.last(), Some(Step::Key(_)));
        let changed = new.0.iter().filter(is_other).filter(|path| !(entry(path) && old.0.contains(*path))).cloned().collect();
        (Self(changed), Self(old.0.difference(&new.0).cloned().collect()))
    }

    /// `FieldsV1`
    pub fn to_json(&self) -> Value {
        let mut root = Map::new();
        for path in &self.0 {
            let mut node = &mut root;
            for (index, step) in path.iter().enumerate() {
                let name = match step {
                    Step::Field(name) => format!("f:{name}"),
                    Step::Key(key) => format!("k:{key}"),
                    Step::Value(value) => format!("v:{value}"),
                };
                node = node.entry(name).or_insert_with(|| json!({})).as_object_mut().unwrap();
                if index + 1 == path.len() && matches!(step, Step::Key(_)) {
                    node.insert(".".to_owned(), json!({}));
                }
            }
        }
        Value::Object(root)
    }

    /// Reads `FieldsV1`.
    pub fn from_json(value: &Value) -> Self {
        fn walk(value: &Value, path: &mut Path, out: &mut BTreeSet<Path>) {
            let Some(map) = value.as_object() else { return };
            if map.is_empty() {
                out.insert(path.clone());
            }
            for (name, below) in map {
                let step = match name.split_once(':') {
                    Some(("f", name)) => Step::Field(name.to_owned()),
                    Some(("k", key)) => Step::Key(key.to_owned()),
                    Some(("v", value)) => Step::Value(value.to_owned()),
                    _ => {
                        out.insert(path.clone());
                        continue;
                    }
                };
                path.push(step);
                walk(below, path, out);
                path.pop();
            }
        }
        let mut set = Self::default();
        walk(value, &mut vec![], &mut set.0);
        set.0.remove(&vec![]);
        set
    }
}

/// The key of an entry of a list.
pub fn key_of(keys: &[String], item: &Value) -> String {
    let pairs = keys.iter().map(|key| {
        let value = item.get(key).cloned().unwrap_or_else(|| if key == "protocol" { json!("TCP") } else { Value::Null });
        (key.clone(), value)
    });
    Value::Object(pairs.collect()).to_string()
}

fn collect(kind: &Kind, value: &Value, names: &mut Vec<String>, path: &mut Path, out: &mut BTreeSet<Path>) {
    let refs: Vec<&str> = names.iter().map(String::as_str).collect();
    match (shape(kind, &refs, value), value) {
        (Shape::Fields, Value::Object(map)) if !map.is_empty() => {
            for (name, value) in map {
                names.push(name.clone());
                path.push(Step::Field(name.clone()));
                collect(kind, value, names, path, out);
                path.pop();
                names.pop();
            }
        }
        (Shape::Keyed(keys), Value::Array(items)) if !items.is_empty() => {
            for item in items {
                path.push(Step::Key(key_of(&keys, item)));
                out.insert(path.clone());
                for (name, value) in item.as_object().into_iter().flatten() {
                    names.push(name.clone());
                    path.push(Step::Field(name.clone()));
                    collect(kind, value, names, path, out);
                    path.pop();
                    names.pop();
                }
                path.pop();
            }
        }
        (Shape::Set, Value::Array(items)) if !items.is_empty() => {
            for item in items {
                path.push(Step::Value(item.to_string()));
                out.insert(path.clone());
                path.pop();
            }
        }
        _ => {
            out.insert(path.clone());
        }
    }
}

/// Whether an entry has this key.
pub fn has_key(item: &Value, key: &str) -> bool {
    let key: Map<String, Value> = serde_json::from_str(key).unwrap();
    let same = |(name, value): (&String, &Value)| match item.get(name) {
        Some(found) => found == value,
        None => value.is_null() || (name == "protocol" && value == "TCP"),
    };
    key.iter().all(same)
}

/// What stands at a path.
pub fn at<'a>(value: &'a Value, path: &[Step]) -> Option<&'a Value> {
    path.iter().try_fold(value, |value, step| match step {
        Step::Field(name) => value.get(name),
        Step::Key(key) => value.as_array()?.iter().find(|item| has_key(item, key)),
        Step::Value(text) => {
            value.as_array()?.iter().find(|item| serde_json::from_str::<Value>(text).is_ok_and(|value| value == **item))
        }
    })
}

/// Who owns which fields.
#[derive(Debug, Clone, PartialEq)]
pub struct Manager {
    pub name: String,
    /// `Apply` or `Update`.
    pub operation: String,
    /// `status`, or empty.
    pub subresource: String,
    pub fields: Set,
    pub time: Value,
}

impl Manager {
    pub fn is(&self, name: &str, operation: &str, subresource: &str) -> bool {
        self.name == name && self.operation == operation && self.subresource == subresource
    }

    /// All of an object's.
    pub fn all(object: &Value) -> Vec<Self> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let entries = object["metadata"]["managedFields"].as_array().into_iter().flatten();
        let read = |entry: &Value| Self {
            name: text(&entry["manager"]),
            operation: text(&entry["operation"]),
            subresource: text(&entry["subresource"]),
            fields: Set::from_json(&entry["fieldsV1"]),
            time: entry["time"].clone(),
        };
        entries.map(read).collect()
    }

    /// Writes them into an object.
    pub fn write(kind: &Kind, managers: &[Self], object: &mut Value) {
        let entry = |manager: &Self| {
            let mut entry = json!({
                "manager": manager.name, "operation": manager.operation, "apiVersion": kind.api_version(), "time": manager.time,
                "fieldsType": "FieldsV1", "fieldsV1": manager.fields.to_json(),
            });
            if !manager.subresource.is_empty() {
                entry["subresource"] = json!(manager.subresource);
            }
            entry
        };
        let metadata = object["metadata"].as_object_mut().unwrap();
        let entries: Vec<Value> = managers.iter().filter(|manager| !manager.fields.0.is_empty()).map(entry).collect();
        if entries.is_empty() {
            metadata.remove("managedFields");
        } else {
            metadata.insert("managedFields".to_owned(), Value::Array(entries));
        }
    }
}

/// The owners after an update: who changed a field owns it alone.
pub fn after_update(kind: &Kind, before: &Value, after: &Value, name: &str, subresource: &str, now: &Value) -> Vec<Manager> {
    let (changed, gone) = Set::changes(kind, before, after);
    let mut managers = Manager::all(before);
    if changed.0.is_empty() && gone.0.is_empty() {
        return managers;
    }
    for manager in &mut managers {
        manager.fields.0.retain(|path| !changed.0.contains(path) && !gone.0.contains(path));
    }
    match managers.iter_mut().find(|manager| manager.is(name, "Update", subresource)) {
        Some(manager) => {
            manager.fields.0.extend(changed.0);
            manager.time = now.clone();
        }
        None => managers.push(Manager {
            name: name.to_owned(),
            operation: "Update".to_owned(),
            subresource: subresource.to_owned(),
            fields: changed,
            time: now.clone(),
        }),
    }
    managers
}
