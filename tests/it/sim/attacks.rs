//! What somebody tried who wanted to see a replica lost for nothing, a refused one served, or Ready said of what cannot be reached.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use serde_json::{Value, json};

use super::{
    cluster::kubelet::Behaviour,
    world::{World, condition, routed, simulate},
};
use crate::support::fake_api::{
    caller::{Fate, Plan},
    refuse::Refusal,
    request::Asked,
};

fn serving(world: &World) -> usize {
    world.of("Pod", "pear").iter().filter(|pod| routed(pod)).count()
}

fn ready(world: &World) -> Value {
    let object = world.get("ModelDeployment", "pear").unwrap();
    condition(&object, "Ready").unwrap()["status"].clone()
}

#[test]
fn for_room_that_nobody_can_take_one_replica_goes_and_no_second_one() {
    for rollout in [json!({}), json!({ "strategy": "Canary", "canary": { "percent": 10, "hold": "60s" } })] {
        simulate(1, async |world| {
            world.run_smoothly();
            world.deploy("pear", &[], json!({ "replicas": 8, "rollout": rollout }));
            world.ready("pear", 8).await;
            // Whoever is there stays, and nobody else comes in.
            world.room(1);
            world.change("ModelDeployment", "pear", json!({ "spec": { "engine": { "contextLength": 512 } } }));
            for second in 0..1500 {
                tokio::time::sleep(Duration::from_secs(1)).await;
                assert!(serving(world) >= 7, "second {second}: {} serve\n{}", serving(world), world.oracle.story());
            }
        });
    }
}

/// Does things to the writes of some objects, while it is told to.
struct Spell {
    kind: &'static str,
    subresource: &'static str,
    cast: Arc<AtomicBool>,
    seen: Arc<AtomicUsize>,
    /// So late the first one is; all are refused where there is none.
    late: Option<Duration>,
}

impl Plan for Spell {
    fn request(&mut self, asked: &Asked) -> Fate {
        let meant = asked.is_write() && asked.kind.kind == self.kind && asked.subresource == self.subresource;
        if !meant || !self.cast.load(Relaxed) {
            return Fate::Pass;
        }
        match (self.seen.fetch_add(1, Relaxed), self.late) {
            (_, None) => {
                Fate::Refuse(Refusal::new(500, "InternalError", "Internal error occurred: etcdserver: request timed out"))
            }
            (0, Some(late)) => Fate::Late(late),
            _ => Fate::Pass,
        }
    }
}

