//! What becomes of replicas that run when a policy refuses what they serve: `onRecall`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    cluster::kubelet::Behaviour,
    world::{World, condition, demand, routed, simulate},
};
use crate::support::{
    fake_api::{
        caller::{Fate, Plan, Tidings},
        request::Asked,
        store::Change,
    },
    merge,
};

const NAME: &str = "pear";
const SOURCE: &str = "hf://orchard/pear-GGUF";

fn pods(world: &World) -> Vec<Arc<Value>> {
    world.of("Pod", NAME)
}

fn names(world: &World) -> Vec<String> {
    pods(world).iter().map(|pod| pod["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

fn serving(world: &World) -> usize {
    pods(world).iter().filter(|pod| routed(pod)).count()
}

/// Pods that have a node: whatever runs, and whatever is being started.
fn placed(world: &World) -> usize {
    pods(world).iter().filter(|pod| !pod["spec"]["nodeName"].is_null()).count()
}

fn message(world: &World, kind: &str) -> String {
    let object = world.get("ModelDeployment", NAME).unwrap();
    condition(&object, kind).map(|found| found["message"].as_str().unwrap().to_owned()).unwrap_or_default()
}

/// A policy that demands a person's signature, and says what becomes of what runs without.
pub fn demanding(person: u8, on_recall: &str) -> Value {
    json!({ "spec": merge(&demand(person), &json!({ "onRecall": on_recall })) })
}

async fn soon(world: &World, what: &str, is: impl Fn(&World) -> bool) {
    let look =
        |world: &World| if is(world) { Ok(()) } else { Err(world.get("ModelDeployment", NAME).unwrap()["status"].to_string()) };
    world.within(Duration::from_secs(8), what, look).await;
}

#[test]
fn with_drain_what_runs_is_unrouted_at_once_goes_when_it_has_finished_and_comes_back_by_itself() {
    simulate(1, async |world| {
        world.run_smoothly();
        world.deploy(NAME, &[], json!({ "replicas": 2, "rollout": { "drain": "1h" } }));
        world.ready(NAME, 2).await;
        world.rest().await;
        let busy = names(world);
        busy.iter().for_each(|pod| world.pods.busy(pod, 3));
        world.make("ClusterModelPolicy", "strict", demanding(1, "Drain"));
        soon(world, "nobody is routed to", |world| serving(world) == 0).await;
        world.condition(NAME, "Trusted", "False", "Unsigned").await;
        for _ in 0..600 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert_eq!(names(world), busy, "who works is not stopped\n{}", world.oracle.story());
        }
        let said = "2 replicas are being drained: ClusterModelPolicy strict recalls what they serve (onRecall: Drain). ";
        assert!(message(world, "Trusted").starts_with(said), "{}", message(world, "Trusted"));
        let object = world.get("ModelDeployment", NAME).unwrap();
        assert!(object["status"]["why"].as_str().unwrap().contains(said.trim_end_matches(". ")), "{}", object["status"]["why"]);
        let told = |event: &Arc<Value>| {
            let note = event["note"].as_str().unwrap_or_default();
            event["reason"] == "Draining" && event["type"] == "Warning" && note.contains(said) && note.contains("Revision ")
        };
        assert!(world.api.all("Event").iter().any(told), "{:?}", world.api.all("Event"));
        // One has finished, and waits for the other: a ReplicaSet would choose either.
        world.pods.busy(&busy[0], 0);
        world.pods.busy(&busy[1], 0);
        world
            .until("nothing is left of it", |world| if pods(world).is_empty() { Ok(()) } else { Err(placed(world).to_string()) })
            .await;
        world.rest().await;
        assert!(!message(world, "Trusted").contains("drained"), "{}", message(world, "Trusted"));
        assert_eq!(world.of("Deployment", NAME)[0]["spec"]["replicas"], 0, "it is there to come back");
        world.settle().await;
        assert!(pods(world).is_empty(), "{}", world.oracle.story());
        world.delete("ClusterModelPolicy", "strict");
        world.ready(NAME, 2).await;
    });
}

#[test]
fn with_drain_nobody_waits_longer_than_the_drain_time_for_who_never_finishes() {
    simulate(1, async |world| {
        world.run_smoothly();
        world.deploy(NAME, &[], json!({ "replicas": 3, "rollout": { "drain": "60s" } }));
        world.ready(NAME, 3).await;
        names(world).iter().for_each(|pod| world.pods.busy(pod, 1));
        world.make("ClusterModelPolicy", "strict", demanding(1, "Drain"));
        tokio::time::sleep(Duration::from_secs(55)).await;
        assert_eq!(placed(world), 3, "{}", world.oracle.story());
        // The kubelet takes six seconds to end one.
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert_eq!(placed(world), 0, "{}", world.oracle.story());
    });
}

#[test]
fn who_is_taken_out_of_service_comes_back_only_when_the_refusal_is_lifted() {
    for on_recall in ["BlockNew", "KeepRunning"] {
        simulate(1, async |world| {
            world.run_smoothly();
            world.deploy(NAME, &[], json!({ "replicas": 2, "rollout": { "drain": "1h" } }));
            world.ready(NAME, 2).await;
            names(world).iter().for_each(|pod| world.pods.busy(pod, 1));
            world.make("ClusterModelPolicy", "strict", demanding(1, "Drain"));
            soon(world, "nobody is routed to", |world| serving(world) == 0).await;
            // The oracle sees to it that nobody vouches for them.
            world.change("ClusterModelPolicy", "strict", json!({ "spec": { "onRecall": on_recall } }));
            tokio::time::sleep(Duration::from_secs(600)).await;
            assert_eq!((serving(world), placed(world)), (0, 2), "{}", world.oracle.story());
            let before = names(world);
            world.delete("ClusterModelPolicy", "strict");
            soon(world, "they serve again", |world| serving(world) == 2).await;
            assert_eq!(names(world), before, "the same ones");
        });
    }
}

#[test]
fn with_keep_running_a_container_comes_back_and_a_pod_does_not() {
    simulate(1, async |world| {
        world.run_smoothly();
        let falls_after = Some(Duration::from_secs(300));
        world.behave(move |_| Behaviour { falls_after, ..Behaviour::default() });
        world.deploy(NAME, &[], json!({ "replicas": 2 }));
        world.ready(NAME, 2).await;
        world.make("ClusterModelPolicy", "strict", demanding(1, "KeepRunning"));
        world.condition(NAME, "Trusted", "False", "Unsigned").await;
        let said = "2 replicas go on serving what ClusterModelPolicy strict refuses (onRecall: KeepRunning). ";
        world.rest().await;
        assert!(message(world, "Ready").starts_with(said), "{}", message(world, "Ready"));
        tokio::time::sleep(Duration::from_secs(600)).await;
        let restarts = |pod: &Arc<Value>| pod["status"]["containerStatuses"][0]["restartCount"] == 1;
        assert!(pods(world).iter().all(restarts) && serving(world) == 2, "{}", world.oracle.story());
        world.change("ModelDeployment", NAME, json!({ "spec": { "replicas": 3 } }));
        world.delete("Pod", &names(world)[0]);
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert_eq!((serving(world), placed(world)), (1, 1), "{}", world.oracle.story());
        world.delete("ClusterModelPolicy", "strict");
        world.ready(NAME, 3).await;
    });
}

#[test]
fn of_two_policies_that_refuse_the_stricter_one_counts() {
    simulate(1, async |world| {
        world.run_smoothly();
        world.deploy(NAME, &[], json!({ "replicas": 2 }));
        world.ready(NAME, 2).await;
        world.make("ClusterModelPolicy", "keep", demanding(1, "KeepRunning"));
        world.make("ClusterModelPolicy", "block", demanding(1, "BlockNew"));
        world.condition(NAME, "Trusted", "False", "Unsigned").await;
        world.rest().await;
        let said = "2 replicas still serve what ClusterModelPolicy block refuses (onRecall: BlockNew). ";
        assert!(message(world, "Trusted").starts_with(said), "{}", message(world, "Trusted"));
        world.make("ClusterModelPolicy", "drain", demanding(2, "Drain"));
        soon(world, "nobody is routed to", |world| serving(world) == 0).await;
        world
            .until("nothing is left of it", |world| if pods(world).is_empty() { Ok(()) } else { Err(placed(world).to_string()) })
            .await;
        // Without it the others refuse it still.
        world.delete("ClusterModelPolicy", "drain");
        world.settle().await;
        assert_eq!(placed(world), 0, "{}", world.oracle.story());
        world.delete("ClusterModelPolicy", "keep");
        world.delete("ClusterModelPolicy", "block");
        world.ready(NAME, 2).await;
    });
}

#[test]
fn a_policy_that_cannot_be_used_drains_nothing() {
    simulate(1, async |world| {
        world.run_smoothly();
        world.deploy(NAME, &[1], json!({ "replicas": 2 }));
        world.make("ClusterModelPolicy", "strict", demanding(1, "Drain"));
        world.ready(NAME, 2).await;
        world.change(
            "ClusterModelPolicy",
            "strict",
            json!({ "spec": { "signers": [{ "name": "keeper", "publicKey": { "pem": "no key" } }] } }),
        );
        world.condition(NAME, "Trusted", "False", "PolicyNotAccepted").await;
        world.settle().await;
        assert_eq!(serving(world), 2, "{}", world.oracle.story());
        let said = "2 replicas still serve what ClusterModelPolicy strict refuses (onRecall: BlockNew). ";
        assert!(message(world, "Trusted").starts_with(said), "{}", message(world, "Trusted"));
    });
}

/// Two revisions of one source, both of which served: the second one is signed by the first person alone. It is asked for by this change.
async fn two_revisions(world: &World, on_recall: &str, change: Value) {
    world.make("ClusterModelPolicy", "strict", demanding(1, on_recall));
    world.shelf.put_content(SOURCE, "unripe", &[1, 2]);
    world.deploy_from(NAME, SOURCE, json!({ "replicas": 2 }));
    world.ready(NAME, 2).await;
    world.rest().await;
    let first = names(world);
    world.shelf.put_content(SOURCE, "ripe", &[1]);
    world.change("ModelDeployment", NAME, change);
    world.until("the second has begun", |world| if names(world) == first { Err("no".into()) } else { Ok(()) }).await;
    world.ready(NAME, 2).await;
    world.rest().await;
}

fn revisions(world: &World) -> Vec<(String, String, i64)> {
    let object = world.get("ModelDeployment", NAME).unwrap();
    let revisions = object["status"]["revisions"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    revisions.map(|one| (text(&one["phase"]), text(&one["trust"]), one["readyReplicas"].as_i64().unwrap_or(0))).collect()
}

#[test]
fn an_older_revision_that_is_accepted_serves_instead_until_the_refusal_is_lifted() {
    simulate(1, async |world| {
        world.run_smoothly();
        two_revisions(world, "Drain", json!({ "spec": { "model": { "revision": "v2" } } })).await;
        let second = names(world);
        world.change("ClusterModelPolicy", "strict", demanding(2, "Drain"));
        soon(world, "nobody is routed to", |world| serving(world) == 0).await;
        world
            .until("another one serves", |world| {
                if serving(world) == 2 && placed(world) == 2 { Ok(()) } else { Err(serving(world).to_string()) }
            })
            .await;
        world.rest().await;
        assert!(names(world).iter().all(|name| !second.contains(name)), "{}", world.oracle.story());
        let seen = [("Old".to_owned(), "Signed".to_owned(), 2), ("Old".to_owned(), "Refused".to_owned(), 0)];
        assert_eq!(revisions(world), seen);
        let object = world.get("ModelDeployment", NAME).unwrap();
        assert_eq!((&object["status"]["state"], &object["status"]["trust"]), (&json!("Degraded"), &json!("Refused")));
        assert!(
            message(world, "Ready").starts_with("Revision ") && message(world, "Ready").contains(" serves instead. "),
            "{}",
            message(world, "Ready")
        );
        world.change("ClusterModelPolicy", "strict", demanding(1, "Drain"));
        world.ready(NAME, 2).await;
        world.rest().await;
        assert_eq!(revisions(world)[0].0, "Current", "{}", world.oracle.story());
    });
}

#[test]
fn with_block_new_what_runs_goes_on_and_no_older_revision_is_started_beside_it() {
    simulate(1, async |world| {
        world.run_smoothly();
        two_revisions(world, "BlockNew", json!({ "spec": { "model": { "revision": "v2" } } })).await;
        let second = names(world);
        world.change("ClusterModelPolicy", "strict", demanding(2, "BlockNew"));
        world.condition(NAME, "Trusted", "False", "WrongSigner").await;
        world.settle().await;
        assert_eq!((names(world), serving(world)), (second, 2), "{}", world.oracle.story());
    });
}

#[test]
fn a_successor_takes_over_from_a_recalled_revision() {
    simulate(1, async |world| {
        world.run_smoothly();
        world.make("ClusterModelPolicy", "strict", demanding(1, "Drain"));
        world.shelf.put_content(SOURCE, "unripe", &[1]);
        world.deploy_from(NAME, SOURCE, json!({ "replicas": 2 }));
        world.ready(NAME, 2).await;
        world.rest().await;
        let first = names(world);
        // As `examples/unlearn.yaml`: the policy, and the wish for another revision.
        world.shelf.put_content(SOURCE, "ripe", &[2]);
        world.change("ClusterModelPolicy", "strict", demanding(2, "Drain"));
        world.change("ModelDeployment", NAME, json!({ "metadata": { "annotations": { "bonafide.dev/refresh": "1" } } }));
        soon(world, "nobody of the first is routed to", |world| serving(world) == 0).await;
        world.until("the successor is there", |world| if names(world) == first { Err("no".into()) } else { Ok(()) }).await;
        world.ready(NAME, 2).await;
        world.condition(NAME, "Trusted", "True", "Signed").await;
    });
}

#[test]
fn pausing_a_deployment_does_not_keep_what_is_recalled() {
    simulate(1, async |world| {
        world.run_smoothly();
        world.deploy(NAME, &[], json!({ "replicas": 2 }));
        world.ready(NAME, 2).await;
        world.change("ModelDeployment", NAME, json!({ "spec": { "management": "Paused", "engine": { "contextLength": 512 } } }));
        world.rest().await;
        let children = |world: &World| world.of("ControllerRevision", NAME).len();
        let before = children(world);
        world.make("ClusterModelPolicy", "strict", demanding(1, "Drain"));
        soon(world, "nobody is routed to", |world| serving(world) == 0).await;
        world
            .until("nothing is left of it", |world| if pods(world).is_empty() { Ok(()) } else { Err(placed(world).to_string()) })
            .await;
        world.settle().await;
        assert_eq!((placed(world), children(world)), (0, before), "nothing else is changed\n{}", world.oracle.story());
        world.delete("ClusterModelPolicy", "strict");
        world.change("ModelDeployment", NAME, json!({ "spec": { "management": "Managed" } }));
        world.ready(NAME, 2).await;
    });
}

#[test]
fn a_manager_that_is_killed_while_replicas_drain_goes_on_where_it_was() {
    for seed in 1..6 {
        simulate(seed, async |world| {
            world.run_smoothly();
            world.deploy(NAME, &[], json!({ "replicas": 3, "rollout": { "drain": "5m" } }));
            world.ready(NAME, 3).await;
            names(world).iter().for_each(|pod| world.pods.busy(pod, 1));
            let began = Instant::now();
            world.make("ClusterModelPolicy", "strict", demanding(1, "Drain"));
            for _ in 0..20 {
                tokio::time::sleep(Duration::from_millis(300 * seed)).await;
                if let Some((caller, _)) = world.managers.lock().unwrap().get("bonafide") {
                    caller.die();
                }
                tokio::time::sleep(Duration::from_secs(4)).await;
            }
            assert_eq!((serving(world), placed(world)), (0, 3), "{}", world.oracle.story());
            world
                .until(
                    "nothing is left of it",
                    |world| if pods(world).is_empty() { Ok(()) } else { Err(placed(world).to_string()) },
                )
                .await;
            // Since when they drain stands on the pods: nobody's time begins anew.
            assert!(began.elapsed() < Duration::from_secs(340), "{:?}\n{}", began.elapsed(), world.oracle.story());
            world.delete("ClusterModelPolicy", "strict");
            world.ready(NAME, 3).await;
        });
    }
}

/// Changes of policies are heard of a minute late.
struct LatePolicies;

impl Plan for LatePolicies {
    fn request(&mut self, _: &Asked) -> Fate {
        Fate::Pass
    }

    fn event(&mut self, change: &Change) -> Tidings {
        if change.kind.kind == "ClusterModelPolicy" { Tidings::Late(Duration::from_secs(60)) } else { Tidings::Now }
    }
}

#[test]
fn a_recall_that_was_lifted_before_it_was_heard_of_takes_nobody_out_of_service() {
    simulate(1, async |world| {
        world.keep_running(|_| Box::new(LatePolicies));
        world.deploy(NAME, &[], json!({ "replicas": 2 }));
        world.ready(NAME, 2).await;
        world.oracle.floor(NAME, 2);
        world.make("ClusterModelPolicy", "strict", demanding(1, "Drain"));
        tokio::time::sleep(Duration::from_secs(30)).await;
        world.delete("ClusterModelPolicy", "strict");
        world.settle().await;
        world.ready(NAME, 2).await;
    });
}

#[test]
fn a_recall_that_is_heard_of_late_is_done_then() {
    simulate(1, async |world| {
        world.keep_running(|_| Box::new(LatePolicies));
        world.deploy(NAME, &[], json!({ "replicas": 2 }));
        world.ready(NAME, 2).await;
        world.make("ClusterModelPolicy", "strict", demanding(1, "Drain"));
        tokio::time::sleep(Duration::from_secs(70)).await;
        assert_eq!(serving(world), 0, "{}", world.oracle.story());
    });
}

#[test]
fn an_engine_that_is_started_again_does_not_come_back_although_the_recall_is_heard_of_late() {
    simulate(1, async |world| {
        world.keep_running(|_| Box::new(LatePolicies));
        let fallen = Arc::new(AtomicBool::new(false));
        let seen = fallen.clone();
        world.behave(move |_| {
            let falls_after = (!seen.swap(true, Relaxed)).then_some(Duration::from_secs(300));
            Behaviour { falls_after, ..Behaviour::default() }
        });
        world.deploy(NAME, &[], json!({ "replicas": 2 }));
        world.ready(NAME, 2).await;
        let fell = |world: &World| if serving(world) == 1 { Ok(()) } else { Err(String::new()) };
        world.until("an engine has stopped", fell).await;
        // It is ready again after 35 s. The oracle sees to it that nobody vouches for it.
        world.make("ClusterModelPolicy", "strict", demanding(1, "BlockNew"));
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert_eq!(serving(world), 1, "{}", world.oracle.story());
        world.delete("ClusterModelPolicy", "strict");
        world.ready(NAME, 2).await;
    });
}

#[test]
fn a_file_that_is_denied_is_recalled_whoever_signed_it() {
    simulate(1, async |world| {
        world.run_smoothly();
        world.deploy(NAME, &[1], json!({ "replicas": 2 }));
        world.policy("strict", 1);
        world.ready(NAME, 2).await;
        let denied = bonafide::model::Digest::of("the weights of pear-gguf").to_string();
        let deny =
            json!({ "unmatched": "Accept", "deny": [{ "name": "poisoned", "fileDigests": [denied] }], "onRecall": "Drain" });
        world.make("ClusterModelPolicy", "recall", json!({ "spec": deny }));
        soon(world, "nobody is routed to", |world| serving(world) == 0).await;
        world.condition(NAME, "Trusted", "False", "Denied").await;
        world
            .until("nothing is left of it", |world| if pods(world).is_empty() { Ok(()) } else { Err(placed(world).to_string()) })
            .await;
        world.delete("ClusterModelPolicy", "recall");
        world.ready(NAME, 2).await;
    });
}

/// Of a branch that was looked at anew what it was before answers the wish too: it is gone back to as by any rollout.
#[test]
fn what_a_branch_was_before_is_gone_back_to_when_what_it_is_now_is_refused() {
    for on_recall in ["BlockNew", "Drain"] {
        simulate(1, async |world| {
            world.run_smoothly();
            let look_again = json!({ "metadata": { "annotations": { "bonafide.dev/refresh": "1" } } });
            two_revisions(world, on_recall, look_again).await;
            let second = names(world);
            world.oracle.floor(NAME, if on_recall == "Drain" { 0 } else { 2 });
            world.change("ClusterModelPolicy", "strict", demanding(2, on_recall));
            world.until("the second goes", |world| if names(world) == second { Err("no".into()) } else { Ok(()) }).await;
            world.ready(NAME, 2).await;
            world.rest().await;
            assert_eq!(revisions(world)[0], ("Current".to_owned(), "Signed".to_owned(), 2), "{}", world.oracle.story());
            // What is said of either record is written once.
            let writes = world.oracle.writes();
            tokio::time::sleep(Duration::from_secs(1300)).await;
            assert_eq!(world.oracle.writes(), writes, "{}", world.oracle.story());
        });
    }
}

/// What it writes is under way for a while, and it hears of policies a minute late or at once.
struct Slow {
    late: bool,
}

impl Plan for Slow {
    fn request(&mut self, asked: &Asked) -> Fate {
        if asked.is_write() { Fate::Late(Duration::from_millis(400)) } else { Fate::Pass }
    }

    fn event(&mut self, change: &Change) -> Tidings {
        if self.late { LatePolicies.event(change) } else { Tidings::Now }
    }
}

/// Two managers believe that they lead, and one of them has not heard of the recall.
#[test]
fn of_two_managers_one_that_has_not_heard_of_the_recall_brings_nobody_back() {
    simulate(1, async |world| {
        world.keep_running_as("bonafide-a", |_| Box::new(Slow { late: false }));
        world.keep_running_as("bonafide-b", |_| Box::new(Slow { late: true }));
        world.deploy(NAME, &[], json!({ "replicas": 2 }));
        world.ready(NAME, 2).await;
        world.rest().await;
        names(world).iter().for_each(|pod| world.pods.busy(pod, 1));
        world.make("ClusterModelPolicy", "strict", demanding(1, "Drain"));
        soon(world, "nobody is routed to", |world| serving(world) == 0).await;
        for _ in 0..200 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert_eq!(serving(world), 0, "{}", world.oracle.story());
        }
    });
}
