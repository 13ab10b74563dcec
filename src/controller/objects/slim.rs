//! The little of Pods and Deployments that we watch. Whole ones cost fifty kilobytes each in memory.

use jiff::Timestamp;
use kube::{Resource, api::ObjectMeta};
use serde::{Deserialize, Serialize};

use super::metadata::metadata;
use crate::api::ModelSignatureStatus;

/// On a pod that is to go: since when it gets no new requests.
pub const ANNOTATION_DRAINING: &str = "bonafide.dev/draining";
/// On a pod: what deleting it costs. The cheapest goes first.
pub const ANNOTATION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// A pod as far as the status and the gates need it.
#[derive(Resource, Debug, Clone, Default, Serialize, Deserialize)]
#[resource(inherit = "k8s_openapi::api::core::v1::Pod")]
pub struct SlimPod {
    /// Names, labels, owners, generation.
    #[serde(deserialize_with = "metadata")]
    pub metadata: ObjectMeta,
    /// Where it stands.
    #[serde(default)]
    pub spec: SlimPodSpec,
    /// How it is.
    #[serde(default)]
    pub status: SlimPodStatus,
}

/// See [`SlimPod`].
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SlimPodSpec {
    /// Gates that keep the scheduler away.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scheduling_gates: Vec<Named>,
    /// The node it was bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
}

/// Something that has a name.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Named {
    /// The name.
    pub name: String,
}

/// See [`SlimPod`].
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SlimPodStatus {
    /// `Pending`, `Running`, `Succeeded`, `Failed`.
    #[serde(default)]
    pub phase: String,
    /// Why, when the kubelet or the scheduler says so.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// The same in words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Its address, once it has one.
    #[serde(default, rename = "podIP", skip_serializing_if = "Option::is_none")]
    pub pod_ip: Option<String>,
    /// `PodScheduled`, `Initialized`, `ContainersReady`, `Ready` and our own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<SlimCondition>,
    /// The init containers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub init_container_statuses: Vec<SlimContainer>,
    /// The containers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub container_statuses: Vec<SlimContainer>,
}

/// A condition of a pod.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SlimCondition {
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// Why.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// The same in words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Since when its status is what it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_transition_time: Option<Timestamp>,
}

/// A container of a pod.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SlimContainer {
    /// Its name.
    pub name: String,
    /// Whether its probe is green.
    #[serde(default)]
    pub ready: bool,
    /// Whether its startup probe was green.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<bool>,
    /// How often it was started again.
    #[serde(default)]
    pub restart_count: i32,
    /// What it does now.
    #[serde(default)]
    pub state: SlimState,
    /// How it ended before.
    #[serde(default)]
    pub last_state: SlimState,
}

/// What a container does, one of three.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct SlimState {
    /// It waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<SlimWaiting>,
    /// It runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<SlimRunning>,
    /// It ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminated: Option<SlimTerminated>,
}

/// Since when a container runs.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SlimRunning {
    /// Since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
}

/// Why a container waits.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct SlimWaiting {
    /// For example `ImagePullBackOff`.
    #[serde(default)]
    pub reason: String,
    /// The same in words.
    #[serde(default)]
    pub message: String,
}

/// How a container ended.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SlimTerminated {
    /// The exit code.
    #[serde(default)]
    pub exit_code: i32,
    /// For example `OOMKilled`.
    #[serde(default)]
    pub reason: String,
    /// What it wrote to its termination log.
    #[serde(default)]
    pub message: String,
    /// When it was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
}

impl SlimPod {
    /// The condition of type `kind`.
    pub fn condition(&self, kind: &str) -> Option<&SlimCondition> {
        self.status.conditions.iter().find(|condition| condition.kind == kind)
    }

    /// Whether the condition of type `kind` is True.
    pub fn is(&self, kind: &str) -> bool {
        self.condition(kind).is_some_and(|condition| condition.status == "True")
    }

    /// Whether the pod waits for our verdict.
    pub fn is_gated(&self) -> bool {
        self.spec.scheduling_gates.iter().any(|gate| gate.name == crate::api::GATE)
    }

