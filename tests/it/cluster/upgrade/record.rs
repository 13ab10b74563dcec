//! Records what a release leaves in a cluster: `BONAFIDE_RECORD=0.2.0 cargo test --test it record_a_release -- --ignored`, with
//! `BONAFIDE_PROGRAM` when the program is not the one of this tree.

use std::{fs, path::PathBuf};

use serde_json::{Value, json};

use super::{
    super::{
        place::{Place, resource, text},
        quiet::settled_of,
        rollout::node::{Node, is},
        world::{TOKEN, World},
    },
    NAMES, PLACE,
};
use crate::support::path;

#[tokio::test]
#[ignore = "it writes tests/data"]
async fn record_a_release() {
    let version = std::env::var("BONAFIDE_RECORD").expect("BONAFIDE_RECORD is the version");
    let into = path("tests/data/releases").join(&version);
    let world = World::bare().await;
    world.install("install", &into.join("chart"), &world.hub.url()).await;
    let program = std::env::var_os("BONAFIDE_PROGRAM").map(PathBuf::from);
    let operator = world.operator_of("recorded", program.as_deref()).await;
    let place = Place::named(&world, PLACE).await;
    let _node = Node::new(&place.client, PLACE, 20).await;
    deploy(&place).await;
    settled_of(&world, &operator).await;

    let mut objects = vec![json!({"kind": "Hub", "url": world.hub.url()})];
    let mut all = vec![];
    for name in NAMES {
        all.push(("ModelDeployment", place.get("ModelDeployment", name).await.unwrap()));
        for kind in ["ControllerRevision", "ConfigMap", "Service", "PodDisruptionBudget", "Deployment", "ReplicaSet", "Pod"] {
            all.extend(place.of(kind, name).await.into_iter().map(|object| (kind, object)));
        }
    }
    let records = place.api("ModelArtifact").list(&Default::default()).await.unwrap();
    all.extend(records.items.into_iter().map(|object| ("ModelArtifact", super::super::place::value(object))));
    for (kind, mut object) in all {
        (object["apiVersion"], object["kind"]) = (json!(resource(kind).api_version), json!(kind));
        let metadata = object["metadata"].as_object_mut().unwrap();
        for field in ["managedFields", "resourceVersion"] {
            metadata.remove(field);
        }
        objects.push(object);
    }
    let text: Vec<String> = objects.iter().map(|object| serde_saphyr::to_string(object).unwrap()).collect();
    fs::write(into.join("objects.yaml"), text.join("---\n")).unwrap();
}

/// One of each: small, with everything, without a node, without replicas, and one that is being changed.
async fn deploy(place: &Place<'_>) {
    let pod = json!({"nodeSelector": {"for": PLACE}, "tolerations": [{"key": "for", "operator": "Exists"}]});
    let source = place.publish("Parrot-GGUF", &[("parrot.gguf", "parrot")]);
    let create = async |name: &str, rest: Value| {
        let spec = crate::support::merge(&json!({"model": {"source": source}, "pod": pod}), &rest);
        place.create("ModelDeployment", name, json!({"spec": spec})).await
    };
    let secret =
        json!({"type": "bonafide.dev/source", "stringData": {"token": TOKEN, "hosts": place.world.hub.addr.to_string()}});
    place.create("Secret", "token", secret).await;
    create("parrot", json!({})).await;
    let engine = json!({"contextLength": 2048, "args": ["--threads=2"], "env": [{"name": "OMP_NUM_THREADS", "value": "2"}]});
    create(
        "everything",
        json!({"model": {"secretRef": {"name": "token"}, "servedNames": ["a", "b/c"]}, "engine": engine, "replicas": 2}),
    )
    .await;
    create("asleep", json!({"replicas": 0})).await;
    let tensors = place.publish("Tensors", &[("config.json", "{}"), ("model.safetensors", "tensors"), ("tokenizer.json", "{}")]);
    create("green", json!({"model": {"source": tensors}, "resources": {"accelerator": {"class": "nvidia", "count": 2}}})).await;
    create("changing", json!({"replicas": 2})).await;
    for (name, replicas) in [("parrot", 1), ("everything", 2), ("changing", 2)] {
        let look = async || {
            let ready = place.of("Pod", name).await.iter().filter(|pod| is(pod, "Ready")).count();
            let said = || place.get("ModelDeployment", name);
            if ready == replicas { Ok(()) } else { Err(format!("{ready} of {replicas}: {}", said().await.unwrap()["status"])) }
        };
        place.world.eventually(&format!("{name} answers"), look).await;
    }
    place.let_in("green", 1).await;
    place.change("ModelDeployment", "changing", json!({"spec": {"model": {"servedNames": ["stuck"]}}})).await;
    let running = |pod: &Value| text(&pod["status"]["phase"]) == "Running";
    let look = async || {
        let pods = place.of("Pod", "changing").await;
        if pods.iter().filter(|pod| running(pod)).count() == 3 { Ok(()) } else { Err(format!("{} pods", pods.len())) }
    };
    place.world.eventually("both revisions of changing are there", look).await;
}
