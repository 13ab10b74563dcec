//! What people see, for every way in which it can go.

mod recalls;

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde_json::{Value, json};

use super::{summary::first_sentence, *};
use crate::{
    controller::{
        notes::{Failure, Notes, Refusal},
        observe::ObservedRevision,
        plan::Revision,
    },
    model::{Digest, File, Manifest, Source},
    trust::{Candidate, PolicySet},
};

fn decision() -> Decision {
    let (source, content) = ("hf://orbit/whale".parse::<Source>().unwrap(), Digest::of("w"));
    let manifest = Manifest::new(vec![File { path: "w.gguf".parse().unwrap(), size: 1, sha256: content }]).unwrap();
    let candidate = Candidate {
        source: &source,
        revision: "c0ffee",
        manifest: &manifest,
        bundles: &[],
        pin: None,
        assurance: Default::default(),
        image: None,
    };
    let verdict = PolicySet::default().for_namespace(&Default::default()).judge(&candidate, jiff::Timestamp::UNIX_EPOCH);
    let revision = json!({
        "name": "0000aaaa", "number": 1, "wish": "w", "artifact": "whale-1", "source": source, "commit": "c0ffee", "digest": manifest.digest(),
        "engine": "e", "image": "i", "args": [], "port": 8000, "accelerator": "none", "template": {},
    });
    let revision: Revision = serde_json::from_value(revision).unwrap();
    let seen = ObservedRevision {
        revision: Arc::new(revision),
        asked: Some(1),
        since: None,
        failure: None,
        version: None,
        asked_for: true,
        notes: Notes::default(),
        refusal: None,
        failed: None,
    };
    Decision {
        revisions: vec![Judged { seen, artifact: None, verdict: Some(verdict.clone()) }],
        current: Some("0000aaaa".into()),
        looked: false,
        blocked: None,
        model: None,
        verdict: Some(verdict),
        artifacts: vec![],
        engine: None,
        shared: None,
    }
}

fn pod(status: Value) -> Arc<SlimPod> {
    let labels = json!({ "bonafide.dev/deployment": "pod-owner", "bonafide.dev/revision": "0000aaaa" });
    Arc::new(serde_json::from_value(json!({ "metadata": { "name": "p", "labels": labels }, "status": status })).unwrap())
}

/// A pod of a revision, on a node.
fn pod_of(revision: &str, name: &str, status: Value) -> Arc<SlimPod> {
    let labels = json!({ "bonafide.dev/deployment": "whale-chat", "bonafide.dev/revision": revision });
    let pod =
        json!({ "metadata": { "name": name, "uid": name, "labels": labels }, "spec": { "nodeName": "n" }, "status": status });
    Arc::new(serde_json::from_value(pod).unwrap())
}

fn answering() -> Value {
    let yes = |kind: &str| json!({ "type": kind, "status": "True" });
    json!({ "conditions": [yes("Ready"), yes("Initialized"), yes("bonafide.dev/Vouched")] })
}

fn loading() -> Value {
    json!({ "containerStatuses": [{ "name": "engine", "state": { "running": {} } }] })
}

fn missing_image() -> Value {
    let waiting = json!({ "waiting": { "reason": "ErrImagePull", "message": "i: not found" } });
    json!({ "containerStatuses": [{ "name": "engine", "state": waiting }] })
}

/// A decision with an old revision beside the current one.
fn replacing() -> Decision {
    let mut decision = decision();
    let mut old = (*decision.revisions[0].seen.revision).clone();
    old.name = "0000bbbb".into();
    let seen = ObservedRevision { revision: Arc::new(old), ..decision.revisions[0].seen.clone() };
    let verdict = decision.revisions[0].verdict.clone();
    decision.revisions.insert(0, Judged { seen, artifact: None, verdict });
    decision
}

