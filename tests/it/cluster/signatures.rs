//! ModelSignatures: signatures that are delivered apart from the model, and the file that a ModelDeployment names.

use serde_json::{Value, json};

use super::{
    place::{NAME, Place, condition, text},
    world::World,
};
use crate::support::signer::Person;

const FILES: &[(&str, &str)] = &[("parrot.gguf", "the weights of a parrot")];

/// A policy that demands the signatures of all of these people.
async fn demand(place: &Place<'_>, mode: &str, people: &[(&str, u8)]) -> String {
    let signers: Vec<Value> =
        people.iter().map(|(name, number)| json!({"name": name, "publicKey": {"pem": Person::new(*number).pem()}})).collect();
    let signed_by: Vec<Value> = people.iter().map(|(name, _)| json!({"name": name, "anyOf": [name]})).collect();
    let rules = json!([{"name": "birds", "sources": {"include": ["hf://**"]}, "signedBy": signed_by}]);
    place.policy(json!({"mode": mode, "signers": signers, "rules": rules})).await
}

#[tokio::test]
async fn a_signature_that_is_delivered_opens_the_gate_and_one_that_goes_closes_it() {
    let place = Place::new(World::shared()).await;
    demand(&place, "Enforce", &[("keeper", 1), ("vet", 2)]).await;
    // The keeper's signature lies beside the model, the vet's approval comes later.
    let source = place.publish("Parrot-GGUF", &[FILES[0], ("model.sig", &Person::new(1).signs(FILES))]);
    place.create("ModelDeployment", NAME, json!({"spec": {"model": {"source": source}}})).await;
    let object = place.condition(NAME, "Trusted", "False", "WrongSigner").await;
    assert!(place.of("Deployment", NAME).await.is_empty());
    let digest = text(&object["status"]["model"]["digest"]);

    // About another content, or by somebody else, or in another namespace: it changes nothing.
    let other = format!("sha256:{}", "0".repeat(64));
    let vets = Person::new(2).signs(FILES);
    place.create("ModelSignature", "of-another", json!({"spec": {"digest": other, "bundle": vets}})).await;
    place.create("ModelSignature", "stranger", json!({"spec": {"digest": digest, "bundle": Person::new(9).signs(FILES)}})).await;
    let elsewhere = Place::new(place.world).await;
    elsewhere.create("ModelSignature", "approval", json!({"spec": {"digest": digest, "bundle": vets}})).await;
    place.change("ModelDeployment", NAME, json!({"metadata": {"annotations": {"look": "again"}}})).await;
    place.condition(NAME, "Trusted", "False", "WrongSigner").await;

    place.create("ModelSignature", "approval", json!({"spec": {"digest": digest, "bundle": vets}})).await;
    place.condition(NAME, "Trusted", "True", "Signed").await;
    place.let_in(NAME, 1).await;
    let object = place.get("ModelDeployment", NAME).await.unwrap();
    assert_eq!(object["status"]["signer"], "keeper,vet");
    for (place, name, reason) in
        [(&place, "approval", "Accepted"), (&place, "of-another", "Unused"), (&elsewhere, "approval", "Unused")]
    {
        let is = |object: &Value| condition(object, "Accepted").is_some_and(|c| c["status"] == "True" && c["reason"] == reason);
        place.until("ModelSignature", name, &format!("is {reason}"), is).await;
    }

    // Changed into something else, it is none any more; mended, it is one again; deleted, it is gone.
    place.change("ModelSignature", "approval", json!({"spec": {"bundle": Person::new(9).signs(FILES)}})).await;
    place.condition(NAME, "Trusted", "False", "WrongSigner").await;
    place.change("ModelSignature", "approval", json!({"spec": {"bundle": vets}})).await;
    place.condition(NAME, "Trusted", "True", "Signed").await;
    place.delete("ModelSignature", "approval").await;
    place.condition(NAME, "Trusted", "False", "WrongSigner").await;
}

#[tokio::test]
async fn the_file_that_is_named_is_the_signature_and_no_other() {
    let place = Place::new(World::shared()).await;
    demand(&place, "Enforce", &[("keeper", 1)]).await;
    let (keepers, strangers) = (Person::new(1).signs(FILES), Person::new(9).signs(FILES));
    let source = place.publish("Parrot-GGUF", &[FILES[0], ("model.sig", &strangers), ("signatures/keeper.json", &keepers)]);
    let model = json!({"source": source, "signature": {"file": "signatures/none.json"}});
    place.create("ModelDeployment", NAME, json!({"spec": {"model": model}})).await;
    let object = place.condition(NAME, "Trusted", "False", "Unsigned").await;
    assert!(text(&condition(&object, "Trusted").unwrap()["message"]).contains("signatures/none.json"), "{object}");
    place.change("ModelDeployment", NAME, json!({"spec": {"model": {"signature": {"file": "signatures/keeper.json"}}}})).await;
    place.condition(NAME, "Trusted", "True", "Signed").await;
    place.change("ModelDeployment", NAME, json!({"spec": {"model": {"signature": null}}})).await;
    place.condition(NAME, "Trusted", "False", "WrongSigner").await;
}

