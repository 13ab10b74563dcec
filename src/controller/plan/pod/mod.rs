//! The pod template of a revision.
//!
//! Every field that the API server would default is written out. So what we wrote is exactly what stands there, and anything
//! else was put there by somebody else.

mod engine;
mod fetch;
mod quantity;
mod volumes;

use serde_json::{Map, Value, json};

use engine::engine;
use fetch::fetch;
use volumes::volumes;

use super::{names::child_name, revision::RevisionInput};
use crate::api::{Duration, GATE, LABEL_DEPLOYMENT, LABEL_REVISION, ModelDeploymentSpec, Toleration, VOUCHED};

/// The init container that fetches and verifies the weights.
pub const CONTAINER_FETCH: &str = "fetch";
/// The container of the engine.
pub const CONTAINER_ENGINE: &str = "engine";

/// Where the engine finds the weights.
pub const MODEL_PATH: &str = "/models";
/// The user and group of our containers: any that is not root will do.
const USER: i64 = 65532;
/// Where the helper program is brought to.
const HELPER_DIRECTORY: &str = "/var/lib/bonafide/bin";
/// How long a replica may go on with the requests it has, in seconds, when nobody says.
pub const DRAIN: i64 = 120;
/// Seconds that an engine has beyond that to end by itself.
const ENDING: i64 = 30;
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
        "terminationGracePeriodSeconds": drain_seconds(spec) + ENDING,
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

/// How long a replica may go on with the requests it has.
fn drain_seconds(spec: &ModelDeploymentSpec) -> i64 {
    let seconds = |drain: &Duration| i64::try_from(drain.length().as_millis().div_ceil(1000)).unwrap_or(i64::MAX);
    spec.rollout.drain.as_ref().map_or(DRAIN, seconds)
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