fn ready_pod() -> Arc<SlimPod> {
    let yes = |kind: &str| json!({ "type": kind, "status": "True" });
    pod(json!({ "conditions": [yes("Ready"), yes("Initialized"), yes("bonafide.dev/Vouched")] }))
}

fn computed(
    decision: &Decision,
    pods: &[Arc<SlimPod>],
    replicas: i32,
    applied: Option<Problem>,
) -> (ModelDeploymentStatus, Vec<Condition>) {
    scene(decision, pods, replicas, Scene { applied, ..Scene::default() })
}

/// What comes on top of the decision and the pods.
#[derive(Default)]
struct Scene {
    applied: Option<Problem>,
    failed: Option<Problem>,
    step: rollout::Step,
    paused: bool,
    unreachable: bool,
    found: Found,
    doors: Doors,
}

fn scene(decision: &Decision, pods: &[Arc<SlimPod>], replicas: i32, scene: Scene) -> (ModelDeploymentStatus, Vec<Condition>) {
    let Scene { applied, failed, step, paused, unreachable, found, doors } = scene;
    let deployment = json!({
        "apiVersion": "bonafide.dev/v1alpha1", "kind": "ModelDeployment", "metadata": { "name": "whale-chat", "generation": 7 },
        "spec": { "model": { "source": "hf://orbit/whale" }, "replicas": replicas, "management": if paused { "Paused" } else { "Managed" } },
    });
    let deployment: ModelDeployment = serde_json::from_value(deployment).unwrap();
    let owner = Owner { name: "whale-chat".into(), namespace: "sea".into(), uid: "u".into() };
    let picture = Picture {
        deployment: &deployment,
        owner: &owner,
        decision,
        pods,
        doors: &doors,
        step: &step,
        reachable: !unreachable,
        applied,
        failed,
        unprotected: None,
        found: &found,
        now: Timestamp::UNIX_EPOCH,
    };
    let (status, findings) = compute(&picture);
    (status, crate::api::settle(&[], &findings, Some(7), jiff::Timestamp::UNIX_EPOCH))
}

fn is<'a>(conditions: &'a [Condition], kind: &str) -> (&'a str, &'a str) {
    let condition = conditions.iter().find(|condition| condition.type_ == kind).unwrap();
    (&condition.status, &condition.reason)
}

#[test]
fn a_model_that_answers_is_ready_and_says_nothing_more() {
    let (status, conditions) = computed(&decision(), &[ready_pod()], 1, None);
    assert_eq!((status.state.as_str(), status.ready.as_str(), status.why.as_str()), ("Ready", "1/1", ""));
    assert_eq!(status.url, "http://whale-chat.sea.svc");
    for kind in [READY, AVAILABLE, CONTENT_VERIFIED] {
        assert_eq!(is(&conditions, kind).0, "True", "{kind}");
    }
    assert_eq!(is(&conditions, RECONCILING).0, "False");
    assert_eq!(is(&conditions, STALLED).0, "False");
    assert_eq!(is(&conditions, TRUSTED), ("Unknown", "NoPolicy"));
}

#[test]
fn zero_replicas_are_idle_and_idle_is_ready() {
    let (status, conditions) = computed(&decision(), &[], 0, None);
    assert_eq!((status.state.as_str(), status.ready.as_str()), ("Idle", "0/0"));
    assert_eq!(is(&conditions, READY), ("True", "Idle"));
    assert_eq!(is(&conditions, AVAILABLE), ("False", "Idle"));
}

