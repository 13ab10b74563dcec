//! What was looked up beside the watches, in the little that a diagnosis needs of it.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use kube::{Resource, api::ObjectMeta};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::quantity;
use crate::{api::Reason, controller::doors::ask::Download, engine::Explained};

/// What was looked up for one ModelDeployment.
#[derive(Debug, Default)]
pub struct Found {
    /// By the pod's UID.
    pub pods: BTreeMap<String, Looked>,
    /// The nodes; `None` when they were not asked for, or did not come.
    pub nodes: Option<Arc<Vec<Node>>>,
    /// Pods that were sent away lately, and not replaced by one that answers.
    pub departed: Vec<Departure>,
    /// When what only a look tells is to be looked at again.
    pub again: Option<std::time::Duration>,
}

/// What was looked up about one pod.
#[derive(Debug, Default, Clone)]
pub struct Looked {
    /// Its events, the newest first.
    pub events: Vec<SlimEvent>,
    /// Whether they were asked for and did not come.
    pub missed: bool,
    /// Its node, if it has one: `None` within when there is no such node.
    pub node: Option<Option<NodeState>>,
    /// How its engine broke down the last time.
    pub crash: Option<Crash>,
    /// How far its download is.
    pub download: Option<Download>,
    /// The memory that its engine may use, in bytes.
    pub memory_limit: Option<f64>,
    /// Its claims that are not bound.
    pub unbound: Vec<Claim>,
}

impl Looked {
    /// The newest event with one of these reasons.
    pub fn event(&self, reasons: &[&str]) -> Option<&SlimEvent> {
        self.events.iter().find(|event| reasons.contains(&event.reason.as_str()))
    }
}

/// How an engine broke down, read from its log.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Crash {
    /// What the engine's data say of it.
    pub explained: Option<Explained>,
    /// The last lines of the log.
    pub last: String,
    /// Whether this engine ends with 0 also when it broke down.
    pub zero_is_crash: bool,
}

/// A pod that was sent away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Departure {
    /// Its UID.
    pub uid: String,
    /// `Preempted`, `Evicted`, `NodeLost` or `DiskFull`.
    pub reason: Reason,
    /// What happened, in a sentence.
    pub message: String,
}

/// A claim that is not bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Its name.
    pub name: String,
    /// What is in its way, as far as an event tells; `None`: it does not exist.
    pub why: Option<String>,
}

/// How a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeState {
    /// Whether it reports that it is ready.
    pub ready: bool,
    /// Since when it is what it is.
    pub since: Option<Timestamp>,
    /// What it says.
    pub message: String,
}

/// A node as far as it decides whether a pod fits.
#[derive(Debug, Default, Clone)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// What keeps pods away.
    pub taints: Vec<Taint>,
    /// What it has.
    pub allocatable: BTreeMap<String, f64>,
    /// What its pods ask for.
    pub used: BTreeMap<String, f64>,
}

/// What keeps pods away from a node.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct Taint {
    /// Its key.
    pub key: String,
    /// Its value.
    #[serde(default)]
    pub value: String,
    /// `NoSchedule`, `PreferNoSchedule` or `NoExecute`.
    pub effect: String,
}

/// An event as far as it is read.
#[derive(Resource, Debug, Clone, Default, Serialize, Deserialize)]
#[resource(inherit = "k8s_openapi::api::events::v1::Event")]
#[serde(rename_all = "camelCase", default)]
pub struct SlimEvent {
    /// Names.
    pub metadata: ObjectMeta,
    /// For example `FailedMount`.
    pub reason: String,
    /// The same in words.
    pub note: String,
    /// Who says it.
    pub reporting_controller: String,
    /// When, by those who write series.
    pub event_time: Option<Timestamp>,
    /// The last time, by those.
    pub series: Option<Series>,
    /// The last time, by those who count.
    pub deprecated_last_timestamp: Option<Timestamp>,
}

/// An event that came again.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Series {
    /// The last time.
    pub last_observed_time: Option<Timestamp>,
}

