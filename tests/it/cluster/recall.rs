//! `bonafide recall`, as the shipped program makes a policy of what the cluster recorded.

use serde_json::{Value, json};

use super::{
    commands::{bonafide, viewer},
    place::{NAME, Place, condition, text},
    world::World,
};
use crate::support::documents;

/// A model that no other test has: policies are for the whole cluster.
async fn deploy(place: &Place<'_>) -> Value {
    let weights = format!("the weights of {}", place.name);
    let source = place.publish("Parrot-GGUF", &[("parrot.gguf", weights.as_str()), ("config.json", "{}")]);
    let spec = json!({"spec": {"model": {"source": source, "files": ["parrot.gguf", "config.json"]}}});
    place.create("ModelDeployment", NAME, spec).await;
    place.let_in(NAME, 1).await;
    place.condition(NAME, "Trusted", "Unknown", "NoPolicy").await
}

#[tokio::test]
async fn a_recall_is_made_of_the_weights_alone_drains_what_runs_and_is_lifted_by_deleting_it() {
    let place = Place::new(World::shared()).await;
    let object = deploy(&place).await;
    let artifact = text(&object["status"]["model"]["artifact"]);
    let (here, viewer) = (["-n", place.name.as_str()], viewer(&place).await);

    // Who may only look makes the policy, and cannot put it there.
    let (code, printed, said) = bonafide(&viewer, &[&["recall", NAME], &here[..]].concat()).await;
    assert_eq!(code, 0, "{said}");
    let policy = documents(&printed).remove(0);
    let record = place.get("ModelArtifact", &artifact).await.unwrap();
    let sha = |path: &str| {
        let files = record["spec"]["files"].as_array().unwrap();
        format!("sha256:{}", text(&files.iter().find(|file| file["path"] == path).unwrap()["sha256"]))
    };
    assert_eq!(policy["spec"]["deny"][0]["fileDigests"], json!([sha("parrot.gguf")]));
    assert_eq!((&policy["spec"]["onRecall"], &policy["spec"]["unmatched"]), (&json!("BlockNew"), &json!("Accept")));
    assert!(text(&policy["metadata"]["name"]).ends_with(&artifact), "{printed}");
    for part in [
        "1 of 2 files are denied",
        "denied      parrot.gguf",
        "not denied  config.json (2 B): no weights",
        "you may not look into others",
        "Nothing is recalled yet",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(said.contains(&format!("{}/{NAME} (parrot.gguf)", place.name)), "{said}");
    let (code, _, said) = bonafide(&viewer, &[&["recall", NAME, "--apply"], &here[..]].concat()).await;
    assert!(code == 2 && said.contains("`bonafide-policy-admin`"), "{said}");
    assert!(place.get("ClusterModelPolicy", &text(&policy["metadata"]["name"])).await.is_none());

    // What is printed is taken by the API server, and in force.
    let admin = place.world.cluster.kubeconfig();
    let recall = async |arguments: &[&str]| bonafide(&admin, &[&["recall"], arguments, &here[..]].concat()).await;
    let name = World::unique("recall");
    let apply = [artifact.as_str(), "--drain", "--apply", "--name", &name, "--reason", "withdrawn: \"by\" its publisher"];
    let (code, done, said) = recall(&apply).await;
    assert_eq!(code, 0, "{said}");
    assert!(
        done.contains("is created. What runs gets no new requests")
            && done.contains(&format!("kubectl delete clustermodelpolicy {name}")),
        "{done}"
    );
    place
        .until("ClusterModelPolicy", &name, "is accepted", |policy| {
            condition(policy, "Accepted").is_some_and(|is| is["status"] == "True")
        })
        .await;
    let object = place.condition(NAME, "Trusted", "False", "Denied").await;
    let message = text(&condition(&object, "Trusted").unwrap()["message"]);
    assert!(message.contains("withdrawn: \"by\" its publisher") && message.contains(&name), "{message}");
    let gone = async || match (place.of("Deployment", NAME).await, place.of("Pod", NAME).await) {
        (deployments, pods) if pods.is_empty() && deployments.iter().all(|one| one["spec"]["replicas"] == 0) => Ok(()),
        (deployments, pods) => Err(format!("{deployments:?} {pods:?}")),
    };
    place.world.eventually("nothing of it is left", gone).await;
    let (_, tree, _) = bonafide(&admin, &[&["status", NAME], &here[..]].concat()).await;
    assert!(tree.contains("Denied (") && tree.contains(&name), "{tree}");

    // The same again changes nothing, and another of its name is not written over it.
    let (code, done, said) = recall(&apply).await;
    assert!(code == 0 && done.contains("is there already"), "{done}{said}");
    let (code, _, said) = recall(&[NAME, "--apply", "--name", &name]).await;
    assert!(code == 1 && said.contains("says something else") && said.contains("--name"), "{said}");

    place.delete("ClusterModelPolicy", &name).await;
    place.let_in(NAME, 1).await;
    place.condition(NAME, "Trusted", "Unknown", "NoPolicy").await;
}

#[tokio::test]
async fn what_cannot_be_recalled_is_told_with_what_is_there() {
    let place = Place::new(World::shared()).await;
    let object = deploy(&place).await;
    let artifact = text(&object["status"]["model"]["artifact"]);
    let admin = place.world.cluster.kubeconfig();
    let recall = async |arguments: &[&str]| bonafide(&admin, &[&["recall"], arguments, &["-n", &place.name]].concat()).await;
    let (code, _, said) = recall(&["wren"]).await;
    assert!(code == 1 && said.contains("no ModelArtifact and no ModelDeployment wren") && said.contains(&artifact), "{said}");
    let (code, _, said) = recall(&[NAME, "--files", "*.bin"]).await;
    assert!(code == 1 && said.contains("is matched by --files; it has config.json, parrot.gguf"), "{said}");
    let (code, printed, said) = recall(&[NAME, "--files", "*.json", "--on-recall", "keeprunning"]).await;
    assert_eq!(code, 0, "{said}");
    assert!(
        printed.contains("onRecall: KeepRunning")
            && said.contains("not denied  parrot.gguf")
            && said.contains("not matched by --files"),
        "{printed}{said}"
    );
    let (code, _, said) = recall(&[NAME, "--on-recall", "Sometimes"]).await;
    assert!(code == 2 && said.contains("KeepRunning, BlockNew and Drain"), "{said}");
    let (code, _, said) = recall(&[NAME, "--drain", "--on-recall", "BlockNew"]).await;
    assert!(code == 2 && said.contains("cannot be used with"), "{said}");
}
