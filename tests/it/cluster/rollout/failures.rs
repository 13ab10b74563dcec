//! What goes wrong, and what stays.

use serde_json::json;

use super::{
    super::place::NAME,
    node::{has, is},
    stage::Stage,
};

#[tokio::test]
async fn a_rollout_that_fails_stays_on_the_old_revision_and_is_tried_again_when_somebody_says_so() {
    let stage = Stage::new(6).await;
    stage.deploy(NAME, 2, &["--threads=1"], json!({"deadline": "6s"})).await;
    stage.serves("--threads=1", 2).await;
    stage.watch();
    stage.args(&["--mode=stuck"]).await;
    let said = stage.says("Ready", "False", "RolloutFailed").await;
    assert!(said.contains("did not answer with its next replica within 6s") && said.contains("bonafide rollout retry"), "{said}");
    stage.serves("--threads=1", 2).await;
    assert_eq!(stage.seen().0, 2, "a replica that answered was lost");
    let status = stage.status().await;
    assert_eq!((&status["state"], &status["ready"]), (&json!("Degraded"), &json!("2/2")));
    // The old one follows the number that is wanted; what failed is not tried again for that.
    stage.change(json!({"spec": {"replicas": 1}})).await;
    stage.serves("--threads=1", 1).await;
    stage.says("Ready", "False", "RolloutFailed").await;
    // Somebody asks for it.
    stage.change(json!({"metadata": {"annotations": {"bonafide.dev/refresh": "1"}}})).await;
    stage.pods_are("it is tried again", |pods| pods.iter().any(|pod| has(pod, "--mode=stuck"))).await;
    // Something else is wished for.
    stage.args(&["--threads=3"]).await;
    stage.serves("--threads=3", 1).await;
    stage.says("Ready", "True", "Ready").await;
}

#[tokio::test]
async fn a_share_whose_engine_stops_is_taken_back_by_itself() {
    let stage = Stage::new(8).await;
    stage.deploy(NAME, 2, &["--threads=1"], json!({"strategy": "Canary", "canary": {"percent": 10, "hold": "60s"}})).await;
    stage.serves("--threads=1", 2).await;
    stage.watch();
    stage.args(&["--mode=crash"]).await;
    let said = stage.says("Ready", "False", "RolloutFailed").await;
    assert!(said.contains("stopped") && said.contains("while it was on trial"), "{said}");
    stage.serves("--threads=1", 2).await;
    assert_eq!(stage.seen().0, 2);
}

#[tokio::test]
async fn an_engine_that_says_it_is_ready_and_does_not_answer_gets_no_requests() {
    let stage = Stage::new(6).await;
    stage.deploy(NAME, 1, &["--threads=1"], json!({})).await;
    stage.serves("--threads=1", 1).await;
    stage.args(&["--mode=silent"]).await;
    let said = stage.says("Ready", "False", "AnswerFailing").await;
    assert!(said.contains("/v1/completions answers 500") && said.contains("no idea"), "{said}");
    let pods = stage.pods().await;
    assert!(pods.iter().any(|pod| has(pod, "--threads=1") && is(pod, "Ready")), "the old one went");
    assert!(pods.iter().all(|pod| !has(pod, "--mode=silent") || !is(pod, "bonafide.dev/Vouched")), "it was vouched for");
}

#[tokio::test]
async fn a_pod_that_the_policies_refuse_is_not_vouched_for() {
    let stage = Stage::new(6).await;
    // Its gate is lifted, and it loads.
    stage.deploy(NAME, 1, &["--mode=silent"], json!({})).await;
    stage.says("Ready", "False", "AnswerFailing").await;
    let refusing = json!({"rules": [{"name": "k", "sources": {"include": ["hf://**"]}, "signedBy": [{"name": "k", "anyOf": ["keeper"]}]}],
        "signers": [{"name": "keeper", "publicKey": {"pem": crate::support::signer::Person::new(1).pem()}}]});
    let policy = stage.place.policy(refusing).await;
    stage.says("Trusted", "False", "Unsigned").await;
    // Now it answers, and nothing but the policy speaks against it.
    stage.talk();
    tokio::time::sleep(std::time::Duration::from_secs(12)).await;
    let pods = stage.pods().await;
    assert!(pods.len() == 1 && !is(&pods[0], "bonafide.dev/Vouched") && !is(&pods[0], "Ready"), "{pods:?}");
    stage.place.delete("ClusterModelPolicy", &policy).await;
    stage.serves("--mode=silent", 1).await;
}

#[tokio::test]
async fn what_is_deleted_while_it_is_rolled_out_leaves_nothing() {
    let stage = Stage::new(6).await;
    stage.deploy(NAME, 1, &["--threads=1"], json!({})).await;
    stage.serves("--threads=1", 1).await;
    stage.args(&["--mode=stuck"]).await;
    stage.pods_are("both are there", |pods| pods.len() == 2).await;
    stage.place.delete("ModelDeployment", NAME).await;
    super::super::children::gone(&stage.place, NAME).await;
}
