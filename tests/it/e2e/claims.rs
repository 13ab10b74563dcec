//! Claims on a real node: weights that are read where they lie, and fetched ones that are kept.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

use serde_json::{Value, json};

use super::place::{PATIENCE, Place, says};

/// A claim on a directory of this machine, which is the node's too; everybody may write there.
async fn claim(place: &Place, name: &str) -> PathBuf {
    let directory = place.world.cluster.state().join(format!("{}-{name}", place.name));
    fs::create_dir_all(&directory).unwrap();
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o777)).unwrap();
    let volume = format!("{}-{name}", place.name);
    let size = json!({"storage": "1Gi"});
    let spec = json!({"capacity": size, "accessModes": ["ReadWriteMany"], "hostPath": {"path": directory}, "storageClassName": volume,
        "persistentVolumeReclaimPolicy": "Retain"});
    place.apply("PersistentVolume", &volume, json!({"metadata": {"name": volume}, "spec": spec})).await;
    let spec = json!({"accessModes": ["ReadWriteMany"], "resources": {"requests": size}, "storageClassName": volume, "volumeName": volume});
    place.apply("PersistentVolumeClaim", name, json!({"spec": spec})).await;
    directory
}

/// Deletes the pod of a ModelDeployment, and waits until there is another one.
async fn replace(place: &Place, name: &str) {
    let uid = place.pod(name).await["metadata"]["uid"].clone();
    let pod = place.pod(name).await["metadata"]["name"].as_str().unwrap().to_owned();
    place.world.kubectl(&["delete", "pod", &pod, "-n", &place.name, "--wait=false"]).await;
    let other = async || {
        let pods = place.of("Pod", name).await;
        pods.iter().any(|pod| pod["metadata"]["uid"] != uid && pod["metadata"]["deletionTimestamp"].is_null()).then_some(())
    };
    place.until(PATIENCE, "there is another pod", other).await;
}

#[tokio::test]
async fn a_model_in_a_claim_is_verified_and_served_where_it_lies_and_not_once_it_was_changed() {
    let place = Place::open("claim").await;
    let spec = json!({
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": place.name}},
        "signers": [{"name": "platform", "publicKey": {"pem": place.world.platform.pem}}],
        "rules": [{"name": "all", "sources": {"include": ["pvc://*/weights/**"]}, "signedBy": [{"name": "platform", "anyOf": ["platform"]}]}],
        "minimumAssurance": "InPlace",
    });
    place.apply("ClusterModelPolicy", &place.name, json!({"spec": spec})).await;
    let directory = claim(&place, "weights").await.join("smollm2");
    place.world.real_model(&directory.join("model.gguf"));
    place.world.platform.signs(&directory).await;
    fs::write(directory.join("evil.py"), "import os").unwrap();
    place.deploy_with("smollm2", json!({"model": {"source": "pvc://weights/smollm2", "servedNames": ["smollm2"]}})).await;
    place.ready("smollm2").await;
    place.answers("smollm2").await;
    let status = place.status("smollm2").await;
    assert_eq!((&status["trust"], &status["signer"]), (&json!("Signed"), &json!("platform")));
    let pod = place.pod("smollm2").await;
    let mounts = pod["spec"]["containers"][0]["volumeMounts"].as_array().unwrap();
    let weights: Vec<&Value> =
        mounts.iter().filter(|mount| mount["name"] == "weights").map(|mount| &mount["mountPath"]).collect();
    assert_eq!(weights, ["/models/model.gguf"], "the engine sees what the manifest says");
    let message = place.condition("smollm2", "ContentVerified", "True", "Verified").await;
    says(&message, &["where it lies", "Assurance=InPlace"]);

    // Somebody changes the file: who starts next finds out before the engine does.
    let mut model = fs::read(directory.join("model.gguf")).unwrap();
    let middle = model.len() / 2;
    model[middle] ^= 1;
    fs::write(directory.join("new"), &model).unwrap();
    fs::rename(directory.join("new"), directory.join("model.gguf")).unwrap();
    replace(&place, "smollm2").await;
    let message = place.condition("smollm2", "Ready", "False", "DigestMismatch").await;
    says(&message, &["model.gguf: measured as sha256:", "pvc://", "bonafide.dev/refresh"]);
}

#[tokio::test]
async fn what_was_fetched_into_a_claim_is_not_downloaded_again() {
    let place = Place::open("kept").await;
    let directory = claim(&place, "cache").await;
    fs::write(directory.join("others"), "precious").unwrap();
    place.publish_real("smollm2");
    place.deploy_with("smollm2", json!({"model": {"cache": {"claimName": "cache"}}})).await;
    place.ready("smollm2").await;
    place.answers("smollm2").await;
    let digest = place.status("smollm2").await["model"]["digest"].as_str().unwrap().replace(':', "-");
    let kept = directory.join("bonafide").join(&digest);
    assert!(kept.join("tree/model.gguf").is_file());
    assert_eq!(fs::read_to_string(directory.join("others")).unwrap(), "precious");
    let cdn = |place: &Place| -> u64 {
        let hub = place.world.hub();
        let port = hub.cdn.unwrap().port();
        hub.requests().iter().filter(|request| request.port == port).map(localcluster::hub::Logged::sent).sum()
    };
    let once = cdn(&place);
    assert!(once > 0);
    replace(&place, "smollm2").await;
    let again = async || {
        let pods = place.of("Pod", "smollm2").await;
        let alive: Vec<&Value> = pods.iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null()).collect();
        matches!(alive.as_slice(), [one] if one["status"].to_string().contains("\"type\":\"Ready\"") && place.healthy("smollm2").await.is_ok())
            .then_some(())
    };
    place.until(PATIENCE, "the other pod answers", again).await;
    place.ready("smollm2").await;
    place.answers("smollm2").await;
    assert_eq!(cdn(&place), once, "no byte came twice");
}
