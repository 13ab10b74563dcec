//! What a policy demands decides what is served, and says so.

use serde_json::{Value, json};

use super::{
    place::{NAME, Place, condition, gated, text},
    world::World,
};
use crate::support::signer::Person;

const FILES: &[(&str, &str)] = &[("parrot.gguf", "the weights of a parrot"), ("LICENSE", "birds only")];

/// Only what the first person signed is served.
fn signed_by_the_first() -> Value {
    json!({
        "signers": [{"name": "keeper", "publicKey": {"pem": Person::new(1).pem()}}, {"name": "guest", "publicKey": {"pem": Person::new(2).pem()}}],
        "rules": [{"name": "birds", "sources": {"include": ["hf://**"]}, "signedBy": [{"name": "keeper", "anyOf": ["keeper"]}]}],
    })
}

async fn deploy(place: &Place<'_>, files: &[(&str, &str)], signature: Option<&str>) {
    let mut all = files.to_vec();
    all.extend(signature.map(|signature| ("model.sig", signature)));
    let source = place.publish("Parrot-GGUF", &all);
    place.create("ModelDeployment", NAME, json!({"spec": {"model": {"source": source}}})).await;
}

/// Nothing of it runs or could run.
async fn nothing_is_served(place: &Place<'_>) {
    for kind in ["ControllerRevision", "ConfigMap", "Service", "Deployment", "ReplicaSet", "Pod"] {
        assert_eq!(place.of(kind, NAME).await, Vec::<Value>::new(), "{kind}");
    }
}

#[tokio::test]
async fn an_unsigned_model_is_refused_and_nothing_of_it_is_started() {
    let place = Place::new(World::shared()).await;
    let policy = place.policy(signed_by_the_first()).await;
    deploy(&place, FILES, None).await;
    let object = place.condition(NAME, "Trusted", "False", "Unsigned").await;
    assert_eq!((&object["status"]["trust"], &object["status"]["state"]), (&json!("Refused"), &json!("Blocked")));
    for (kind, status) in [("Ready", "False"), ("Stalled", "True"), ("Reconciling", "False"), ("SourceResolved", "True")] {
        assert_eq!(condition(&object, kind).unwrap()["status"], status, "{kind}");
    }
    assert!(text(&object["status"]["why"]).starts_with("Unsigned: "), "{}", object["status"]["why"]);
    nothing_is_served(&place).await;
    let record = place.get("ModelArtifact", &text(&object["status"]["model"]["artifact"])).await.unwrap();
    let verdict = &record["status"]["verdicts"][0];
    assert_eq!(
        (&verdict["name"], &verdict["result"], &verdict["reason"]),
        (&json!(policy), &json!("Refused"), &json!("Unsigned"))
    );

    let look = async || {
        let events = place.api("Event").list(&Default::default()).await.unwrap().items;
        let told = |event: &kube::api::DynamicObject| {
            let (data, about) = (&event.data, &event.data["regarding"]);
            data["reason"] == "Unsigned"
                && data["type"] == "Warning"
                && about["name"] == NAME
                && about["kind"] == "ModelDeployment"
                && data["reportingController"] == "bonafide"
        };
        if events.iter().any(told) { Ok(()) } else { Err(format!("{events:?}")) }
    };
    place.world.eventually("an Event warns of it", look).await;
}

#[tokio::test]
async fn a_signed_model_is_served_and_its_signer_is_named() {
    let place = Place::new(World::shared()).await;
    let policy = place.policy(signed_by_the_first()).await;
    deploy(&place, FILES, Some(&Person::new(1).signs(FILES))).await;
    place.let_in(NAME, 1).await;
    let object = place.condition(NAME, "Trusted", "True", "Signed").await;
    assert_eq!((&object["status"]["trust"], &object["status"]["signer"]), (&json!("Signed"), &json!("keeper")));
    let record = place.get("ModelArtifact", &text(&object["status"]["model"]["artifact"])).await.unwrap();
    assert_eq!(record["spec"]["bundles"][0]["from"], "model.sig");
    let verdict = &record["status"]["verdicts"][0];
    assert_eq!(
        (&verdict["name"], &verdict["result"], &verdict["signers"]),
        (&json!(policy), &json!("Trusted"), &json!(["keeper"]))
    );
}

#[tokio::test]
async fn a_model_that_somebody_else_signed_is_refused() {
    let place = Place::new(World::shared()).await;
    place.policy(signed_by_the_first()).await;
    deploy(&place, FILES, Some(&Person::new(2).signs(FILES))).await;
    let object = place.condition(NAME, "Trusted", "False", "WrongSigner").await;
    assert_eq!(object["status"]["trust"], "Refused");
    nothing_is_served(&place).await;
}

#[tokio::test]
async fn a_file_that_is_not_what_was_signed_is_refused_by_name() {
    let place = Place::new(World::shared()).await;
    place.policy(signed_by_the_first()).await;
    let tampered = [("parrot.gguf", "the weights of a cuckoo"), FILES[1]];
    deploy(&place, &tampered, Some(&Person::new(1).signs(FILES))).await;
    let object = place.condition(NAME, "Trusted", "False", "DigestMismatch").await;
    assert!(text(&condition(&object, "Trusted").unwrap()["message"]).contains("parrot.gguf"), "{object}");
    nothing_is_served(&place).await;
}

