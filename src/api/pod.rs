//! What the author of a ModelDeployment may say of its pods: a curated part of what Kubernetes has.

mod affinity;
mod volume;

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::secret::SecretRef;

pub use affinity::*;
pub use volume::*;

/// What may be said of the pods.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pod {
    /// Labels that a node must have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "labels")]
    #[x_kube(validation = Rule::new("self.all(k, k.size() <= 317 && k.matches('^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$'))").message("nodeSelector's keys must be keys of labels, for example topology.kubernetes.io/zone"))]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that do not keep the pods away.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = kube::core::ListMerge::Atomic)]
    pub tolerations: Vec<Toleration>,
    /// Secrets with which images are pulled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["name".into()]))]
    pub image_pull_secrets: Vec<SecretRef>,
    /// The ServiceAccount of the pods; its token is not mounted. Absent: `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')").message("serviceAccountName must be the name of a ServiceAccount"))]
    pub service_account_name: Option<String>,
    /// Nodes and pods that the pods go to, or stay away from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// How evenly the replicas are spread over nodes or zones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = kube::core::ListMerge::Atomic)]
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,
    /// The PriorityClass of the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub priority_class_name: Option<String>,
    /// The RuntimeClass of the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub runtime_class_name: Option<String>,
    /// The scheduler of the pods. Absent: the cluster's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub scheduler_name: Option<String>,
    /// The queue of Kueue in which the pods wait for quota.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub queue_name: Option<String>,
    /// Labels of the pods.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "labels")]
    #[x_kube(validation = Rule::new(KEYS).message("the keys of labels and annotations have letters, digits, '-', '_' and '.', at most 63 of them, perhaps after a domain and '/'"))]
    #[x_kube(validation = Rule::new("self.all(k, k.startsWith('app.kubernetes.io/') ? k != 'app.kubernetes.io/managed-by' : !k.matches('^([^/]*[.])?(bonafide[.]dev|kubernetes[.]io|k8s[.]io)/') && k != 'pod-template-hash' && k != 'kueue.x-k8s.io/queue-name')").message("labels of bonafide.dev, kubernetes.io and k8s.io are not yours to set (but app.kubernetes.io/ is); for Kueue there is spec.pod.queueName"))]
    pub labels: BTreeMap<String, String>,
    /// Annotations of the pods.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "annotations")]
    #[x_kube(validation = Rule::new(KEYS).message("the keys of labels and annotations have letters, digits, '-', '_' and '.', at most 63 of them, perhaps after a domain and '/'"))]
    #[x_kube(validation = Rule::new("self.all(k, k.startsWith('cluster-autoscaler.kubernetes.io/') || !k.matches('^([^/]*[.])?(bonafide[.]dev|kubernetes[.]io|k8s[.]io)/'))").message("annotations of bonafide.dev, kubernetes.io and k8s.io are not yours to set (but cluster-autoscaler.kubernetes.io/ is)"))]
    pub annotations: BTreeMap<String, String>,
    /// Extended resources beside the accelerators, and how many of each: `rdma/hca: 1`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "counts")]
    #[x_kube(validation = Rule::new("self.all(k, k.size() <= 317 && k.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$') && !k.matches('^([^/]*[.])?kubernetes[.]io/') && !(k in ['nvidia.com/gpu', 'amd.com/gpu']))").message("extraResources are named DOMAIN/NAME, for example rdma/hca; accelerators go into spec.resources.accelerator"))]
    pub extra_resources: BTreeMap<String, i64>,
    /// More volumes for the engine, below /mnt and /data.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["name".into()]))]
    #[x_kube(validation = Rule::new("self.all(v, self.exists_one(w, w.mountPath == v.mountPath))").message("two extra volumes have the same mountPath"))]
    pub extra_volumes: Vec<ExtraVolume>,
    /// `Fixed` (the default): user and group 65532. `Assigned`: the cluster's choice, as OpenShift's restricted-v2.
    #[serde(default, skip_serializing_if = "is_fixed")]
    pub user: PodUser,
}

/// Which user the containers run as. Never root.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PodUser {
    #[default]
    Fixed,
    Assigned,
}

fn is_fixed(user: &PodUser) -> bool {
    *user == PodUser::Fixed
}

/// What a key of a label or an annotation is.
const KEYS: &str = "self.all(k, k.size() <= 317 && k.matches('^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$'))";

/// At most 64 labels with values that a label may have.
fn labels(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object",
        "maxProperties": 64,
        "additionalProperties": { "type": "string", "maxLength": 63, "pattern": "^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$" },
    })
}

/// At most 64 annotations of at most 4096 characters.
fn annotations(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "object", "maxProperties": 64, "additionalProperties": { "type": "string", "maxLength": 4096 } })
}

/// At most 8 resources.
fn counts(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    let count = schemars::json_schema!({ "type": "integer", "format": "int64", "minimum": 1, "maximum": 100_000 });
    schemars::json_schema!({ "type": "object", "maxProperties": 8, "additionalProperties": count })
}

/// A taint that does not keep the pods away.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(has(self.operator) ? self.operator : 'Equal') == 'Exists' ? !has(self.value) : has(self.key)").message("a toleration with operator Exists has no value, and one with operator Equal (the default) names a key"))]
#[x_kube(validation = Rule::new("!has(self.key) || self.key.matches('^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$')").message("a toleration's key is the key of a taint, for example nvidia.com/gpu"))]
#[x_kube(validation = Rule::new("!has(self.operator) || self.operator in ['Exists', 'Equal']").message("a toleration's operator is Exists or Equal"))]
#[x_kube(validation = Rule::new("!has(self.effect) || self.effect in ['NoSchedule', 'PreferNoSchedule', 'NoExecute']").message("a toleration's effect is NoSchedule, PreferNoSchedule or NoExecute"))]
#[x_kube(validation = Rule::new("!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')").message("tolerationSeconds is for effect NoExecute"))]
pub struct Toleration {
    /// The taint's key. Absent, with operator `Exists`: every taint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 316))]
    pub key: Option<String>,
    /// `Equal` (the default) or `Exists`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub operator: Option<String>,
    /// The taint's value, with operator `Equal`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub value: Option<String>,
    /// `NoSchedule`, `PreferNoSchedule` or `NoExecute`. Absent: all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub effect: Option<String>,
    /// For `NoExecute`: how long a pod stays, in seconds. Absent: for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub toleration_seconds: Option<i64>,
}
