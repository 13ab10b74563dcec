//! What is wrong with objects only beside each other.

use std::collections::HashMap;

use serde_json::Value;

use super::{Finding, Object};
use crate::{api::Reason, cli::yaml::Step};

/// What is to be said of objects because of others among them, by their numbers.
pub fn check(objects: &[Object<'_>]) -> HashMap<usize, Vec<Finding>> {
    let mut found: HashMap<usize, Vec<Finding>> = HashMap::new();
    let mut known: HashMap<(&str, &str, &str), &Object<'_>> = HashMap::new();
    let mut served: HashMap<(&str, &str), &Object<'_>> = HashMap::new();
    let named = objects.iter().enumerate().filter(|(_, object)| object.is_ours() && !object.text("/metadata/name").is_empty());
    for (number, object) in named {
        let (kind, name) = (object.text("/kind"), object.text("/metadata/name"));
        let of_the_cluster = ["ClusterModelPolicy", "InferenceEngine"].contains(&kind);
        let namespace = if of_the_cluster { "" } else { object.text("/metadata/namespace") };
        let mut say = |path: Vec<Step>, message: String, next: &str| {
            let finding = Finding { path, message, next: Some(next.to_owned()) };
            found.entry(number).or_default().push(finding);
        };
        if let Some(other) = known.get(&(kind, namespace, name)) {
            let message = format!("Duplicate value: {name:?}: {} is another {kind} of that name", place(other));
            say(steps(&["metadata", "name"]), message, "rename one of the two, or remove the one that is not needed");
            continue;
        }
        known.insert((kind, namespace, name), object);
        let names = object.value.pointer("/spec/model/servedNames").and_then(Value::as_array);
        for (index, claimed) in names.into_iter().flatten().enumerate().filter(|_| kind == "ModelDeployment") {
            let Some(claimed) = claimed.as_str() else { continue };
            let other = *served.entry((namespace, claimed)).or_insert(object);
            if std::ptr::eq(other, object) {
                continue;
            }
            let holder = other.text("/metadata/name");
            let of = if namespace.is_empty() { "the same namespace".to_owned() } else { format!("namespace {namespace}") };
            let message = format!("ModelDeployment {holder} of {of} claims {claimed} too ({})", place(other));
            let mut path = steps(&["spec", "model", "servedNames"]);
            path.push(Step::Index(index));
            let next = format!("give one of them another name with spec.model.servedNames, or remove {holder}");
            say(path, format!("{}: {message}", Reason::NameTaken), &next);
        }
    }
    found
}

fn steps(names: &[&str]) -> Vec<Step> {
    names.iter().map(|name| Step::Key((*name).to_owned())).collect()
}

/// `FILE:LINE` of an object.
fn place(object: &Object<'_>) -> String {
    format!("{}:{}", super::name(object.file), object.node.place.line)
}