#[tokio::test]
async fn a_pin_holds_its_content_and_no_other() {
    let place = Place::new(World::shared()).await;
    let source = place.publish("Parrot-GGUF", FILES);
    place.create("ModelDeployment", "right", json!({"spec": {"model": {"source": source}}})).await;
    let digest = place
        .until("ModelDeployment", "right", "is resolved", |object| object["status"]["model"]["digest"].is_string())
        .await["status"]["model"]["digest"]
        .clone();
    place.change("ModelDeployment", "right", json!({"spec": {"model": {"digest": digest}}})).await;
    let object = place.condition("right", "Trusted", "True", "Pinned").await;
    assert_eq!(object["status"]["trust"], "Pinned");
    let other = format!("sha256:{}", "5".repeat(64));
    place.create("ModelDeployment", NAME, json!({"spec": {"model": {"source": source, "digest": other}}})).await;
    place.condition(NAME, "Trusted", "False", "PinMismatch").await;
    nothing_is_served(&place).await;
}

#[tokio::test]
async fn bytes_that_are_denied_are_refused_whoever_signed_them() {
    let place = Place::new(World::shared()).await;
    place.policy(signed_by_the_first()).await;
    let denied = json!([{"name": "cuckoo", "fileDigests": [bonafide::model::Digest::of(FILES[0].1).to_string()], "reason": "withdrawn in May"}]);
    place.policy(json!({"unmatched": "Accept", "deny": denied})).await;
    deploy(&place, FILES, Some(&Person::new(1).signs(FILES))).await;
    let object = place.condition(NAME, "Trusted", "False", "Denied").await;
    assert!(text(&condition(&object, "Trusted").unwrap()["message"]).contains("withdrawn in May"), "{object}");
    nothing_is_served(&place).await;
}

#[tokio::test]
async fn after_a_policy_refuses_it_old_pods_stay_and_no_new_one_passes_the_gate() {
    let place = Place::new(World::shared()).await;
    deploy(&place, FILES, None).await;
    let old = place.let_in(NAME, 1).await.remove(0);
    let policy = place.policy(signed_by_the_first()).await;
    let object = place.condition(NAME, "Trusted", "False", "Unsigned").await;
    assert_eq!(object["status"]["trust"], "Refused");

    // More replicas are wanted: there are none.
    place.world.kubectl(&["scale", "mdep", NAME, "--replicas=3", "-n", &place.name]).await.unwrap();
    place
        .until("ModelDeployment", NAME, "is seen", |object| {
            object["status"]["observedGeneration"] == object["metadata"]["generation"]
        })
        .await;
    let pods = place.of("Pod", NAME).await;
    assert!(pods.len() == 1 && pods[0]["metadata"]["uid"] == old["metadata"]["uid"] && !gated(&pods[0]), "{pods:?}");

    // The pod dies: its successor waits, for as long as the policy says so.
    place.delete("Pod", &text(&old["metadata"]["name"])).await;
    let successor = async || {
        let pods = place.of("Pod", NAME).await;
        match pods.iter().find(|pod| pod["metadata"]["uid"] != old["metadata"]["uid"]) {
            Some(pod) => Ok(text(&pod["metadata"]["name"])),
            None => Err(format!("{} pods", pods.len())),
        }
    };
    let successor = place.world.eventually("the pod has a successor", successor).await;
    // A later object that is served shows that the operator had its turn since.
    place.create("ModelDeployment", "later", json!({"spec": {"model": {"source": "hf://nobody/nothing"}}})).await;
    place.until("ModelDeployment", "later", "has a status", |object| object["status"].is_object()).await;
    assert!(gated(&place.get("Pod", &successor).await.unwrap()), "{successor} passed the gate");

    place.delete("ClusterModelPolicy", &policy).await;
    place.let_in(NAME, 3).await;
    place.condition(NAME, "Trusted", "Unknown", "NoPolicy").await;
}

/// The operator may hear of the model before it hears of the policy: then it starts pods. None of them passes.
#[tokio::test]
async fn a_policy_holds_the_pods_of_every_model_that_came_after_it() {
    let place = Place::new(World::shared()).await;
    let mut spec = signed_by_the_first();
    spec["namespaceSelector"] = json!({"matchLabels": {"kubernetes.io/metadata.name": place.name}});
    place.create("ClusterModelPolicy", &World::unique("policy"), json!({"spec": spec})).await;
    for round in 0..5 {
        place.deploy(&format!("parrot-{round}")).await;
    }
    for round in 0..5 {
        let name = format!("parrot-{round}");
        place.condition(&name, "Trusted", "False", "Unsigned").await;
        let pods = place.of("Pod", &name).await;
        assert!(pods.iter().all(gated), "{pods:?}");
    }
}