#[test]
fn what_only_a_person_can_mend_is_stalled_and_what_is_tried_again_is_not() {
    let blocked = |stage, reason, retry| Decision {
        revisions: vec![],
        current: None,
        verdict: None,
        blocked: Some(Blocked { stage, problem: Problem::new(reason, "First sentence. Second sentence."), retry }),
        ..decision()
    };
    let (status, conditions) = computed(&blocked(Stage::Trust, Reason::Unsigned, None), &[], 1, None);
    assert_eq!(
        (status.state.as_str(), status.trust.as_str(), status.why.as_str()),
        ("Blocked", "Refused", "Unsigned: First sentence")
    );
    assert_eq!(is(&conditions, TRUSTED), ("False", "Unsigned"));
    assert_eq!(is(&conditions, STALLED), ("True", "Unsigned"));
    assert_eq!(is(&conditions, RECONCILING).0, "False");
    let down = blocked(Stage::Source, Reason::SourceUnavailable, Some(Duration::from_secs(20)));
    let (status, conditions) = computed(&down, &[], 1, None);
    assert_eq!(status.state, "Waiting");
    assert_eq!(is(&conditions, SOURCE_RESOLVED), ("False", "SourceUnavailable"));
    assert_eq!(is(&conditions, RECONCILING), ("True", "SourceUnavailable"));
    assert!(conditions[0].message.ends_with("Next try in 20 s."), "{}", conditions[0].message);
}

/// Why a source may not give what is wished for, and whether that goes by without anybody's help.
const OF_SOURCES: [(Reason, bool); 17] = [
    (Reason::SourceUnavailable, true),
    (Reason::Measuring, true),
    (Reason::Pending, true),
    (Reason::SecretNotFound, true),
    (Reason::ClaimNotFound, true),
    (Reason::VolumeFailed, true),
    (Reason::PodsNotCreated, true),
    (Reason::RepositoryNotFound, false),
    (Reason::RevisionNotFound, false),
    (Reason::RepositoryRenamed, false),
    (Reason::AccessDenied, false),
    (Reason::GatedRepo, false),
    (Reason::SecretInvalid, false),
    (Reason::HostNotAllowed, false),
    (Reason::SourceInvalid, false),
    (Reason::TooManyFiles, false),
    (Reason::InternalError, false),
];

#[test]
fn what_no_waiting_mends_at_a_source_is_stalled_although_it_is_looked_at_again() {
    for (reason, waits) in OF_SOURCES {
        let blocked =
            Blocked { stage: Stage::Source, problem: Problem::new(reason, "It says no."), retry: Some(Duration::from_secs(20)) };
        let first = Decision { revisions: vec![], current: None, verdict: None, blocked: Some(blocked.clone()), ..decision() };
        let (status, conditions) = computed(&first, &[], 1, None);
        let (stalled, moving) = if waits { ("False", "True") } else { ("True", "False") };
        assert_eq!(status.state, if waits { "Waiting" } else { "Blocked" }, "{reason}");
        assert_eq!((is(&conditions, STALLED).0, is(&conditions, RECONCILING).0), (stalled, moving), "{reason}");
        assert_eq!(is(&conditions, SOURCE_RESOLVED), ("False", reason.as_str()));
        let told = conditions.iter().find(|condition| condition.type_ == READY).unwrap();
        assert_eq!(told.message.contains("Next try in 20 s."), reason != Reason::Measuring, "{}", told.message);

        // What serves goes on serving; only a look that waits leaves it Ready.
        let fresh = Decision { blocked: Some(blocked), ..decision() };
        let (status, conditions) = computed(&fresh, &[ready_pod()], 1, None);
        assert_eq!(is(&conditions, AVAILABLE).0, "True", "{reason}");
        assert_eq!((is(&conditions, READY).0, is(&conditions, STALLED).0), (moving, stalled), "{reason}");
        assert_eq!(status.state, if waits { "Ready" } else { "Degraded" }, "{reason}");
    }
    let over = computed(&decision(), &[ready_pod()], 1, None).1;
    assert_eq!((is(&over, STALLED), is(&over, READY).0), (("False", "UpToDate"), "True"), "when it is over the condition goes");
}

