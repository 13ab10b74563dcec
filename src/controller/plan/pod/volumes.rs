//! The volumes of a pod.

use serde_json::{Value, json};

use super::{
    PodInput, RevisionInput, child_name, place,
    quantity::{half, memory},
};
use crate::api::ExtraVolume;

/// The most that `/dev/shm` may hold, when nothing says how much memory there is.
const SHARED_MEMORY: &str = "16Gi";

/// The engine's writable directories: the name of the volume and the path.
pub(super) fn writable_directories<'a>(input: &PodInput<'a>) -> impl Iterator<Item = (String, &'a str)> {
    let rendered = input.of.rendered;
    let shm = rendered.shm.then(|| ("shm".to_owned(), "/dev/shm"));
    rendered.writable.iter().enumerate().map(|(at, writable)| (format!("writable-{at}"), writable.path.as_str())).chain(shm)
}

pub(super) fn volumes(input: &PodInput<'_>) -> Vec<Value> {
    let RevisionInput { deployment, spec, .. } = *input.of;
    let mut volumes = vec![
        place::volume(input.of),
        json!({ "name": "bin", "emptyDir": {} }),
        json!({ "name": "config", "configMap": { "name": child_name(deployment, input.revision), "defaultMode": 0o444 } }),
    ];
    if let Some(secret) = &spec.model.secret_ref {
        volumes.push(json!({ "name": "credentials", "secret": { "secretName": secret.name, "defaultMode": 0o440 } }));
    }
    volumes.extend(writable_directories(input).map(|(name, _)| {
        let medium = if name == "shm" { json!({ "medium": "Memory", "sizeLimit": shared_memory(input) }) } else { json!({}) };
        json!({ "name": name, "emptyDir": medium })
    }));
    volumes.extend(spec.pod.extra_volumes.iter().map(extra_volume));
    volumes
}

/// The most that `/dev/shm` may hold. It counts against the memory of the container that writes there.
fn shared_memory(input: &PodInput<'_>) -> String {
    let resources = &input.of.spec.resources;
    let half = || resources.memory.as_deref().and_then(half).unwrap_or_else(|| SHARED_MEMORY.to_owned());
    resources.shared_memory.as_deref().map_or_else(half, memory)
}

/// No name of an extra volume is one of ours.
fn extra_name(volume: &ExtraVolume) -> String {
    format!("extra-{}", volume.name)
}

fn extra_volume(volume: &ExtraVolume) -> Value {
    let mut found = json!({ "name": extra_name(volume) });
    let sources = [
        (
            "emptyDir",
            volume.empty_dir.as_ref().map(|dir| {
                let mut dir = dir.clone();
                dir.size_limit = dir.size_limit.as_deref().map(memory);
                json!(dir)
            }),
        ),
        ("configMap", volume.config_map.as_ref().map(|map| json!({ "name": map.name, "defaultMode": 0o444 }))),
        ("secret", volume.secret.as_ref().map(|secret| json!({ "secretName": secret.secret_name, "defaultMode": 0o440 }))),
        ("persistentVolumeClaim", volume.persistent_volume_claim.as_ref().map(|claim| json!(claim))),
    ];
    if let Some(found) = found.as_object_mut() {
        found.extend(sources.into_iter().filter_map(|(kind, source)| Some((kind.to_owned(), source?))));
    }
    found
}

/// Where the engine sees an extra volume.
pub(super) fn extra_mount(volume: &ExtraVolume) -> Value {
    let mut mount = json!({ "name": extra_name(volume), "mountPath": volume.mount_path });
    if let (true, Some(mount)) = (volume.read_only.unwrap_or(volume.empty_dir.is_none()), mount.as_object_mut()) {
        mount.insert("readOnly".to_owned(), json!(true));
    }
    mount
}
