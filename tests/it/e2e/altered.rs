//! The hub says one thing and sends another.

use std::time::Duration;

use localcluster::hub::Faults;
use serde_json::json;

use super::{
    node::sha256,
    place::{Place, SOON, says},
};

#[tokio::test]
async fn bytes_that_are_not_what_was_signed_never_reach_the_engine_and_are_not_fetched_again_until_somebody_says_so() {
    let place = Place::guarded("lying").await;
    let repository = place.publish_real("smollm2");
    place.world.platform.signs(&repository).await;
    let file = format!("{}/smollm2/model.gguf", place.name);
    place.world.hub().set_faults(Faults { lie: vec![file], ..Faults::default() });
    place.deploy("smollm2").await;

    let message = place.condition("smollm2", "ContentVerified", "False", "DigestMismatch").await;
    let expected = sha256(&place.world.model).await;
    says(&message, &["model.gguf: recorded as sha256:", &expected, "has sha256:", "Nothing new is served"]);
    says(
        &message,
        &["have it signed again", "tell the repository's owner", "a new value of the annotation bonafide.dev/refresh"],
    );
    let found = message.split(" has sha256:").nth(1).unwrap().split_whitespace().next().unwrap();
    assert!(found.len() == 64 && found != expected, "{found}");
    place.condition("smollm2", "Ready", "False", "DigestMismatch").await;
    place.condition("smollm2", "Trusted", "True", "Signed").await;
    let columns = place.columns("smollm2").await;
    assert_eq!([&*columns[1], &columns[2], &columns[3]], ["Signed", "Blocked", "0/1"]);
    says(&columns[6], &["DigestMismatch: model.gguf: recorded as sha256:"]);
    place.until(SOON, "the replicas go down", async || place.of("Pod", "smollm2").await.is_empty().then_some(())).await;
    assert_eq!(place.of("Deployment", "smollm2").await[0]["spec"]["replicas"], 0);

    let size = std::fs::metadata(&place.world.model).unwrap().len();
    let sent: u64 = place.downloads("smollm2", "model.gguf").iter().map(localcluster::hub::Logged::sent).sum();
    assert!(sent <= size, "{sent} bytes were sent for a file of {size}");

    // Nobody fetches it again, also when the operator starts anew and has forgotten what it saw.
    let downloads = place.downloads("smollm2", "model.gguf").len();
    let pods = place.witness.count("smollm2");
    for manager in place.processes("/bonafide manager", "/etc/bonafide/manager.yaml") {
        place.kill(manager).await;
    }
    tokio::time::sleep(Duration::from_secs(15)).await;
    place.condition("smollm2", "ContentVerified", "False", "DigestMismatch").await;
    assert_eq!(place.downloads("smollm2", "model.gguf").len(), downloads, "it was fetched again");
    assert_eq!(place.witness.count("smollm2"), pods, "pods were made");
    assert!(!place.witness.engine_ran("smollm2"), "the engine saw the file");
    assert!(place.witness.endpoints("smollm2").iter().all(Vec::is_empty), "it had traffic");

    // Another number of replicas is no reason to try again. The hub is mended, and somebody says so: it is fetched and served.
    place.world.hub().set_faults(Faults::default());
    place.change("ModelDeployment", "smollm2", json!({"spec": {"replicas": 2}})).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(place.witness.count("smollm2"), pods, "it was tried again for another number of replicas");
    place.change("ModelDeployment", "smollm2", json!({"spec": {"replicas": 1}})).await;
    place.change("ModelDeployment", "smollm2", json!({"metadata": {"annotations": {"bonafide.dev/refresh": "mended"}}})).await;
    place.ready("smollm2").await;
    place.answers("smollm2").await;
    place.condition("smollm2", "ContentVerified", "True", "Verified").await;
}
