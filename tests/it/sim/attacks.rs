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
pub fn spellbound(
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

#[test]
fn an_engine_that_is_started_again_while_it_is_refused_does_not_come_back_and_the_others_serve_on() {
    simulate(1, async |world| {
        world.run_smoothly();
        let mut falls = true;
        world.behave(move |_| {
            let falls_after = std::mem::take(&mut falls).then_some(Duration::from_secs(600));
            Behaviour { falls_after, ..Behaviour::default() }
        });
        world.deploy("pear", &[], json!({ "replicas": 3 }));
        world.ready("pear", 3).await;
        world.policy("strict", 1);
        tokio::time::sleep(Duration::from_secs(1200)).await;
        assert_eq!(serving(world), 2, "{}", world.oracle.story());
        assert!(world.of("Pod", "pear").iter().filter(|pod| !pod["spec"]["nodeName"].is_null()).count() == 2, "its node is free");
        world.delete("ClusterModelPolicy", "strict");
        world.ready("pear", 3).await;
    });
}

/// The new one loads for 20 minutes, and the engines of the old ones are started again meanwhile.
#[test]
fn an_old_replica_that_is_started_again_during_a_rollout_comes_back() {
    for replicas in [1, 2] {
        simulate(1, async |world| {
            world.run_smoothly();
            world.behave(|pod| match pod["spec"]["containers"][0]["args"].to_string().contains("512") {
                true => Behaviour { load: Duration::from_secs(1200), ..Behaviour::default() },
                false => Behaviour { falls_after: Some(Duration::from_secs(300)), ..Behaviour::default() },
            });
            world.deploy("pear", &[], json!({ "replicas": replicas }));
            world.ready("pear", replicas).await;
            world.oracle.floor("pear", 0);
            world.change("ModelDeployment", "pear", json!({ "spec": { "engine": { "contextLength": 512 } } }));
            let mut silent = 0;
            for _ in 0..1500 {
                tokio::time::sleep(Duration::from_secs(1)).await;
                silent += usize::from(serving(world) == 0);
            }
            assert!(silent < 120, "nobody answered for {silent} s\n{}", world.oracle.story());
        });
    }
}

/// How many answer with this context.
fn with_context(world: &World, context: &str) -> usize {
    let of_it = |pod: &&Arc<Value>| routed(pod) && pod["spec"]["containers"][0]["args"].to_string().contains(context);
    world.of("Pod", "pear").iter().filter(of_it).count()
}

#[test]
fn a_change_that_fails_after_one_that_was_on_trial_goes_back_to_what_served_before_both() {
    simulate(1, async |world| {
        world.run_smoothly();
        world.behave(|pod| {
            let fails = pod["spec"]["containers"][0]["args"].to_string().contains("1024");
            Behaviour { crashes: fails.then_some((1, "it does not work")), ..Behaviour::default() }
        });
        let rollout = json!({ "strategy": "Canary", "canary": { "percent": 25, "hold": "2h" } });
        world.deploy("pear", &[], json!({ "replicas": 4, "rollout": rollout, "engine": { "contextLength": 256 } }));
        world.ready("pear", 4).await;
        world.change("ModelDeployment", "pear", json!({ "spec": { "engine": { "contextLength": 512 } } }));
        let on_trial = |world: &World| if with_context(world, "512") == 1 { Ok(()) } else { Err(String::new()) };
        world.until("one is on trial", on_trial).await;
        world.change("ModelDeployment", "pear", json!({ "spec": { "engine": { "contextLength": 1024 } } }));
        let back = |world: &World| match (with_context(world, "256"), world.of("Pod", "pear").len()) {
            (4, 4) => Ok(()),
            found => Err(format!("{found:?}")),
        };
        world.until("what served before both serves", back).await;
        assert_eq!(ready(world), "False");
    });
}

#[test]
fn fewer_replicas_do_not_end_a_trial() {
    simulate(1, async |world| {
        world.run_smoothly();
        let rollout = json!({ "strategy": "Canary", "canary": { "percent": 20, "hold": "5h" } });
        world.deploy("pear", &[], json!({ "replicas": 8, "rollout": rollout }));
        world.ready("pear", 8).await;
        world.change("ModelDeployment", "pear", json!({ "spec": { "engine": { "contextLength": 512 } } }));
        let on_trial = |world: &World| if with_context(world, "512") == 2 { Ok(()) } else { Err(String::new()) };
        world.until("two are on trial", on_trial).await;
        world.change("ModelDeployment", "pear", json!({ "spec": { "replicas": 4 } }));
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert!(with_context(world, "512") <= 2 && serving(world) >= 4, "{}", world.oracle.story());
        // When it is over, all follow; and a replica that is replaced then begins no trial anew.
        tokio::time::sleep(Duration::from_secs(5 * 3600 + 1200)).await;
        assert_eq!((with_context(world, "512"), world.of("Pod", "pear").len()), (4, 4), "{}", world.oracle.story());
    });
}
