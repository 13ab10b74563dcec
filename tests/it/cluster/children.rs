//! The children: made, kept, put back, never taken from others, and removed.

use serde_json::{Value, json};

use super::{
    place::{NAME, Place, condition, gated, parse, text, value},
    world::World,
};

#[tokio::test]
async fn a_model_that_no_policy_speaks_of_gets_all_its_children_and_waits_only_for_a_node() {
    let place = Place::new(World::shared()).await;
    let owner = place.deploy(NAME).await;
    for kind in ["ControllerRevision", "ConfigMap", "Service", "PodDisruptionBudget", "Deployment"] {
        let child = place.child(kind, NAME).await;
        let reference = &child["metadata"]["ownerReferences"][0];
        assert_eq!((&reference["uid"], &reference["controller"]), (&owner["metadata"]["uid"], &json!(true)), "{kind}");
    }
    assert!(place.get("Service", NAME).await.is_some());
    let pods = place.let_in(NAME, 1).await;
    assert!(text(&pods[0]["metadata"]["name"]).starts_with(&format!("bonafide-{NAME}-")), "{pods:?}");
    let object = place.condition(NAME, "Ready", "False", "Unschedulable").await;
    let status = &object["status"];
    assert_eq!((&status["trust"], &status["state"], &status["ready"]), (&json!("Unknown"), &json!("Waiting"), &json!("0/1")));
    assert_eq!(condition(&object, "Trusted").unwrap()["reason"], "NoPolicy");
    assert_eq!(status["observedGeneration"], object["metadata"]["generation"]);
    let record = place.get("ModelArtifact", &text(&status["model"]["artifact"])).await.unwrap();
    assert_eq!(record["spec"]["files"][0]["path"], "parrot.gguf");
    assert_eq!(record["spec"]["digest"], status["model"]["digest"]);
    assert_eq!(record["spec"]["revision"], json!(place.world.hub.commit(&format!("{}/parrot-GGUF", place.name)).unwrap()));
}

#[tokio::test]
async fn the_administrator_may_do_what_the_operator_undoes() {
    let place = Place::new(World::shared()).await;
    place.deploy(NAME).await;
    place.let_in(NAME, 1).await;
    let evil = json!({"name": "evil", "image": "evil:1"});
    let edits = [
        ("Deployment", "a container", json!([{"op": "add", "path": "/spec/template/spec/containers/-", "value": evil}])),
        (
            "Deployment",
            "an init container",
            json!([{"op": "add", "path": "/spec/template/spec/initContainers/0", "value": evil}]),
        ),
        (
            "Deployment",
            "a variable",
            json!([{"op": "add", "path": "/spec/template/spec/containers/0/env/-", "value": {"name": "LD_PRELOAD", "value": "/x"}}]),
        ),
        (
            "Deployment",
            "an annotation of the template",
            json!([{"op": "add", "path": "/spec/template/metadata/annotations", "value": {"sidecar/inject": "true"}}]),
        ),
        ("Deployment", "no gate", json!([{"op": "remove", "path": "/spec/template/spec/schedulingGates"}])),
        ("Deployment", "the host's network", json!([{"op": "add", "path": "/spec/template/spec/hostNetwork", "value": true}])),
        ("Deployment", "replicas", json!([{"op": "replace", "path": "/spec/replicas", "value": 4}])),
        (
            "Deployment",
            "a label",
            json!([{"op": "replace", "path": "/metadata/labels/app.kubernetes.io~1managed-by", "value": "somebody"}]),
        ),
        ("ConfigMap", "the manifest", json!([{"op": "replace", "path": "/data/manifest.json", "value": "[]"}])),
        ("ConfigMap", "another file", json!([{"op": "add", "path": "/data/extra", "value": "x"}])),
        (
            "Service",
            "the selector",
            json!([{"op": "replace", "path": "/spec/selector/bonafide.dev~1deployment", "value": "another"}]),
        ),
        ("Service", "more selector", json!([{"op": "add", "path": "/spec/selector/role", "value": "none"}])),
        ("PodDisruptionBudget", "how many may go", json!([{"op": "replace", "path": "/spec/maxUnavailable", "value": 0}])),
        ("Service", "the port", json!([{"op": "replace", "path": "/spec/ports/0/targetPort", "value": 22}])),
        (
            "ControllerRevision",
            "a label",
            json!([{"op": "replace", "path": "/metadata/labels/bonafide.dev~1revision", "value": "another"}]),
        ),
    ];
    for (kind, what, edit) in edits {
        let before = place.child(kind, NAME).await;
        let name = text(&before["metadata"]["name"]);
        let edited = place.edit(kind, &name, edit).await;
        assert_ne!(wanted(&edited), wanted(&before), "{kind}: {what}: this edit changes nothing");
        place.until(kind, &name, &format!("is put back after an edit of {what}"), |now| wanted(now) == wanted(&before)).await;
    }
}

