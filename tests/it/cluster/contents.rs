//! What a policy asks beside signatures: which contents, from where, of which formats, for which engine.

use serde_json::{Value, json};

use super::{
    place::{NAME, Place, condition, text},
    world::World,
};

const FILES: &[(&str, &str)] = &[("parrot.gguf", "the weights of a parrot"), ("LICENSE", "birds only")];

async fn deploy(place: &Place<'_>, files: &[(&str, &str)]) -> String {
    let source = place.publish("Parrot-GGUF", files);
    place.create("ModelDeployment", NAME, json!({"spec": {"model": {"source": source}}})).await;
    source
}

fn message(object: &Value) -> String {
    text(&condition(object, "Trusted").unwrap()["message"])
}

#[tokio::test]
async fn a_rule_that_names_contents_serves_them_and_nothing_else_from_there() {
    let place = Place::new(World::shared()).await;
    let rule = |digest: &str| json!({"rules": [{"name": "birds", "sources": {"include": ["hf://**"]}, "digests": [digest]}]});
    let policy = place.policy(rule(&format!("sha256:{}", "5".repeat(64)))).await;
    deploy(&place, FILES).await;
    let object = place.condition(NAME, "Trusted", "False", "ContentNotListed").await;
    let digest = text(&object["status"]["model"]["digest"]);
    assert!(message(&object).contains(&digest), "{object}");
    place.change("ClusterModelPolicy", &policy, json!({"spec": rule(&digest)})).await;
    let object = place.condition(NAME, "Trusted", "True", "Pinned").await;
    assert_eq!(object["status"]["trust"], "Pinned");
    place.let_in(NAME, 1).await;
}

#[tokio::test]
async fn an_origin_is_recalled_by_its_revision_and_by_its_name() {
    let place = Place::new(World::shared()).await;
    let source = deploy(&place, FILES).await;
    place.let_in(NAME, 1).await;
    let object = place.condition(NAME, "Trusted", "Unknown", "NoPolicy").await;
    let commit = object["status"]["model"]["revision"].clone();
    let deny = |entry: Value| json!({"unmatched": "Accept", "deny": [entry]});
    let recall = json!({"name": "unlearn", "source": source, "revision": commit, "reason": "must be unlearned"});
    let policy = place.policy(deny(recall)).await;
    let object = place.condition(NAME, "Trusted", "False", "Denied").await;
    assert!(message(&object).contains("is a revision which") && message(&object).contains("must be unlearned"), "{object}");
    // Its successor is served, until nothing from there is.
    place.publish("Parrot-GGUF", &[("parrot.gguf", "the weights of a wiser parrot"), FILES[1]]);
    place.change("ModelDeployment", NAME, json!({"metadata": {"annotations": {"bonafide.dev/refresh": "1"}}})).await;
    place.condition(NAME, "Trusted", "Unknown", "NoPolicy").await;
    let shouted = json!({"name": "unlearn", "source": source.to_ascii_uppercase().replace("HF://", "hf://")});
    place.change("ClusterModelPolicy", &policy, json!({"spec": deny(shouted)})).await;
    let object = place.condition(NAME, "Trusted", "False", "Denied").await;
    assert!(message(&object).contains("is a source which"), "{object}");
}

#[tokio::test]
async fn formats_are_asked_for_by_name_at_once_and_by_their_bytes_before_they_are_mounted() {
    let place = Place::new(World::shared()).await;
    let policy = place.policy(json!({"unmatched": "Accept", "formats": ["safetensors"]})).await;
    deploy(&place, FILES).await;
    let object = place.condition(NAME, "Trusted", "False", "FormatNotAllowed").await;
    assert!(message(&object).starts_with("parrot.gguf: "), "{object}");
    place.change("ClusterModelPolicy", &policy, json!({"spec": {"formats": ["safetensors", "gguf"]}})).await;
    place.let_in(NAME, 1).await;
    let config = place.of("ConfigMap", NAME).await;
    assert_eq!(config[0]["data"]["checks.json"], r#"{"formats":true}"#, "the pods are told");
}

#[tokio::test]
async fn an_engine_whose_image_no_policy_names_gets_no_weights() {
    let place = Place::new(World::shared()).await;
    let image = format!("ghcr.io/birds/cage@sha256:{}", "5".repeat(64));
    place.policy(json!({"unmatched": "Accept", "engines": {"images": [image]}})).await;
    deploy(&place, FILES).await;
    let object = place.condition(NAME, "Trusted", "False", "EngineNotAllowed").await;
    assert!(message(&object).contains("engines.images"), "{object}");
    assert_eq!(place.of("Pod", NAME).await, Vec::<Value>::new());
}
