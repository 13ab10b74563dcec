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
    world::{World, condition, routed, simulate},
};
use crate::support::{
    fake_api::{
        caller::{Fate, Plan, Tidings},
        refuse::Refusal,
        request::Asked,
        store::Change,
    },
    signer::Person,
};

const LONG: Duration = Duration::from_secs(600);

fn serving(world: &World, name: &str) -> usize {
    world.of("Pod", name).iter().filter(|pod| routed(pod)).count()
}

#[test]
fn who_delivers_a_signature_that_cannot_be_read_hears_of_it_once() {
    simulate(1, async |world| {
        world.run_smoothly();
        world.policy("strict", 1);
        world.deploy("pear", &[2], json!({}));
        world.condition("pear", "Trusted", "False", "WrongSigner").await;
        let digest = world.get("ModelDeployment", "pear").unwrap()["status"]["model"]["digest"].clone();
        world.make("ModelSignature", "approval", json!({ "spec": { "digest": digest, "bundle": "{\"mediaType\": 7}" } }));
        world.rest().await;
        let told = |world: &World| -> Vec<Value> {
            let events = world.api.all("Event");
            events
                .iter()
                .filter(|event| event["regarding"]["kind"] == "ModelSignature")
                .map(|event| Value::clone(event))
                .collect()
        };
        let first = told(world);
        assert_eq!(first.len(), 1, "{first:?}");
        let uid = world.get("ModelSignature", "approval").unwrap()["metadata"]["uid"].clone();
        assert_eq!((&first[0]["type"], &first[0]["reason"]), (&json!("Warning"), &json!("SignatureMalformed")));
        assert_eq!((&first[0]["regarding"]["name"], &first[0]["regarding"]["uid"]), (&json!("approval"), &uid));
        let note = first[0]["note"].as_str().unwrap();
        assert!(note.contains("spec.bundle") && note.contains("column 15"), "{note}");
        // The refusal is that of the signature that can be read, and names the other one.
        world.condition("pear", "Trusted", "False", "WrongSigner").await;
        let why = world.get("ModelDeployment", "pear").unwrap()["status"]["conditions"].to_string();
        assert!(why.contains("1 other could not be read: ModelSignature approval."), "{why}");

        // Another manager, another version of the same: nothing new.
        world.end("bonafide");
        world.run_smoothly();
        world.change("ModelSignature", "approval", json!({ "metadata": { "labels": { "team": "fruit" } } }));
        world.settle().await;
        assert_eq!(told(world), first);
        world.change("ModelSignature", "approval", json!({ "spec": { "bundle": "{}" } }));
        world.rest().await;
        assert_eq!(told(world).len(), 2, "other content, other words");
    });
}

/// From some time on, what is written of an object's status arrives late.
#[derive(Clone, Default)]
struct LateStatus {
    from_now: Arc<AtomicBool>,
    under_way: Arc<AtomicBool>,
}

impl Plan for LateStatus {
    fn request(&mut self, asked: &Asked) -> Fate {
        let status = asked.is_write() && asked.kind.kind == "ModelDeployment" && asked.subresource == "status";
        if status && self.from_now.load(Relaxed) {
            self.under_way.store(true, Relaxed);
            return Fate::Slow(Duration::from_secs(20));
        }
        Fate::Pass
    }
}

#[test]
fn what_was_to_be_said_of_an_object_is_never_said_of_another_by_its_name() {
    simulate(1, async |world| {
        let late = LateStatus::default();
        let plan = late.clone();
        world.keep_running(move |_| Box::new(plan.clone()));
        world.deploy("pear", &[], json!({}));
        world.ready("pear", 1).await;
        let pear = world.get("ModelDeployment", "pear").unwrap();
        late.from_now.store(true, Relaxed);
        world.change("ModelDeployment", "pear", json!({ "spec": { "replicas": 2 } }));
        while !late.under_way.load(Relaxed) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        world.delete("ModelDeployment", "pear");
        world.shelf.put("hf://orchard/plum-GGUF", &[]);
        world.deploy_from("pear", "hf://orchard/plum-GGUF", json!({}));
        for _ in 0..600 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let found = world.get("ModelDeployment", "pear").unwrap();
            assert_ne!(found["metadata"]["uid"], pear["metadata"]["uid"]);
            assert_ne!(found["status"]["model"]["digest"], pear["status"]["model"]["digest"], "{}", world.oracle.story());
        }
        late.from_now.store(false, Relaxed);
        world.ready("pear", 1).await;
    });
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