#[test]
fn old_replicas_that_serve_make_a_refusal_a_degradation() {
    let refused = Decision {
        blocked: Some(Blocked {
            stage: Stage::Trust,
            problem: Problem::new(Reason::DigestMismatch, "Other bytes."),
            retry: None,
        }),
        ..decision()
    };
    let (status, conditions) = computed(&refused, &[ready_pod()], 1, None);
    assert_eq!(status.state, "Degraded");
    assert_eq!(is(&conditions, READY), ("False", "DigestMismatch"));
    assert_eq!(is(&conditions, AVAILABLE).0, "True");
}

#[test]
fn bytes_that_are_not_what_was_judged_are_told_as_such() {
    let mut refused = decision();
    refused.revisions[0].seen.refusal =
        Some(Refusal { pods: vec!["p".into()], message: "w.gguf: expected a, found b.".into(), ..Refusal::default() });
    let (status, conditions) = computed(&refused, &[], 1, None);
    assert_eq!((status.state.as_str(), status.revisions[0].phase.as_str()), ("Blocked", "Refused"));
    assert_eq!(is(&conditions, CONTENT_VERIFIED), ("False", "DigestMismatch"));
    assert_eq!(is(&conditions, STALLED).0, "True");
    assert!(status.why.contains("w.gguf"), "{}", status.why);
}

#[test]
fn a_pod_that_is_ready_without_our_word_does_not_make_the_deployment_ready() {
    let pod = pod(json!({ "conditions": [{ "type": "Ready", "status": "True" }] }));
    let (status, conditions) = computed(&decision(), &[pod], 1, None);
    assert_eq!(status.ready, "0/1");
    assert_eq!(is(&conditions, AVAILABLE).0, "False");
}

#[test]
fn digests_are_short_in_the_column() {
    let text = format!("w.gguf: signed as sha256 {}, now {}", "ab".repeat(32), "cd".repeat(32));
    assert_eq!(first_sentence(&text), "w.gguf: signed as sha256 abababab…, now cdcdcdcd…");
}

#[test]
fn while_the_old_revision_answers_a_new_one_that_fails_is_a_degradation_and_one_under_way_is_not() {
    let old = pod_of("0000bbbb", "old", answering());
    let (status, conditions) = computed(&replacing(), &[old.clone(), pod_of("0000aaaa", "new", missing_image())], 1, None);
    assert_eq!((status.state.as_str(), status.ready.as_str()), ("Degraded", "1/1"));
    assert_eq!(is(&conditions, READY), ("False", "ImageNotFound"));
    assert_eq!(is(&conditions, AVAILABLE).0, "True");
    assert!(status.why.starts_with("ImageNotFound: There is no image"), "{}", status.why);
    let (status, conditions) = computed(&replacing(), &[old, pod_of("0000aaaa", "new", loading())], 1, None);
    assert_eq!((status.state.as_str(), status.why.as_str()), ("Loading", "The engine loads the weights"));
    assert_eq!((is(&conditions, READY), is(&conditions, AVAILABLE).0), (("False", "Loading"), "True"));
}

#[test]
fn what_a_rollout_says_stands_beside_how_far_its_pods_are() {
    let step = |reason| rollout::Step {
        said: Some(rollout::Said { reason, message: "Of 2 replicas 1 is of the new revision.".into(), makes_room: false }),
        ..rollout::Step::default()
    };
    let with = |reason, status, replicas| {
        let pods = [pod_of("0000bbbb", "old", answering()), pod_of("0000aaaa", "new", status)];
        scene(&replacing(), &pods, replicas, Scene { step: step(reason), ..Scene::default() })
    };
    let (status, conditions) = with(Reason::RollingOut, loading(), 2);
    assert_eq!((status.state.as_str(), is(&conditions, READY)), ("Loading", ("False", "Loading")));
    assert_eq!(is(&conditions, RECONCILING), ("True", "RollingOut"));
    let (status, conditions) = with(Reason::RollingOut, missing_image(), 2);
    assert_eq!((status.state.as_str(), is(&conditions, READY)), ("Degraded", ("False", "ImageNotFound")));
    // None of the new ones is on its way: a share is on trial, or somebody drains.
    let step = step(Reason::RollingOut);
    let pods = [pod_of("0000bbbb", "old", answering()), pod_of("0000aaaa", "new", answering())];
    let (status, conditions) = scene(&replacing(), &pods, 2, Scene { step, ..Scene::default() });
    assert_eq!(
        (status.why.as_str(), is(&conditions, READY)),
        ("Of 2 replicas 1 is of the new revision", ("False", "RollingOut"))
    );
    // Everything that was asked for is there, and who goes says no more than that.
    let (_, conditions) = with(Reason::Draining, answering(), 1);
    assert_eq!((is(&conditions, READY), is(&conditions, RECONCILING)), (("True", "Ready"), ("True", "Draining")));
}

