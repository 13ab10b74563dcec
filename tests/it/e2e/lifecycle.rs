//! A model that serves is changed, scaled down, and scaled up again.

use serde_json::json;

use super::place::{PATIENCE, Place, SOON};

#[tokio::test]
async fn a_changed_spec_is_rolled_out_without_a_moment_without_an_endpoint() {
    let place = Place::guarded("rollout").await;
    let repository = place.publish_real("smollm2");
    place.world.platform.signs(&repository).await;
    place.deploy("smollm2").await;
    place.ready("smollm2").await;
    let old = place.pod("smollm2").await;
    let old_name = old["metadata"]["name"].as_str().unwrap();
    let before = place.witness.endpoints("smollm2").len();

    place.change("ModelDeployment", "smollm2", json!({"spec": {"engine": {"contextLength": 256}}})).await;
    let mut asked = 0;
    let mut unanswered = Vec::new();
    let turned = async || {
        let pods = place.of("Pod", "smollm2").await;
        let gone = !pods.iter().any(|pod| pod["metadata"]["name"] == old_name);
        asked += 1;
        if let Err(error) = place.healthy("smollm2").await {
            let pods: Vec<String> =
                pods.iter().map(|pod| format!("{} {}", pod["status"]["podIP"], pod["metadata"]["deletionTimestamp"])).collect();
            unanswered.push(format!("{error} with pods {pods:?}"));
        }
        gone.then_some(())
    };
    place.until(PATIENCE, "the old pod goes", turned).await;
    assert!(unanswered.is_empty(), "{} of {asked} requests failed during the rollout: {unanswered:#?}", unanswered.len());
    place.ready("smollm2").await;
    place.answers("smollm2").await;
    let endpoints = place.witness.endpoints("smollm2");
    assert!(endpoints.len() > before, "the endpoints never changed");
    assert!(endpoints[before - 1..].iter().all(|ready| !ready.is_empty()), "a moment without an endpoint: {endpoints:?}");
    let new = place.pod("smollm2").await;
    assert!(new["spec"]["containers"][0]["args"].to_string().contains("\"256\""));
    // The old pod went only after the new one answered.
    let states = place.witness.pods("smollm2");
    let index = |is: &dyn Fn(&serde_json::Value) -> bool| states.iter().position(is).unwrap();
    let ready = |pod: &serde_json::Value| {
        pod["status"]["conditions"].as_array().into_iter().flatten().any(|c| c["type"] == "Ready" && c["status"] == "True")
    };
    let new_ready = index(&|pod| pod["metadata"]["uid"] == new["metadata"]["uid"] && ready(pod));
    let old_goes =
        index(&|pod| pod["metadata"]["uid"] == old["metadata"]["uid"] && !pod["metadata"]["deletionTimestamp"].is_null());
    assert!(new_ready < old_goes, "the old one went at {old_goes}, the new one was ready at {new_ready}");
    assert_eq!(place.status("smollm2").await["revisions"].as_array().unwrap().len(), 1, "{}", place.status("smollm2").await);
    // The source was asked once for what is the same; a new revision fetches its own copy.
    assert_eq!(place.witness.count("smollm2"), 2);
}

#[tokio::test]
async fn a_model_is_scaled_to_nothing_and_back_by_spec_and_by_kubectl_scale() {
    let place = Place::guarded("scaled").await;
    let repository = place.publish_real("smollm2");
    place.world.platform.signs(&repository).await;
    place.deploy_with("smollm2", json!({"replicas": 0})).await;
    place.condition("smollm2", "Ready", "True", "Idle").await;
    assert_eq!(place.shows("smollm2", ["Signed", "Idle", "0/0"]).await, "scaled to zero");
    place.never_a_pod(&["smollm2"]).await;
    place.world.kubectl(&["scale", "mdep", "smollm2", "--replicas=1", "-n", &place.name]).await;
    place.ready("smollm2").await;
    assert_eq!(place.shows("smollm2", ["Signed", "Ready", "1/1"]).await, "");
    let revision = place.status("smollm2").await["revisions"][0]["name"].clone();
    let scale = [
        "get",
        "mdep",
        "smollm2",
        "-n",
        &place.name,
        "--subresource=scale",
        "-o",
        "jsonpath={.status.replicas} {.status.selector}",
    ];
    assert_eq!(place.world.kubectl(&scale).await, "1 bonafide.dev/deployment=smollm2");

    place.change("ModelDeployment", "smollm2", json!({"spec": {"replicas": 0}})).await;
    place.condition("smollm2", "Ready", "True", "Idle").await;
    place.until(SOON, "the pod goes", async || place.of("Pod", "smollm2").await.is_empty().then_some(())).await;
    assert!(place.endpoints("smollm2").await.is_empty());
    place.world.kubectl(&["scale", "mdep", "smollm2", "--replicas=1", "-n", &place.name]).await;
    place.ready("smollm2").await;
    place.answers("smollm2").await;
    assert_eq!(place.status("smollm2").await["revisions"][0]["name"], revision, "replicas made another revision");
}
