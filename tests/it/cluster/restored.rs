//! etcd is put back to what it was some time ago: versions of objects go backwards, and what was made since is gone or comes back.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    operator::Operator,
    place::{Place, condition, text},
    world::World,
};

/// The names of the ModelDeployment's Deployments that have replicas, with their files' digest.
async fn served(place: &Place<'_>, name: &str) -> Vec<(String, String)> {
    let object = place.get("ModelDeployment", name).await.unwrap_or_default();
    let digest = text(&object["status"]["model"]["digest"]);
    let deployments = place.of("Deployment", name).await;
    let running = deployments.iter().filter(|deployment| deployment["spec"]["replicas"] != 0);
    running.map(|deployment| (text(&deployment["metadata"]["name"]), digest.clone())).collect()
}

/// Puts a snapshot back while the operator runs, or with another one that starts afterwards; then everything is as the
/// restored wishes say.
async fn everything_is_as_it_was(anew: bool) {
    let mut world = World::without_operator().await;
    let mut operator = world.another_operator("first").await;
    let ready = async |world: &World, operator: &Operator| {
        let look = async || if operator.get("readyz").await.0 == 200 { Ok(()) } else { Err(operator.tail()) };
        world.within(Duration::from_secs(60), "the operator is ready", look).await;
    };
    ready(&world, &operator).await;
    let name = {
        let place = Place::new(&world).await;
        for name in ["stays", "rolls", "goes"] {
            place.deploy(name).await;
            place.let_in(name, 1).await;
        }
        place.name.clone()
    };
    let snapshot = world.cluster.state().join("snapshot");
    world.cluster.snapshot(&snapshot).await.unwrap();

    // An hour goes by.
    let before = {
        let place = Place::again(&world, &name).await;
        let before = [served(&place, "stays").await, served(&place, "rolls").await, served(&place, "goes").await];
        assert!(before.iter().all(|served| served.len() == 1), "{before:?}");
        place.delete("ModelDeployment", "goes").await;
        place.deploy("comes").await;
        place.let_in("comes", 1).await;
        place.change("ModelDeployment", "rolls", json!({"spec": {"engine": {"contextLength": 1024}}})).await;
        place
            .until("ModelDeployment", "rolls", "is of another revision", |object| {
                object["status"]["revisions"].as_array().is_some_and(|revisions| revisions.len() > 1)
            })
            .await;
        let look = async || match place.of("Deployment", "goes").await.len() {
            0 => Ok(()),
            left => Err(format!("{left} Deployments of what was deleted")),
        };
        world.eventually("what was deleted is gone", look).await;
        before
    };
    if anew {
        operator.signal("KILL");
        operator.ended().await;
    }
    world.cluster.restore(&snapshot).await.unwrap();
    if anew || operator.has_ended() {
        operator = operator.again().await;
    }

    let place = Place::again(&world, &name).await;
    let look = async || {
        let now = [served(&place, "stays").await, served(&place, "rolls").await, served(&place, "goes").await];
        if now == before && place.get("ModelDeployment", "comes").await.is_none() {
            Ok(())
        } else {
            Err(format!("{now:?} instead of {before:?}"))
        }
    };
    world.within(Duration::from_secs(60), "the world is as the restored wishes say", look).await;
    // It acts on what is wished from now on, at once: no watch waits for a version that is yet to come.
    for name in ["stays", "rolls", "goes"] {
        place.change("ModelDeployment", name, json!({"spec": {"replicas": 2}})).await;
        place.let_in(name, 2).await;
    }
    place.deploy("comes-later").await;
    place.let_in("comes-later", 1).await;
    for name in ["stays", "rolls", "goes", "comes-later"] {
        let what = "says nothing of an API server that did not do its part";
        let fine = |object: &Value| {
            condition(object, "Ready").is_some_and(|ready| ready["reason"] != "ApiError" && ready["reason"] != "NameTaken")
        };
        place.until("ModelDeployment", name, what, fine).await;
    }
    assert!(operator.get("metrics").await.1.lines().any(|line| line == "bonafide_leader 1"), "{}", operator.tail());
    assert!(!operator.log().contains("panicked"), "{}", operator.tail());
}

#[tokio::test]
async fn a_snapshot_is_put_back_while_the_operator_runs() {
    everything_is_as_it_was(false).await;
}

#[tokio::test]
async fn a_snapshot_is_put_back_and_the_operator_starts_afterwards() {
    everything_is_as_it_was(true).await;
}
