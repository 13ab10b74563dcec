//! The volumes of a pod.

use serde_json::{Value, json};

use super::{PodInput, RevisionInput, child_name};

/// The engine's writable directories: the name of the volume and the path.
pub(super) fn writable_directories<'a>(input: &PodInput<'a>) -> impl Iterator<Item = (String, &'a str)> {
    let rendered = input.of.rendered;
    let shm = rendered.shm.then(|| ("shm".to_owned(), "/dev/shm"));
    rendered.writable.iter().enumerate().map(|(at, writable)| (format!("writable-{at}"), writable.path.as_str())).chain(shm)
}

pub(super) fn volumes(input: &PodInput<'_>) -> Vec<Value> {
    let RevisionInput { deployment, spec, .. } = *input.of;
    let mut volumes = vec![
        json!({ "name": "weights", "emptyDir": {} }),
        json!({ "name": "bin", "emptyDir": {} }),
        json!({ "name": "config", "configMap": { "name": child_name(deployment, input.revision), "defaultMode": 0o444 } }),
    ];
    if let Some(secret) = &spec.model.secret_ref {
        volumes.push(json!({ "name": "credentials", "secret": { "secretName": secret.name, "defaultMode": 0o440 } }));
    }
    volumes.extend(writable_directories(input).map(|(name, _)| {
        let medium = if name == "shm" { json!({ "medium": "Memory" }) } else { json!({}) };
        json!({ "name": name, "emptyDir": medium })
    }));
    volumes
}
