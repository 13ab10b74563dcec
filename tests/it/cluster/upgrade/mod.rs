//! From the release before to this one, and back: from what it left in a cluster, kept as data, no pod is replaced.
//!
//! `tests/data/releases/VERSION` has its chart and its objects. How they were recorded is a test too, [`record`], and is done
//! again for each release.

mod record;
mod restore;

use std::{collections::BTreeMap, path::PathBuf};

use super::{
    place::{Place, text},
    quiet::settled_of,
    rollout::node::Node,
    world::{SYSTEM, World},
};
use crate::support::path;

/// The namespace of the recorded objects, and the node of their pods.
const PLACE: &str = "release";
/// The ModelDeployments that are recorded.
const NAMES: [&str; 5] = ["parrot", "everything", "green", "asleep", "changing"];

/// Where a release is kept.
fn kept(version: &str) -> PathBuf {
    path("tests/data/releases").join(version)
}

/// The version of everything that the operator owns, pods apart; and the pods by UID.
async fn seen(place: &Place<'_>) -> (BTreeMap<String, String>, Vec<String>) {
    let (mut versions, mut pods) = (BTreeMap::new(), vec![]);
    for name in NAMES {
        let of = place.versions(name).await.into_iter().filter(|(object, _)| !object.starts_with("Pod "));
        // The Deployment controller writes how many pods there are; what we write changes the generation.
        for (object, version) in of {
            let generation = match object.strip_prefix("Deployment ") {
                Some(name) => place.get("Deployment", name).await.unwrap()["metadata"]["generation"].to_string(),
                None => version,
            };
            versions.insert(object, generation);
        }
        pods.extend(place.of("Pod", name).await.iter().map(|pod| format!("{name} {}", text(&pod["metadata"]["uid"]))));
    }
    pods.sort();
    (versions, pods)
}

/// From a release to this one, and back: not one pod is replaced. Which objects are other ones after it, and what was written of
/// which kind, statuses apart.
async fn upgraded_from(version: &str) -> (Vec<String>, Vec<String>) {
    let world = World::bare().await;
    let hub = restore::hub(version);
    world.install("install", &kept(version).join("chart"), &hub).await;
    let place = Place::named(&world, PLACE).await;
    let _node = Node::new(&place.client, PLACE, 20).await;
    restore::all(&place, version).await;
    let (versions, pods) = seen(&place).await;
    assert_eq!(pods.len(), restore::pods(version), "{pods:?}");

    world.install("upgrade", &path("charts/bonafide"), &hub).await;
    let operator = world.operator_of("new", None).await;
    for name in NAMES {
        place.until("PodDisruptionBudget", &format!("bonafide-{name}"), "is there", |_| true).await;
    }
    let writes = settled_of(&world, &operator).await;
    let (after, pods_after) = seen(&place).await;
    assert_eq!(pods_after, pods, "a pod was replaced");
    for name in ["parrot", "everything"] {
        place.condition(name, "Ready", "True", "Ready").await;
    }

    // And back: nothing that the release before compares has changed.
    drop(operator);
    world.helm(&["rollback", "bonafide", "1", "--namespace", SYSTEM]).await.unwrap();
    // Its program is not kept; `make test-back` builds it.
    if let Some(programs) = std::env::var_os("BONAFIDE_RELEASES") {
        let program = PathBuf::from(programs).join(version).join("bonafide");
        let operator = world.operator_of("old", Some(&program)).await;
        let ready = async || if operator.get("readyz").await.0 == 200 { Ok(()) } else { Err("it is not".to_owned()) };
        world.eventually("the operator of the release before is ready", ready).await;
        let writes = settled_of(&world, &operator).await;
        println!("writes of release {version} when it is back: {writes:?}");
    }
    let (back, pods_back) = seen(&place).await;
    assert_eq!((&back, pods_back), (&after, pods));
    let changed = after.into_iter().filter(|(name, version)| versions.get(name) != Some(version)).map(|(name, _)| name);
    (changed.collect(), writes.into_keys().filter(|write| !write.starts_with("ModelDeployment ")).collect())
}

#[tokio::test]
async fn an_upgrade_from_0_1_0_restarts_no_pod() {
    let (changed, writes) = upgraded_from("0.1.0").await;
    // On the revision that is being replaced it is noted that it has answered, and can be gone back to.
    let noted = changed.iter().all(|name| name.starts_with("ControllerRevision bonafide-changing-")) && changed.len() == 1;
    assert!(noted, "{changed:?} {writes:?}");
    assert_eq!(writes, ["ControllerRevision patch", "PodDisruptionBudget apply"]);
}

#[tokio::test]
async fn an_upgrade_from_0_2_0_restarts_no_pod_and_writes_nothing() {
    let (changed, writes) = upgraded_from("0.2.0").await;
    assert_eq!((changed, writes), (Vec::<String>::new(), Vec::<String>::new()));
}
