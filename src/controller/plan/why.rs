//! Why a new revision is necessary, in a sentence: nobody's pods are restarted without one.

use serde_json::{Value, json};

use crate::api::ModelDeploymentSpec;

/// The longest reason, in characters.
const LONGEST: usize = 600;
/// So many changes are named; of more, only how many.
const NAMED: usize = 4;

/// What a revision is made from, as far as its author says it.
pub fn spec_of(spec: &ModelDeploymentSpec) -> Value {
    let mut made_of = json!({ "model": spec.model, "engine": spec.engine, "resources": spec.resources, "pod": spec.pod });
    // The one part of a rollout that stands in pods.
    if let (Some(drain), Some(made_of)) = (&spec.rollout.drain, made_of.as_object_mut()) {
        made_of.insert("rollout".to_owned(), json!({ "drain": drain }));
    }
    made_of
}

/// What was there before.
#[derive(Debug, Clone, Copy)]
pub struct Before<'a> {
    /// What it was made from; `None` when that was not noted.
    pub spec: Option<&'a Value>,
    /// Its commit.
    pub commit: &'a str,
    /// Its artifact.
    pub artifact: &'a str,
}

/// Why there is a revision of `artifact` at `commit` from `spec`, after `before`.
pub fn reason(before: Option<Before<'_>>, spec: &Value, commit: &str, artifact: &str) -> String {
    let Some(before) = before else { return "It is the first revision.".to_owned() };
    let mut changes = Vec::new();
    match before.spec {
        Some(old) => compare(old, spec, "spec", &mut changes),
        None => changes.push("the spec is another one; what it was before was not noted".to_owned()),
    }
    let of_source = before.spec.is_some_and(|old| old.pointer("/model/source") == spec.pointer("/model/source"));
    if of_source && before.commit != commit {
        let named = spec.pointer("/model/revision").and_then(Value::as_str);
        let what = named.map_or_else(|| "the source's default branch".to_owned(), |name| format!("the revision {name}"));
        changes.push(format!("{what} moved from {} to {}", short(before.commit), short(commit)));
    } else if changes.is_empty() && before.artifact != artifact {
        changes.push(format!("at {} the source has other files or signatures than before", short(commit)));
    }
    // What an earlier release did not note.
    if changes.is_empty() {
        changes.push("something of the spec that was not noted before became another".to_owned());
    }
    let more = changes.len().saturating_sub(NAMED);
    changes.truncate(NAMED);
    if more > 0 {
        changes.push(format!("and {more} more"));
    }
    changes.join("; ").chars().take(LONGEST).collect()
}

fn compare(old: &Value, new: &Value, path: &str, changes: &mut Vec<String>) {
    match (old, new) {
        (old, new) if old == new => {}
        (Value::Object(old), Value::Object(new)) => {
            let mut keys: Vec<&String> = old.keys().chain(new.keys()).collect();
            keys.sort();
            keys.dedup();
            for key in keys {
                let of = |map: &serde_json::Map<String, Value>| map.get(key).cloned().unwrap_or_default();
                compare(&of(old), &of(new), &format!("{path}.{key}"), changes);
            }
        }
        // Of a list, what is different; not what stays.
        (Value::Array(old), Value::Array(new)) => {
            let without = |list: &[Value], others: &[Value]| -> Vec<String> {
                list.iter().filter(|item| !others.contains(item)).map(brief).collect()
            };
            let (gone, come) = (without(old, new), without(new, old));
            changes.push(match (gone.as_slice(), come.as_slice()) {
                ([], []) => format!("{path}: the order is another"),
                ([], come) => format!("{path}: {} was added", come.join(" ")),
                (gone, []) => format!("{path}: {} was removed", gone.join(" ")),
                (gone, come) => format!("{path}: {} became {}", gone.join(" "), come.join(" ")),
            });
        }
        (Value::Null, Value::Object(_)) => compare(&json!({}), new, path, changes),
        (Value::Object(_), Value::Null) => compare(old, &json!({}), path, changes),
        (Value::Null, new) => changes.push(format!("{path}: {} was added", brief(new))),
        (old, Value::Null) => changes.push(format!("{path}: {} was removed", brief(old))),
        (old, new) => changes.push(format!("{path}: {} became {}", brief(old), brief(new))),
    }
}

fn brief(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    if text.chars().count() > 80 { format!("{}…", text.chars().take(80).collect::<String>()) } else { text }
}

fn short(commit: &str) -> String {
    commit.chars().take(7).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_names_the_field_and_both_values() {
        let old = json!({ "model": { "source": "hf://a/B", "revision": "main" }, "engine": { "args": ["--threads=2", "--numa=x"] }, "resources": {} });
        let before = Before { spec: Some(&old), commit: "12fd25fffff", artifact: "a" };
        let after = |change: &dyn Fn(&mut Value), commit: &str, artifact: &str| {
            let mut new = old.clone();
            change(&mut new);
            reason(Some(before), &new, commit, artifact)
        };
        let same = "12fd25fffff";
        assert_eq!(
            after(&|v| v["engine"]["args"][0] = json!("--threads=4"), same, "a"),
            "spec.engine.args: --threads=2 became --threads=4"
        );
        assert_eq!(after(&|v| v["engine"]["contextLength"] = json!(512), same, "a"), "spec.engine.contextLength: 512 was added");
        assert_eq!(
            after(&|v| v["engine"] = json!({}), same, "a"),
            "spec.engine.args: [\"--threads=2\",\"--numa=x\"] was removed"
        );
        assert_eq!(
            after(&|v| v["resources"] = json!({ "accelerator": { "class": "nvidia" } }), same, "a"),
            "spec.resources.accelerator.class: nvidia was added"
        );
        assert_eq!(after(&|_| {}, "9ab9ab9ab9ab", "b"), "the revision main moved from 12fd25f to 9ab9ab9");
        assert_eq!(after(&|_| {}, same, "b"), "at 12fd25f the source has other files or signatures than before");
        assert_eq!(after(&|v| v["model"]["source"] = json!("hf://a/C"), "9", "c"), "spec.model.source: hf://a/B became hf://a/C");
        assert_eq!(after(&|v| v["rollout"] = json!({ "drain": "7s" }), same, "a"), "spec.rollout.drain: 7s was added");
        assert!(after(&|_| {}, same, "a").contains("was not noted"), "never nothing");
        assert_eq!(reason(None, &old, same, "a"), "It is the first revision.");
        let unknown = Before { spec: None, ..before };
        assert!(reason(Some(unknown), &old, same, "a").contains("was not noted"));
    }
}
