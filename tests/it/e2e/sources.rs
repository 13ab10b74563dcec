//! The source does not give the model, or only to those who have a token.

use std::fs;

use serde_json::json;

use super::{
    place::{Place, says},
    world::{TOKEN, VAULT},
};

/// The secret of a source.
fn secret(token: &str, hosts: &str) -> serde_json::Value {
    json!({"type": "bonafide.dev/source", "stringData": {"token": token, "hosts": hosts}})
}

#[tokio::test]
async fn what_the_source_does_not_give_is_told_and_served_by_itself_once_the_cause_is_gone() {
    let place = Place::open("missing").await;
    let host = place.world.hub().addr.to_string();
    place.publish("chat", &[("model.gguf", "weights")]);
    fs::create_dir_all(place.world.repository(VAULT)).unwrap();
    fs::write(place.world.repository(VAULT).join("model.gguf"), "weights").unwrap();
    let vault = format!("hf://{VAULT}");
    place.apply("Secret", "wrong", secret("hf_expired_77", &host)).await;
    let model = |source: &str, rest: serde_json::Value| {
        crate::support::merge(&json!({"model": {"source": source}}), &json!({"model": rest}))
    };
    place.deploy_with("revision", model(&place.source("chat"), json!({"revision": "v9"}))).await;
    place.deploy("later").await;
    place.deploy_with("secretless", model(&place.source("chat"), json!({"secretRef": {"name": "hub"}}))).await;
    place.deploy_with("token", model(&vault, json!({"secretRef": {"name": "wrong"}}))).await;
    place.deploy_with("hidden", model(&vault, json!({}))).await;
    let cases: [(&str, &str, &[&str]); 5] = [
        ("revision", "RevisionNotFound", &["has no branch, tag or commit \"v9\"", "Check spec.model.revision"]),
        ("later", "RepositoryNotFound", &["does not exist at", "or is private", "Check the spelling"]),
        ("secretless", "SecretNotFound", &["spec.model.secretRef: there is no Secret hub", "bonafide.dev/source"]),
        ("token", "AccessDenied", &["does not know the token of spec.model.secretRef", "put a new one into the Secret"]),
        ("hidden", "RepositoryNotFound", &["or is private", "name a Secret of type bonafide.dev/source"]),
    ];
    for (name, reason, parts) in cases {
        let message = place.condition(name, "SourceResolved", "False", reason).await;
        says(&message, parts);
        says(&message, &["Next try in "]);
        assert!(!message.contains("hf_expired_77"), "the token is shown: {message}");
        place.condition(name, "Ready", "False", reason).await;
        let columns = place.columns(name).await;
        // A Secret may be about to be made by another controller; the rest nobody but a person mends.
        let state = if reason == "SecretNotFound" { "Waiting" } else { "Blocked" };
        assert_eq!([&*columns[1], &columns[2], &columns[3]], ["Unknown", state, "0/1"], "{name}");
        says(&columns[6], &[&format!("{reason}: ")]);
    }
    place.never_a_pod(&cases.map(|(name, ..)| name)).await;
    let asked = place.world.hub().requests().len();
    assert!(asked < 100, "the hub was asked {asked} times");

    place.apply("Secret", "hub", secret(TOKEN, &host)).await;
    place.apply("Secret", "wrong", secret(TOKEN, &host)).await;
    place.publish("later", &[("model.gguf", "weights")]);
    place.change("ModelDeployment", "revision", json!({"spec": {"model": {"revision": "main"}}})).await;
    place.change("ModelDeployment", "hidden", json!({"spec": {"model": {"secretRef": {"name": "hub"}}}})).await;
    for (name, ..) in cases {
        place.condition(name, "SourceResolved", "True", "Resolved").await;
    }
    let log = place.world.kubectl(&["logs", "-n", super::world::SYSTEM, "deploy/bonafide"]).await;
    assert!(!log.contains(TOKEN) && !log.contains("hf_expired_77"), "a token is in the operator's log");
}

#[tokio::test]
async fn a_source_that_is_down_is_waited_for() {
    let place = Place::open("down").await;
    place.publish("chat", &[("model.gguf", "weights")]);
    place.world.stop_hub().await;
    place.deploy("chat").await;
    let message = place.condition("chat", "SourceResolved", "False", "SourceUnavailable").await;
    let host = place.world.cluster.network().unwrap().host().to_string();
    says(&message, &[&host, "tried again by itself", "Next try in "]);
    let columns = place.columns("chat").await;
    assert_eq!([&*columns[2], &columns[3]], ["Waiting", "0/1"]);
    place.condition("chat", "Reconciling", "True", "SourceUnavailable").await;
    place.never_a_pod(&["chat"]).await;
    place.world.start_hub().await;
    place.condition("chat", "SourceResolved", "True", "Resolved").await;
    // The operator went through this without a crash.
    let restarts = "jsonpath={.items[*].status.containerStatuses[*].lastState.terminated.exitCode}";
    let codes = place.world.kubectl(&["get", "pods", "-n", super::world::SYSTEM, "-o", restarts]).await;
    assert!(codes.split_whitespace().all(|code| code == "137"), "exit codes of the operator: {codes}");
}

#[tokio::test]
async fn a_private_model_is_served_and_its_token_goes_nowhere_but_to_the_hosts_of_its_secret() {
    let place = Place::guarded("private").await;
    let hub = place.world.hub();
    let repository = place.world.repository(VAULT);
    place.world.real_model(&repository.join("model.gguf"));
    place.world.platform.signs(&repository).await;
    place.apply("Secret", "hub", secret(TOKEN, &hub.addr.to_string())).await;
    let model = json!({"source": format!("hf://{VAULT}"), "secretRef": {"name": "hub"}, "servedNames": ["smollm2"]});
    place.deploy_with("smollm2", json!({"model": model})).await;
    place.ready("smollm2").await;
    place.answers("smollm2").await;
    let requests = hub.requests();
    let cdn = hub.cdn.unwrap().port();
    let large = requests.iter().filter(|request| request.port == cdn && request.path.contains(VAULT));
    assert!(large.count() > 0, "nothing came from the storage server");
    for request in &requests {
        let shown = format!("{} {}?{} {:?}", request.method, request.path, request.query, request.headers);
        let wanted = request.port != cdn && request.path.contains(VAULT);
        assert_eq!(request.header("authorization"), wanted.then_some(&*format!("Bearer {TOKEN}")), "{shown}");
        assert!(wanted || !shown.contains(TOKEN), "the token is in {shown}");
    }
    let pod = place.pod("smollm2").await;
    assert!(!pod.to_string().contains(TOKEN), "the token stands in the pod");
    let logs = ["logs", "-n", &place.name, "-l", "bonafide.dev/deployment=smollm2", "--all-containers", "--tail=-1"];
    assert!(!place.world.kubectl(&logs).await.contains(TOKEN), "the token is in a log");
    let engine = pod["spec"]["containers"][0]["volumeMounts"].to_string();
    assert!(!engine.contains("credentials"), "the engine sees the Secret: {engine}");
}
