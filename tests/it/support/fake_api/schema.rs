//! What the API server knows of the shape of objects: which lists have keys, what is pruned, defaulted and refused.

use std::{
    collections::HashMap,
    sync::{LazyLock, Mutex},
};

use kube::core::cel::Validator;
use serde_json::{Map, Value};

use super::{kinds::Kind, refuse::Refusal};

/// How a value is merged.
#[derive(Debug, PartialEq)]
pub enum Shape {
    /// As a whole.
    Atom,
    /// Field by field.
    Fields,
    /// Entry by entry, by these keys.
    Keyed(Vec<String>),
    /// Value by value.
    Set,
}

/// The shape of what stands at a path of field names (entries of lists do not count).
pub fn shape(kind: &Kind, path: &[&str], value: &Value) -> Shape {
    let keyed = |keys: &[&str]| Shape::Keyed(keys.iter().map(|key| (*key).to_owned()).collect());
    match (path, value) {
        (["metadata", "ownerReferences"], Value::Array(_)) => return keyed(&["uid"]),
        (["metadata", "finalizers"], Value::Array(_)) => return Shape::Set,
        (_, Value::Object(_) | Value::Array(_)) => {}
        _ => return Shape::Atom,
    }
    if let (Some(schema), false) = (&kind.schema, path.first() == Some(&"metadata")) {
        return of_schema(schema, path, value);
    }
    match (path, value) {
        (["spec", "selector"], _) | (["data"], Value::Object(_)) if kind.kind != "ConfigMap" && kind.kind != "Secret" => {
            Shape::Atom
        }
        ([.., "nodeSelector"], _) => Shape::Atom,
        (_, Value::Object(_)) => Shape::Fields,
        ([.., "containers" | "initContainers" | "ephemeralContainers", "ports"], _) => keyed(&["containerPort", "protocol"]),
        (["spec", "ports"], _) => keyed(&["port", "protocol"]),
        (
            [
                ..,
                "containers"
                | "initContainers"
                | "ephemeralContainers"
                | "volumes"
                | "env"
                | "imagePullSecrets"
                | "schedulingGates",
            ],
            _,
        ) => keyed(&["name"]),
        ([.., "volumeMounts"], _) => keyed(&["mountPath"]),
        (["status", "conditions"], _) => keyed(&["type"]),
        _ => Shape::Atom,
    }
}

fn of_schema(schema: &Value, path: &[&str], value: &Value) -> Shape {
    let Some(schema) = path.iter().try_fold(schema, |schema, name| below(schema, name)) else { return Shape::Atom };
    match value {
        Value::Object(_) if schema["x-kubernetes-map-type"] == "atomic" => Shape::Atom,
        Value::Object(_) => Shape::Fields,
        _ => match schema["x-kubernetes-list-type"].as_str() {
            Some("map") => {
                let keys = schema["x-kubernetes-list-map-keys"].as_array().into_iter().flatten();
                Shape::Keyed(keys.filter_map(Value::as_str).map(str::to_owned).collect())
            }
            Some("set") => Shape::Set,
            _ => Shape::Atom,
        },
    }
}

/// The schema of a field, through the entries of a list.
fn below<'a>(schema: &'a Value, name: &str) -> Option<&'a Value> {
    let schema = if schema["items"].is_object() { &schema["items"] } else { schema };
    schema["properties"].get(name).or_else(|| schema.get("additionalProperties").filter(|more| more.is_object()))
}

/// Prunes, defaults and checks an object of ours as it is about to be stored.
pub fn admit(kind: &Kind, object: &mut Value, old: Option<&Value>) -> Result<(), Refusal> {
    let Some(schema) = &kind.schema else { return Ok(()) };
    prune_and_default(schema, object, true);
    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let changed = old.is_none_or(|old| old.get("spec") != object.get("spec"));
    let parts: &[&str] = if changed { &["spec", "status"] } else { &["status"] };
    for part in parts {
        if let (Some(schema), Some(value)) = (schema["properties"].get(*part), object.get(*part)) {
            check(schema, value, part).map_err(|why| Refusal::invalid(kind, &name, &why))?;
        } else if schema["required"].as_array().is_some_and(|required| required.contains(&(*part).into())) {
            return Err(Refusal::invalid(kind, &name, &format!("{part}: Required value")));
        }
    }
    if changed { obey(kind, schema, object, old).map_err(|why| Refusal::invalid(kind, &name, &why)) } else { Ok(()) }
}

