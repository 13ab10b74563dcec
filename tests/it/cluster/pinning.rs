//! A cluster that is built again from Git serves the same bytes, or says that it cannot.

use serde_json::{Value, json};

use super::{
    commands::bonafide,
    place::{NAME, Place, condition, text},
    world::World,
};

/// Removes the model and everything of it, as if the cluster were new.
async fn lose(place: &Place<'_>) {
    place.delete("ModelDeployment", NAME).await;
    for kind in ["ControllerRevision", "Deployment", "Pod", "ConfigMap"] {
        let gone = async || match place.of(kind, NAME).await.len() {
            0 => Ok(()),
            left => Err(format!("{left} {kind}s")),
        };
        place.world.eventually(&format!("every {kind} is gone"), gone).await;
    }
}

async fn apply(place: &Place<'_>, file: &str) {
    place.world.kubectl(&["apply", "--server-side", "-n", &place.name, "-f", file]).await.unwrap();
}

fn digest(object: &Value) -> (String, String) {
    (text(&object["status"]["model"]["revision"]), text(&object["status"]["model"]["digest"]))
}

#[tokio::test]
async fn a_cluster_rebuilt_from_pinned_yaml_serves_the_same_bytes_or_says_why_not() {
    let world = World::shared();
    let place = Place::new(world).await;
    let kubeconfig = world.cluster.kubeconfig();
    let repository = format!("{}/Parrot-GGUF", place.name);
    world.publish(&repository, &[("parrot.gguf", "the first parrot")]);
    let git = world.cluster.state().join(format!("{}.yaml", place.name));
    let file = git.to_str().unwrap();
    let written = format!(
        "# ours\napiVersion: bonafide.dev/v1alpha1\nkind: ModelDeployment\nmetadata: {{name: {NAME}}}\nspec:\n  model:\n    source: hf://{repository} # by its owner\n    revision: main\n  replicas: 1\n"
    );
    std::fs::write(&git, &written).unwrap();
    let (code, _, errors) = bonafide(&kubeconfig, &["pin", "-f", file, "-n", &place.name]).await;
    assert!(code == 1 && errors.contains("has no ModelDeployment parrot"), "{errors}");
    // The source itself says the same as the cluster will.
    let hub = world.hub.url();
    let resolved = bonafide(&kubeconfig, &["pin", "-f", file, "--resolve", "--endpoint", &hub]).await;
    assert_eq!(resolved.0, 0, "{}", resolved.2);

    apply(&place, file).await;
    let object = place.condition(NAME, "Ready", "False", "Unschedulable").await;
    let first = digest(&object);
    let (code, said, errors) = bonafide(&kubeconfig, &["pin", "-f", file, "-n", &place.name]).await;
    assert_eq!(code, 0, "{errors}");
    assert_eq!(said, resolved.1);
    assert_eq!(said, written.replace("main", &format!("{} # main\n    digest: {}", first.0, first.1)));
    assert_eq!(std::fs::read_to_string(&git).unwrap(), written, "it is written only where that is asked for");
    assert_eq!(bonafide(&kubeconfig, &["pin", "-f", file, "-i", "-n", &place.name]).await.0, 0);
    assert_eq!(std::fs::read_to_string(&git).unwrap(), said);

    // The branch moves, and the cluster is lost.
    world.hub.snapshot(&repository).unwrap();
    lose(&place).await;
    world.publish(&repository, &[("parrot.gguf", "another parrot")]);
    apply(&place, file).await;
    let object = place.condition(NAME, "Ready", "False", "Unschedulable").await;
    assert_eq!((digest(&object), text(&object["status"]["trust"])), (first.clone(), "Pinned".to_owned()));

    // Pinned by the digest alone: what the branch stands for now is something else.
    lose(&place).await;
    std::fs::write(&git, said.replace(&format!("{} # main", first.0), "main")).unwrap();
    apply(&place, file).await;
    let object = place.condition(NAME, "Trusted", "False", "PinMismatch").await;
    assert!(text(&condition(&object, "Trusted").unwrap()["message"]).contains(&first.1), "{object}");
    assert!(place.of("Deployment", NAME).await.is_empty());

    // A commit that the source no longer has.
    lose(&place).await;
    std::fs::write(&git, said.replace(&first.0, &"ab".repeat(20))).unwrap();
    apply(&place, file).await;
    place.condition(NAME, "SourceResolved", "False", "RevisionNotFound").await;
    let (code, _, errors) = bonafide(&kubeconfig, &["pin", "-f", file, "-n", &place.name]).await;
    assert!(code == 1 && errors.contains("was not resolved yet"), "{errors}");
}

#[tokio::test]
async fn a_branch_that_has_moved_is_followed_when_that_is_asked_for_and_not_before() {
    let place = Place::new(World::shared()).await;
    let source = place.publish("Parrot-GGUF", &[("parrot.gguf", "the first parrot")]);
    let repository = format!("{}/Parrot-GGUF", place.name);
    let spec = json!({"model": {"source": source, "revision": "main"}});
    place.create("ModelDeployment", NAME, json!({"spec": spec})).await;
    let first = digest(&place.condition(NAME, "Ready", "False", "Unschedulable").await);
    let commit = |place: &Place| place.world.hub.commit(&repository).unwrap();
    assert_eq!(first.0, commit(&place));

    // The hub goes on having the commits that its branch has left.
    place.world.hub.snapshot(&repository).unwrap();
    place.publish("Parrot-GGUF", &[("parrot.gguf", "another parrot")]);
    let moved = commit(&place);
    assert_ne!(moved, first.0);
    // Another wish for the same branch stays at what the branch was.
    place.change("ModelDeployment", NAME, json!({"spec": {"engine": {"contextLength": 512}}})).await;
    let two = async || match place.of("ControllerRevision", NAME).await {
        revisions if revisions.len() == 2 => Ok(revisions),
        revisions => Err(format!("{} revisions", revisions.len())),
    };
    let revisions = place.world.eventually("there is a second revision", two).await;
    assert!(revisions.iter().all(|revision| revision["data"]["commit"] == first.0.as_str()), "{revisions:?}");

    place.change("ModelDeployment", NAME, json!({"metadata": {"annotations": {"bonafide.dev/refresh": "1"}}})).await;
    let follows = |object: &Value| object["status"]["model"]["revision"] == moved.as_str();
    let object = place.until("ModelDeployment", NAME, "is at what the branch stands for now", follows).await;
    assert_ne!(digest(&object).1, first.1);
    let reason = async || {
        let revisions = place.of("ControllerRevision", NAME).await;
        let new = revisions.iter().find(|revision| revision["data"]["commit"] == moved.as_str()).ok_or("there is none yet")?;
        Ok(text(&new["metadata"]["annotations"]["bonafide.dev/reason"]))
    };
    let reason = place.world.eventually("there is a third revision", reason).await;
    assert!(reason.contains(&moved[..7]), "{reason}");
    // The same value asks nothing anew.
    place.world.hub.snapshot(&repository).unwrap();
    place.publish("Parrot-GGUF", &[("parrot.gguf", "a third parrot")]);
    place.change("ModelDeployment", NAME, json!({"spec": {"engine": {"contextLength": 1024}}})).await;
    let four = async || match place.of("ControllerRevision", NAME).await.len() {
        4 => Ok(()),
        found => Err(format!("{found} revisions")),
    };
    place.world.eventually("there is a fourth revision", four).await;
    let object = place.get("ModelDeployment", NAME).await.unwrap();
    assert_eq!(digest(&object).0, moved);
}