#[test]
fn who_waits_for_room_that_is_being_made_says_so_instead_of_trouble() {
    let no_room = json!({ "conditions": [{ "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes are available: 1 Insufficient memory." }] });
    let mut waiting = (*pod_of("0000aaaa", "new", no_room)).clone();
    waiting.spec.node_name = None;
    let pods = [pod_of("0000bbbb", "old", answering()), Arc::new(waiting)];
    let message = "Revision new takes the place of old one by one, as no node has room for a replica more.";
    let with = |makes_room| {
        let said = rollout::Said { reason: Reason::RollingOut, message: message.into(), makes_room };
        let step = rollout::Step { said: Some(said), ..rollout::Step::default() };
        scene(&replacing(), &pods, 1, Scene { step, ..Scene::default() })
    };
    let (status, conditions) = with(true);
    assert_eq!((status.why.as_str(), is(&conditions, READY)), (message.trim_end_matches('.'), ("False", "RollingOut")));
    let ready = conditions.iter().find(|condition| condition.type_ == READY).unwrap();
    assert!(ready.message.contains("Insufficient memory"), "{}", ready.message);
    let (status, conditions) = with(false);
    assert_eq!((status.state.as_str(), is(&conditions, READY).1), ("Degraded", "Unschedulable"));
}

#[test]
fn a_fresh_look_that_waits_for_its_source_takes_nothing_away() {
    let blocked = |stage, retry| {
        let problem = Problem::new(Reason::SourceUnavailable, "hub.example does not answer.");
        Decision { blocked: Some(Blocked { stage, problem, retry }), ..decision() }
    };
    let waits = blocked(Stage::Source, Some(Duration::from_secs(20)));
    let (status, conditions) = computed(&waits, &[ready_pod()], 1, None);
    assert_eq!((status.state.as_str(), is(&conditions, READY)), ("Ready", ("True", "SourceUnavailable")));
    assert_eq!((is(&conditions, RECONCILING), is(&conditions, STALLED).0), (("True", "SourceUnavailable"), "False"));
    assert_eq!(status.why, "SourceUnavailable: hub.example does not answer");
    // Fewer answer than are wanted; what is asked for now was never served; it will not go by itself.
    assert_eq!(is(&computed(&waits, &[ready_pod()], 2, None).1, READY).0, "False");
    let anew = Decision { current: None, ..blocked(Stage::Source, Some(Duration::from_secs(20))) };
    assert_eq!(is(&computed(&anew, &[ready_pod()], 1, None).1, READY).0, "False");
    let of_trust = blocked(Stage::Trust, Some(Duration::from_secs(20)));
    assert_eq!(is(&computed(&of_trust, &[ready_pod()], 1, None).1, READY).0, "False");
}

