//! The pod template of a revision.
//!
//! Every field that the API server would default is written out. So what we wrote is exactly what stands there, and anything
//! else was put there by somebody else.

use serde_json::{Map, Value, json};

use super::{names::child_name, revision::RevisionInput, volumes};
use crate::api::{GATE, LABEL_DEPLOYMENT, LABEL_REVISION, Toleration, VOUCHED};

/// The init container that fetches and verifies the weights.
pub const CONTAINER_FETCH: &str = "fetch";
/// The container of the engine.
pub const CONTAINER_ENGINE: &str = "engine";

/// Where the engine finds the weights.
pub const MODEL_PATH: &str = "/models";
/// The user and group of our containers: any that is not root will do.
const USER: i64 = 65532;
/// Seconds for which an engine that is to end goes on answering: until every node knows that nothing is sent there any more.
const FAREWELL: i32 = 5;
/// Seconds between two probes while the engine loads.
const PROBE_PERIOD: i32 = 2;

/// What a pod template is made from.
pub struct PodInput<'a> {
    /// The revision's name.
    pub revision: &'a str,
    /// Everything else.
    pub of: &'a RevisionInput<'a>,
}

/// The template, complete.
pub fn pod_template(input: &PodInput<'_>) -> Value {
    let RevisionInput { deployment, spec, rendered, .. } = *input.of;
    let account = spec.pod.service_account_name.as_deref().unwrap_or("default");
    let mut pod = json!({
        "schedulingGates": [{ "name": GATE }],
        "readinessGates": [{ "conditionType": VOUCHED }],
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "serviceAccountName": account,
        "serviceAccount": account,
        "dnsPolicy": "ClusterFirst",
        "restartPolicy": "Always",
        "schedulerName": "default-scheduler",
        "terminationGracePeriodSeconds": 60,
        "securityContext": {
            "runAsNonRoot": true, "runAsUser": USER, "runAsGroup": USER, "fsGroup": USER, "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": { "type": "RuntimeDefault" },
        },
        "initContainers": [fetch(input)],
        "containers": [engine(input)],
        "volumes": volumes(input),
    });
    let mut set = |key: &str, value: Value| {
        let empty = value.as_array().is_some_and(Vec::is_empty) || value.as_object().is_some_and(Map::is_empty);
        if let (false, Some(pod)) = (empty, pod.as_object_mut()) {
            pod.insert(key.to_owned(), value);
        }
    };
    set("nodeSelector", json!(spec.pod.node_selector));
    set("imagePullSecrets", json!(spec.pod.image_pull_secrets));
    set("tolerations", spec.pod.tolerations.iter().chain(&rendered.tolerations).map(toleration).collect());
    json!({
        "metadata": { "labels": {
            "app.kubernetes.io/managed-by": "bonafide",
            LABEL_DEPLOYMENT: deployment,
            LABEL_REVISION: input.revision,
        } },
        "spec": pod,
    })
}

fn toleration(toleration: &Toleration) -> Value {
    json!(toleration)
}

/// Both containers get the restricted profile and a root file system that cannot be written.
fn security() -> Value {
    json!({
        "allowPrivilegeEscalation": false,
        "capabilities": { "drop": ["ALL"] },
        "readOnlyRootFilesystem": true,
    })
}

