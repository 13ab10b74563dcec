//! What changes without a loss.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    super::place::{NAME, text},
    node::{has, is},
    stage::Stage,
};

#[tokio::test]
async fn a_surge_loses_no_replica_that_answers_and_says_why_it_is_done() {
    let stage = Stage::new(6).await;
    stage.deploy(NAME, 2, &["--threads=2"], json!({"strategy": "Surge"})).await;
    stage.serves("--threads=2", 2).await;
    stage.says("Ready", "True", "Ready").await;
    stage.watch();
    stage.args(&["--threads=4"]).await;
    stage.serves("--threads=4", 2).await;
    assert_eq!(stage.seen(), (2, 3), "fewest replicas that answered, most pods");
    stage.says("Ready", "True", "Ready").await;
    // Both are history or present, each with its reason and with what it was made from.
    let revisions = stage.place.of("ControllerRevision", NAME).await;
    let note = |number: i64, key: &str| {
        let revision = revisions.iter().find(|revision| revision["revision"] == number).unwrap();
        text(&revision["metadata"]["annotations"][format!("bonafide.dev/{key}")])
    };
    assert_eq!(note(1, "reason"), "It is the first revision.");
    assert_eq!(note(2, "reason"), "spec.engine.args: --threads=2 became --threads=4");
    let spec: Value = serde_json::from_str(&note(1, "spec")).unwrap();
    assert_eq!(spec["engine"]["args"], json!(["--threads=2"]));
    let told = |event: &Value| event["reason"] == "RollingOut" && text(&event["note"]).contains("--threads=2 became --threads=4");
    let events = stage.place.api("Event").list(&Default::default()).await.unwrap();
    assert!(events.items.into_iter().map(super::super::place::value).any(|event| told(&event)), "no Event says why");
    // Of the old one nothing else is left, and it comes back when it is wanted again.
    stage.place.child("Deployment", NAME).await;
    stage.place.child("ConfigMap", NAME).await;
    stage.args(&["--threads=2"]).await;
    stage.serves("--threads=2", 2).await;
    assert_eq!(stage.place.of("ControllerRevision", NAME).await.len(), 2, "the old revision was not used again");
}

#[tokio::test]
async fn on_a_full_node_replicas_are_replaced_one_by_one_and_that_is_said() {
    let stage = Stage::new(2).await;
    stage.deploy(NAME, 2, &["--threads=1"], json!({})).await;
    stage.serves("--threads=1", 2).await;
    stage.watch();
    stage.args(&["--threads=2"]).await;
    let look = async || {
        let said = stage.says("Reconciling", "True", "RollingOut").await;
        if said.contains("one by one, as no node has room for a replica more") { Ok(()) } else { Err(said) }
    };
    stage.place.world.within(Duration::from_secs(60), "one by one", look).await;
    stage.serves("--threads=2", 2).await;
    assert_eq!(stage.seen(), (1, 2), "fewest replicas that answered, most pods on the node");
}

#[tokio::test]
async fn one_by_one_is_kept_to_where_there_is_room_for_more() {
    let stage = Stage::new(6).await;
    stage.deploy(NAME, 2, &["--threads=1"], json!({"strategy": "OneByOne"})).await;
    stage.serves("--threads=1", 2).await;
    stage.watch();
    stage.args(&["--threads=2"]).await;
    stage.serves("--threads=2", 2).await;
    assert_eq!(stage.seen(), (1, 2), "fewest replicas that answered, most pods");
    stage.says("Ready", "True", "Ready").await;
}

