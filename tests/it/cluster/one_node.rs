//! Claims that one node at a time can mount, and the real scheduler.

use serde_json::{Value, json};

use super::{
    accelerators::Nodes,
    place::{NAME, Place, cluster_wide, parse, text},
    world::World,
};

/// A claim with a volume that any node can reach.
async fn claim(place: &Place<'_>, name: &str, mode: &str) {
    let (volume, size) = (format!("{}-{name}", place.name), json!({"storage": "1Gi"}));
    let spec =
        json!({"capacity": size, "accessModes": [mode], "nfs": {"server": "nfs.test", "path": "/"}, "storageClassName": volume});
    let object = json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": volume}, "spec": spec});
    cluster_wide(&place.client, "PersistentVolume").create(&Default::default(), &parse(object)).await.unwrap();
    let spec = json!({"accessModes": [mode], "resources": {"requests": size}, "storageClassName": volume, "volumeName": volume});
    place.create("PersistentVolumeClaim", name, json!({"spec": spec})).await;
    place.until("PersistentVolumeClaim", name, "is bound", |claim| claim["status"]["phase"] == "Bound").await;
}

/// The nodes of the pods; empty for those that have none although the scheduler looked for one.
async fn nodes_of(place: &Place<'_>, deployment: &str, pods: usize) -> Vec<String> {
    let look = async || {
        let found = place.of("Pod", deployment).await;
        let looked = |pod: &Value| {
            let conditions = pod["status"]["conditions"].as_array();
            conditions.is_some_and(|all| all.iter().any(|c| c["type"] == "PodScheduled" && c["reason"] != "SchedulingGated"))
        };
        if found.len() == pods && found.iter().all(looked) {
            Ok(found.iter().map(|pod| text(&pod["spec"]["nodeName"])).collect::<Vec<_>>())
        } else {
            Err(format!("{:?}", found.iter().map(|pod| &pod["status"]).collect::<Vec<_>>()))
        }
    };
    let mut nodes = place.world.eventually(&format!("the scheduler has looked at {pods} pods of {deployment}"), look).await;
    nodes.sort();
    nodes
}

#[tokio::test]
async fn replicas_share_the_node_that_has_the_volume_when_only_one_node_can_have_it() {
    let world = World::with_operator().await;
    let place = Place::new(&world).await;
    claim(&place, "one", "ReadWriteOnce").await;
    claim(&place, "many", "ReadWriteMany").await;
    let _nodes = Nodes::start(&world, &[("left", None), ("right", None)]).await;
    let source = place.publish("Parrot-GGUF", &[("parrot.gguf", "the weights of a parrot")]);
    let spec = |claim: &str, affinity: Value| {
        let pod = if affinity.is_null() { json!({}) } else { json!({"affinity": affinity}) };
        json!({"spec": {"model": {"source": source, "cache": {"claimName": claim}}, "resources": {"cpu": "5"}, "replicas": 3, "pod": pod}})
    };
    let template = |deployment: &Value| deployment["spec"]["template"]["spec"]["affinity"].clone();
    // Three fit on one of them; a fourth does not, and does not go to the other one.
    let away = json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"noisy": "yes"}}}]}});
    place.create("ModelDeployment", NAME, spec("one", away)).await;
    let nodes = nodes_of(&place, NAME, 3).await;
    assert!(nodes.iter().all(|node| *node == nodes[0] && !node.is_empty()), "{nodes:?}");
    let affinity = template(&place.child("Deployment", NAME).await);
    assert_eq!(affinity["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"].as_array().unwrap().len(), 1);
    let own =
        json!({"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"bonafide.dev/deployment": NAME}}});
    assert_eq!(affinity["podAffinity"], json!({"requiredDuringSchedulingIgnoredDuringExecution": [own]}));
    place.change("ModelDeployment", NAME, json!({"spec": {"replicas": 4}})).await;
    let nodes = nodes_of(&place, NAME, 4).await;
    assert_eq!(nodes.iter().filter(|node| node.is_empty()).count(), 1, "{nodes:?}");

    // Where many nodes can have it, nothing is said of where its pods go.
    place.create("ModelDeployment", "many", spec("many", Value::Null)).await;
    assert_eq!(template(&place.child("Deployment", "many").await), Value::Null);
}
