//! Server-side apply: what is applied is merged, what its manager applied before and does not any more is removed.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::{
    fields::{Manager, Path, Set, Step, at, has_key, key_of},
    kinds::Kind,
    refuse::Refusal,
    schema::{Shape, shape},
};

/// Who applies.
pub struct Applier<'a> {
    pub name: &'a str,
    pub subresource: &'a str,
    pub force: bool,
    pub now: Value,
}

/// What `live` becomes when `applied` is applied, with its new owners.
pub fn apply(kind: &Kind, live: &Value, applied: &Value, by: &Applier<'_>) -> Result<Value, Refusal> {
    let set = Set::of(kind, applied);
    let mut managers = Manager::all(live);
    let is_me = |manager: &Manager| manager.is(by.name, "Apply", by.subresource);
    let prior = managers.iter().find(|manager| is_me(manager)).map(|manager| manager.fields.clone()).unwrap_or_default();

    let mut conflicts = vec![];
    for manager in managers.iter_mut().filter(|manager| !is_me(manager)) {
        let theirs = |path: &&Path| {
            set.0.contains(*path) && !matches!(path.last(), Some(Step::Key(_))) && at(live, path) != at(applied, path)
        };
        let contested: Vec<Path> = manager.fields.0.iter().filter(theirs).cloned().collect();
        if by.force {
            manager.fields.0.retain(|path| !contested.contains(path));
        } else {
            conflicts.extend(contested.iter().map(|path| format!("conflict with \"{}\": {}", manager.name, said(path))));
        }
    }
    if !conflicts.is_empty() {
        let (number, which) = (conflicts.len(), conflicts.join("\n- "));
        let plural = if number == 1 { "conflict" } else { "conflicts" };
        return Err(Refusal::new(409, "Conflict", format!("Apply failed with {number} {plural}: {which}")));
    }

    let mut merged = live.clone();
    merge(kind, &mut vec![], &mut merged, applied);
    // Entries that others have something in stay.
    let owned_by_others = |path: &Path| {
        managers
            .iter()
            .filter(|manager| !is_me(manager))
            .any(|manager| manager.fields.0.iter().any(|other| other.starts_with(path)))
    };
    let mine_still = |path: &Path| set.0.iter().any(|other| other.starts_with(path));
    let gone: BTreeSet<Path> = prior.0.iter().filter(|path| !mine_still(path) && !owned_by_others(path)).cloned().collect();
    if let Some(pruned) = without(&merged, &gone.iter().map(Vec::as_slice).collect::<Vec<_>>(), Some(&set)) {
        merged = pruned;
    }

    let same = managers.iter().any(|manager| is_me(manager) && manager.fields == set);
    if !same {
        managers.retain(|manager| !is_me(manager));
        managers.push(Manager {
            name: by.name.to_owned(),
            operation: "Apply".to_owned(),
            subresource: by.subresource.to_owned(),
            fields: set,
            time: by.now.clone(),
        });
    }
    // What is not there any more belongs to nobody.
    for manager in &mut managers {
        manager.fields.0.retain(|path| at(&merged, path).is_some());
    }
    Manager::write(kind, &managers, &mut merged);
    Ok(merged)
}

fn said(path: &Path) -> String {
    path.iter()
        .map(|step| match step {
            Step::Field(name) => format!(".{name}"),
            Step::Key(key) => {
                let pairs: Map<String, Value> = serde_json::from_str(key).unwrap();
                let pairs: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
                format!("[{}]", pairs.join(","))
            }
            Step::Value(value) => format!("[={value}]"),
        })
        .collect()
}

fn merge(kind: &Kind, names: &mut Vec<String>, live: &mut Value, applied: &Value) {
    let refs: Vec<&str> = names.iter().map(String::as_str).collect();
    match (shape(kind, &refs, applied), applied) {
        (Shape::Fields, Value::Object(fields)) if live.is_object() => merge_fields(kind, names, live, fields),
        (Shape::Keyed(keys), Value::Array(items)) if live.is_array() => {
            let live = live.as_array_mut().unwrap();
            for item in items {
                let key = key_of(&keys, item);
                match live.iter_mut().find(|found| has_key(found, &key)) {
                    Some(found) => merge_fields(kind, names, found, item.as_object().unwrap()),
                    None => live.push(item.clone()),
                }
            }
        }
        (Shape::Set, Value::Array(items)) if live.is_array() => {
            let live = live.as_array_mut().unwrap();
            for item in items {
                if !live.contains(item) {
                    live.push(item.clone());
                }
            }
        }
        _ => *live = applied.clone(),
    }
}

fn merge_fields(kind: &Kind, names: &mut Vec<String>, live: &mut Value, fields: &Map<String, Value>) {
    let live = live.as_object_mut().unwrap();
    for (name, value) in fields {
        names.push(name.clone());
        merge(kind, names, live.entry(name.clone()).or_insert(Value::Null), value);
        names.pop();
    }
}

/// `value` without these paths; `None`: nothing is left. A part at the top of which nothing is left goes, but becomes null when it is
/// applied as an empty one, as with the real one.
fn without(value: &Value, paths: &[&[Step]], top: Option<&Set>) -> Option<Value> {
    if paths.is_empty() {
        return Some(value.clone());
    }
    let below = |step: &Step| -> (bool, Vec<&[Step]>) {
        let of_it: Vec<&[Step]> = paths.iter().filter(|path| path.first() == Some(step)).map(|path| &path[1..]).collect();
        (of_it.iter().any(|path| path.is_empty()), of_it.into_iter().filter(|path| !path.is_empty()).collect())
    };
    match value {
        Value::Object(map) => {
            let mut left = Map::new();
            for (name, value) in map {
                let step = Step::Field(name.clone());
                let (removed, deeper) = below(&step);
                let kept = if removed { None } else { without(value, &deeper, None) };
                match kept {
                    Some(value) => drop(left.insert(name.clone(), value)),
                    None if top.is_some_and(|applied| applied.0.contains(&vec![step])) => {
                        drop(left.insert(name.clone(), Value::Null));
                    }
                    None => {}
                }
            }
            (!left.is_empty()).then_some(Value::Object(left))
        }
        Value::Array(items) => {
            let mut left = vec![];
            for item in items {
                let key = paths.iter().filter_map(|path| path.first()).find(|step| match step {
                    Step::Key(key) => has_key(item, key),
                    Step::Value(text) => serde_json::from_str::<Value>(text).is_ok_and(|value| value == *item),
                    Step::Field(_) => false,
                });
                match key {
                    None => left.push(item.clone()),
                    Some(step) => {
                        let (removed, deeper) = below(step);
                        if !removed {
                            left.extend(without(item, &deeper, None));
                        }
                    }
                }
            }
            (!left.is_empty()).then_some(Value::Array(left))
        }
        value => Some(value.clone()),
    }
}