/// What nobody else may change in a child.
fn wanted(object: &Value) -> Value {
    let mut spec = object["spec"].clone();
    if let Some(spec) = spec.as_object_mut() {
        spec.remove("clusterIP");
        spec.remove("clusterIPs");
    }
    json!([object["metadata"]["labels"], object["metadata"]["ownerReferences"], spec, object["data"], object["revision"]])
}

#[tokio::test]
async fn what_is_deleted_by_hand_comes_back() {
    let place = Place::new(World::shared()).await;
    place.deploy(NAME).await;
    place.let_in(NAME, 1).await;
    for kind in ["ConfigMap", "Service", "PodDisruptionBudget", "Deployment"] {
        let before = place.child(kind, NAME).await;
        let name = text(&before["metadata"]["name"]);
        place.delete(kind, &name).await;
        let back = |now: &Value| now["metadata"]["uid"] != before["metadata"]["uid"] && wanted(now) == wanted(&before);
        place.until(kind, &name, "is there again", back).await;
    }
    place.let_in(NAME, 1).await;
}

#[tokio::test]
async fn what_users_add_beside_our_fields_stays() {
    let place = Place::new(World::shared()).await;
    place.deploy(NAME).await;
    place.let_in(NAME, 1).await;
    let theirs = json!({"metadata": {"labels": {"team": "birds"}, "annotations": {"note": "theirs"}}});
    for kind in ["Service", "Deployment", "ConfigMap"] {
        let name = text(&place.child(kind, NAME).await["metadata"]["name"]);
        place.change(kind, &name, theirs.clone()).await;
    }
    // An edit that is undone shows that the objects were looked at since.
    for kind in ["Service", "Deployment", "ConfigMap"] {
        let before = place.child(kind, NAME).await;
        let name = text(&before["metadata"]["name"]);
        place
            .edit(kind, &name, json!([{"op": "replace", "path": "/metadata/labels/app.kubernetes.io~1managed-by", "value": "x"}]))
            .await;
        let now = place.until(kind, &name, "is put back", |now| wanted(now) == wanted(&before)).await;
        assert_eq!(
            (&now["metadata"]["labels"]["team"], &now["metadata"]["annotations"]["note"]),
            (&json!("birds"), &json!("theirs")),
            "{kind}"
        );
    }
}

#[tokio::test]
async fn a_status_that_somebody_else_writes_is_written_over() {
    let place = Place::new(World::shared()).await;
    place.deploy(NAME).await;
    let before = place.condition(NAME, "Ready", "False", "Unschedulable").await;
    let said = |object: &Value| ["trust", "signer", "state"].map(|field| object["status"][field].clone());
    let kubectl = [
        "patch",
        "mdep",
        NAME,
        "-n",
        &place.name,
        "--subresource=status",
        "--type=merge",
        "-p",
        r#"{"status":{"trust":"Signed","signer":"me","state":"Ready"}}"#,
    ];
    place.world.kubectl(&kubectl).await.unwrap();
    place.until("ModelDeployment", NAME, "says what is so", |now| said(now) == said(&before)).await;
}

