//! The container of the engine.

use serde_json::{Value, json};

use super::{
    CONTAINER_ENGINE, HELPER_DIRECTORY, MODEL_PATH, PROBE_PERIOD, PodInput, RevisionInput, drain_seconds, quantity::quantity,
    security, volumes::writable_directories,
};

/// The helper program's name.
const HELPER: &str = "bonafide-helper";

/// The container.
pub(super) fn engine(input: &PodInput<'_>) -> Value {
    let RevisionInput { rendered, bytes, .. } = *input.of;
    let probe = |period: i32, failures: i32| {
        json!({
            "httpGet": { "path": rendered.ready_path, "port": "http", "scheme": "HTTP" },
            "periodSeconds": period, "timeoutSeconds": 5, "successThreshold": 1, "failureThreshold": failures,
        })
    };
    let mut mounts = vec![json!({ "name": "weights", "mountPath": MODEL_PATH, "subPath": "tree", "readOnly": true })];
    mounts.push(json!({ "name": "bin", "mountPath": HELPER_DIRECTORY, "readOnly": true }));
    mounts.extend(writable_directories(input).map(|(name, path)| json!({ "name": name, "mountPath": path })));
    let mut requests = json!({ "ephemeral-storage": quantity(bytes) });
    let mut resources = json!({});
    for (resource, count) in &rendered.resources {
        if let (Some(requests), Some(resources)) = (requests.as_object_mut(), resources.as_object_mut()) {
            requests.insert(resource.clone(), json!(count));
            resources
                .entry("limits")
                .or_insert_with(|| json!({}))
                .as_object_mut()
                .map(|limits| limits.insert(resource.clone(), json!(count)));
        }
    }
    if let Some(resources) = resources.as_object_mut() {
        resources.insert("requests".to_owned(), requests);
    }
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
        "resources": resources,
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
