//! The controllers of Deployments and ReplicaSets: a ReplicaSet for each template, pods for each ReplicaSet.

use std::sync::Arc;

use bonafide::model::Digest;
use serde_json::{Value, json};

use crate::support::fake_api::FakeApi;

const WHO: &str = "controller-manager";

/// Looks at every Deployment and ReplicaSet.
pub fn look(api: &FakeApi) {
    for deployment in api.all("Deployment") {
        if deployment["metadata"]["deletionTimestamp"].is_null() {
            roll(api, &deployment);
        }
    }
    for set in api.all("ReplicaSet") {
        if set["metadata"]["deletionTimestamp"].is_null() {
            replicate(api, &set);
        }
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn owned_by(api: &FakeApi, kind: &str, owner: &Value) -> Vec<Arc<Value>> {
    let uid = &owner["metadata"]["uid"];
    let is = |object: &Arc<Value>| {
        object["metadata"]["ownerReferences"].as_array().is_some_and(|owners| owners.iter().any(|owner| owner["uid"] == *uid))
    };
    api.all(kind).into_iter().filter(is).collect()
}

fn reference(owner: &Value) -> Value {
    json!({
        "apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"],
        "controller": true, "blockOwnerDeletion": true,
    })
}

/// Gives the ReplicaSet of today's template all replicas, and the others none.
fn roll(api: &FakeApi, deployment: &Value) {
    let namespace = text(&deployment["metadata"]["namespace"]);
    let hash = Digest::of(deployment["spec"]["template"].to_string()).short();
    let name = format!("{}-{hash}", text(&deployment["metadata"]["name"]));
    let wanted = deployment["spec"]["replicas"].as_i64().unwrap();
    let sets = owned_by(api, "ReplicaSet", deployment);
    if !sets.iter().any(|set| set["metadata"]["name"] == name.as_str()) {
        let mut template = deployment["spec"]["template"].clone();
        template["metadata"]["labels"]["pod-template-hash"] = json!(hash);
        let labels = template["metadata"]["labels"].clone();
        let set = json!({
            "metadata": { "name": name, "labels": labels, "ownerReferences": [reference(deployment)] },
            "spec": { "replicas": wanted, "selector": { "matchLabels": labels }, "template": template },
        });
        let _ = api.create("ReplicaSet", &namespace, WHO, &set);
        return;
    }
    for set in &sets {
        let replicas = if set["metadata"]["name"] == name.as_str() { wanted } else { 0 };
        let set_name = text(&set["metadata"]["name"]);
        if replicas == 0 && set_name != name && owned_by(api, "Pod", set).is_empty() {
            api.remove("ReplicaSet", &namespace, &set_name, WHO);
            continue;
        }
        api.edit("ReplicaSet", &namespace, &set_name, WHO, |set| set["spec"]["replicas"] = json!(replicas));
    }
    let pods: Vec<_> = sets.iter().flat_map(|set| owned_by(api, "Pod", set)).collect();
    let ready = pods.iter().filter(|pod| is_ready(pod)).count();
    api.edit("Deployment", &namespace, &text(&deployment["metadata"]["name"]), WHO, |deployment| {
        let generation = deployment["metadata"]["generation"].clone();
        deployment["status"] = json!({ "observedGeneration": generation, "replicas": pods.len(), "readyReplicas": ready });
    });
}

pub fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions.is_some_and(|all| all.iter().any(|one| one["type"] == "Ready" && one["status"] == "True"))
}

/// Makes the pods that are missing, and deletes those too many.
fn replicate(api: &FakeApi, set: &Value) {
    let namespace = text(&set["metadata"]["namespace"]);
    let wanted = usize::try_from(set["spec"]["replicas"].as_i64().unwrap()).unwrap();
    let mut pods: Vec<_> = owned_by(api, "Pod", set)
        .into_iter()
        .filter(|pod| {
            pod["metadata"]["deletionTimestamp"].is_null()
                && !matches!(pod["status"]["phase"].as_str(), Some("Failed" | "Succeeded"))
        })
        .collect();
    for _ in pods.len()..wanted {
        let mut pod = json!({ "metadata": set["spec"]["template"]["metadata"], "spec": set["spec"]["template"]["spec"] });
        pod["metadata"]["generateName"] = json!(format!("{}-", text(&set["metadata"]["name"])));
        pod["metadata"]["ownerReferences"] = json!([reference(set)]);
        let _ = api.create("Pod", &namespace, WHO, &pod);
    }
    pods.sort_by_key(|pod| rank(pod));
    for pod in pods.iter().take(pods.len().saturating_sub(wanted)) {
        api.delete("Pod", &namespace, &text(&pod["metadata"]["name"]), WHO, &text(&pod["metadata"]["uid"]));
    }
    let alive = pods.len().min(wanted);
    api.edit("ReplicaSet", &namespace, &text(&set["metadata"]["name"]), WHO, |set| {
        set["status"] = json!({ "replicas": alive });
    });
}

/// Which pods go first: without a node, pending, not ready, cheap, younger.
fn rank(pod: &Value) -> (bool, bool, bool, i64, std::cmp::Reverse<String>) {
    let cost = pod["metadata"]["annotations"]["controller.kubernetes.io/pod-deletion-cost"].as_str();
    (
        !pod["spec"]["nodeName"].is_null(),
        pod["status"]["phase"] != "Pending",
        is_ready(pod),
        cost.and_then(|cost| cost.parse().ok()).unwrap_or(0),
        std::cmp::Reverse(text(&pod["metadata"]["creationTimestamp"])),
    )
}
