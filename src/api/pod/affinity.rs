//! Where pods go: affinity and spreading, with the names that Kubernetes has for them, and bounded.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::labels;

/// Where pods go, seen from nodes and from other pods.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Affinity {
    /// To nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_affinity: Option<NodeAffinity>,
    /// Towards pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_affinity: Option<PodAffinity>,
    /// Away from pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_anti_affinity: Option<PodAffinity>,
}

/// To which nodes.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeAffinity {
    /// What a node must be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub required_during_scheduling_ignored_during_execution: Option<NodeSelector>,
    /// What it had better be.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = kube::core::ListMerge::Atomic)]
    pub preferred_during_scheduling_ignored_during_execution: Vec<PreferredNodes>,
}

/// Nodes that meet one of the terms.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeSelector {
    #[schemars(length(min = 1, max = 8))]
    #[x_kube(merge_strategy = kube::core::ListMerge::Atomic)]
    pub node_selector_terms: Vec<NodeTerm>,
}

/// A term and what it is worth, from 1 to 100.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PreferredNodes {
    #[schemars(range(min = 1, max = 100))]
    pub weight: i32,
    pub preference: NodeTerm,
}

/// Nodes whose labels meet every expression.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeTerm {
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(merge_strategy = kube::core::ListMerge::Atomic)]
    pub match_expressions: Vec<NodeExpression>,
}

/// What a label of a node is.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("self.operator in ['In', 'NotIn'] ? has(self.values) && self.values.size() > 0 : (self.operator in ['Gt', 'Lt'] ? has(self.values) && self.values.size() == 1 && self.values[0].matches('^-?[0-9]+$') : !has(self.values))").message("In and NotIn need values, Gt and Lt one whole number without a unit, Exists and DoesNotExist none"))]
pub struct NodeExpression {
    #[schemars(length(min = 1, max = 317))]
    pub key: String,
    pub operator: NodeOperator,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 63)))]
    pub values: Vec<String>,
}

/// How a label of a node is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum NodeOperator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
    Gt,
    Lt,
}

/// To, or away from, which pods.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodAffinity {
    /// What must be.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = kube::core::ListMerge::Atomic)]
    pub required_during_scheduling_ignored_during_execution: Vec<PodTerm>,
    /// What had better be.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = kube::core::ListMerge::Atomic)]
    pub preferred_during_scheduling_ignored_during_execution: Vec<WeightedPods>,
}

/// A term and what it is worth, from 1 to 100.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WeightedPods {
    #[schemars(range(min = 1, max = 100))]
    pub weight: i32,
    pub pod_affinity_term: PodTerm,
}

/// Pods of the namespace, and how near.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodTerm {
    /// Absent: the pods of this ModelDeployment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_selector: Option<LabelSelector>,
    /// The label of nodes that says the place: kubernetes.io/hostname.
    #[schemars(length(min = 1, max = 317))]
    pub topology_key: String,
}

/// Pods by their labels.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LabelSelector {
    #[schemars(schema_with = "labels")]
    pub match_labels: BTreeMap<String, String>,
}

/// How evenly pods are spread.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.minDomains) || self.whenUnsatisfiable == 'DoNotSchedule'").message("minDomains is for whenUnsatisfiable DoNotSchedule"))]
pub struct TopologySpreadConstraint {
    /// By how many pods two places may differ.
    #[schemars(range(min = 1, max = 1000))]
    pub max_skew: i32,
    /// The label of nodes that says the place: topology.kubernetes.io/zone.
    #[schemars(length(min = 1, max = 317))]
    pub topology_key: String,
    /// What becomes of a pod for which that cannot be had.
    pub when_unsatisfiable: WhenUnsatisfiable,
    /// The pods that are counted. Absent: those of this ModelDeployment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_selector: Option<LabelSelector>,
    /// The least number of places.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub min_domains: Option<i32>,
    /// Nodes that the pod's affinity excludes do not count (`Honor`, the default) or do (`Ignore`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_affinity_policy: Option<Inclusion>,
    /// Nodes whose taints exclude the pod do not count (`Honor`) or do (`Ignore`, the default).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_taints_policy: Option<Inclusion>,
}

/// What becomes of a pod that would make it uneven.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum WhenUnsatisfiable {
    DoNotSchedule,
    ScheduleAnyway,
}

/// Whether something is regarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Inclusion {
    Honor,
    Ignore,
}
