//! Policies: which namespaces they are for, and what becomes of those that cannot be used.

use serde_json::{Value, json};

use super::{
    place::{NAME, Place, condition, resource, text},
    world::{SYSTEM, World},
};
use crate::support::signer::Person;

const FILES: &[(&str, &str)] = &[("parrot.gguf", "the weights of a parrot")];

fn rules() -> Value {
    json!([{"name": "birds", "sources": {"include": ["hf://**"]}, "signedBy": [{"name": "keeper", "anyOf": ["keeper"]}]}])
}

async fn accepted(place: &Place<'_>, policy: &str, status: &str, reason: &str) -> Value {
    let is = |policy: &Value| condition(policy, "Accepted").is_some_and(|c| c["status"] == status && c["reason"] == reason);
    place.until("ClusterModelPolicy", policy, &format!("is Accepted={status} ({reason})"), is).await
}

#[tokio::test]
async fn a_policy_is_for_the_namespaces_with_its_labels_from_the_moment_they_have_them() {
    let world = World::shared();
    let (inside, outside) = (Place::new(world).await, Place::new(world).await);
    let tier = World::unique("tier");
    let name = World::unique("policy");
    let key = json!([{"name": "keeper", "publicKey": {"pem": Person::new(1).pem()}}]);
    let spec = json!({"namespaceSelector": {"matchExpressions": [{"key": "tier", "operator": "In", "values": [tier]}]}, "signers": key, "rules": rules()});
    inside.create("ClusterModelPolicy", &name, json!({"spec": spec})).await;
    accepted(&inside, &name, "True", "Accepted").await;
    for place in [&inside, &outside] {
        let source = place.publish("Parrot-GGUF", FILES);
        place.create("ModelDeployment", NAME, json!({"spec": {"model": {"source": source}}})).await;
        place.condition(NAME, "Trusted", "Unknown", "NoPolicy").await;
    }
    inside.change("Namespace", &inside.name, json!({"metadata": {"labels": {"tier": tier}}})).await;
    inside.condition(NAME, "Trusted", "False", "Unsigned").await;
    outside.condition(NAME, "Trusted", "Unknown", "NoPolicy").await;
    inside.change("Namespace", &inside.name, json!({"metadata": {"labels": {"tier": null}}})).await;
    inside.condition(NAME, "Trusted", "Unknown", "NoPolicy").await;
}

#[tokio::test]
async fn with_a_policy_that_cannot_be_used_nothing_new_is_served_where_it_is_for() {
    let world = World::shared();
    let (inside, outside) = (Place::new(world).await, Place::new(world).await);
    let broken =
        json!([{"name": "keeper", "publicKey": {"pem": "-----BEGIN PUBLIC KEY-----\nbm90IGEga2V5\n-----END PUBLIC KEY-----\n"}}]);
    let policy = inside.policy(json!({"signers": broken, "rules": rules()})).await;
    let object = accepted(&inside, &policy, "False", "InvalidKey").await;
    assert!(text(&condition(&object, "Accepted").unwrap()["message"]).contains("keeper"), "{object}");
    for place in [&inside, &outside] {
        let source = place.publish("Parrot-GGUF", &[FILES[0], ("model.sig", &Person::new(1).signs(FILES))]);
        place.create("ModelDeployment", NAME, json!({"spec": {"model": {"source": source}}})).await;
    }
    let object = inside.condition(NAME, "Trusted", "False", "PolicyNotAccepted").await;
    assert!(text(&condition(&object, "Trusted").unwrap()["message"]).contains(&policy), "{object}");
    assert!(inside.of("Deployment", NAME).await.is_empty());
    outside.let_in(NAME, 1).await;
    // It is mended, and everything goes on by itself.
    inside
        .change(
            "ClusterModelPolicy",
            &policy,
            json!({"spec": {"signers": [{"name": "keeper", "publicKey": {"pem": Person::new(1).pem()}}]}}),
        )
        .await;
    accepted(&inside, &policy, "True", "Accepted").await;
    inside.let_in(NAME, 1).await;
    inside.condition(NAME, "Trusted", "True", "Signed").await;
}

#[tokio::test]
async fn names_and_patterns_that_cannot_be_used_are_told_apart() {
    let place = Place::new(World::shared()).await;
    let key = json!([{"name": "keeper", "publicKey": {"pem": Person::new(1).pem()}}]);
    let stranger =
        json!([{"name": "birds", "sources": {"include": ["hf://**"]}, "signedBy": [{"name": "k", "anyOf": ["stranger"]}]}]);
    let pattern =
        json!([{"name": "birds", "sources": {"include": ["hf://a/[b]"]}, "signedBy": [{"name": "k", "anyOf": ["keeper"]}]}]);
    for (rules, reason) in [(stranger, "UnknownSigner"), (pattern, "InvalidPattern")] {
        let policy = place.policy(json!({"signers": key, "rules": rules})).await;
        accepted(&place, &policy, "False", reason).await;
    }
}

#[tokio::test]
async fn a_key_may_be_in_a_secret_beside_the_operator_and_may_come_later() {
    let place = Place::new(World::shared()).await;
    let secret = World::unique("keys");
    let key = json!([{"name": "keeper", "publicKey": {"secretKeyRef": {"name": secret, "key": "keeper.pem"}}}]);
    let policy = place.policy(json!({"signers": key, "rules": rules()})).await;
    let object = accepted(&place, &policy, "False", "SecretNotFound").await;
    assert!(text(&condition(&object, "Accepted").unwrap()["message"]).contains(&secret), "{object}");
    let source = place.publish("Parrot-GGUF", &[FILES[0], ("model.sig", &Person::new(1).signs(FILES))]);
    place.create("ModelDeployment", NAME, json!({"spec": {"model": {"source": source}}})).await;
    place.condition(NAME, "Trusted", "False", "PolicyNotAccepted").await;

    let object = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": secret, "namespace": SYSTEM}, "stringData": {"keeper.pem": Person::new(1).pem()}});
    let secrets = kube::Api::<kube::api::DynamicObject>::namespaced_with(place.client.clone(), SYSTEM, &resource("Secret"));
    secrets.create(&Default::default(), &super::place::parse(object)).await.unwrap();
    // Secrets are not watched: they are read again every half minute.
    let is = async || match place.get("ClusterModelPolicy", &policy).await {
        Some(found) if condition(&found, "Accepted").is_some_and(|c| c["status"] == "True") => Ok(()),
        found => Err(format!("{found:?}")),
    };
    place.world.within(std::time::Duration::from_secs(60), "the policy is accepted", is).await;
    place.let_in(NAME, 1).await;
    place.condition(NAME, "Trusted", "True", "Signed").await;
}

#[tokio::test]
async fn no_namespace_reads_the_secrets_of_another() {
    let place = Place::new(World::shared()).await;
    let secret = World::unique("keys");
    // The Secret is in the namespace of the model, and the policy means the one beside the operator.
    place.create("Secret", &secret, json!({"stringData": {"keeper.pem": Person::new(1).pem()}})).await;
    let key = json!([{"name": "keeper", "publicKey": {"secretKeyRef": {"name": secret, "key": "keeper.pem"}}}]);
    let policy = place.policy(json!({"signers": key, "rules": rules()})).await;
    accepted(&place, &policy, "False", "SecretNotFound").await;
}