#[test]
fn of_more_revisions_than_a_status_has_room_for_the_newest_are_listed_and_the_current_one() {
    let mut decision = decision();
    for number in 2..50 {
        let mut revision = (*decision.revisions[0].seen.revision).clone();
        (revision.number, revision.name) = (number, format!("r{number}"));
        let seen = ObservedRevision { revision: Arc::new(revision), ..decision.revisions[0].seen.clone() };
        decision.revisions.push(Judged { seen, artifact: None, verdict: None });
    }
    let listed: Vec<String> = computed(&decision, &[], 1, None).0.revisions.into_iter().map(|one| one.name).collect();
    assert_eq!(listed.len(), 32);
    assert_eq!((listed[0].as_str(), listed[1].as_str(), listed[31].as_str()), ("0000aaaa", "r19", "r49"));
}

#[test]
fn while_it_is_paused_what_is_missing_stays_missing_and_what_answers_is_ready() {
    let with = |pods: &[Arc<SlimPod>]| scene(&decision(), pods, 1, Scene { paused: true, ..Scene::default() });
    let (status, conditions) = with(&[]);
    assert_eq!((status.state.as_str(), is(&conditions, READY)), ("Waiting", ("False", "Paused")));
    let (status, conditions) = with(&[ready_pod()]);
    assert_eq!(
        (status.state.as_str(), is(&conditions, READY), is(&conditions, RECONCILING)),
        ("Ready", ("True", "Ready"), ("False", "Paused"))
    );
    assert_eq!(status.why, "paused: changes wait");
    let (status, _) = scene(&decision(), &[], 0, Scene { paused: true, ..Scene::default() });
    assert_eq!((status.state.as_str(), status.why.as_str()), ("Idle", "scaled to zero, paused: changes wait"));
    // Something else is asked for meanwhile.
    let changed = |replicas| {
        let pods = [pod_of("0000bbbb", "old", answering())];
        scene(&replacing(), &pods, replicas, Scene { paused: true, ..Scene::default() })
    };
    let (status, conditions) = changed(1);
    assert_eq!((status.state.as_str(), is(&conditions, READY), status.ready.as_str()), ("Waiting", ("False", "Paused"), "1/1"));
    assert_eq!(changed(2).0.state, "Degraded");
    // Scaled to nothing, and held.
    let (status, conditions) = scene(&decision(), &[ready_pod()], 0, Scene { paused: true, ..Scene::default() });
    assert_eq!((status.state.as_str(), is(&conditions, READY)), ("Waiting", ("False", "Paused")));
}

#[test]
fn ready_is_never_true_while_a_request_would_fail() {
    let unreachable = Scene { unreachable: true, ..Scene::default() };
    let (_, conditions) = scene(&decision(), &[ready_pod()], 1, unreachable);
    assert_eq!(is(&conditions, READY), ("False", "ApiError"));
    let pods = [pod_of("0000aaaa", "p", answering())];
    // The store does not know yet that the pod is no longer vouched for.
    let doors = Doors { objections: vec![("p".into(), "a container more".into())], ..Doors::default() };
    let (status, conditions) = scene(&decision(), &pods, 1, Scene { doors, ..Scene::default() });
    assert_eq!(
        (status.ready.as_str(), is(&conditions, READY), is(&conditions, AVAILABLE).0),
        ("0/1", ("False", "NotVouched"), "False")
    );
    // The engine is ready as far as its probe goes.
    let silent = json!({ "containerStatuses": [{ "name": "engine", "ready": true, "state": { "running": {} } }] });
    let with = |doors| scene(&decision(), &[pod_of("0000aaaa", "p", silent.clone())], 1, Scene { doors, ..Scene::default() });
    for (asked, reason) in [(vec![], "Vouching"), (vec!["p".to_owned()], "Probing")] {
        let (status, conditions) = with(Doors { asked, ..Doors::default() });
        assert_eq!((status.state.as_str(), is(&conditions, READY)), ("Loading", ("False", reason)));
    }
    for reason in [Reason::AnswerFailing, Reason::Unreachable] {
        let doors = Doors { unanswered: vec![("p".into(), Problem::new(reason, "It answers 500."))], ..Doors::default() };
        let (status, conditions) = with(doors);
        assert_eq!((status.state.as_str(), is(&conditions, READY)), ("Blocked", ("False", reason.as_str())));
    }
}

