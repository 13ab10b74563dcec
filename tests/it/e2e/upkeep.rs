//! The operator is upgraded, and goes away.

use serde_json::json;

use super::{
    place::{PATIENCE, Place, SOON},
    world::SYSTEM,
};

#[tokio::test]
async fn a_model_keeps_serving_while_the_operator_is_upgraded_uninstalled_and_installed_again() {
    let place = Place::guarded("upkeep").await;
    let repository = place.publish_real("smollm2");
    place.world.platform.signs(&repository).await;
    place.deploy("smollm2").await;
    place.ready("smollm2").await;
    let pod = place.pod("smollm2").await;
    let operator = || place.world.kubectl(&["get", "pods", "-n", SYSTEM, "-o", "jsonpath={.items[*].metadata.uid}"]);
    let before = operator().await;

    place.world.install(&["manager.logLevel=debug", "sources.allowedHosts[1]=elsewhere.example", "policy.default=Deny"]).await;
    place.until(SOON, "another operator runs", async || (operator().await != before).then_some(())).await;
    place.condition("smollm2", "Ready", "True", "Ready").await;
    // The new table of sources is where a pod would read it; no pod was touched for that.
    let told = async || place.of("ConfigMap", "smollm2").await[0].to_string().contains("elsewhere.example").then_some(());
    place.until(SOON, "the ConfigMap has the new table", told).await;
    let same = async || {
        let now = place.pod("smollm2").await;
        assert_eq!(
            (&now["metadata"]["uid"], &now["status"]["containerStatuses"][0]["restartCount"]),
            (&pod["metadata"]["uid"], &json!(0))
        );
    };
    same().await;
    place.answers("smollm2").await;

    place.world.helm(&["uninstall", "bonafide", "--wait"]).await;
    place.until(SOON, "the operator goes", async || operator().await.is_empty().then_some(())).await;
    same().await;
    place.answers("smollm2").await;
    // Nobody judges, so nothing new is let in.
    let deployment = place.of("Deployment", "smollm2").await.remove(0);
    let name = deployment["metadata"]["name"].as_str().unwrap();
    place.world.kubectl(&["scale", "deployment", name, "--replicas=2", "-n", &place.name]).await;
    place.until(SOON, "a second pod is made", async || (place.witness.count("smollm2") == 2).then_some(())).await;
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    let pods = place.of("Pod", "smollm2").await;
    let second = pods.iter().find(|other| other["metadata"]["uid"] != pod["metadata"]["uid"]).unwrap();
    let scheduled = &second["status"]["conditions"].as_array().unwrap()[0];
    assert_eq!(
        (&scheduled["reason"], &second["spec"]["nodeName"]),
        (&json!("SchedulingGated"), &serde_json::Value::Null),
        "{scheduled}"
    );

    place.world.install(&[]).await;
    let one = async || (place.of("Pod", "smollm2").await.len() == 1).then_some(());
    place.until(PATIENCE, "the replicas are what the ModelDeployment says", one).await;
    same().await;
    place.ready("smollm2").await;
    place.answers("smollm2").await;
}
