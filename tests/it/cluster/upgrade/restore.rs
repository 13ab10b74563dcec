//! Brings recorded objects back into a cluster: as they were, with the owners that they have there. Kubernetes' own controllers
//! make the pods again.

use std::collections::BTreeMap;

use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::{
    super::{
        place::{Place, gated, text},
        rollout::node::is,
        world::TOKEN,
    },
    NAMES, kept,
};
use crate::support::documents;

fn recorded(version: &str) -> Vec<Value> {
    documents(&std::fs::read_to_string(kept(version).join("objects.yaml")).unwrap())
}

/// The address of the hub as it stands in the objects.
pub fn hub(version: &str) -> String {
    text(&recorded(version).iter().find(|object| object["kind"] == "Hub").unwrap()["url"])
}

/// How many pods there were.
pub fn pods(version: &str) -> usize {
    recorded(version).iter().filter(|object| object["kind"] == "Pod").count()
}

/// All objects, and pods that are what they were.
pub async fn all(place: &Place<'_>, version: &str) {
    let secret = json!({"type": "bonafide.dev/source", "stringData": {"token": TOKEN, "hosts": "h:1"}});
    place.create("Secret", "token", secret).await;
    let mut owners: BTreeMap<String, String> = BTreeMap::new();
    let of = |kind: &str| recorded(version).into_iter().filter(|object| object["kind"] == kind).collect::<Vec<_>>();
    for object in of("ModelDeployment") {
        let made = apply(place, &object, &owners).await;
        owners.insert(text(&object["metadata"]["uid"]), text(&made["metadata"]["uid"]));
    }
    for kind in ["ModelArtifact", "ControllerRevision", "ConfigMap", "Service", "PodDisruptionBudget", "Deployment"] {
        for object in of(kind) {
            apply(place, &object, &owners).await;
        }
    }
    let before = of("Pod");
    for name in NAMES {
        let count = before.iter().filter(|pod| pod["metadata"]["labels"]["bonafide.dev/deployment"] == name).count();
        let look = async || {
            let pods = place.of("Pod", name).await;
            if pods.len() == count { Ok(pods) } else { Err(format!("{} pods of {count}", pods.len())) }
        };
        let pods = place.world.eventually(&format!("{name} has its pods"), look).await;
        for pod in pods {
            let revision = |pod: &Value| pod["metadata"]["labels"]["bonafide.dev/revision"].clone();
            let like = before.iter().find(|then| revision(then) == revision(&pod)).unwrap();
            as_it_was(place, &pod, like).await;
        }
    }
    let wanted = before.iter().filter(|pod| is(pod, "Ready")).count();
    let look = async || {
        let mut ready = 0;
        for name in NAMES {
            ready += place.of("Pod", name).await.iter().filter(|pod| is(pod, "Ready")).count();
        }
        if ready == wanted { Ok(()) } else { Err(format!("{ready} of {wanted}")) }
    };
    place.world.eventually("who answered answers", look).await;
}

/// Lifts the gate and vouches, if the release before had.
async fn as_it_was(place: &Place<'_>, pod: &Value, then: &Value) {
    let name = text(&pod["metadata"]["name"]);
    if !gated(then) {
        place.edit("Pod", &name, json!([{"op": "remove", "path": "/spec/schedulingGates"}])).await;
    }
    let conditions = then["status"]["conditions"].as_array().cloned().unwrap_or_default();
    if let Some(vouched) = conditions.iter().find(|condition| condition["type"] == "bonafide.dev/Vouched") {
        let patch = json!({"status": {"conditions": [vouched]}});
        place.api("Pod").patch_status(&name, &PatchParams::default(), &Patch::Strategic(patch)).await.unwrap();
    }
}

async fn apply(place: &Place<'_>, recorded: &Value, owners: &BTreeMap<String, String>) -> Value {
    let mut object = recorded.clone();
    let metadata = object["metadata"].as_object_mut().unwrap();
    for field in ["uid", "creationTimestamp", "generation"] {
        metadata.remove(field);
    }
    for reference in metadata.get_mut("ownerReferences").and_then(Value::as_array_mut).into_iter().flatten() {
        reference["uid"] = json!(owners[&text(&reference["uid"])]);
    }
    let status = object.as_object_mut().unwrap().remove("status");
    if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
        for field in ["clusterIP", "clusterIPs"] {
            spec.remove(field);
        }
    }
    if let Some(annotations) = object.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        annotations.retain(|key, _| !key.starts_with("deployment.kubernetes.io/"));
    }
    let (kind, name) = (text(&recorded["kind"]), text(&recorded["metadata"]["name"]));
    let manager = PatchParams::apply("bonafide").force();
    place.api(&kind).patch(&name, &manager, &Patch::Apply(&object)).await.unwrap();
    if let Some(status) = status.filter(|_| kind.starts_with("Model")) {
        let body = json!({"apiVersion": recorded["apiVersion"], "kind": kind, "metadata": {"name": name}, "status": status});
        place.api(&kind).patch_status(&name, &manager, &Patch::Apply(&body)).await.unwrap();
    }
    place.get(&kind, &name).await.unwrap()
}
