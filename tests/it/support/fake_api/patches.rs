//! JSON patches, merge patches, and as much of strategic merge patches as conditions need.

use serde_json::{Map, Value};

use super::{
    kinds::Kind,
    refuse::Refusal,
    schema::{Shape, shape},
};
use crate::support::merge;

/// What `object` becomes.
pub fn patched(kind: &Kind, content_type: &str, object: &Value, patch: &Value) -> Result<Value, Refusal> {
    match content_type.split(';').next().unwrap_or_default() {
        "application/merge-patch+json" => Ok(merge(object, patch)),
        "application/strategic-merge-patch+json" if kind.schema.is_some() => Err(Refusal::new(
            415,
            "UnsupportedMediaType",
            "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, \
             application/merge-patch+json, application/apply-patch+yaml",
        )),
        "application/strategic-merge-patch+json" => {
            let mut patched = object.clone();
            strategic(kind, &mut vec![], &mut patched, patch);
            Ok(patched)
        }
        "application/json-patch+json" => {
            let operations: json_patch::Patch =
                serde_json::from_value(patch.clone()).map_err(|error| Refusal::bad(format!("cannot be read: {error}")))?;
            let mut patched = object.clone();
            json_patch::patch(&mut patched, &operations).map_err(|error| {
                let message = format!("the server rejected our request due to an error in our request: {error}");
                Refusal::new(422, "Invalid", message)
            })?;
            Ok(patched)
        }
        other => Err(Refusal::new(415, "UnsupportedMediaType", format!("no patch is of type {other}"))),
    }
}

fn strategic(kind: &Kind, names: &mut Vec<String>, live: &mut Value, patch: &Value) {
    let refs: Vec<&str> = names.iter().map(String::as_str).collect();
    let patch_shape = shape(kind, &refs, patch);
    match (patch_shape, patch) {
        (_, Value::Object(fields)) => {
            if !live.is_object() {
                *live = Value::Object(Map::new());
            }
            let live = live.as_object_mut().unwrap();
            for (name, value) in fields {
                if value.is_null() {
                    live.remove(name);
                    continue;
                }
                names.push(name.clone());
                strategic(kind, names, live.entry(name.clone()).or_insert(Value::Null), value);
                names.pop();
            }
        }
        (Shape::Keyed(keys), Value::Array(items)) if live.is_array() => {
            let live = live.as_array_mut().unwrap();
            for item in items {
                let same = |found: &&mut Value| keys.iter().all(|key| found.get(key) == item.get(key));
                match live.iter_mut().find(same) {
                    Some(found) => strategic(kind, names, found, item),
                    // New entries come first.
                    None => live.insert(0, item.clone()),
                }
            }
        }
        _ => *live = patch.clone(),
    }
}