impl SlimEvent {
    /// When it happened last.
    pub fn at(&self) -> Timestamp {
        let series = self.series.as_ref().and_then(|series| series.last_observed_time);
        let created = self.metadata.creation_timestamp.as_ref().map(|time| time.0);
        [series, self.deprecated_last_timestamp, self.event_time, created].into_iter().flatten().max().unwrap_or_default()
    }
}

/// A Node as it comes from the API server.
#[derive(Resource, Debug, Clone, Default, Serialize, Deserialize)]
#[resource(inherit = "k8s_openapi::api::core::v1::Node")]
pub struct SlimNode {
    /// Its name and labels.
    pub metadata: ObjectMeta,
    /// What keeps pods away.
    #[serde(default)]
    pub spec: SlimNodeSpec,
    /// What it has.
    #[serde(default)]
    pub status: SlimNodeStatus,
}

/// See [`SlimNode`].
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SlimNodeSpec {
    /// What keeps pods away.
    pub taints: Vec<Taint>,
}

/// See [`SlimNode`].
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SlimNodeStatus {
    /// What pods may have of it.
    pub allocatable: BTreeMap<String, String>,
    /// `Ready` and others.
    pub conditions: Vec<crate::controller::objects::slim::SlimCondition>,
}

impl SlimNode {
    /// How it is.
    pub fn state(&self) -> NodeState {
        let ready = self.status.conditions.iter().find(|condition| condition.kind == "Ready");
        NodeState {
            ready: ready.is_some_and(|condition| condition.status == "True"),
            since: ready.and_then(|condition| condition.last_transition_time),
            message: ready.map(|condition| condition.message.clone()).unwrap_or_default(),
        }
    }

    /// What decides whether a pod fits; nothing runs on it yet.
    pub fn room(self) -> Node {
        let Self { metadata, spec, status } = self;
        let allocatable = status.allocatable.iter().filter_map(|(name, text)| Some((name.clone(), quantity::parse(text)?)));
        Node {
            name: metadata.name.unwrap_or_default(),
            labels: metadata.labels.unwrap_or_default(),
            taints: spec.taints,
            allocatable: allocatable.collect(),
            used: BTreeMap::new(),
        }
    }
}

/// A pod as far as it takes room on a node.
#[derive(Resource, Debug, Clone, Default, Serialize, Deserialize)]
#[resource(inherit = "k8s_openapi::api::core::v1::Pod")]
pub struct TakingPod {
    /// Nothing is read of it.
    pub metadata: ObjectMeta,
    /// Its node and its containers.
    #[serde(default)]
    pub spec: TakingSpec,
}

/// See [`TakingPod`].
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TakingSpec {
    /// Its node.
    pub node_name: String,
    /// The containers.
    pub containers: Vec<TakingContainer>,
    /// Those that run before them.
    pub init_containers: Vec<TakingContainer>,
}

/// See [`TakingPod`].
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TakingContainer {
    /// Its name.
    pub name: String,
    /// What it asks for and may have.
    pub resources: Resources,
}

/// See [`TakingPod`].
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// What it asks for.
    pub requests: BTreeMap<String, Value>,
    /// What it may have.
    pub limits: BTreeMap<String, Value>,
}

impl TakingSpec {
    /// What the scheduler counts: the sum of the containers, or the largest of those before them, whichever is more.
    pub fn requests(&self) -> BTreeMap<String, f64> {
        let mut total: BTreeMap<String, f64> = BTreeMap::new();
        for container in &self.containers {
            for (name, number) in container.resources.asked() {
                *total.entry(name).or_default() += number;
            }
        }
        for (name, number) in self.init_containers.iter().flat_map(|container| container.resources.asked()) {
            let most = total.entry(name).or_default();
            *most = most.max(number);
        }
        total.insert("pods".to_owned(), 1.0);
        total
    }
}

impl Resources {
    fn asked(&self) -> impl Iterator<Item = (String, f64)> {
        self.requests.iter().filter_map(|(name, value)| Some((name.clone(), number(value)?)))
    }
}

/// A quantity, which may also be written as a number.
pub fn number(value: &Value) -> Option<f64> {
    value.as_str().map_or_else(|| value.as_f64(), quantity::parse)
}
