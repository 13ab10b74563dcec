//! The container of the engine.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    CONTAINER_ENGINE, HELPER_DIRECTORY, PROBE_PERIOD, PodInput, RevisionInput, drain_seconds, place,
    quantity::{cpu, memory, quantity},
    security,
    volumes::{extra_mount, writable_directories},
};

/// The helper program's name.
const HELPER: &str = "bonafide-helper";

/// The container.
pub(super) fn engine(input: &PodInput<'_>) -> Value {
    let RevisionInput { spec, rendered, .. } = *input.of;
    let probe = |period: i32, failures: i32| {
        json!({
            "httpGet": { "path": rendered.ready_path, "port": "http", "scheme": "HTTP" },
            "periodSeconds": period, "timeoutSeconds": 5, "successThreshold": 1, "failureThreshold": failures,
        })
    };
    let mut mounts = place::of_engine(input.of);
    mounts.push(json!({ "name": "bin", "mountPath": HELPER_DIRECTORY, "readOnly": true }));
    mounts.extend(writable_directories(input).map(|(name, path)| json!({ "name": name, "mountPath": path })));
    mounts.extend(spec.pod.extra_volumes.iter().map(extra_mount));
    let mut container = json!({
        "name": CONTAINER_ENGINE,
        "image": rendered.image,
        "imagePullPolicy": "IfNotPresent",
        "args": rendered.args,
        "env": rendered.env.iter().map(environment).collect::<Vec<_>>(),
        "ports": [{ "name": "http", "containerPort": rendered.port, "protocol": "TCP" }],
        "lifecycle": { "preStop": { "exec": { "command": drain(input) } } },
        "startupProbe": probe(PROBE_PERIOD, rendered.start_timeout_seconds.div_euclid(PROBE_PERIOD).max(1)),
        "readinessProbe": probe(5, 3),
        "resources": resources(input),
        "securityContext": security(),
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": mounts,
    });
    if let Some(container) = container.as_object_mut() {
        if !rendered.command.is_empty() {
            container.insert("command".to_owned(), json!(rendered.command));
        }
        if rendered.env.is_empty() {
            container.remove("env");
        }
    }
    container
}

/// What it gets of a node. Extended resources and memory are limits too; processors are not, since an engine that is
/// slowed down serves nobody.
fn resources(input: &PodInput<'_>) -> Value {
    let RevisionInput { spec, rendered, bytes, .. } = *input.of;
    let mut limits: BTreeMap<&str, String> =
        rendered.resources.iter().map(|(resource, count)| (resource.as_str(), count.clone())).collect();
    let extra = &spec.pod.extra_resources;
    limits.extend(extra.iter().map(|(name, count)| (name.as_str(), quantity(u64::try_from(*count).unwrap_or_default()))));
    limits.extend(spec.resources.memory.as_deref().map(|text| ("memory", memory(text))));
    let mut requests = limits.clone();
    if place::takes_room(input.of) {
        requests.insert("ephemeral-storage", quantity(bytes));
    }
    requests.extend(spec.resources.cpu.as_deref().map(|text| ("cpu", cpu(text))));
    let mut resources = json!({});
    let parts = [("limits", limits), ("requests", requests)].into_iter().filter(|(_, part)| !part.is_empty());
    if let Some(resources) = resources.as_object_mut() {
        resources.extend(parts.map(|(name, part)| (name.to_owned(), json!(part))));
    }
    resources
}

/// What runs before the engine is told to end: it ends its requests no more after that.
fn drain(input: &PodInput<'_>) -> Vec<String> {
    let RevisionInput { spec, rendered, .. } = *input.of;
    let mut command = vec![format!("{HELPER_DIRECTORY}/{HELPER}"), "drain".to_owned()];
    let mut say = |flag: &str, value: &str| command.extend([flag.to_owned(), value.to_owned()]);
    say("--port", &rendered.port.to_string());
    if let Some(path) = &rendered.metrics_path {
        say("--path", path);
    }
    for gauge in &rendered.idle_when_zero {
        say("--idle-when-zero", gauge);
    }
    say("--within", &drain_seconds(spec).to_string());
    command
}

/// The API server leaves an empty value out.
fn environment(variable: &crate::api::EnvVar) -> Value {
    if variable.value.is_empty() { json!({ "name": variable.name }) } else { json!(variable) }
}