    /// Whether it is vouched for, or was until it was to go or its engine was started again.
    pub fn was_vouched(&self) -> bool {
        self.condition(crate::api::VOUCHED)
            .is_some_and(|vouched| vouched.status == "True" || matches!(vouched.reason.as_str(), "Draining" | "Probing"))
    }

    /// Whether its engine was started again and has not answered since.
    pub fn is_probed(&self) -> bool {
        self.condition(crate::api::VOUCHED).is_some_and(|vouched| vouched.status == "False" && vouched.reason == "Probing")
    }

    /// Whether it gets no requests because the policies say that it is to go: it gets none again until they accept what it serves.
    pub fn is_recalled(&self) -> bool {
        self.condition(crate::api::VOUCHED).is_some_and(|vouched| vouched.status == "False" && vouched.reason == "Recalled")
    }

    /// Since when it is to go: it gets no new requests, and finishes those it has.
    pub fn draining_since(&self) -> Option<Timestamp> {
        self.annotation(ANNOTATION_DRAINING)?.parse().ok()
    }

    /// What deleting it costs, by which a ReplicaSet chooses; as Kubernetes reads it.
    pub fn deletion_cost(&self) -> i64 {
        self.annotation(ANNOTATION_COST).and_then(|cost| cost.parse().ok()).unwrap_or(0)
    }

    /// How often the container of that name was started again.
    pub fn restarts(&self, container: &str) -> i32 {
        self.container(container).map_or(0, |container| container.restart_count)
    }

    /// The container of that name; an init container is none.
    pub fn container(&self, name: &str) -> Option<&SlimContainer> {
        self.status.container_statuses.iter().find(|container| container.name == name)
    }

    fn annotation(&self, key: &str) -> Option<&str> {
        self.metadata.annotations.as_ref()?.get(key).map(String::as_str)
    }

    /// Whether it is being deleted or has ended.
    pub fn is_over(&self) -> bool {
        self.metadata.deletion_timestamp.is_some() || matches!(self.status.phase.as_str(), "Succeeded" | "Failed")
    }

    /// The label `key`.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.metadata.labels.as_ref()?.get(key).map(String::as_str)
    }

    /// The pod's own name; empty only for objects that no API server gave out.
    pub fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }
}

/// A ModelSignature without the signature: which content it is about.
#[derive(Resource, Debug, Clone, Default, Serialize, Deserialize)]
#[resource(inherit = "crate::api::ModelSignature")]
pub struct SlimSignature {
    /// Name, UID, version.
    #[serde(deserialize_with = "metadata")]
    pub metadata: ObjectMeta,
    /// What it is about.
    #[serde(default)]
    pub spec: SlimSignatureSpec,
    /// What was said of it.
    #[serde(default)]
    pub status: ModelSignatureStatus,
}

/// See [`SlimSignature`].
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct SlimSignatureSpec {
    /// The content digest.
    #[serde(default)]
    pub digest: String,
}

/// A Deployment as far as shifting replicas needs it.
#[derive(Resource, Debug, Clone, Default, Serialize, Deserialize)]
#[resource(inherit = "k8s_openapi::api::apps::v1::Deployment")]
pub struct SlimDeployment {
    /// Names, labels, owners, generation.
    #[serde(deserialize_with = "metadata")]
    pub metadata: ObjectMeta,
    /// How many replicas are wanted.
    #[serde(default)]
    pub spec: SlimDeploymentSpec,
    /// How many there are.
    #[serde(default)]
    pub status: SlimDeploymentStatus,
}

/// See [`SlimDeployment`].
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct SlimDeploymentSpec {
    /// Replicas wanted.
    #[serde(default)]
    pub replicas: i32,
}

/// See [`SlimDeployment`].
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SlimDeploymentStatus {
    /// Pods that exist.
    #[serde(default)]
    pub replicas: i32,
    /// `ReplicaFailure` says why pods cannot be created.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<SlimCondition>,
}