#[tokio::test]
async fn a_policy_that_warns_serves_and_says_so_and_one_that_audits_only_records() {
    let place = Place::new(World::shared()).await;
    let policy = demand(&place, "Audit", &[("keeper", 1)]).await;
    let source = place.publish("Parrot-GGUF", FILES);
    place.create("ModelDeployment", NAME, json!({"spec": {"model": {"source": source}}})).await;
    place.let_in(NAME, 1).await;
    let object = place.condition(NAME, "Trusted", "False", "Unsigned").await;
    assert_eq!(object["status"]["trust"], "Unsigned");
    let events = async || -> Vec<Value> {
        let found = place.api("Event").list(&Default::default()).await.unwrap().items;
        found.into_iter().map(super::place::value).filter(|event| event["action"] == "Trusted").collect()
    };
    let artifact = text(&object["status"]["model"]["artifact"]);
    place
        .until("ModelArtifact", &artifact, "records it", |artifact| artifact["status"]["verdicts"][0]["result"] == "Unsigned")
        .await;
    assert_eq!(events().await, Vec::<Value>::new(), "what is only recorded calls nobody");

    // The reason stays the same, and now people are to hear of it.
    place.change("ClusterModelPolicy", &policy, json!({"spec": {"mode": "Warn"}})).await;
    let warned = |object: &Value| condition(object, "Trusted").is_some_and(|c| text(&c["message"]).contains("only warns"));
    let object = place.until("ModelDeployment", NAME, "is warned of", warned).await;
    assert_eq!(condition(&object, "Trusted").unwrap()["reason"], "Unsigned");
    assert_eq!(place.get("ModelDeployment", NAME).await.unwrap()["status"]["trust"], "Unsigned");
    let look = async || match events().await {
        found if found.iter().any(|event| event["reason"] == "Unsigned" && event["type"] == "Warning") => Ok(()),
        found => Err(format!("{found:?}")),
    };
    place.world.eventually("there is an Event", look).await;
}

#[tokio::test]
async fn reviewers_who_approve_a_content_open_the_gate_and_one_who_approved_another_does_not() {
    let place = Place::new(World::shared()).await;
    let signer = |name: &str, number: u8| json!({"name": name, "publicKey": {"pem": Person::new(number).pem()}});
    let signed_by = json!([
        {"name": "publisher", "anyOf": ["keeper"]},
        {"name": "review", "anyOf": ["ann", "bob"], "minimum": 2},
    ]);
    let rules = json!([{"name": "birds", "sources": {"include": ["hf://**"]}, "signedBy": signed_by}]);
    place.policy(json!({"signers": [signer("keeper", 1), signer("ann", 2), signer("bob", 3)], "rules": rules})).await;
    let source = place.publish("Parrot-GGUF", &[FILES[0], ("model.sig", &Person::new(1).signs(FILES))]);
    place.create("ModelDeployment", NAME, json!({"spec": {"model": {"source": source}}})).await;
    let object = place.condition(NAME, "Trusted", "False", "WrongSigner").await;
    let digest = text(&object["status"]["model"]["digest"]);

    let approval =
        |number: u8, content: &str| json!({"spec": {"digest": digest, "bundle": Person::new(number).approves(content)}});
    let other = format!("sha256:{}", "ab".repeat(32));
    place.create("ModelSignature", "ann", approval(2, &digest)).await;
    place.create("ModelSignature", "bob", approval(3, &other)).await;
    let object = place.condition(NAME, "Trusted", "False", "DigestMismatch").await;
    let why = text(&condition(&object, "Trusted").unwrap()["message"]);
    assert!(why.contains(&format!("bob's approval of {other}")) && why.contains(&digest), "{why}");
    let is = |object: &Value| condition(object, "Accepted").is_some_and(|c| c["reason"] == "DigestMismatch");
    place.until("ModelSignature", "bob", "is told that it is of another content", is).await;
    assert!(place.of("Deployment", NAME).await.is_empty());

    place.change("ModelSignature", "bob", approval(3, &digest)).await;
    place.condition(NAME, "Trusted", "True", "Signed").await;
}
