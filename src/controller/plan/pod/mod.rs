//! The pod template of a revision.
//!
//! Every field that the API server would default is written out. So what we wrote is exactly what stands there, and anything
//! else was put there by somebody else.

mod engine;
mod fetch;
mod place;
mod placement;
mod quantity;
mod volumes;

use serde_json::{Value, json};

pub use place::{MAX_IN_PLACE, assurance, assurance_of, too_many_in_place};

use engine::engine;
use fetch::fetch;
use placement::{metadata, placement};
use volumes::volumes;

use super::{input::RevisionInput, names::child_name};
use crate::api::{Duration, GATE, ModelDeploymentSpec, PodUser, VOUCHED};

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
    let RevisionInput { spec, .. } = *input.of;
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
        "terminationGracePeriodSeconds": drain_seconds(spec) + ENDING,
        "securityContext": pod_security(spec.pod.user),
        "initContainers": [fetch(input)],
        "containers": [engine(input)],
        "volumes": volumes(input),
    });
    if let Some(pod) = pod.as_object_mut() {
        pod.extend(placement(input));
        if !spec.pod.image_pull_secrets.is_empty() {
            pod.insert("imagePullSecrets".to_owned(), json!(spec.pod.image_pull_secrets));
        }
    }
    json!({ "metadata": metadata(input), "spec": pod })
}

/// What holds for all containers. A user that the cluster assigns is written by the cluster.
pub fn pod_security(user: PodUser) -> Value {
    let mut security = json!({
        "runAsNonRoot": true, "fsGroupChangePolicy": "OnRootMismatch", "seccompProfile": { "type": "RuntimeDefault" },
    });
    if let (PodUser::Fixed, Some(security)) = (user, security.as_object_mut()) {
        security.extend(["runAsUser", "runAsGroup", "fsGroup"].map(|key| (key.to_owned(), json!(USER))));
    }
    security
}

/// How long a replica may go on with the requests it has.
fn drain_seconds(spec: &ModelDeploymentSpec) -> i64 {
    let seconds = |drain: &Duration| i64::try_from(drain.length().as_millis().div_ceil(1000)).unwrap_or(i64::MAX);
    spec.rollout.drain.as_ref().map_or(DRAIN, seconds)
}

/// Both containers get the restricted profile and a root file system that cannot be written.
fn security() -> Value {
    json!({
        "allowPrivilegeEscalation": false,
        "capabilities": { "drop": ["ALL"] },
        "readOnlyRootFilesystem": true,
    })
}