#[tokio::test]
async fn a_service_of_somebody_else_is_not_touched_and_the_deployment_says_so() {
    let place = Place::new(World::shared()).await;
    let theirs = place.create("Service", NAME, json!({"spec": {"selector": {"app": "theirs"}, "ports": [{"port": 80}]}})).await;
    place.deploy(NAME).await;
    let object = place.condition(NAME, "Ready", "False", "NameTaken").await;
    let message = text(&condition(&object, "Ready").unwrap()["message"]);
    assert!(message.contains(&format!("Service {NAME} already exists")) && message.contains(&place.name), "{message}");
    assert_eq!(object["status"]["state"], "Blocked");
    assert!(place.of("Deployment", NAME).await.is_empty(), "pods were started that nobody could reach");
    assert_eq!(place.get("Service", NAME).await.unwrap(), theirs);
    // When it is gone, nobody has to say so.
    place.delete("Service", NAME).await;
    place.let_in(NAME, 1).await;
    place.condition(NAME, "Ready", "False", "Unschedulable").await;
}

#[tokio::test]
async fn a_revision_that_never_answered_makes_room_for_the_next() {
    let place = Place::new(World::shared()).await;
    place.deploy(NAME).await;
    let first = text(&place.child("Deployment", NAME).await["metadata"]["name"]);
    place.let_in(NAME, 1).await;
    place.change("ModelDeployment", NAME, json!({"spec": {"engine": {"contextLength": 512}}})).await;
    // There is no node, so no pod of the first ever answered: it would only hold what the second needs.
    let replicas = |object: &Value, phase: &str| {
        let revisions = object["status"]["revisions"].as_array().cloned().unwrap_or_default();
        let found = revisions.into_iter().find(|revision| revision["phase"] == phase);
        found.map(|revision| (text(&revision["name"]), revision["replicas"].clone()))
    };
    let made_room = |object: &Value| {
        let (old, current) = (replicas(object, "Old"), replicas(object, "Current"));
        old.is_none_or(|(name, pods)| first.ends_with(&name) && pods == 0)
            && current.is_some_and(|(name, pods)| !first.ends_with(&name) && pods == 1)
    };
    place.until("ModelDeployment", NAME, "has its second revision in the place of the first", made_room).await;
    let numbers: Vec<Value> =
        place.of("ControllerRevision", NAME).await.iter().map(|revision| revision["revision"].clone()).collect();
    assert!(numbers.contains(&json!(1)) && numbers.contains(&json!(2)), "{numbers:?}");
    // Back to the first wish: its revision is there already.
    place.change("ModelDeployment", NAME, json!({"spec": {"engine": null}})).await;
    let back = |object: &Value| replicas(object, "Current").is_some_and(|(name, pods)| first.ends_with(&name) && pods == 1);
    place.until("ModelDeployment", NAME, "is back at its first revision", back).await;
}

#[tokio::test]
async fn of_revisions_that_nothing_runs_of_the_newest_ten_are_kept() {
    let place = Place::new(World::shared()).await;
    place.deploy(NAME).await;
    place.child("Deployment", NAME).await;
    let numbers = async || {
        let mut numbers: Vec<i64> =
            place.of("ControllerRevision", NAME).await.iter().map(|revision| revision["revision"].as_i64().unwrap()).collect();
        numbers.sort_unstable();
        numbers
    };
    for number in 2..=14 {
        place.change("ModelDeployment", NAME, json!({"spec": {"engine": {"contextLength": 256 * number}}})).await;
        let look = async || match numbers().await {
            found if found.last() == Some(&number) => Ok(()),
            found => Err(format!("{found:?}")),
        };
        place.world.eventually(&format!("there is revision {number}"), look).await;
    }
    let kept: Vec<i64> = (4..=14).collect();
    let look = async || match numbers().await {
        found if found == kept => Ok(()),
        found => Err(format!("{found:?}")),
    };
    place.world.eventually("the present one and ten of the past are there", look).await;
    tokio::time::sleep(std::time::Duration::from_secs(4)).await;
    assert_eq!(numbers().await, kept, "and it stays so");
    for kind in ["Deployment", "ConfigMap"] {
        place.child(kind, NAME).await;
    }
}