fn fetch(input: &PodInput<'_>) -> Value {
    let RevisionInput { spec, artifact, digest, fetch_image, pull_policy, .. } = *input.of;
    let mut args = vec![
        "fetch".to_owned(),
        format!("--source={}", artifact.source),
        format!("--revision={}", artifact.revision),
        format!("--digest={digest}"),
        "--manifest=/var/lib/bonafide/config/manifest.json".to_owned(),
        "--sources=/var/lib/bonafide/config/sources.json".to_owned(),
        "--into=/var/lib/bonafide/weights".to_owned(),
    ];
    let mut mounts = volumes::of_fetch(input.of);
    mounts.push(json!({ "name": "config", "mountPath": "/var/lib/bonafide/config", "readOnly": true }));
    if spec.model.secret_ref.is_some() {
        args.push("--credentials=/var/lib/bonafide/credentials".to_owned());
        mounts.push(json!({ "name": "credentials", "mountPath": "/var/lib/bonafide/credentials", "readOnly": true }));
    }
    json!({
        "name": CONTAINER_FETCH,
        "image": fetch_image,
        "imagePullPolicy": pull_policy,
        "args": args,
        "resources": { "requests": { "cpu": "100m", "memory": "64Mi" } },
        "securityContext": security(),
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
        "volumeMounts": mounts,
    })
}

fn engine(input: &PodInput<'_>) -> Value {
    let RevisionInput { rendered, bytes, .. } = *input.of;
    let probe = |period: i32, failures: i32| {
        json!({
            "httpGet": { "path": rendered.ready_path, "port": "http", "scheme": "HTTP" },
            "periodSeconds": period, "timeoutSeconds": 5, "successThreshold": 1, "failureThreshold": failures,
        })
    };
    let mut mounts = volumes::of_engine(input.of);
    mounts.extend(writable_directories(input).map(|(name, path)| json!({ "name": name, "mountPath": path })));
    let mut requests = if volumes::takes_room(input.of) { json!({ "ephemeral-storage": quantity(bytes) }) } else { json!({}) };
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
        if requests.as_object().is_some_and(|requests| !requests.is_empty()) {
            resources.insert("requests".to_owned(), requests);
        }
    }
    let mut container = json!({
        "name": CONTAINER_ENGINE,
        "image": rendered.image,
        "imagePullPolicy": "IfNotPresent",
        "args": rendered.args,
        "env": rendered.env.iter().map(environment).collect::<Vec<_>>(),
        "ports": [{ "name": "http", "containerPort": rendered.port, "protocol": "TCP" }],
        "lifecycle": { "preStop": { "sleep": { "seconds": FAREWELL } } },
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

/// A number as the API server writes it: 2000000 is `2M`, and 2000001 is `2000001`.
fn quantity(number: u64) -> String {
    let (mut rest, mut suffixes) = (number, ["", "k", "M", "G", "T", "P", "E"].into_iter());
    let mut suffix = suffixes.next().unwrap_or_default();
    while rest != 0
        && rest.is_multiple_of(1000)
        && let Some(greater) = suffixes.next()
    {
        (rest, suffix) = (rest / 1000, greater);
    }
    format!("{rest}{suffix}")
}

/// The API server leaves an empty value out.
fn environment(variable: &crate::api::EnvVar) -> Value {
    if variable.value.is_empty() { json!({ "name": variable.name }) } else { json!(variable) }
}

/// The engine's writable directories: the name of the volume and the path.
fn writable_directories<'a>(input: &PodInput<'a>) -> impl Iterator<Item = (String, &'a str)> {
    let rendered = input.of.rendered;
    let shm = rendered.shm.then(|| ("shm".to_owned(), "/dev/shm"));
    rendered.writable.iter().enumerate().map(|(at, writable)| (format!("writable-{at}"), writable.path.as_str())).chain(shm)
}

fn volumes(input: &PodInput<'_>) -> Vec<Value> {
    let RevisionInput { deployment, spec, .. } = *input.of;
    let mut volumes = vec![
        volumes::volume(input.of),
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

#[cfg(test)]
mod tests {
    use super::quantity;

    #[test]
    fn a_quantity_is_written_as_the_api_server_writes_it() {
        let written = [0, 1, 999, 1000, 1001, 1024, 1500, 12_000, 2_000_000_000, 2_000_000_100, 10_000_000_000_000_000_000];
        let expected = ["0", "1", "999", "1k", "1001", "1024", "1500", "12k", "2G", "2000000100", "10E"];
        assert_eq!(written.map(quantity), expected);
    }
}
