//! What people see, for every way in which it can go.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde_json::{Value, json};

use super::*;
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
    };
    let verdict = PolicySet::default().for_namespace(&Default::default()).judge(&candidate);
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
        asked_for: true,
        notes: Notes::default(),
        refusal: None,
        failed: None,
    };
    Decision {
        revisions: vec![Judged { seen, artifact: None, verdict: Some(verdict.clone()) }],
        current: Some("0000aaaa".into()),
        blocked: None,
        model: None,
        verdict: Some(verdict),
        artifacts: vec![],
        engine: None,
    }
}

fn pod(status: Value) -> Arc<SlimPod> {
    let labels = json!({ "bonafide.dev/deployment": "pod-owner", "bonafide.dev/revision": "0000aaaa" });
    Arc::new(serde_json::from_value(json!({ "metadata": { "name": "p", "labels": labels }, "status": status })).unwrap())
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
    let deployment = json!({
        "apiVersion": "bonafide.dev/v1alpha1", "kind": "ModelDeployment", "metadata": { "name": "whale-chat", "generation": 7 },
        "spec": { "model": { "source": "hf://orbit/whale" }, "replicas": replicas },
    });
    let deployment: ModelDeployment = serde_json::from_value(deployment).unwrap();
    let owner = Owner { name: "whale-chat".into(), namespace: "sea".into(), uid: "u".into() };
    let picture = Picture {
        deployment: &deployment,
        owner: &owner,
        decision,
        pods,
        doors: &Doors::default(),
        step: &rollout::Step::default(),
        applied,
        failed: None,
        unprotected: None,
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
fn a_revision_that_was_given_up_says_why_and_how_it_is_tried_again() {
    let mut decision = decision();
    decision.revisions[0].seen.failed = Some(Failure { message: "It did not answer within 10m.".into(), ..Failure::default() });
    let (status, conditions) = computed(&decision, &[], 1, None);
    assert_eq!((is(&conditions, "Ready"), is(&conditions, "Stalled")), (("False", "RolloutFailed"), ("True", "RolloutFailed")));
    assert!(status.why.starts_with("RolloutFailed: Revision 0000aaaa was given up"), "{}", status.why);
    let message = &conditions.iter().find(|condition| condition.type_ == "Ready").unwrap().message;
    assert!(
        message.contains("within 10m") && message.contains("kubectl annotate modeldeployment whale-chat bonafide.dev/refresh=")
    );
    assert_eq!(status.revisions[0].phase, "Failed");
}