#[tokio::test]
async fn a_pod_that_is_not_what_was_written_stays_behind_the_gate() {
    let place = Place::new(World::shared()).await;
    place.deploy(NAME).await;
    let child = place.child("Deployment", NAME).await;
    place.let_in(NAME, 1).await;
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "bonafide-copy"}});
    pod["metadata"]["labels"] = child["spec"]["template"]["metadata"]["labels"].clone();
    pod["spec"] = child["spec"]["template"]["spec"].clone();
    pod["spec"]["containers"][0]["args"].as_array_mut().unwrap().push(json!("--verbose"));
    let created = value(place.api("Pod").create(&Default::default(), &parse(pod)).await.unwrap());
    assert!(gated(&created));
    let object = place.condition(NAME, "Ready", "False", "NotVouched").await;
    let message = text(&condition(&object, "Ready").unwrap()["message"]);
    assert!(message.contains("bonafide-copy") && message.contains("/spec/containers/0/args"), "{message}");
    assert!(gated(&place.get("Pod", "bonafide-copy").await.unwrap()));
    place.delete("Pod", "bonafide-copy").await;
    place.condition(NAME, "Ready", "False", "Unschedulable").await;
}

#[tokio::test]
async fn two_deployments_share_a_record_and_with_the_last_everything_goes() {
    let place = Place::new(World::shared()).await;
    let source = place.publish("Shared-GGUF", &[("shared.gguf", "shared")]);
    for name in ["crow", "raven"] {
        place.create("ModelDeployment", name, json!({"spec": {"model": {"source": source}}})).await;
    }
    for name in ["crow", "raven"] {
        place.let_in(name, 1).await;
    }
    let both = |record: &Value| record["metadata"]["ownerReferences"].as_array().is_some_and(|owners| owners.len() == 2);
    let status = place.get("ModelDeployment", "crow").await.unwrap();
    let record = text(&status["status"]["model"]["artifact"]);
    place.until("ModelArtifact", &record, "belongs to both", both).await;

    place.delete("ModelDeployment", "crow").await;
    gone(&place, "crow").await;
    assert!(place.get("ModelArtifact", &record).await.is_some(), "the record went while raven needs it");
    assert_eq!(place.let_in("raven", 1).await.len(), 1);
    place.delete("ModelDeployment", "raven").await;
    gone(&place, "raven").await;
    let look = async || if place.get("ModelArtifact", &record).await.is_none() { Ok(()) } else { Err("it is there".to_owned()) };
    place.world.within(COLLECTOR, "the record is gone", look).await;
}

/// The garbage collector learns of new kinds every half minute.
const COLLECTOR: std::time::Duration = std::time::Duration::from_secs(90);

pub async fn gone(place: &Place<'_>, deployment: &str) {
    let look = async || {
        let mut left = vec![];
        for kind in ["ControllerRevision", "ConfigMap", "Service", "PodDisruptionBudget", "Deployment", "ReplicaSet", "Pod"] {
            left.extend(
                place.of(kind, deployment).await.iter().map(|object| format!("{kind} {}", text(&object["metadata"]["name"]))),
            );
        }
        if left.is_empty() { Ok(()) } else { Err(left.join(", ")) }
    };
    place.world.within(COLLECTOR, &format!("everything of {deployment} is gone"), look).await;
}
