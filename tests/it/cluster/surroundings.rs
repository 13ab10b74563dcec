//! What a namespace brings with it: quotas, limits, defaults of pods.

use serde_json::json;

use super::{
    place::{NAME, Place, condition, text},
    world::World,
};

#[tokio::test]
async fn what_kubernetes_itself_adds_to_a_pod_is_no_objection() {
    let place = Place::new(World::shared()).await;
    let limits = json!({"type": "Container", "default": {"cpu": "2", "memory": "3Gi", "ephemeral-storage": "40Gi"},
        "defaultRequest": {"cpu": "150m", "memory": "256Mi", "ephemeral-storage": "1Gi"}});
    place.create("LimitRange", "limits", json!({"spec": {"limits": [limits]}})).await;
    place.until("ServiceAccount", "default", "exists", |_| true).await;
    place.change("ServiceAccount", "default", json!({"imagePullSecrets": [{"name": "corp"}]})).await;
    place.deploy(NAME).await;
    let pod = place.let_in(NAME, 1).await.remove(0);
    // It was there to be objected to.
    let container = &pod["spec"]["containers"][0]["resources"];
    assert_eq!((&container["limits"]["memory"], &container["requests"]["cpu"]), (&json!("3Gi"), &json!("150m")), "{pod}");
    assert_eq!(pod["spec"]["imagePullSecrets"], json!([{"name": "corp"}]));
    assert!(pod["spec"]["tolerations"].to_string().contains("node.kubernetes.io/not-ready"), "{pod}");
    place.condition(NAME, "Ready", "False", "Unschedulable").await;
}

#[tokio::test]
async fn a_quota_that_is_used_up_is_named() {
    let place = Place::new(World::shared()).await;
    place.create("ResourceQuota", "few", json!({"spec": {"hard": {"pods": "0"}}})).await;
    place.until("ResourceQuota", "few", "is counted", |quota| quota["status"]["used"]["pods"] == "0").await;
    place.deploy(NAME).await;
    let object = place.condition(NAME, "Ready", "False", "QuotaExceeded").await;
    let message = text(&condition(&object, "Ready").unwrap()["message"]);
    assert!(message.contains("few") && message.contains("Pods cannot be created"), "{message}");

    let other = Place::new(place.world).await;
    other.create("ResourceQuota", "none", json!({"spec": {"hard": {"count/services": "0"}}})).await;
    other.until("ResourceQuota", "none", "is counted", |quota| quota["status"]["used"]["count/services"] == "0").await;
    other.deploy(NAME).await;
    let object = other.condition(NAME, "Ready", "False", "QuotaExceeded").await;
    let message = text(&condition(&object, "Ready").unwrap()["message"]);
    assert!(message.contains(&format!("Service {NAME}")) && message.contains("none"), "{message}");
    // More is allowed, and it goes on by itself.
    other.change("ResourceQuota", "none", json!({"spec": {"hard": {"count/services": "5"}}})).await;
    other.let_in(NAME, 1).await;
}

#[tokio::test]
async fn a_namespace_with_the_restricted_profile_runs_models() {
    let place = Place::new(World::shared()).await;
    let profile = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}});
    place.change("Namespace", &place.name, profile).await;
    place.deploy(NAME).await;
    place.let_in(NAME, 1).await;
}

#[tokio::test]
async fn a_secret_that_is_missing_or_of_another_type_is_named_and_looked_for_again() {
    let place = Place::new(World::shared()).await;
    let source = place.publish("Parrot-GGUF", &[("parrot.gguf", "parrot")]);
    place.create("ModelDeployment", NAME, json!({"spec": {"model": {"source": source, "secretRef": {"name": "token"}}}})).await;
    let object = place.condition(NAME, "SourceResolved", "False", "SecretNotFound").await;
    assert!(text(&condition(&object, "SourceResolved").unwrap()["message"]).contains("no Secret token"), "{object}");
    place
        .create("Secret", "token", json!({"type": "Opaque", "stringData": {"token": "secret-of-somebody-else", "hosts": "h"}}))
        .await;
    let object = place.condition(NAME, "SourceResolved", "False", "SecretInvalid").await;
    assert!(!object.to_string().contains("secret-of-somebody-else"), "the token stands in the status");
    assert!(!place.world.operator().log().contains("secret-of-somebody-else"), "the token stands in the log");
}
