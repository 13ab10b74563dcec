//! A signed model is served, and only what was signed.

use std::{fs, time::Instant};

use super::{
    node::sha256,
    place::{Place, says},
};

#[tokio::test]
async fn a_signed_model_is_served_and_its_story_can_be_read() {
    let place = Place::guarded("served").await;
    let repository = place.publish_real("smollm2");
    place.world.platform.signs(&repository).await;
    let began = Instant::now();
    place.deploy("smollm2").await;
    place.ready("smollm2").await;
    eprintln!("e2e: apply → Ready (98 MB): {:.1} s", began.elapsed().as_secs_f64());
    place.answers("smollm2").await;

    let commit = place.world.hub().commit(&format!("{}/smollm2", place.name)).unwrap();
    let columns = place.columns("smollm2").await;
    assert_eq!([&*columns[1], &columns[2], &columns[3], &columns[4], &columns[6]], ["Signed", "Ready", "1/1", &commit[..7], ""]);
    let object = place.get("ModelDeployment", "smollm2").await;
    for (kind, status, reason) in [
        ("SourceResolved", "True", "Resolved"),
        ("Trusted", "True", "Signed"),
        ("ContentVerified", "True", "Verified"),
        ("Available", "True", "Available"),
        ("Reconciling", "False", "UpToDate"),
        ("Stalled", "False", "UpToDate"),
    ] {
        let found = super::place::condition(&object, kind).unwrap();
        assert_eq!((&found["status"], &found["reason"]), (&status.into(), &reason.into()), "{found}");
    }
    let status = &object["status"];
    assert_eq!((&status["signer"], &status["url"]), (&"platform".into(), &format!("http://smollm2.{}.svc", place.name).into()));

    let artifact = place.get("ModelArtifact", status["model"]["artifact"].as_str().unwrap()).await;
    let digest = sha256(&place.world.model).await;
    let size = fs::metadata(&place.world.model).unwrap().len();
    assert_eq!(artifact["spec"]["files"], serde_json::json!([{"path": "model.gguf", "size": size, "sha256": digest}]));
    assert_eq!(artifact["spec"]["bundles"][0]["from"], "model.sig");
    assert_eq!(artifact["spec"]["revision"], *commit);
    assert_eq!(artifact["status"]["verdicts"][0]["signers"], serde_json::json!(["platform"]), "{artifact}");

    let story = place.world.kubectl(&["describe", "mdep", "smollm2", "-n", &place.name]).await;
    says(&story, &["Reason:                Signed", "platform", "Every file was hashed while it was fetched", &commit]);
    let events =
        place.world.kubectl(&["get", "events", "-n", &place.name, "--field-selector=involvedObject.kind=ModelDeployment"]).await;
    says(&events, &["Resolved", "Signed", "Fetching", "Ready"]);
}

#[tokio::test]
async fn files_added_after_signing_are_not_served_and_a_file_that_is_no_model_is_told_about() {
    let place = Place::guarded("added").await;
    let repository = place.publish("chat", &[("model.gguf", "this is no GGUF"), ("tokenizer.json", "{}")]);
    place.world.platform.signs(&repository).await;
    place.publish("chat", &[("evil.py", "import os"), ("second.gguf", "another"), ("sub/third.gguf", "another")]);
    place.deploy("chat").await;
    let message = place.condition("chat", "Ready", "False", "WeightsDamaged").await;
    says(&message, &["exit code", "GGUF"]);
    let pod = place.pod("chat").await;
    assert_eq!(place.served_tree(&pod), ["model.gguf"]);
    says(&place.shows("chat", ["Signed", "Blocked", "0/1"]).await, &["WeightsDamaged: The file is no GGUF file"]);
    assert!(place.endpoints("chat").await.is_empty(), "it gets traffic");
}
