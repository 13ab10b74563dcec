//! Trouble in one corner stays there, and what is heard late counts all the same.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::world::simulate;
use crate::support::fake_api::{
    caller::{Fate, Plan, Smooth, Tidings},
    refuse::Refusal,
    request::Asked,
    store::Change,
};

const FIRST: Duration = Duration::from_secs(5);

/// After the first seconds, watches of Services break, and can be taken up again only much later.
struct NoServices(Instant);

impl Plan for NoServices {
    fn request(&mut self, asked: &Asked) -> Fate {
        let reads = !asked.is_write() && asked.name.is_empty() && asked.kind.kind == "Service";
        if reads && self.0.elapsed() > FIRST && self.0.elapsed() < 360 * FIRST {
            return Fate::Refuse(Refusal::new(500, "InternalError", "Internal error occurred: etcdserver: request timed out"));
        }
        Fate::Pass
    }

    fn event(&mut self, change: &Change) -> Tidings {
        if change.kind.kind == "Service" { Tidings::Break } else { Tidings::Now }
    }
}

#[test]
fn one_watch_that_fails_holds_up_nothing_else() {
    simulate(1, async |world| {
        world.keep_running(|_| Box::new(NoServices(Instant::now())));
        tokio::time::sleep(FIRST * 2).await;
        let began = Instant::now();
        for name in ["pear", "plum", "fig"] {
            world.deploy(name, &[], json!({}));
            world.ready(name, 1).await;
            world.change("ModelDeployment", name, json!({ "spec": { "replicas": 0 } }));
            world.condition(name, "Ready", "True", "Idle").await;
        }
        // Fetching and loading take 37 s of each, and stopping a little more.
        assert!(began.elapsed() < Duration::from_secs(3 * 60), "it took {:?}\n{}", began.elapsed(), world.oracle.story());
    });
}

/// Changes of policies are heard of a minute late.
struct LatePolicies;

impl Plan for LatePolicies {
    fn request(&mut self, _: &Asked) -> Fate {
        Fate::Pass
    }

    fn event(&mut self, change: &Change) -> Tidings {
        if change.kind.kind == "ClusterModelPolicy" { Tidings::Late(12 * FIRST) } else { Tidings::Now }
    }
}

#[test]
fn a_pod_that_loads_while_a_policy_comes_is_not_vouched_for_although_the_policy_is_heard_of_late() {
    simulate(1, async |world| {
        world.keep_running(|_| Box::new(LatePolicies));
        world.deploy("pear", &[], json!({}));
        let on_a_node = |world: &super::world::World| {
            let pods = world.of("Pod", "pear");
            if pods.iter().any(|pod| !pod["spec"]["nodeName"].is_null()) { Ok(()) } else { Err("it waits".to_owned()) }
        };
        world.until("its pod is on a node", on_a_node).await;
        tokio::time::sleep(FIRST).await;
        // The oracle sees to it that nobody vouches for it from now on.
        world.policy("strict", 1);
        world.condition("pear", "Trusted", "False", "Unsigned").await;
        world.rest().await;
        assert!(world.of("Pod", "pear").iter().all(|pod| !super::world::routed(pod)), "{}", world.oracle.story());
        world.delete("ClusterModelPolicy", "strict");
        world.ready("pear", 1).await;
    });
}

#[test]
fn a_pod_that_is_made_when_a_policy_has_come_is_not_let_in_although_the_policy_is_heard_of_late() {
    simulate(1, async |world| {
        world.keep_running(|_| Box::new(LatePolicies));
        world.deploy("pear", &[], json!({}));
        world.ready("pear", 1).await;
        world.policy("strict", 1);
        world.change("ModelDeployment", "pear", json!({ "spec": { "replicas": 3 } }));
        for _ in 0..120 {
            tokio::time::sleep(FIRST).await;
            let placed = world.of("Pod", "pear").iter().filter(|pod| !pod["spec"]["nodeName"].is_null()).count();
            assert_eq!(placed, 1, "{}", world.oracle.story());
        }
        world.condition("pear", "Trusted", "False", "Unsigned").await;
        world.delete("ClusterModelPolicy", "strict");
        world.ready("pear", 3).await;
    });
}

/// What is wished for and what was frozen of it is heard of five minutes late.
struct LateRevisions;

impl Plan for LateRevisions {
    fn request(&mut self, _: &Asked) -> Fate {
        Fate::Pass
    }

    fn event(&mut self, change: &Change) -> Tidings {
        let late = ["ControllerRevision", "ModelDeployment"].contains(&change.kind.kind);
        if late { Tidings::Late(60 * FIRST) } else { Tidings::Now }
    }
}

#[test]
fn who_has_not_heard_of_a_revision_yet_unroutes_none_of_its_pods() {
    simulate(1, async |world| {
        world.keep_running_as("bonafide-a", |_| Box::new(Smooth));
        world.deploy("pear", &[], json!({}));
        world.ready("pear", 1).await;
        world.rest().await;
        world.keep_running_as("bonafide-b", |_| Box::new(LateRevisions));
        tokio::time::sleep(FIRST * 2).await;
        let old = world.of("Pod", "pear")[0]["metadata"]["uid"].clone();
        world.change("ModelDeployment", "pear", json!({ "spec": { "engine": { "contextLength": 512 } } }));
        let new = |world: &super::world::World| {
            world.of("Pod", "pear").iter().any(|pod| pod["metadata"]["uid"] != old && super::world::routed(pod))
        };
        world.within(50 * FIRST, "the new one answers", |world| if new(world) { Ok(()) } else { Err(String::new()) }).await;
        for _ in 0..300 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert!(new(world), "{}", world.oracle.story());
        }
    });
}