#[test]
fn a_pod_that_was_sent_away_is_the_cause_until_its_successor_has_something_to_tell() {
    let departed = |reason| Found {
        departed: vec![crate::controller::diagnose::looked::Departure {
            uid: "u".into(),
            reason,
            message: "It had to go.".into(),
        }],
        ..Found::default()
    };
    let unscheduled = json!({ "conditions": [{ "type": "PodScheduled", "status": "False", "message": "0/1 nodes" }] });
    let with = |pods: &[Arc<SlimPod>], reason| scene(&decision(), pods, 1, Scene { found: departed(reason), ..Scene::default() });
    let (status, conditions) = with(&[], Reason::Preempted);
    assert_eq!((status.state.as_str(), is(&conditions, READY)), ("Waiting", ("False", "Preempted")));
    let (_, conditions) = with(&[pod_of("0000aaaa", "p", unscheduled)], Reason::Evicted);
    assert_eq!(is(&conditions, READY), ("False", "Evicted"));
    assert!(conditions.iter().any(|c| c.message.contains("It had to go. No node can take the pod: 0/1 nodes")), "{conditions:?}");
    let (status, conditions) = with(&[pod_of("0000aaaa", "p", loading())], Reason::Evicted);
    assert_eq!((status.state.as_str(), is(&conditions, READY)), ("Loading", ("False", "Loading")));
    let (_, conditions) = with(&[pod_of("0000aaaa", "p", missing_image())], Reason::Evicted);
    assert_eq!(is(&conditions, READY), ("False", "ImageNotFound"));
    let (status, _) = with(&[pod_of("0000aaaa", "p", answering())], Reason::Evicted);
    assert_eq!(status.state, "Ready");
}

#[test]
fn what_an_engine_will_say_every_time_is_stalled() {
    let pod = |message: &str| {
        let ended = json!({ "terminated": { "exitCode": 1, "reason": "Error", "message": message } });
        pod_of(
            "0000aaaa",
            "p",
            json!({ "containerStatuses": [{ "name": "engine", "restartCount": 1, "state": { "waiting": {} }, "lastState": ended }] }),
        )
    };
    let crash = |reason| crate::controller::diagnose::looked::Crash {
        explained: Some(crate::engine::Explained { reason, said: "It says so.".into() }),
        ..Default::default()
    };
    for (reason, stalled) in [(Reason::ArgumentRejected, "True"), (Reason::EngineFailed, "False")] {
        let looked = crate::controller::diagnose::Looked { crash: Some(crash(reason)), ..Default::default() };
        let found = Found { pods: [("p".to_owned(), looked)].into(), ..Found::default() };
        let (status, conditions) = scene(&decision(), &[pod("x")], 1, Scene { found, ..Scene::default() });
        assert_eq!((status.state.as_str(), is(&conditions, READY)), ("Blocked", ("False", reason.as_str())));
        assert_eq!(is(&conditions, STALLED).0, stalled, "{reason}");
    }
}

