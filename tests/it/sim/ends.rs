//! How a story ends: everything that is left, without what differs between two runs of the same story.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::world::World;
use crate::support::fake_api::kinds;

/// Every object that the manager has a hand in, by kind and name; pods by revision.
pub fn of(world: &World) -> BTreeMap<String, Value> {
    let mut ends = BTreeMap::new();
    let pods: Vec<String> = world.api.all("Pod").iter().map(|pod| pod["metadata"]["name"].as_str().unwrap().to_owned()).collect();
    for kind in
        ["ModelDeployment", "ModelArtifact", "ClusterModelPolicy", "ControllerRevision", "ConfigMap", "Service", "Deployment"]
    {
        for object in world.api.all(kind) {
            let mut end = (*object).clone();
            plain(&mut end, &pods);
            let metadata = end["metadata"].as_object_mut().unwrap();
            for field in ["uid", "resourceVersion", "creationTimestamp", "managedFields", "generation"] {
                metadata.remove(field);
            }
            for owner in metadata.get_mut("ownerReferences").and_then(Value::as_array_mut).into_iter().flatten() {
                owner.as_object_mut().unwrap().remove("uid");
            }
            if kind != "ModelDeployment" {
                end["status"].as_object_mut().map(|status| status.remove("observedGeneration"));
            }
            // Whether nobody was asked, or a policy that went again, is the same end.
            if kind == "ModelArtifact" && end["status"]["verdicts"].as_array().is_none_or(Vec::is_empty) {
                end["status"] = Value::Null;
            }
            let generation = &object["metadata"]["generation"];
            for condition in
                end["status"]["conditions"].as_array_mut().into_iter().flatten().filter(|_| kind == "ClusterModelPolicy")
            {
                condition["observedGeneration"] = json!(condition["observedGeneration"] == *generation);
            }
            if kind == "ControllerRevision" {
                notes(&mut end["metadata"]["annotations"]);
            }
            ends.insert(format!("{kind} {}", object["metadata"]["name"].as_str().unwrap()), end);
        }
    }
    for pod in world.api.all("Pod") {
        let labels = &pod["metadata"]["labels"];
        let conditions: BTreeMap<&str, &Value> = pod["status"]["conditions"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|one| !one["type"].as_str().unwrap().starts_with("PodReady"))
            .map(|one| (one["type"].as_str().unwrap(), &one["status"]))
            .collect();
        let look = json!({ "gates": pod["spec"]["schedulingGates"], "conditions": conditions });
        let key = format!("Pods {} {} {look}", labels["bonafide.dev/deployment"], labels["bonafide.dev/revision"]);
        let count = ends.get(&key).and_then(Value::as_u64).unwrap_or(0);
        ends.insert(key, json!(count + 1));
    }
    ends
}

/// What is noted of a revision, without what depends on when it was looked at: whether it was seen to answer while it was not to
/// be served, and how far the engine was just when it was given up.
fn notes(annotations: &mut Value) {
    let Some(annotations) = annotations.as_object_mut() else { return };
    annotations.remove("bonafide.dev/answered");
    if let Some(failed) = annotations.get_mut("bonafide.dev/failed") {
        let mut note: Value = serde_json::from_str(failed.as_str().unwrap()).unwrap();
        note["message"] = json!(note["message"].as_str().unwrap().split(". ").next().map(|first| first.trim_end_matches('.')));
        *failed = json!(note.to_string());
    }
}

/// What is there although nobody owns it any more.
pub fn orphans(world: &World) -> Vec<String> {
    let state = world.api.state();
    let alive: BTreeSet<&str> = state.everything().filter_map(|object| object["metadata"]["uid"].as_str()).collect();
    let ours = ["ModelArtifact", "ControllerRevision", "ConfigMap", "Service", "Deployment", "ReplicaSet", "Pod"].map(kinds::of);
    let mut orphans = vec![];
    for kind in ours {
        for object in state.all(kind, "") {
            let owners: Vec<&Value> = object["metadata"]["ownerReferences"].as_array().into_iter().flatten().collect();
            if owners.is_empty() || owners.iter().any(|owner| !alive.contains(owner["uid"].as_str().unwrap())) {
                orphans.push(format!("{} {}", kind.kind, object["metadata"]["name"]));
            }
        }
    }
    orphans
}

/// The first difference between two ends.
pub fn difference(expected: &BTreeMap<String, Value>, found: &BTreeMap<String, Value>) -> Option<String> {
    for key in expected.keys().chain(found.keys()) {
        match (expected.get(key), found.get(key)) {
            (Some(expected), Some(found)) if expected == found => {}
            (Some(expected), Some(found)) => return Some(format!("{key}: {}", first(expected, found, ""))),
            (Some(_), None) => return Some(format!("{key} is missing")),
            (None, _) => return Some(format!("{key} is there")),
        }
    }
    None
}

fn first(expected: &Value, found: &Value, at: &str) -> String {
    match (expected, found) {
        (Value::Object(a), Value::Object(b)) => {
            let key = a.keys().chain(b.keys()).find(|key| a.get(*key) != b.get(*key)).unwrap();
            let null = Value::Null;
            first(a.get(key).unwrap_or(&null), b.get(key).unwrap_or(&null), &format!("{at}/{key}"))
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            let index = a.iter().zip(b).position(|(a, b)| a != b).unwrap();
            first(&a[index], &b[index], &format!("{at}/{index}"))
        }
        _ => format!("{at} is {found} instead of {expected}"),
    }
}

/// Takes out times, and the names that pods are given.
fn plain(value: &mut Value, pods: &[String]) {
    match value {
        Value::Object(map) => {
            map.retain(|key, _| !key.ends_with("Time"));
            map.values_mut().for_each(|value| plain(value, pods));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| plain(item, pods)),
        Value::String(text) => {
            for pod in pods {
                *text = text.replace(pod.as_str(), "POD");
            }
            *text = without_ids(&without_times(&without_pods(text)));
        }
        _ => {}
    }
}

/// `bonafide-pear-f5918428-0ece01de-pqm8c` → `POD`, also when it is gone.
fn without_pods(text: &str) -> String {
    let is_pod = |word: &str| {
        let mut parts = word.rsplitn(4, '-');
        let lengths = [parts.next(), parts.next(), parts.next()].map(|part| part.map_or(0, str::len));
        lengths == [5, 8, 8] && parts.next().is_some_and(|rest| rest.starts_with("bonafide-"))
    };
    text.split(' ').map(|word| if is_pod(word) { "POD" } else { word }).collect::<Vec<_>>().join(" ")
}

/// `2031-03-01T06:00:00Z` → `TIME`
fn without_times(text: &str) -> String {
    let bytes = text.as_bytes();
    let is_time = |at: usize| {
        let shape = b"dddd-dd-ddTdd:dd:dd";
        bytes.len() >= at + shape.len()
            && shape
                .iter()
                .zip(&bytes[at..])
                .all(|(wanted, found)| if *wanted == b'd' { found.is_ascii_digit() } else { wanted == found })
    };
    let mut plain = String::new();
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        if is_time(at) {
            at += 19;
            at += text[at..].chars().take_while(|c| c.is_ascii_digit() || ".Z".contains(*c)).count();
            plain.push_str("TIME");
        } else {
            plain.push(c);
            at += c.len_utf8();
        }
    }
    plain
}

/// UIDs as the fake gives them out → `UID`
fn without_ids(text: &str) -> String {
    const BEGINS: &str = "00000000-0000-4000-8000-";
    let mut parts = text.split(BEGINS);
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        plain.push_str("UID");
        plain.push_str(part.get(12..).unwrap_or_default());
    }
    plain
}
