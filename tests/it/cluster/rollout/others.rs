//! Beside others: names that two want, and nodes that are emptied.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    super::place::{NAME, condition, text},
    node::is,
    stage::Stage,
};

#[tokio::test]
async fn of_two_that_claim_one_name_the_younger_one_waits_until_it_is_free() {
    let stage = Stage::new(6).await;
    let place = &stage.place;
    let source = place.publish("Parrot-GGUF", &[("parrot.gguf", "parrot")]);
    let spec = |names: &[&str]| json!({"spec": {"model": {"source": source, "servedNames": names}}});
    place.create("ModelDeployment", "crow", spec(&["chat", "caw"])).await;
    place.let_in("crow", 1).await;
    place.create("ModelDeployment", "raven", spec(&["croak", "chat"])).await;
    let object = place.condition("raven", "Ready", "False", "NameTaken").await;
    let message = text(&condition(&object, "Ready").unwrap()["message"]);
    assert!(message.contains("Requests for chat") && message.contains("go to ModelDeployment crow"), "{message}");
    assert!(place.of("Deployment", "raven").await.is_empty(), "it was rolled out");
    let not_taken = |object: &Value| {
        condition(object, "Ready").is_some_and(|ready| ready["status"] == "False" && ready["reason"] != "NameTaken")
    };
    place.until("ModelDeployment", "crow", "has the name", not_taken).await;
    // Another name, and it goes on; back, and it waits, and keeps what it has.
    place.change("ModelDeployment", "raven", spec(&["croak"])).await;
    place.let_in("raven", 1).await;
    place.change("ModelDeployment", "raven", spec(&["caw"])).await;
    place.condition("raven", "Ready", "False", "NameTaken").await;
    assert_eq!(place.let_in("raven", 1).await.len(), 1);
    place.delete("ModelDeployment", "crow").await;
    let free = |object: &Value| condition(object, "Ready").is_some_and(|c| c["reason"] != "NameTaken");
    place.until("ModelDeployment", "raven", "has the name", free).await;
}

#[tokio::test]
async fn one_replica_after_the_other_is_sent_away_when_a_node_is_emptied() {
    let stage = Stage::new(6).await;
    stage.deploy(NAME, 2, &["--threads=1"], json!({})).await;
    stage.serves("--threads=1", 2).await;
    let budget = format!("bonafide-{NAME}");
    stage.place.until("PodDisruptionBudget", &budget, "allows one", |budget| budget["status"]["disruptionsAllowed"] == 1).await;
    let pods = stage.pods().await;
    let evict = async |pod: &Value| {
        let name = text(&pod["metadata"]["name"]);
        let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}});
        let request = http::Request::post(format!("/api/v1/namespaces/{}/pods/{name}/eviction", stage.place.name))
            .header("content-type", "application/json")
            .body(serde_json::to_vec(&eviction).unwrap())
            .unwrap();
        stage.place.client.request::<Value>(request).await
    };
    stage.watch();
    evict(&pods[0]).await.unwrap();
    // The client waits and asks again for as long as it is told that it is too early.
    evict(&pods[1]).await.unwrap();
    stage.serves("--threads=1", 2).await;
    assert_eq!(stage.seen().0, 1, "both were away at once");
    // Those that do not answer may all go.
    stage.args(&["--mode=stuck"]).await;
    let stuck = |pods: &[Value]| pods.iter().any(|pod| !is(pod, "Ready"));
    let pods = stage.pods_are("one does not come up", stuck).await;
    evict(pods.iter().find(|pod| !is(pod, "Ready")).unwrap()).await.unwrap();
}

#[tokio::test]
async fn two_that_answer_to_one_name_both_say_so_and_both_go_on() {
    const OTHER: &str = "macaw";
    let stage = Stage::new(6).await;
    let names = async |deployment: &str, names: Value| {
        stage.place.change("ModelDeployment", deployment, json!({"spec": {"model": {"servedNames": names}}})).await
    };
    let until = async |deployment: &str, what: &str, is: &dyn Fn(&Value) -> bool| {
        let look = async || {
            let object = stage.place.get("ModelDeployment", deployment).await.unwrap();
            let seen = object["status"]["observedGeneration"] == object["metadata"]["generation"];
            if seen && is(&object) { Ok(()) } else { Err(format!("{:#}", object["status"])) }
        };
        stage.place.world.within(Duration::from_secs(90), &format!("{deployment} {what}"), look).await;
    };
    let ready = |reason: &'static str| {
        move |object: &Value| condition(object, "Ready").is_some_and(|c| c["status"] == "True" && c["reason"] == reason)
    };
    stage.deploy(NAME, 1, &["--threads=1"], json!({})).await;
    names(NAME, json!(["Parrot"])).await;
    until(NAME, "has its name", &ready("Ready")).await;
    // It gives its name away, another one takes it, and it goes back to the revision that had it: that one answers its wish already.
    names(NAME, json!(["Parrot-2"])).await;
    until(NAME, "has another name", &ready("Ready")).await;
    stage.deploy(OTHER, 1, &["--threads=1"], json!({})).await;
    names(OTHER, json!(["Parrot"])).await;
    until(OTHER, "has the name", &ready("Ready")).await;
    names(NAME, json!(["Parrot"])).await;
    for (one, another) in [(NAME, OTHER), (OTHER, NAME)] {
        // Each says so when it is looked at: after a start of the manager all are, and else every ten minutes.
        stage.place.change("ModelDeployment", one, json!({"metadata": {"annotations": {"look": "again"}}})).await;
        until(one, "answers and says that another one does too", &|object| {
            ready("NameTaken")(object)
                && text(&object["status"]["why"]).contains(another)
                && object["status"]["ready"] == "1/1"
                && text(&condition(object, "Ready").unwrap()["message"]).contains("answers to Parrot too")
        })
        .await;
        let events = stage.place.api("Event").list(&Default::default()).await.unwrap();
        let mut events = events.items.into_iter().map(super::super::place::value);
        assert!(
            events.any(|event| event["reason"] == "NameTaken" && event["regarding"]["name"] == one && event["type"] == "Warning")
        );
    }
    names(OTHER, json!(["Parrot-3"])).await;
    until(NAME, "has the name for itself", &ready("Ready")).await;
}
