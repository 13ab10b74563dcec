//! Pods as they were seen in clusters, and what is said of each.

use serde_json::{Value, json};

use super::{
    looked::{Crash, NodeState, SlimEvent},
    *,
};
use crate::engine::Explained;

/// `2026-11-22T10:00:00Z` and so many seconds.
fn at(seconds: i64) -> Timestamp {
    "2026-11-22T10:00:00Z".parse::<Timestamp>().unwrap() + jiff::SignedDuration::from_secs(seconds)
}

fn event(reason: &str, note: &str) -> SlimEvent {
    SlimEvent { reason: reason.into(), note: note.into(), event_time: Some(at(0)), ..SlimEvent::default() }
}

fn asked() -> Asked {
    let engine = json!({ "name": "engine", "image": "r/engine:1", "resources": { "limits": { "memory": "1Gi" } },
        "startupProbe": { "periodSeconds": 2, "failureThreshold": 900 }, "readinessProbe": { "httpGet": { "path": "/health" } } });
    Asked::of(
        &json!({ "spec": { "containers": [engine], "initContainers": [{ "name": "fetch", "image": "r/bonafide:1" }] } }),
        2_000_000_000,
    )
}

fn judge(status: Value, looked: Looked, now: i64) -> Progress {
    let pod = json!({ "metadata": { "name": "p", "uid": "u" }, "spec": { "nodeName": "node0" }, "status": status });
    let pod: SlimPod = serde_json::from_value(pod).unwrap();
    diagnose(&Case { pod: &pod, asked: &asked(), looked: Some(&looked), nodes: None }, at(now))
}

fn named(name: &str, mut container: Value) -> Value {
    container["name"] = json!(name);
    container
}

fn fetching(fetch: Value) -> Value {
    json!({ "initContainerStatuses": [named("fetch", fetch)] })
}

fn engine(engine: Value) -> Value {
    let done = json!({ "name": "fetch", "state": { "terminated": { "exitCode": 0 } } });
    json!({ "initContainerStatuses": [done], "containerStatuses": [named("engine", engine)] })
}

/// An engine that ended so after 4 seconds, at 10:00:10.
fn ended(code: i32, reason: &str, message: &str) -> Value {
    json!({ "terminated": { "exitCode": code, "reason": reason, "message": message, "startedAt": at(6), "finishedAt": at(10) } })
}

fn says(found: &Progress, parts: &[&str]) {
    assert!(parts.iter().all(|part| found.message.contains(part)), "{parts:?}: {}", found.message);
}

#[test]
fn every_step_of_a_pod_is_recognised() {
    let steps = [
        (json!({}), Step::Scheduling, Reason::Scheduling),
        (
            json!({ "conditions": [{ "type": "PodScheduled", "status": "False", "message": "0/1 nodes" }] }),
            Step::Scheduling,
            Reason::Unschedulable,
        ),
        (
            json!({ "conditions": [{ "type": "PodScheduled", "status": "False", "reason": "SchedulingGated", "message": "Scheduling is blocked" }] }),
            Step::Scheduling,
            Reason::Scheduling,
        ),
        (fetching(json!({ "state": { "waiting": { "reason": "PodInitializing" } } })), Step::Pulling, Reason::PullingImage),
        (fetching(json!({ "state": { "running": {} } })), Step::Fetching, Reason::Fetching),
        (engine(json!({ "state": { "waiting": { "reason": "PodInitializing" } } })), Step::Pulling, Reason::PullingImage),
        (engine(json!({ "state": { "running": { "startedAt": at(0) } } })), Step::Loading, Reason::Loading),
        (engine(json!({ "ready": true, "state": { "running": {} } })), Step::Vouching, Reason::Vouching),
    ];
    for (status, step, reason) in steps {
        let found = judge(status.clone(), Looked::default(), 1);
        assert_eq!((found.step, found.reason), (step, reason), "{status}");
    }
    let gated: SlimPod =
        serde_json::from_value(json!({ "metadata": {}, "spec": { "schedulingGates": [{ "name": "bonafide.dev/verdict" }] } }))
            .unwrap();
    assert_eq!(diagnose(&Case { pod: &gated, asked: &asked(), looked: None, nodes: None }, at(0)).step, Step::Gated);
}