/// What stands in a ModelDeployment is heard of some seconds late.
struct LateWishes;

impl Plan for LateWishes {
    fn request(&mut self, _: &Asked) -> Fate {
        Fate::Pass
    }

    fn event(&mut self, change: &Change) -> Tidings {
        if change.kind.kind == "ModelDeployment" { Tidings::Late(Duration::from_secs(5)) } else { Tidings::Now }
    }
}

#[test]
fn bytes_that_are_not_what_was_judged_are_told_in_one_event_also_when_the_status_is_heard_of_late() {
    const SAID: &str = r#"{"message":"pear-gguf.gguf: expected a, found b. Nothing new is served."}"#;
    simulate(1, async |world| {
        world.keep_running(|_| Box::new(LateWishes));
        world.behave(|_| Behaviour { fetched: vec![(65, SAID)], ..Behaviour::default() });
        world.deploy("pear", &[], json!({ "replicas": 2 }));
        world.condition("pear", "ContentVerified", "False", "DigestMismatch").await;
        world.rest().await;
        let events = world.api.all("Event");
        let told: Vec<_> = events.iter().filter(|event| event["reason"] == "DigestMismatch").collect();
        assert!(told.len() == 1 && told[0]["series"].is_null(), "{told:#?}");
    });
}

#[test]
fn what_is_wrong_whatever_the_source_has_is_told_for_the_reason_that_lint_gives() {
    let engine = json!({ "engine": { "name": "vllm" } });
    simulate(1, async |world| {
        world.run_smoothly();
        // The source has a GGUF file, which vllm does not load either.
        world.deploy("pear", &[], engine.clone());
        world.condition("pear", "Ready", "False", "AcceleratorNotSupported").await;
        world.condition("pear", "Stalled", "True", "AcceleratorNotSupported").await;
        let object = world.get("ModelDeployment", "pear").unwrap();
        let (_, said, _) = crate::lint::lint(&["-f", "-", "--output", "json"], &object.to_string());
        let said: Value = serde_json::from_str(&said).unwrap();
        assert!(said["findings"][0]["message"].as_str().unwrap().starts_with("AcceleratorNotSupported: "), "{said}");
    });
}

#[test]
fn a_signature_says_whether_it_can_be_read_and_who_has_what_it_is_about() {
    simulate(1, async |world| {
        world.run_smoothly();
        world.policy("strict", 1);
        world.deploy("pear", &[2], json!({}));
        world.condition("pear", "Trusted", "False", "WrongSigner").await;
        let digest = world.get("ModelDeployment", "pear").unwrap()["status"]["model"]["digest"].clone();
        let bundle = Person::new(1).signs(&[("core.gguf", "core"), ("config.json", "{}")]);
        let other = format!("sha256:{}", "ab".repeat(32));
        world.make("ModelSignature", "right", json!({ "spec": { "digest": digest, "bundle": bundle } }));
        world.make("ModelSignature", "typo", json!({ "spec": { "digest": other, "bundle": bundle } }));
        world.make("ModelSignature", "junk", json!({ "spec": { "digest": other, "bundle": "{}" } }));
        world.rest().await;
        let said = |name: &str| {
            let object = world.get("ModelSignature", name).unwrap();
            let found = condition(&object, "Accepted").cloned().unwrap_or_else(|| panic!("{name}: {object}"));
            let text = |field: &str| found[field].as_str().unwrap().to_owned();
            (text("status"), text("reason"), text("message"))
        };
        let (status, reason, message) = said("right");
        assert_eq!((status.as_str(), reason.as_str()), ("True", "Accepted"));
        assert!(message.contains("It lists 2 files.") && message.contains("ModelDeployment pear of"), "{message}");
        let (status, reason, message) = said("typo");
        assert_eq!((status.as_str(), reason.as_str()), ("True", "Unused"));
        assert!(message.contains(&other) && message.contains("status.model.digest"), "{message}");
        assert_eq!(said("junk").1, "SignatureMalformed");

        // Nothing is written for what is the same, and the other way round it is told too.
        let before = (world.oracle.writes(), world.api.state().version);
        tokio::time::sleep(LONG * 6).await;
        assert_eq!((world.oracle.writes(), world.api.state().version), before, "{}", world.oracle.story());
        world.delete("ModelDeployment", "pear");
        world.rest().await;
        assert_eq!(said("right").1, "Unused");
        world.change("ModelSignature", "junk", json!({ "spec": { "bundle": bundle } }));
        world.rest().await;
        assert_eq!(said("junk").1, "Unused");
    });
}