/// Runs a manager under such a spell: what casts it, and how often it struck.
fn spellbound(
    world: &World,
    kind: &'static str,
    subresource: &'static str,
    late: Option<Duration>,
) -> (Arc<AtomicBool>, Arc<AtomicUsize>) {
    let (cast, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let of_it = (cast.clone(), seen.clone());
    world.keep_running(move |_| Box::new(Spell { kind, subresource, cast: of_it.0.clone(), seen: of_it.1.clone(), late }));
    (cast, seen)
}

#[test]
fn a_policy_that_comes_while_pods_are_vouched_for_slowly_stops_those_that_were_not_yet() {
    for seed in 1..5 {
        simulate(seed, async |world| {
            world.oracle.slow(Duration::from_secs(1000));
            let (cast, seen) = spellbound(world, "Pod", "status", Some(Duration::from_secs(50)));
            cast.store(true, Relaxed);
            world.deploy("pear", &[], json!({ "replicas": 6 }));
            while seen.load(Relaxed) == 0 {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            tokio::time::sleep(Duration::from_secs(2)).await;
            world.policy("strict", 1);
            tokio::time::sleep(Duration::from_secs(600)).await;
            // What was under way when it came is what was there before it.
            assert!(serving(world) <= 1, "seed {seed}: {} serve\n{}", serving(world), world.oracle.story());
        });
    }
}

#[test]
fn a_policy_that_comes_while_gates_are_lifted_slowly_lets_nobody_in_who_was_not_yet() {
    for seed in 1..5 {
        simulate(seed, async |world| {
            world.oracle.slow(Duration::from_secs(1000));
            let (cast, seen) = spellbound(world, "Pod", "", Some(Duration::from_secs(50)));
            cast.store(true, Relaxed);
            world.deploy("pear", &[], json!({ "replicas": 6 }));
            while seen.load(Relaxed) == 0 {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            tokio::time::sleep(Duration::from_secs(2)).await;
            world.policy("strict", 1);
            tokio::time::sleep(Duration::from_secs(600)).await;
            let pods = world.of("Pod", "pear");
            let in_it = pods.iter().filter(|pod| !pod["spec"]["nodeName"].is_null()).count();
            // One was let in while the policy was made; nobody vouches for it.
            assert!(in_it <= 1, "seed {seed}: {in_it} pods were let in\n{}", world.oracle.story());
            assert_eq!(serving(world), 0, "seed {seed}\n{}", world.oracle.story());
        });
    }
}

#[test]
fn without_its_service_a_model_is_not_ready() {
    simulate(1, async |world| {
        let (cast, _) = spellbound(world, "Service", "", None);
        world.deploy("pear", &[], json!({}));
        world.ready("pear", 1).await;
        cast.store(true, Relaxed);
        world.delete("Service", "pear");
        tokio::time::sleep(Duration::from_secs(120)).await;
        assert_eq!(ready(world), "False", "{}", world.oracle.story());
        // Nor does a fresh look that waits for its source change that.
        world.shelf.close(true);
        world.change("ModelDeployment", "pear", json!({ "metadata": { "annotations": { "bonafide.dev/refresh": "1" } } }));
        tokio::time::sleep(Duration::from_secs(120)).await;
        assert_eq!(ready(world), "False", "{}", world.oracle.story());
        world.shelf.close(false);
        cast.store(false, Relaxed);
        world.ready("pear", 1).await;
    });
}

#[test]
fn what_is_objected_to_is_said_also_when_it_cannot_be_written_on_the_pod() {
    simulate(1, async |world| {
        let (cast, seen) = spellbound(world, "Pod", "status", None);
        world.deploy("pear", &[], json!({}));
        world.ready("pear", 1).await;
        cast.store(true, Relaxed);
        let name = world.of("Pod", "pear")[0]["metadata"]["name"].as_str().unwrap().to_owned();
        let spy =
            json!({ "metadata": { "generation": 7 }, "spec": { "ephemeralContainers": [{ "name": "spy", "image": "spy" }] } });
        world.change("Pod", &name, spy);
        tokio::time::sleep(Duration::from_secs(120)).await;
        assert!(seen.load(Relaxed) > 0);
        assert_eq!(ready(world), "False", "{}", world.oracle.story());
        // The oracle allows for what cannot be written.
        cast.store(false, Relaxed);
    });
}

#[test]
fn an_engine_that_was_started_again_while_no_manager_was_there_is_asked_before_it_is_believed() {
    for broken in [true, false] {
        simulate(1, async |world| {
            world.run_smoothly();
            world.behave(|_| Behaviour { falls_after: Some(Duration::from_secs(120)), ..Behaviour::default() });
            world.deploy("pear", &[], json!({}));
            world.ready("pear", 1).await;
            world.end("bonafide");
            tokio::time::sleep(Duration::from_secs(300)).await;
            let restarts = &world.of("Pod", "pear")[0]["status"]["containerStatuses"][0]["restartCount"];
            assert_eq!((restarts, serving(world)), (&json!(1), 1), "it is ready again, and routed to");
            world.pods.broken(broken);
            world.run_smoothly();
            for _ in 0..100 {
                tokio::time::sleep(Duration::from_millis(100)).await;
                assert!(broken || serving(world) == 1, "one that answers was unrouted\n{}", world.oracle.story());
            }
            tokio::time::sleep(Duration::from_secs(120)).await;
            let expected = if broken { (json!("False"), 0) } else { (json!("True"), 1) };
            assert_eq!((ready(world), serving(world)), expected, "{}", world.oracle.story());
            world.pods.broken(false);
            world.ready("pear", 1).await;
        });
    }
}

#[test]
fn what_is_refused_while_it_loads_gives_its_node_back() {
    simulate(1, async |world| {
        world.run_smoothly();
        world.behave(|_| Behaviour { load: Duration::from_secs(900), ..Behaviour::default() });
        world.deploy("pear", &[], json!({ "replicas": 2 }));
        let placed = |world: &World| world.of("Pod", "pear").iter().filter(|pod| !pod["spec"]["nodeName"].is_null()).count();
        world.until("both have a node", |world| if placed(world) == 2 { Ok(()) } else { Err(placed(world).to_string()) }).await;
        world.policy("strict", 1);
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert_eq!(placed(world), 2, "a policy that is being replaced costs nobody a download");
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(placed(world), 0, "{}", world.oracle.story());
        // And when it is accepted, they come.
        world.behave(|_| Behaviour::default());
        world.delete("ClusterModelPolicy", "strict");
        world.ready("pear", 2).await;
    });
}
