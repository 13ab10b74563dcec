//! Corners that the stories do not go into: names that two want, a pause at a bad moment.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use serde_json::{Value, json};

use super::{
    cluster::kubelet::Behaviour,
    world::{World, routed, simulate},
};
use crate::support::fake_api::{
    caller::{Fate, Plan},
    refuse::Refusal,
    request::Asked,
};

const LONG: Duration = Duration::from_secs(600);

fn serving(world: &World, name: &str) -> usize {
    world.of("Pod", name).iter().filter(|pod| routed(pod)).count()
}

/// `old` waits for the name that `young` has.
async fn two_want_one_name(world: &World) {
    world.deploy("old", &[], json!({ "replicas": 0 }));
    tokio::time::sleep(Duration::from_secs(60)).await;
    world.deploy("young", &[], json!({ "model": { "servedNames": ["chat"] } }));
    world.ready("young", 1).await;
    world.change("ModelDeployment", "old", json!({ "spec": { "replicas": 1, "model": { "servedNames": ["chat"] } } }));
    world.condition("old", "Ready", "False", "NameTaken").await;
    tokio::time::sleep(LONG).await;
}

#[test]
fn who_has_a_name_keeps_it_through_a_change() {
    simulate(1, async |world| {
        world.run_smoothly();
        two_want_one_name(world).await;
        let before = world.of("Pod", "young")[0]["metadata"]["name"].clone();
        world.change("ModelDeployment", "young", json!({ "spec": { "engine": { "contextLength": 512 } } }));
        tokio::time::sleep(LONG).await;
        assert_eq!((serving(world, "young"), serving(world, "old")), (1, 0));
        assert_ne!(world.of("Pod", "young")[0]["metadata"]["name"], before, "the change is there");
        // It is free when it is given up, and not before.
        world.change("ModelDeployment", "young", json!({ "spec": { "model": { "servedNames": ["other"] } } }));
        tokio::time::sleep(LONG * 2).await;
        assert_eq!((serving(world, "young"), serving(world, "old")), (1, 1));
    });
}

#[test]
fn who_has_a_name_keeps_it_when_its_rollout_fails() {
    simulate(1, async |world| {
        world.run_smoothly();
        world.behave(|pod| {
            let broken = pod["spec"]["containers"][0]["args"].to_string().contains("--seed");
            Behaviour { crashes: broken.then_some((1, "error: unknown architecture 'pomelo'")), ..Behaviour::default() }
        });
        two_want_one_name(world).await;
        world.change("ModelDeployment", "young", json!({ "spec": { "engine": { "args": ["--seed=1"] } } }));
        world.condition("young", "Ready", "False", "RolloutFailed").await;
        tokio::time::sleep(LONG).await;
        assert_eq!((serving(world, "young"), serving(world, "old")), (1, 0));
    });
}

#[test]
fn who_gave_a_name_away_does_not_take_it_again_by_going_back() {
    simulate(1, async |world| {
        world.run_smoothly();
        world.deploy("pear", &[], json!({ "model": { "servedNames": ["chat"] } }));
        world.ready("pear", 1).await;
        world.change("ModelDeployment", "pear", json!({ "spec": { "model": { "servedNames": ["other"] } } }));
        tokio::time::sleep(LONG).await;
        world.deploy("plum", &[], json!({ "model": { "servedNames": ["chat"] } }));
        world.ready("plum", 1).await;
        world.change("ModelDeployment", "pear", json!({ "spec": { "model": { "servedNames": ["chat"] } } }));
        world.condition("pear", "Ready", "False", "NameTaken").await;
        tokio::time::sleep(LONG).await;
        let chat = |pod: &Value| routed(pod) && pod["spec"]["containers"][0]["args"].to_string().contains("chat");
        assert_eq!(world.of("Pod", "pear").iter().filter(|pod| chat(pod)).count(), 0);
        assert_eq!(serving(world, "pear"), 1, "what it was last goes on");
        world.delete("ModelDeployment", "plum");
        world.ready("pear", 1).await;
        assert!(world.of("Pod", "pear").iter().all(|pod| chat(pod)));
    });
}

