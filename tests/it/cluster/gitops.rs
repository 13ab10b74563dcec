//! Our objects as tools that bring them from Git see them: every state is told as kstatus and Argo CD understand it, and
//! applying the same again changes nothing.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    place::{NAME, Place, condition, text},
    world::World,
};
use crate::support::{
    self,
    argo::health,
    documents, files,
    kstatus::{Kstatus, kstatus},
    signer::Person,
};

fn told(object: &Value) -> (Kstatus, String) {
    (kstatus(object), health(object).0)
}

fn expect(kind: Kstatus, health: &str) -> (Kstatus, String) {
    (kind, health.to_owned())
}

#[tokio::test]
async fn an_object_that_no_manager_has_seen_is_not_taken_for_done() {
    let world = World::without_operator().await;
    let place = Place::new(&world).await;
    place.deploy(NAME).await;
    let object = place.get("ModelDeployment", NAME).await.unwrap();
    assert_eq!(told(&object), expect(Kstatus::InProgress, "Progressing"), "{object}");
}

#[tokio::test]
async fn every_state_is_told_as_kstatus_and_argo_cd_understand_it() {
    let place = Place::new(World::shared()).await;
    place.deploy(NAME).await;
    let object = place.condition(NAME, "Ready", "False", "Unschedulable").await;
    assert_eq!(told(&object), expect(Kstatus::InProgress, "Progressing"));
    place.change("ModelDeployment", NAME, json!({"spec": {"replicas": 0}})).await;
    let object = place.condition(NAME, "Ready", "True", "Idle").await;
    assert_eq!(told(&object), expect(Kstatus::Current, "Healthy"));

    let source = place.publish("Wren-GGUF", &[("wren.gguf", "wren")]);
    let create = async |name: &str, spec: Value, kind: &str, reason: &str| {
        place.create("ModelDeployment", name, json!({"spec": spec})).await;
        place.condition(name, kind, "False", reason).await;
        let settled = |object: &Value| object["status"]["observedGeneration"] == object["metadata"]["generation"];
        place.until("ModelDeployment", name, "is settled", settled).await
    };
    // Only a change of it helps.
    let stuck = expect(Kstatus::Failed, "Degraded");
    let object =
        create("engine", json!({"model": {"source": source}, "engine": {"name": "none"}}), "Ready", "UnknownEngine").await;
    assert_eq!(told(&object), stuck, "{object}");
    let pin = format!("sha256:{}", "ab".repeat(32));
    let object = create("pin", json!({"model": {"source": source, "digest": pin}}), "Trusted", "PinMismatch").await;
    assert_eq!(told(&object), stuck, "{object}");
    // Only a person can mend it, and it is looked at again all the same: what appears at the source is served without an edit.
    let absent = json!({"model": {"source": format!("hf://{}/Egg-GGUF", place.name)}});
    let object = create("absent", absent, "SourceResolved", "RepositoryNotFound").await;
    assert_eq!(told(&object), stuck, "{object}");
    assert!(text(&condition(&object, "Stalled").unwrap()["message"]).contains("Next try in "), "{object}");
    place.publish("Egg-GGUF", &[("egg.gguf", "egg")]);
    let object = place.condition("absent", "SourceResolved", "True", "Resolved").await;
    assert_eq!(told(&object), expect(Kstatus::InProgress, "Progressing"), "{object}");
    let key = Person::new(1).pem();
    place.policy(json!({"signers": [{"name": "keeper", "publicKey": {"pem": key}}]})).await;
    let object = place.condition("engine", "Ready", "False", "UnknownEngine").await;
    assert_eq!(told(&object), stuck, "{object}");
    let object = create("refused", json!({"model": {"source": source}}), "Trusted", "NoMatchingRule").await;
    assert_eq!(told(&object), stuck, "{object}");

    // What is being deleted is that and nothing else.
    place.change("ModelDeployment", NAME, json!({"metadata": {"finalizers": ["bonafide.test/wait"]}})).await;
    place.delete("ModelDeployment", NAME).await;
    assert_eq!(kstatus(&place.get("ModelDeployment", NAME).await.unwrap()), Kstatus::Terminating);
    place.change("ModelDeployment", NAME, json!({"metadata": {"finalizers": null}})).await;
}

#[tokio::test]
async fn applying_the_same_again_changes_nothing_and_the_manager_owns_nothing_of_what_was_asked_for() {
    let place = Place::new(World::shared()).await;
    let mut models = vec![];
    for file in files("examples").into_iter().filter(|file| file.ends_with(".yaml")) {
        for mut object in documents(&support::text(format!("examples/{file}"))) {
            if object["kind"] == "ModelDeployment" && !models.contains(&text(&object["metadata"]["name"])) {
                object["metadata"]["namespace"] = json!(place.name);
                models.push(text(&object["metadata"]["name"]));
                std::fs::write(
                    place.world.cluster.state().join(format!("{}.gitops.yaml", models.last().unwrap())),
                    object.to_string(),
                )
                .unwrap();
            }
        }
    }
    assert!(models.len() >= 3, "{models:?}");
    let apply = async |name: &str| {
        let file = place.world.cluster.state().join(format!("{name}.gitops.yaml"));
        let arguments = ["apply", "--server-side", "--field-manager=argocd-controller", "-f", file.to_str().unwrap()];
        place.world.kubectl(&arguments).await.unwrap();
        place.get("ModelDeployment", name).await.unwrap()
    };
    for name in &models {
        let first = apply(name).await;
        let seen = |object: &Value| object["status"]["observedGeneration"] == 1;
        place.until("ModelDeployment", name, "was looked at", seen).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        let before = place.get("ModelDeployment", name).await.unwrap();
        let after = apply(name).await;
        assert_eq!(before["spec"], first["spec"], "{name}: the manager wrote into the spec");
        assert_eq!((&after["spec"], &after["metadata"]["generation"]), (&first["spec"], &json!(1)), "{name}");
        assert_eq!(after["metadata"]["labels"], first["metadata"]["labels"]);
        for entry in after["metadata"]["managedFields"].as_array().unwrap().iter().filter(|entry| entry["manager"] == "bonafide")
        {
            let fields: Vec<&str> = entry["fieldsV1"].as_object().unwrap().keys().map(String::as_str).collect();
            assert_eq!((fields, &entry["subresource"]), (vec!["f:status"], &json!("status")), "{name}: {entry}");
        }
    }
}
