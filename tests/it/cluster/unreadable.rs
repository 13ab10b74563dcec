//! Objects that this version cannot read, as a newer one might have left them, never stop the others.

use serde_json::{Value, json};

use super::{
    place::{NAME, Place, condition, text},
    world::World,
};
use crate::support::signer::Person;

/// Takes the schema away from one field of a definition.
async fn widen(place: &Place<'_>, definition: &str, field: &str) {
    let path = format!("/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/{field}");
    let patch = json!([{"op": "replace", "path": path, "value": {"x-kubernetes-preserve-unknown-fields": true}}]).to_string();
    place.world.kubectl(&["patch", "crd", definition, "--type=json", "-p", &patch]).await.unwrap();
    // It takes a moment until every part of the API server knows.
    let look = async || {
        let kubectl = ["get", "crd", definition, "-o", "jsonpath={.status.conditions[?(@.type==\"Established\")].status}"];
        let established = place.world.kubectl(&kubectl).await?;
        if established == "True" { Ok(()) } else { Err(established) }
    };
    place.world.eventually("the definition is established", look).await;
}

/// Creates an object, as soon as the wider schema lets it pass.
async fn create(place: &Place<'_>, kind: &str, name: &str, spec: Value) {
    let object = json!({"apiVersion": "bonafide.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec});
    let look = async || {
        place.api(kind).create(&Default::default(), &super::place::parse(object.clone())).await.map_err(|error| error.to_string())
    };
    place.world.eventually(&format!("{kind} {name} can be created"), look).await;
}

#[tokio::test]
async fn an_object_that_cannot_be_read_says_so_and_the_others_go_on() {
    let world = World::with_operator().await;
    let place = Place::new(&world).await;
    place.deploy("earlier").await;
    place.let_in("earlier", 1).await;
    for (definition, field) in [("modeldeployments", "engine"), ("clustermodelpolicies", "mode"), ("inferenceengines", "port")] {
        widen(&place, &format!("{definition}.bonafide.dev"), field).await;
    }

    create(&place, "ModelDeployment", "newer", json!({"model": {"source": "hf://a/b"}, "engine": "vllm"})).await;
    let object = place.condition("newer", "Ready", "False", "InvalidSpec").await;
    let message = text(&condition(&object, "Ready").unwrap()["message"]);
    assert!(message.contains("cannot read the object") && message.contains("Engine"), "{message}");
    assert_eq!(condition(&object, "Stalled").unwrap()["status"], "True");
    place.deploy(NAME).await;
    place.let_in(NAME, 1).await;

    create(&place, "InferenceEngine", "newer", json!({"version": "1", "port": "auto", "images": [{"accelerator": "none", "image": "a"}], "loads": [{"format": "gguf", "files": ["*.gguf"], "choose": "One"}], "probes": {"ready": "/"}})).await;
    place.deploy("despite-an-engine").await;
    place.let_in("despite-an-engine", 1).await;

    // Nobody knows for which namespaces such a policy is: nothing new is served anywhere, and what was served stays.
    create(
        &place,
        "ClusterModelPolicy",
        "newer",
        json!({"mode": {"later": true}, "namespaceSelector": {"matchLabels": {"none": "such"}}}),
    )
    .await;
    let object = place.condition(NAME, "Trusted", "False", "PolicyUnreadable").await;
    assert!(text(&condition(&object, "Trusted").unwrap()["message"]).contains("newer"), "{object}");
    place.let_in(NAME, 1).await;
    place.deploy("too-late").await;
    place.condition("too-late", "Trusted", "False", "PolicyUnreadable").await;
    assert!(place.of("Deployment", "too-late").await.is_empty());
    place.delete("ClusterModelPolicy", "newer").await;
    place.let_in("too-late", 1).await;

    // An object that becomes unreadable keeps what it has.
    place.change("ModelDeployment", "earlier", json!({"spec": {"engine": "vllm"}})).await;
    place.condition("earlier", "Ready", "False", "InvalidSpec").await;
    place.let_in("earlier", 1).await;
    place.change("ModelDeployment", "earlier", json!({"spec": {"engine": null}})).await;
    place.condition("earlier", "Ready", "False", "Unschedulable").await;
    let key = Person::new(1).pem();
    place.policy(json!({"signers": [{"name": "keeper", "publicKey": {"pem": key}}]})).await;
    place.condition("earlier", "Trusted", "False", "NoMatchingRule").await;
}