/// Whether an object obeys the rules of its definition. Rules are slow, and runs ask the same again and again.
fn obey(kind: &Kind, schema: &Value, object: &Value, old: Option<&Value>) -> Result<(), String> {
    static KNOWN: LazyLock<Mutex<HashMap<String, Result<(), String>>>> = LazyLock::new(Mutex::default);
    let key = format!(
        "{} {} {} {}",
        kind.kind,
        object["metadata"]["name"],
        object["spec"],
        old.map(|old| old["spec"].to_string()).unwrap_or_default()
    );
    if let Some(known) = KNOWN.lock().unwrap().get(&key) {
        return known.clone();
    }
    let found = Validator::new().validate(schema, object, old);
    let found = found.map_err(|errors| errors.iter().map(|error| error.message.clone()).collect::<Vec<_>>().join("; "));
    KNOWN.lock().unwrap().insert(key, found.clone());
    found
}

fn prune_and_default(schema: &Value, value: &mut Value, top: bool) {
    match value {
        Value::Object(map) if schema["properties"].is_object() => {
            let system = |key: &str| top && ["apiVersion", "kind", "metadata"].contains(&key);
            let known = |key: &String| system(key) || schema["properties"].get(key).is_some();
            if schema["x-kubernetes-preserve-unknown-fields"] != true {
                map.retain(|key, _| known(key));
            }
            for (name, property) in schema["properties"].as_object().unwrap() {
                if system(name) {
                    continue;
                }
                let lacking = map.get(name).is_none_or(|value| value.is_null() && property["nullable"] != true);
                if let (true, Some(default)) = (lacking, property.get("default")) {
                    map.insert(name.clone(), default.clone());
                }
                if let Some(value) = map.get_mut(name) {
                    prune_and_default(property, value, false);
                }
            }
        }
        Value::Object(map) if schema["additionalProperties"].is_object() => {
            map.values_mut().for_each(|value| prune_and_default(&schema["additionalProperties"], value, false));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| prune_and_default(&schema["items"], item, false)),
        _ => {}
    }
}

fn check(schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    if schema["x-kubernetes-int-or-string"] == true || (value.is_null() && schema["nullable"] == true) {
        return Ok(());
    }
    let is = match schema["type"].as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("number") => value.is_number(),
        _ => true,
    };
    if !is {
        return Err(format!("{at}: Invalid value: must be of type {}", schema["type"]));
    }
    if schema["enum"].as_array().is_some_and(|allowed| !allowed.contains(value)) {
        return Err(format!("{at}: Unsupported value: {value}"));
    }
    let number = |key: &str| schema[key].as_f64();
    let within = |found: f64, least: &str, most: &str| {
        number(least).is_none_or(|least| found >= least) && number(most).is_none_or(|most| found <= most)
    };
    let size = |length: usize| f64::from(u32::try_from(length).unwrap());
    let fits = match value {
        Value::Number(found) => within(found.as_f64().unwrap(), "minimum", "maximum"),
        Value::String(found) => within(size(found.chars().count()), "minLength", "maxLength"),
        Value::Array(found) => within(size(found.len()), "minItems", "maxItems"),
        _ => true,
    };
    if !fits {
        return Err(format!("{at}: Invalid value: out of bounds"));
    }
    match value {
        Value::Object(map) => {
            for required in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                if !map.contains_key(required) {
                    return Err(format!("{at}.{required}: Required value"));
                }
            }
            let each = |(key, value): (&String, &Value)| {
                below(schema, key).map_or(Ok(()), |schema| check(schema, value, &format!("{at}.{key}")))
            };
            map.iter().try_for_each(each)
        }
        Value::Array(items) => {
            items.iter().enumerate().try_for_each(|(index, item)| check(&schema["items"], item, &format!("{at}[{index}]")))
        }
        _ => Ok(()),
    }
}

/// Built-in kinds are structs: what is null or empty is not there.
pub fn without_nothing(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.values_mut().for_each(without_nothing);
            map.retain(|_, value| !value.is_null());
        }
        Value::Array(items) => items.iter_mut().for_each(without_nothing),
        _ => {}
    }
}

/// An object from its parts.
pub fn object_mut(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    value.as_object_mut().unwrap()
}
