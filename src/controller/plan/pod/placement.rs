//! Where pods go, and what is said of them beside.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{PodInput, RevisionInput};
use crate::api::{Affinity, LABEL_DEPLOYMENT, LABEL_REVISION, LabelSelector, PodAffinity, PodTerm};

/// The label that is another one on each node.
const NODE: &str = "kubernetes.io/hostname";
/// The label by which Kueue knows the queue of a pod.
const QUEUE: &str = "kueue.x-k8s.io/queue-name";

/// Labels and annotations of the pods. Ours come last: nobody else sets them.
pub(super) fn metadata(input: &PodInput<'_>) -> Value {
    let RevisionInput { deployment, spec, .. } = *input.of;
    let mut labels = spec.pod.labels.clone();
    if let Some(queue) = &spec.pod.queue_name {
        labels.insert(QUEUE.to_owned(), queue.clone());
    }
    let ours = [("app.kubernetes.io/managed-by", "bonafide"), (LABEL_DEPLOYMENT, deployment), (LABEL_REVISION, input.revision)];
    labels.extend(ours.map(|(key, value)| (key.to_owned(), value.to_owned())));
    let mut metadata = json!({ "labels": labels });
    if let (false, Some(metadata)) = (spec.pod.annotations.is_empty(), metadata.as_object_mut()) {
        metadata.insert("annotations".to_owned(), json!(spec.pod.annotations));
    }
    metadata
}

/// The parts of a pod's spec that say where it goes.
pub(super) fn placement(input: &PodInput<'_>) -> Map<String, Value> {
    let RevisionInput { deployment, spec, rendered, one_node, .. } = *input.of;
    let pod = &spec.pod;
    let own = || LabelSelector { match_labels: BTreeMap::from([(LABEL_DEPLOYMENT.to_owned(), deployment.to_owned())]) };
    let spread: Vec<Value> = pod
        .topology_spread_constraints
        .iter()
        .map(|constraint| {
            let mut constraint = constraint.clone();
            constraint.label_selector.get_or_insert_with(own);
            json!(constraint)
        })
        .collect();
    let mut fields = vec![
        ("schedulerName", json!(pod.scheduler_name.as_deref().unwrap_or("default-scheduler"))),
        ("nodeSelector", json!(pod.node_selector)),
        ("tolerations", pod.tolerations.iter().chain(&rendered.tolerations).map(|toleration| json!(toleration)).collect()),
        ("topologySpreadConstraints", Value::Array(spread)),
        ("affinity", affinity(pod.affinity.as_ref(), one_node, own).map_or(Value::Null, |affinity| json!(affinity))),
        ("priorityClassName", json!(pod.priority_class_name)),
        ("runtimeClassName", json!(pod.runtime_class_name)),
    ];
    fields.retain(|(_, value)| {
        !value.is_null() && !value.as_array().is_some_and(Vec::is_empty) && !value.as_object().is_some_and(Map::is_empty)
    });
    fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// What the author says; and where the weights lie in a claim that one node at a time can mount, that the replicas share a node: on
/// another one they would wait for the volume for ever, and hold its accelerators.
fn affinity(said: Option<&Affinity>, one_node: bool, own: impl Fn() -> LabelSelector) -> Option<Affinity> {
    let said = said.map(|affinity| filled(affinity, &own));
    if !one_node {
        return said;
    }
    let mut affinity = said.unwrap_or_default();
    let together = PodTerm { label_selector: Some(own()), topology_key: NODE.to_owned() };
    let required = &mut affinity.pod_affinity.get_or_insert_default().required_during_scheduling_ignored_during_execution;
    if !required.contains(&together) {
        required.push(together);
    }
    Some(affinity)
}

/// A term without a selector means the pods of this ModelDeployment; to Kubernetes it would mean none.
fn filled(affinity: &Affinity, own: impl Fn() -> LabelSelector) -> Affinity {
    let mut affinity = affinity.clone();
    let fill = |term: &mut PodTerm| {
        term.label_selector.get_or_insert_with(&own);
    };
    for pods in [&mut affinity.pod_affinity, &mut affinity.pod_anti_affinity].into_iter().flatten() {
        let PodAffinity {
            required_during_scheduling_ignored_during_execution: required,
            preferred_during_scheduling_ignored_during_execution: preferred,
        } = pods;
        required.iter_mut().for_each(&fill);
        preferred.iter_mut().map(|weighted| &mut weighted.pod_affinity_term).for_each(&fill);
    }
    affinity
}
