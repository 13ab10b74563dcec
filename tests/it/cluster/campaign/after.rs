//! What is left when the storm is over, compared with what the same wishes have become in peace.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use kube::{
    Api, Client,
    api::{DynamicObject, ListParams},
};
use serde_json::{Value, json};

use super::{
    super::{
        place::{resource, text, value},
        world::World,
    },
    CALM, STORMY, at_last,
    wishes::Wishes,
};

async fn all(client: &Client, namespace: &str, kind: &str) -> Vec<Value> {
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource(kind));
    at_last("a list", || async { api.list(&ListParams::default()).await }).await.items.into_iter().map(value).collect()
}

/// All objects of a kind, by the ModelDeployment that they are of.
async fn by_deployment(client: &Client, namespace: &str, kind: &str) -> BTreeMap<String, Vec<Value>> {
    let mut found: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for object in all(client, namespace, kind).await {
        found.entry(text(&object["metadata"]["labels"]["bonafide.dev/deployment"])).or_default().push(object);
    }
    found
}

/// What of the objects says the same in both namespaces: names of revisions, numbers, times and versions are left out.
async fn picture(client: &Client, namespace: &str, wishes: &Wishes) -> BTreeMap<String, Value> {
    let (deployments, services) =
        (by_deployment(client, namespace, "Deployment").await, by_deployment(client, namespace, "Service").await);
    let (maps, pods) = (by_deployment(client, namespace, "ConfigMap").await, by_deployment(client, namespace, "Pod").await);
    let mut picture = BTreeMap::new();
    for name in wishes.names() {
        let object = wishes.seen(namespace, name).await;
        let status = &object["status"];
        let conditions: BTreeMap<String, Value> = status["conditions"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|condition| (text(&condition["type"]), json!([condition["status"], condition["reason"]])))
            .collect();
        let running = deployments.get(name).into_iter().flatten().filter(|found| found["spec"]["replicas"] != 0);
        let running: Vec<Value> = running
            .map(|found| {
                let revision = text(&found["metadata"]["name"]);
                let plain = |value: &Value| value.to_string().replace(&revision, "REVISION").replace(namespace, "NAMESPACE");
                let map = maps.get(name).into_iter().flatten().find(|map| text(&map["metadata"]["name"]) == revision);
                json!({"replicas": found["spec"]["replicas"], "template": plain(&found["spec"]["template"]), "data": map.map(|map| plain(&map["data"]))})
            })
            .collect();
        let service = services.get(name).into_iter().flatten().map(|service| {
            json!({"selector": service["spec"]["selector"].to_string().len(), "ports": service["spec"]["ports"].to_string()})
        });
        let is_ready = |pod: &&Value| {
            pod["status"]["conditions"].as_array().into_iter().flatten().any(|c| c["type"] == "Ready" && c["status"] == "True")
        };
        let of = pods.get(name).map(Vec::as_slice).unwrap_or_default();
        picture.insert(
            name.clone(),
            json!({
                "answered": Wishes::is_answered(&object), "state": status["state"], "trust": status["trust"], "ready": status["ready"],
                "conditions": conditions, "model": status["model"]["digest"], "running": running, "service": service.collect::<Vec<_>>(),
                "pods": of.len(), "ready pods": of.iter().filter(is_ready).count(),
            }),
        );
    }
    picture
}

/// Waits until both namespaces look the same, and as it was wished.
pub async fn same(world: &World, client: &Client, wishes: &Wishes) {
    let look = async || {
        let (stormy, calm) = (picture(client, STORMY, wishes).await, picture(client, CALM, wishes).await);
        for (name, calm) in &calm {
            let stormy = &stormy[name];
            // What nobody signed is refused; what is served before that wish is served on, and there is nothing in peace.
            let Some(wanted) = wishes.wanted(name) else {
                let refused = |picture: &Value| picture["conditions"]["Trusted"][0] == "False" && picture["answered"] == true;
                if refused(stormy) && refused(calm) {
                    continue;
                }
                return Err(format!("{name} is not refused:\n{stormy:#}\n{calm:#}"));
            };
            if calm["ready pods"] != json!(wanted) || calm["answered"] != true || calm["pods"] != json!(wanted) {
                return Err(format!("{name} is not as it was wished, in peace: {wanted} replicas\n{calm:#}"));
            }
            if stormy != calm {
                let pods = by_deployment(client, STORMY, "Pod").await.remove(name).unwrap_or_default();
                let pods: Vec<Value> = pods.iter().map(|pod| json!([pod["metadata"], pod["status"]["phase"]])).collect();
                return Err(format!(
                    "{name} differs. After the storm:\n{stormy:#}\nin peace:\n{calm:#}\nits pods: {}",
                    json!(pods)
                ));
            }
        }
        Ok(())
    };
    // Kubernetes' own controllers wait five minutes for a deletion of which they did not hear.
    world.within(Duration::from_secs(420), "the storm has left no trace", look).await;
}

/// Everything belongs to a ModelDeployment that is there, and no record is kept that nobody needs.
pub async fn nothing_is_left_over(world: &World, client: &Client) {
    let look = async || {
        let mut known = BTreeSet::new();
        for object in all(client, STORMY, "ModelDeployment").await {
            known.insert(text(&object["metadata"]["uid"]));
        }
        let revisions = all(client, STORMY, "ControllerRevision").await;
        for kind in ["ControllerRevision", "ConfigMap", "Service", "Deployment", "ReplicaSet", "Pod", "ModelArtifact"] {
            for object in all(client, STORMY, kind).await {
                let uid = text(&object["metadata"]["uid"]);
                let ours = kind == "ModelArtifact" || object["metadata"]["labels"]["bonafide.dev/deployment"].is_string();
                let owners = object["metadata"]["ownerReferences"].as_array().cloned().unwrap_or_default();
                if !ours {
                    continue;
                }
                if owners.is_empty() || !owners.iter().all(|owner| known.contains(&text(&owner["uid"]))) {
                    return Err(format!("{kind} {} belongs to nobody who is there", text(&object["metadata"]["name"])));
                }
                known.insert(uid);
            }
        }
        // A record is of a revision that is kept, or of a wish.
        let needed: BTreeSet<String> = revisions.iter().map(|revision| text(&revision["data"]["artifact"])).collect();
        for artifact in all(client, STORMY, "ModelArtifact").await {
            let name = text(&artifact["metadata"]["name"]);
            if !needed.contains(&name) && !name.starts_with("nobody") {
                return Err(format!("ModelArtifact {name} is kept, and no revision is of it"));
            }
        }
        Ok(())
    };
    world.within(Duration::from_secs(60), "nothing is left over", look).await;
    let _ = client.default_namespace();
}
