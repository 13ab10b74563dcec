//! What policies want to be looked at beside digests: no pod is let in that has not been told of it, or that could not do it.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use serde_json::{Value, json};

use super::{
    attacks::spellbound,
    world::{World, simulate},
};

/// A policy that takes everything, of one format.
fn formats(world: &World) {
    world.make("ClusterModelPolicy", "formats", json!({ "spec": { "unmatched": "Accept", "formats": ["gguf"] } }));
}

fn told(world: &World) -> bool {
    world.of("ConfigMap", "pear").iter().any(|config| config["data"]["checks.json"] == r#"{"formats":true}"#)
}

fn let_in(world: &World) -> usize {
    let is_in = |pod: &Value| pod["spec"]["schedulingGates"].as_array().is_none_or(Vec::is_empty);
    world.of("Pod", "pear").iter().filter(|pod| is_in(pod)).count()
}

/// Takes the one pod away; another comes for it.
async fn replace(world: &World) {
    let name = world.of("Pod", "pear")[0]["metadata"]["name"].as_str().unwrap().to_owned();
    world.delete("Pod", &name);
    world
        .until("another pod is there", |world| match world.of("Pod", "pear").as_slice() {
            [pod] if pod["metadata"]["name"] != name.as_str() => Ok(()),
            pods => Err(format!("{} pods", pods.len())),
        })
        .await;
}

#[test]
fn a_pod_is_let_in_once_it_is_told_what_a_policy_wants_looked_at() {
    simulate(1, async |world| {
        let (cast, _) = spellbound(world, "ConfigMap", "", None);
        world.deploy("pear", &[], json!({}));
        world.ready("pear", 1).await;
        assert!(!told(world), "nobody asks for it");
        cast.store(true, Relaxed);
        formats(world);
        tokio::time::sleep(Duration::from_secs(5)).await;
        replace(world).await;
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert_eq!((told(world), let_in(world)), (false, 0), "it cannot be told\n{}", world.oracle.story());
        cast.store(false, Relaxed);
        world.ready("pear", 1).await;
        assert!(told(world));
        world.delete("ClusterModelPolicy", "formats");
        world
            .until("nothing is asked for any more", |world| if told(world) { Err("it stands there".into()) } else { Ok(()) })
            .await;
    });
}

#[test]
fn a_pod_of_a_paused_deployment_is_told_too() {
    simulate(2, async |world| {
        world.run_smoothly();
        world.deploy("pear", &[], json!({}));
        world.ready("pear", 1).await;
        world.change("ModelDeployment", "pear", json!({ "spec": { "management": "Paused" } }));
        formats(world);
        tokio::time::sleep(Duration::from_secs(5)).await;
        replace(world).await;
        world.until("it is let in", |world| if let_in(world) == 1 { Ok(()) } else { Err("it waits".into()) }).await;
        assert!(told(world));
    });
}

#[test]
fn a_revision_of_an_older_release_is_not_let_in_where_a_policy_wants_more_looked_at() {
    simulate(3, async |world| {
        world.run_smoothly();
        world.deploy("pear", &[], json!({ "replicas": 0 }));
        world.condition("pear", "Ready", "True", "Idle").await;
        let revision = world.of("ControllerRevision", "pear")[0]["metadata"]["name"].as_str().unwrap().to_owned();
        let uid = world.get("ControllerRevision", &revision).unwrap()["metadata"]["uid"].clone();
        let older = world.get("ControllerRevision", &revision).unwrap();
        // As a release wrote it that could not look.
        let mut older = older;
        older["data"].as_object_mut().unwrap().remove("checks").expect("a revision of today says what it can look at");
        world.api.delete("ControllerRevision", super::world::PLACE, &revision, "user", uid.as_str().unwrap());
        let metadata = older["metadata"].as_object_mut().unwrap();
        metadata.retain(|key, _| matches!(key.as_str(), "name" | "namespace" | "labels" | "annotations" | "ownerReferences"));
        world.api.create("ControllerRevision", super::world::PLACE, "user", &older).unwrap();
        tokio::time::sleep(Duration::from_secs(60)).await;
        world.change("ModelDeployment", "pear", json!({ "spec": { "replicas": 1 } }));
        world.ready("pear", 1).await;
        formats(world);
        tokio::time::sleep(Duration::from_secs(5)).await;
        replace(world).await;
        world.condition("pear", "Ready", "False", "RevisionTooOld").await;
        assert_eq!((told(world), let_in(world)), (false, 0));
        // A change makes a revision that can.
        world.change("ModelDeployment", "pear", json!({ "spec": { "pod": { "labels": { "made": "anew" } } } }));
        world.ready("pear", 1).await;
        assert!(told(world));
    });
}

#[test]
fn who_fetched_before_a_policy_wanted_more_looked_at_is_not_vouched_for() {
    simulate(4, async |world| {
        world.run_smoothly();
        world.deploy("pear", &[], json!({}));
        world.until("it is let in", |world| if let_in(world) == 1 { Ok(()) } else { Err("it waits".into()) }).await;
        // Its fetch has begun by then, and it takes longer than this.
        tokio::time::sleep(Duration::from_secs(8)).await;
        formats(world);
        world.condition("pear", "Ready", "False", "NotVouched").await;
        assert_eq!(world.of("Pod", "pear").iter().filter(|pod| super::world::routed(pod)).count(), 0);
        replace(world).await;
        world.ready("pear", 1).await;
        assert!(told(world));
        // Who was vouched for before a policy came goes on.
        world.delete("ClusterModelPolicy", "formats");
        tokio::time::sleep(Duration::from_secs(60)).await;
        formats(world);
        tokio::time::sleep(Duration::from_secs(600)).await;
        world.ready("pear", 1).await;
    });
}
