//! Definitions that are missing, older or newer than the operator.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    operator::Operator,
    place::{NAME, Place, cluster_wide, condition, text, value},
    world::World,
};
use crate::support::path;

const DEFINITION: &str = "modeldeployments.bonafide.dev";
const STATUS: &str = "/spec/versions/0/schema/openAPIV3Schema/properties/status/properties";

async fn edit(world: &World, operations: Value) {
    world.kubectl(&["patch", "crd", DEFINITION, "--type=json", "-p", &operations.to_string()]).await.unwrap();
}

/// What people are told to do.
async fn bring_up_to_date(world: &World) {
    let crds = path("crds");
    world.kubectl(&["apply", "--server-side", "--force-conflicts", "-f", crds.to_str().unwrap()]).await.unwrap();
}

async fn readyz(world: &World, operator: &Operator, status: u16, says: &str) {
    let look = async || match operator.get("readyz").await {
        (found, said) if found == status && said.contains(says) => Ok(()),
        other => Err(format!("{other:?}")),
    };
    world.eventually(&format!("/readyz answers {status} and {says:?}"), look).await;
}

#[tokio::test]
async fn without_its_definitions_the_operator_waits_and_with_old_ones_it_says_what_is_missing_and_writes_nothing_for_ever() {
    let world = World::without_operator().await;
    for crd in world.kubectl(&["get", "crd", "-o", "name"]).await.unwrap().lines().filter(|name| name.contains("bonafide.dev")) {
        world.kubectl(&["delete", crd]).await.unwrap();
    }
    let operator = world.another_operator("first").await;
    readyz(
        &world,
        &operator,
        503,
        "There is no CustomResourceDefinition clustermodelpolicies.bonafide.dev, inferenceengines.bonafide.dev, ",
    )
    .await;
    assert!(operator.get("readyz").await.1.contains("kubectl apply --server-side"), "{:?}", operator.get("readyz").await);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(operator.get("healthz").await.0, 200, "it is no reason for a restart");

    // They appear, and it goes on by itself.
    bring_up_to_date(&world).await;
    readyz(&world, &operator, 200, "ok").await;
    let place = Place::new(&world).await;
    place.deploy(NAME).await;
    place.let_in(NAME, 1).await;
    place.condition(NAME, "Ready", "False", "Unschedulable").await;

    // Older ones: even what is said of that cannot be kept whole.
    edit(&world, json!([{"op": "remove", "path": format!("{STATUS}/why")}])).await;
    readyz(&world, &operator, 503, "it has no field status.why").await;
    let object = place.condition(NAME, "Ready", "False", "CrdOutdated").await;
    let message = text(&condition(&object, "Ready").unwrap()["message"]);
    assert!(message.contains(DEFINITION) && message.contains("status.why") && message.contains("helm upgrade"), "{message}");
    assert_eq!(condition(&object, "Stalled").unwrap()["status"], "True");
    assert_eq!(condition(&object, "Reconciling").unwrap()["status"], "False");
    assert_eq!(object["status"]["observedGeneration"], object["metadata"]["generation"]);
    let events = async || {
        let events = cluster_wide(&place.client, "Event").list(&Default::default()).await.unwrap().items;
        let of_it = events.into_iter().map(value).find(|event| {
            event["reason"] == "CrdOutdated" && event["regarding"]["name"] == DEFINITION && event["type"] == "Warning"
        });
        of_it.ok_or_else(|| "none".to_owned())
    };
    world.eventually("an Event says it of the definition", events).await;

    // Nothing is begun, changes are only noted, and nothing is written again and again.
    place.deploy("later").await;
    place.condition("later", "Ready", "False", "CrdOutdated").await;
    place.change("ModelDeployment", NAME, json!({"spec": {"replicas": 2}})).await;
    let noted = |object: &Value| object["status"]["observedGeneration"] == 2;
    place.until("ModelDeployment", NAME, "is noted as changed", noted).await;
    let before = (operator.writes().await, place.versions(NAME).await);
    for round in 0..4 {
        place.change("ModelDeployment", NAME, json!({"metadata": {"annotations": {"round": round.to_string()}}})).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!((operator.writes().await, place.versions(NAME).await), before);
    assert!(place.of("Deployment", "later").await.is_empty());

    // A standby with such definitions is not ready either, so that an upgrade does not put it in the place of one that works.
    let standby = world.another_operator("standby").await;
    readyz(&world, &standby, 503, "it has no field status.why").await;

    bring_up_to_date(&world).await;
    readyz(&world, &operator, 200, "ok").await;
    readyz(&world, &standby, 200, "ok").await;
    place.let_in(NAME, 2).await;
    place.let_in("later", 1).await;
    place.condition(NAME, "Ready", "False", "Unschedulable").await;
}

#[tokio::test]
async fn a_newer_definition_is_no_trouble_and_what_a_newer_operator_wrote_stays() {
    let world = World::without_operator().await;
    let text_field = json!({"type": "string"});
    let spec = STATUS.replace("/status/", "/spec/");
    edit(
        &world,
        json!([
            {"op": "add", "path": format!("{STATUS}/later"), "value": text_field},
            {"op": "add", "path": format!("{spec}/later"), "value": text_field},
        ]),
    )
    .await;
    let operator = world.another_operator("first").await;
    readyz(&world, &operator, 200, "ok").await;
    let place = Place::new(&world).await;
    let source = place.publish("Parrot-GGUF", &[("parrot.gguf", "parrot")]);
    let later = json!({"spec": {"model": {"source": source}, "later": "a wish"}});
    let created = async || {
        let object = json!({"apiVersion": "bonafide.dev/v1alpha1", "kind": "ModelDeployment", "metadata": {"name": NAME}, "spec": later["spec"]});
        let made = place.api("ModelDeployment").create(&Default::default(), &super::place::parse(object)).await;
        made.map(value).map_err(|error| error.to_string()).and_then(|made| match &made["spec"]["later"] {
            Value::Null => Err("the field is not known yet".to_owned()),
            _ => Ok(()),
        })
    };
    world.eventually("an object with the new field is there", created).await;
    place.condition(NAME, "Ready", "False", "Unschedulable").await;

    // As a newer operator of ours would have written it: under the same name.
    let status = json!({"apiVersion": "bonafide.dev/v1alpha1", "kind": "ModelDeployment", "metadata": {"name": NAME},
        "status": {"later": "a fact", "why": "", "replicas": 1}});
    let file = world.cluster.state().join("newer.yaml");
    std::fs::write(&file, status.to_string()).unwrap();
    let file = file.to_str().unwrap();
    let newer = ["apply", "--server-side", "--force-conflicts", "--subresource=status", "--field-manager=bonafide"];
    world.kubectl(&[&newer[..], &["-n", &place.name, "-f", file]].concat()).await.unwrap();
    place.condition(NAME, "Ready", "False", "Unschedulable").await;
    place.change("ModelDeployment", NAME, json!({"spec": {"replicas": 0}})).await;
    let object = place.condition(NAME, "Ready", "True", "Idle").await;
    assert_eq!((&object["status"]["later"], &object["spec"]["later"]), (&json!("a fact"), &json!("a wish")), "{object}");
    // And it is quiet with it.
    let look = async || {
        let before = operator.writes().await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        if before == operator.writes().await { Ok(()) } else { Err("it writes".to_owned()) }
    };
    world.eventually("nothing is written", look).await;
    assert_eq!(place.get("ModelDeployment", NAME).await.unwrap()["status"]["later"], "a fact");
}