#[test]
fn what_only_events_tell_is_told_and_what_is_over_is_not() {
    let creating = json!({ "waiting": { "reason": "ContainerCreating" } });
    let judge = |events: Vec<SlimEvent>| judge(fetching(json!({ "state": creating })), Looked { events, ..Looked::default() }, 1);
    let mount = event("FailedMount", "MountVolume.SetUp failed for volume \"credentials\" : secret \"hf\" not found");
    let found = judge(vec![mount.clone()]);
    assert_eq!((found.step, found.reason), (Step::Stuck, Reason::VolumeFailed));
    says(&found, &["secret \"hf\" not found"]);
    let attach = event("FailedAttachVolume", "Multi-Attach error for volume \"pvc-1\"");
    assert!(judge(vec![attach]).message.contains("attached to the node"));
    let sandbox = event("FailedCreatePodSandBox", "Failed to create pod sandbox: plugin type=\"calico\" failed");
    assert_eq!(judge(vec![sandbox]).reason, Reason::ContainerNotStarted);
    // The node went on after it.
    assert_eq!(judge(vec![event("Pulling", "Pulling image"), mount]).reason, Reason::PullingImage);
}

#[test]
fn a_container_that_the_node_cannot_start_says_why() {
    let waiting =
        |reason: &str, message: &str| engine(json!({ "state": { "waiting": { "reason": reason, "message": message } } }));
    let found = judge(waiting("CreateContainerConfigError", "configmap \"x\" not found"), Looked::default(), 1);
    assert_eq!((found.step, found.reason), (Step::Stuck, Reason::ContainerNotStarted));
    let found = judge(
        waiting("ImagePullBackOff", "Back-off pulling image \"r/engine:1\": ErrImagePull: r/engine:1: not found"),
        Looked::default(),
        1,
    );
    assert_eq!(found.reason, Reason::ImageNotFound);
    let looked =
        Looked { events: vec![event("Failed", "Failed to pull image \"r/engine:1\": 401 Unauthorized")], ..Looked::default() };
    let found = judge(waiting("ImagePullBackOff", "Back-off pulling image \"r/engine:1\""), looked, 1);
    assert_eq!(found.reason, Reason::ImagePullUnauthorized, "{}", found.message);
    let start = engine(
        json!({ "state": { "waiting": { "reason": "CrashLoopBackOff" } }, "lastState": ended(128, "StartError", "exec: \"vllm\": executable file not found in $PATH") }),
    );
    let found = judge(start, Looked::default(), 1);
    assert_eq!(found.reason, Reason::ContainerNotStarted);
    says(&found, &["executable file not found"]);
}

#[test]
fn a_fetch_that_failed_says_what_it_said_itself() {
    let with = |code: i32, reason: &str| {
        let message = json!({ "reason": reason, "message": "98.4 MB more are needed and 10.0 MB are free." }).to_string();
        fetching(json!({ "state": { "waiting": { "reason": "CrashLoopBackOff" } }, "lastState": ended(code, "Error", &message) }))
    };
    let found = judge(with(65, "DigestMismatch"), Looked::default(), 20);
    assert_eq!((found.step, found.reason), (Step::Stuck, Reason::DigestMismatch));
    let found = judge(with(1, "DiskFull"), Looked::default(), 20);
    assert_eq!((found.step, found.reason), (Step::Stuck, Reason::DiskFull));
    let found = judge(with(1, "SourceUnavailable"), Looked::default(), 20);
    assert_eq!((found.step, found.reason), (Step::Fetching, Reason::SourceUnavailable));
    assert_eq!(judge(with(1, "of another version"), Looked::default(), 20).reason, Reason::FetchFailed);
}