#[test]
fn nobody_who_answers_makes_room_for_a_pod_that_no_node_could_take() {
    simulate(1, async |world| {
        world.run_smoothly();
        world.room(1);
        world.deploy("pear", &[], json!({}));
        world.ready("pear", 1).await;
        world.change("ModelDeployment", "pear", json!({ "spec": { "resources": { "memory": "900Gi" } } }));
        world.condition("pear", "Ready", "False", "NoNodeFits").await;
        for _ in 0..900 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert_eq!(serving(world, "pear"), 1, "{}", world.oracle.story());
        }
    });
}

#[test]
fn a_change_is_rolled_out_where_fewer_find_room_than_are_wanted() {
    for seed in 1..9 {
        simulate(seed, async |world| {
            world.run_smoothly();
            world.room(2);
            world.deploy("pear", &[], json!({ "replicas": 3 }));
            world.until("two answer", |world| (serving(world, "pear") == 2).then_some(()).ok_or_else(String::new)).await;
            tokio::time::sleep(LONG).await;
            let before: Vec<Value> = world.of("Pod", "pear").iter().map(|pod| pod["metadata"]["name"].clone()).collect();
            world.change("ModelDeployment", "pear", json!({ "spec": { "engine": { "contextLength": 512 } } }));
            for second in 0..900 {
                tokio::time::sleep(Duration::from_secs(1)).await;
                assert!(serving(world, "pear") >= 1, "seed {seed}, second {second}: {}", world.oracle.story());
            }
            let routed = world.of("Pod", "pear").iter().filter(|pod| routed(pod)).cloned().collect::<Vec<_>>();
            assert_eq!(routed.len(), 2, "seed {seed}");
            assert!(routed.iter().all(|pod| !before.contains(&pod["metadata"]["name"])), "seed {seed}: the change is there");
        });
    }
}

/// Says no to some writes of pods.
struct No {
    status: Arc<AtomicBool>,
    marks: Arc<AtomicBool>,
}

impl Plan for No {
    fn request(&mut self, asked: &Asked) -> Fate {
        let of_pod = asked.is_write() && asked.kind.kind == "Pod";
        let no = if asked.subresource == "status" { &self.status } else { &self.marks };
        if of_pod && no.load(Relaxed) {
            return Fate::Refuse(Refusal::new(500, "InternalError", "Internal error occurred: etcdserver: request timed out"));
        }
        Fate::Pass
    }
}

#[test]
fn while_it_is_paused_nobody_is_unrouted_also_not_who_was_to_be() {
    simulate(1, async |world| {
        let (status, marks) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let of_it = (status.clone(), marks.clone());
        world.keep_running(move |_| Box::new(No { status: of_it.0.clone(), marks: of_it.1.clone() }));
        world.deploy("pear", &[], json!({ "replicas": 2 }));
        world.ready("pear", 2).await;
        status.store(true, Relaxed);
        world.change("ModelDeployment", "pear", json!({ "spec": { "replicas": 1 } }));
        let names = |world: &World, marked: bool| {
            let is = |pod: &&Arc<Value>| pod["metadata"]["annotations"]["bonafide.dev/draining"].is_null() != marked;
            world.of("Pod", "pear").iter().find(is).map(|pod| pod["metadata"]["name"].as_str().unwrap().to_owned())
        };
        world.until("one is marked", |world| names(world, true).map(drop).ok_or_else(String::new)).await;
        let (marked, other) = (names(world, true).unwrap(), names(world, false).unwrap());
        marks.store(true, Relaxed);
        world.delete("Pod", &other);
        world.change("ModelDeployment", "pear", json!({ "spec": { "management": "Paused" } }));
        tokio::time::sleep(Duration::from_millis(500)).await;
        status.store(false, Relaxed);
        for _ in 0..300 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let pod = world.get("Pod", &marked);
            assert!(pod.as_ref().is_some_and(routed), "the only one that answers was unrouted: {}", world.oracle.story());
        }
    });
}