#[tokio::test]
async fn a_share_goes_first_and_the_others_follow() {
    let stage = Stage::new(8).await;
    stage.deploy(NAME, 3, &["--threads=1"], json!({"strategy": "Canary", "canary": {"percent": 30, "hold": "12s"}})).await;
    stage.serves("--threads=1", 3).await;
    stage.watch();
    stage.args(&["--threads=2"]).await;
    let trial = |pods: &[Value]| pods.iter().filter(|pod| is(pod, "Ready") && has(pod, "--threads=2")).count() == 1;
    stage.pods_are("one of the new ones answers", trial).await;
    assert!(stage.says("Reconciling", "True", "RollingOut").await.contains("A share of 1"));
    tokio::time::sleep(Duration::from_secs(5)).await;
    let new = stage.pods().await.iter().filter(|pod| has(pod, "--threads=2")).count();
    assert_eq!(new, 1, "the others did not wait");
    stage.serves("--threads=2", 3).await;
    assert_eq!(stage.seen().0, 3);
}

#[tokio::test]
async fn who_is_to_go_is_unrouted_and_goes_when_its_engine_has_no_work() {
    let stage = Stage::new(8).await;
    stage.deploy(NAME, 3, &["--threads=1"], json!({})).await;
    stage.serves("--threads=1", 3).await;
    stage.busy(1);
    stage.change(json!({"spec": {"replicas": 1}})).await;
    let draining = |pod: &Value| !pod["metadata"]["annotations"]["bonafide.dev/draining"].is_null();
    let unrouted = |pods: &[Value]| pods.iter().filter(|pod| draining(pod) && !is(pod, "Ready")).count() == 2;
    let pods = stage.pods_are("two of them get no requests", unrouted).await;
    for pod in pods.iter().filter(|pod| draining(pod)) {
        let vouched =
            pod["status"]["conditions"].as_array().unwrap().iter().find(|c| c["type"] == "bonafide.dev/Vouched").unwrap();
        assert_eq!((&vouched["status"], &vouched["reason"]), (&json!("False"), &json!("Draining")));
        assert_eq!(pod["metadata"]["annotations"]["controller.kubernetes.io/pod-deletion-cost"], "-1000");
    }
    stage.says("Reconciling", "True", "Draining").await;
    tokio::time::sleep(Duration::from_secs(12)).await;
    assert_eq!(stage.pods().await.len(), 3, "somebody was stopped with work");
    // One is wanted again, and gets requests again.
    stage.change(json!({"spec": {"replicas": 2}})).await;
    let back = |pods: &[Value]| pods.iter().filter(|pod| !draining(pod) && is(pod, "Ready")).count() == 2;
    let stay: Vec<Value> =
        stage.pods_are("one was taken back", back).await.iter().filter(|pod| !draining(pod)).map(uid).collect();
    stage.busy(0);
    stage.serves("--threads=1", 2).await;
    let left: Vec<Value> = stage.pods().await.iter().map(uid).collect();
    assert!(left.iter().all(|uid| stay.contains(uid)), "somebody else went than was unrouted");
}

fn uid(pod: &Value) -> Value {
    pod["metadata"]["uid"].clone()
}

#[tokio::test]
async fn while_it_is_paused_nothing_is_rolled_out_and_what_serves_goes_on() {
    let stage = Stage::new(6).await;
    stage.deploy(NAME, 1, &["--threads=1"], json!({})).await;
    stage.serves("--threads=1", 1).await;
    let before = stage.place.versions(NAME).await;
    stage.change(json!({"spec": {"management": "Paused", "engine": {"args": ["--threads=2"]}, "replicas": 2}})).await;
    let said = stage.says("Reconciling", "False", "Paused").await;
    assert!(said.contains("spec.management is Paused"), "{said}");
    stage.says("Ready", "False", "Paused").await;
    stage.says("Available", "True", "Available").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(stage.place.versions(NAME).await, before, "something was written");
    // A pod that is lost is made again by its ReplicaSet, and is let in.
    let pod = text(&stage.pods().await[0]["metadata"]["name"]);
    stage.place.delete("Pod", &pod).await;
    let another = |pods: &[Value]| pods.len() == 1 && is(&pods[0], "Ready") && pods[0]["metadata"]["name"] != pod.as_str();
    stage.pods_are("another pod answers in its place", another).await;
    stage.change(json!({"spec": {"management": "Managed"}})).await;
    stage.serves("--threads=2", 2).await;
}