#[test]
fn an_engine_that_breaks_down_is_explained_as_well_as_it_can_be() {
    let crashed = |restarts: i32, last: Value| {
        engine(json!({ "restartCount": restarts, "state": { "waiting": { "reason": "CrashLoopBackOff" } }, "lastState": last }))
    };
    let known = |crash: Crash| Looked { crash: Some(crash), ..Looked::default() };
    // Its own words, through the engine's data.
    let explained = Explained { reason: Reason::ContextTooLong, said: "Set it to less.".into() };
    let found = judge(crashed(2, ended(1, "Error", "x")), known(Crash { explained: Some(explained), ..Crash::default() }), 20);
    assert_eq!((found.step, found.reason), (Step::Stuck, Reason::ContextTooLong));
    assert_eq!(found.message, "Set it to less. The engine stopped with exit code 1, 2 times so far, and is started again.");
    // The last lines of its log; without them, of its termination message.
    let found =
        judge(crashed(1, ended(1, "Error", "x")), known(Crash { last: "line a | line b".into(), ..Crash::default() }), 20);
    assert_eq!(found.reason, Reason::EngineFailed);
    assert!(found.message.ends_with("Its last lines: line a | line b"), "{}", found.message);
    let found = judge(crashed(3, ended(1, "Error", "a\nb\n\nc\n")), Looked::default(), 20);
    assert_eq!(found.reason, Reason::CrashLooping);
    assert!(found.message.contains("3 times so far") && found.message.ends_with("a | b | c"), "{}", found.message);
    // Exit code 0 is no success.
    let found = judge(crashed(1, ended(0, "Completed", "")), known(Crash { zero_is_crash: true, ..Crash::default() }), 20);
    assert_eq!((found.step, found.reason), (Step::Stuck, Reason::EngineFailed));
    says(&found, &["exit code 0, which this engine also has when it broke down"]);
}

#[test]
fn out_of_memory_says_what_there_was_and_what_would_do() {
    let killed = |looked| {
        judge(
            engine(json!({ "restartCount": 1, "state": { "waiting": {} }, "lastState": ended(137, "OOMKilled", "") })),
            looked,
            20,
        )
    };
    let found = killed(Looked::default());
    assert_eq!(found.reason, Reason::OutOfMemory);
    assert!(
        found.message.contains("more than its 1.0 GiB of memory") && found.message.contains("set spec.resources.memory to 4Gi"),
        "{}",
        found.message
    );
    // A limit that a LimitRange gave, and that was more than the estimate: then more than that.
    let found = killed(Looked { memory_limit: Some(8.0 * 1_073_741_824.0), ..Looked::default() });
    says(&found, &["The weights have 2.0 GB: set spec.resources.memory to 10Gi"]);
}

#[test]
fn an_engine_that_never_answers_and_is_killed_at_its_own_limit_again_will_be_killed_every_time() {
    let lasts = |restarts: i32, limit: Option<f64>, conditions: Value| {
        let mut status =
            engine(json!({ "restartCount": restarts, "state": { "waiting": {} }, "lastState": ended(137, "OOMKilled", "") }));
        status["conditions"] = conditions;
        let pod = json!({ "metadata": { "name": "p", "uid": "u" }, "spec": { "nodeName": "node0" }, "status": status });
        let pod: SlimPod = serde_json::from_value(pod).unwrap();
        let asked = Asked { memory_limit: limit, ..asked() };
        let found = diagnose(&Case { pod: &pod, asked: &asked, looked: None, nodes: None }, at(20));
        assert_eq!((found.step, found.reason), (Step::Stuck, Reason::OutOfMemory));
        found.lasts
    };
    assert!(lasts(2, Some(1e9), json!([])));
    assert!(!lasts(1, Some(1e9), json!([])), "once may be chance: its node may have been full");
    assert!(!lasts(2, None, json!([])), "its node had no more memory, and may have it later");
    let answered = json!([{ "type": "bonafide.dev/Vouched", "status": "False", "reason": "Probing", "message": "again" }]);
    assert!(!lasts(9, Some(1e9), answered), "it has answered: what it needed were the requests");
}

#[test]
fn a_context_that_takes_the_memory_is_named_first() {
    let said = |arguments: &[&str], limit: Option<&str>| {
        let limits = limit.map_or(json!({}), |limit| json!({ "limits": { "memory": limit } }));
        let engine_container = json!({ "name": "engine", "args": arguments, "resources": limits });
        let asked = Asked::of(&json!({ "spec": { "containers": [engine_container] } }), 2_000_000_000);
        let status = engine(json!({ "restartCount": 1, "state": { "waiting": {} }, "lastState": ended(137, "OOMKilled", "") }));
        let pod = json!({ "metadata": { "name": "p", "uid": "u" }, "spec": { "nodeName": "node0" }, "status": status });
        let pod: SlimPod = serde_json::from_value(pod).unwrap();
        diagnose(&Case { pod: &pod, asked: &asked, looked: Some(&Looked::default()), nodes: None }, at(20)).message
    };
    let first = "most of the rest goes to a context of 1000000 tokens: set spec.engine.contextLength to less, or spec.resources.memory to";
    for option in ["--ctx-size", "--max-model-len"] {
        for limit in [Some("16Gi"), None] {
            let said = said(&["--port", "8080", option, "1000000"], limit);
            assert!(said.contains(first), "{said}");
        }
    }
    // Where the weights themselves had no room, and where the context is short, or not known, the memory comes first.
    for (arguments, limit) in [
        (&["--ctx-size", "1000000"][..], Some("1Gi")),
        (&["--ctx-size", "2048"], Some("16Gi")),
        (&["--ctx-size", "2048"], None),
        (&["--ctx-size", "many"], Some("16Gi")),
        (&[], Some("16Gi")),
    ] {
        let said = said(arguments, limit);
        assert!(said.contains("2.0 GB: set spec.resources.memory to"), "{arguments:?}: {said}");
    }
}