#[test]
fn what_no_node_could_ever_take_is_stalled_until_a_node_is_added() {
    let unscheduled = json!({ "conditions": [{ "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
        "message": "0/1 nodes are available", "lastTransitionTime": "1969-12-31T23:00:00Z" }] });
    let mut waiting = (*pod_of("0000aaaa", "p", unscheduled)).clone();
    waiting.spec.node_name = None;
    let pods = [Arc::new(waiting)];
    let mut wishing = decision();
    let mut revision = (*wishing.revisions[0].seen.revision).clone();
    revision.template = json!({ "spec": { "nodeSelector": { "gpu": "big" } } });
    wishing.revisions[0].seen.revision = Arc::new(revision);
    let with = |labels: &[(&str, &str)]| {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let allocatable = [("pods".to_owned(), 9.0)].into();
        let node = crate::controller::diagnose::looked::Node { name: "n".into(), labels, allocatable, ..Default::default() };
        let found = Found { nodes: Some(Arc::new(vec![node])), ..Found::default() };
        scene(&wishing, &pods, 1, Scene { found, ..Scene::default() })
    };
    let (status, conditions) = with(&[]);
    assert_eq!((is(&conditions, READY), is(&conditions, STALLED)), (("False", "NoNodeFits"), ("True", "NoNodeFits")));
    assert_eq!((status.state.as_str(), is(&conditions, RECONCILING).0), ("Blocked", "False"));
    let (status, conditions) = with(&[("gpu", "big")]);
    assert_eq!(
        (status.state.as_str(), is(&conditions, READY).1, is(&conditions, STALLED).0),
        ("Waiting", "Unschedulable", "False")
    );
}

#[test]
fn before_anything_is_known_it_is_pending() {
    let nothing = Decision { revisions: vec![], current: None, verdict: None, ..decision() };
    let (status, conditions) = computed(&nothing, &[], 1, None);
    assert_eq!((status.state.as_str(), is(&conditions, READY)), ("Waiting", ("False", "Pending")));
    assert_eq!(is(&conditions, TRUSTED), ("Unknown", "Pending"));
}

#[test]
fn what_the_api_server_did_not_do_is_told_only_while_something_is_missing() {
    let with = |pods: &[Arc<SlimPod>]| {
        let failed = Some(Problem::new(Reason::ApiError, "etcdserver: request timed out."));
        scene(&decision(), pods, 1, Scene { failed, ..Scene::default() })
    };
    let (status, conditions) = with(&[]);
    assert_eq!((status.state.as_str(), is(&conditions, READY)), ("Waiting", ("False", "ApiError")));
    assert_eq!(with(&[ready_pod()]).0.state, "Ready");
}

#[test]
fn a_revision_that_was_given_up_says_why_and_how_it_is_tried_again() {
    let mut decision = decision();
    decision.revisions[0].seen.failed = Some(Failure { message: "It did not answer within 10m.".into(), ..Failure::default() });
    let (status, conditions) = computed(&decision, &[], 1, None);
    assert_eq!((is(&conditions, "Ready"), is(&conditions, "Stalled")), (("False", "RolloutFailed"), ("True", "RolloutFailed")));
    assert!(status.why.starts_with("RolloutFailed: Revision 0000aaaa was given up"), "{}", status.why);
    let message = &conditions.iter().find(|condition| condition.type_ == "Ready").unwrap().message;
    assert!(message.contains("within 10m") && message.contains("bonafide rollout retry whale-chat -n "));
    assert_eq!(status.revisions[0].phase, "Failed");
}

#[test]
fn a_name_that_two_answer_to_is_told_and_nothing_is_taken_away() {
    let message = "ModelDeployment macaw of namespace sea answers to bird too. Both go on.";
    let shared = Some(Problem::new(Reason::NameTaken, message));
    let decision = Decision { shared, ..decision() };
    let (status, conditions) = computed(&decision, &[ready_pod()], 1, None);
    let ready = conditions.iter().find(|condition| condition.type_ == READY).unwrap();
    assert_eq!((ready.status.as_str(), ready.reason.as_str(), ready.message.as_str()), ("True", "NameTaken", message));
    assert_eq!((status.state.as_str(), status.ready.as_str()), ("Ready", "1/1"));
    assert_eq!(status.why, "NameTaken: ModelDeployment macaw of namespace sea answers to bird too");
    let stalled = conditions.iter().find(|condition| condition.type_ == STALLED).unwrap();
    assert_eq!((stalled.status.as_str(), stalled.reason.as_str()), ("False", "UpToDate"));
    let (status, _) = computed(&decision, &[], 1, None);
    assert!(!status.why.contains("bird"), "what is in the way comes first: {}", status.why);
}