#[test]
fn an_engine_that_starts_again_keeps_its_reason_until_it_lived_longer_than_before() {
    let again = |now| {
        let status = engine(
            json!({ "restartCount": 1, "state": { "running": { "startedAt": at(20) } }, "lastState": ended(1, "Error", "bad") }),
        );
        judge(status, Looked::default(), now)
    };
    assert_eq!(again(23).reason, Reason::EngineFailed);
    let later = again(40);
    assert_eq!((later.step, later.reason), (Step::Loading, Reason::Loading));
    says(&later, &["Before, the engine stopped with exit code 1"]);
}

#[test]
fn an_engine_that_runs_and_is_never_ready_says_what_the_probe_hears() {
    let running = |started: bool| engine(json!({ "started": started, "state": { "running": { "startedAt": at(0) } } }));
    let looked = || Looked {
        events: vec![event("Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 503")],
        ..Looked::default()
    };
    assert_eq!(judge(running(false), looked(), 60).reason, Reason::Loading);
    let slow = judge(running(false), looked(), 400);
    assert_eq!((slow.step, slow.reason), (Step::Loading, Reason::ProbeFailing));
    says(&slow, &["more than 5 min", "statuscode: 503", "After 30 min"]);
    // It was ready before.
    let hung = judge(running(true), looked(), 60);
    assert_eq!((hung.step, hung.reason), (Step::Stuck, Reason::ProbeFailing));
    // Nobody has asked since it has loaded: what was heard before says nothing of it.
    let early = vec![event("Unhealthy", "Startup probe failed: dial tcp 198.18.0.5:8000: connect: connection refused")];
    let fresh = judge(running(true), Looked { events: early, ..Looked::default() }, 60);
    assert_eq!((fresh.step, fresh.reason), (Step::Loading, Reason::Loading), "{}", fresh.message);
    let again = engine(json!({ "started": true, "state": { "running": { "startedAt": at(10) } } }));
    assert_eq!(judge(again, looked(), 60).reason, Reason::Loading, "it was another start that was not ready");
    assert_eq!(judge(running(true), Looked::default(), 400).reason, Reason::ProbeFailing);
    // The kubelet gave up on it.
    let killing = Looked {
        events: vec![event("Killing", "Container engine failed startup probe, will be restarted")],
        ..Looked::default()
    };
    let status = engine(json!({ "restartCount": 1, "state": { "waiting": {} }, "lastState": ended(137, "Error", "") }));
    assert_eq!(judge(status, killing, 20).reason, Reason::ProbeFailing);
}

#[test]
fn a_lost_node_is_told_whatever_the_pod_last_said() {
    let state = NodeState { ready: false, since: Some(at(0)), message: "Kubelet stopped posting node status.".into() };
    let ready = engine(json!({ "ready": true, "state": { "running": {} } }));
    let found = judge(ready.clone(), Looked { node: Some(Some(state)), ..Looked::default() }, 60);
    assert_eq!((found.step, found.reason), (Step::Stuck, Reason::NodeLost));
    says(&found, &["Node node0", "10:00:00 UTC", "stopped posting"]);
    assert_eq!(judge(ready.clone(), Looked { node: Some(None), ..Looked::default() }, 60).reason, Reason::NodeLost);
    let state = NodeState { ready: true, since: None, message: String::new() };
    assert_eq!(judge(ready, Looked { node: Some(Some(state)), ..Looked::default() }, 60).reason, Reason::Vouching);
}
