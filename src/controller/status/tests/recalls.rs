//! What is said of replicas that run while the policies refuse what they serve.

use super::*;
use crate::trust::PolicyState;

/// The decision when policies deny the weights of what is asked for, each saying what becomes of what runs.
fn refused(policies: &[(&str, &str)]) -> Decision {
    let mut decision = decision();
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
    let policy = |(name, on): &(&str, &str)| {
        let spec = json!({ "unmatched": "Accept", "onRecall": on, "deny": [{ "name": "d", "fileDigests": [content] }] });
        let policy = json!({ "apiVersion": "bonafide.dev/v1alpha1", "kind": "ClusterModelPolicy", "metadata": { "name": name }, "spec": spec });
        PolicyState::of(&serde_json::from_value(policy).unwrap(), &|_| None)
    };
    let set = PolicySet { policies: policies.iter().map(policy).collect(), default: Default::default() };
    let verdict = set.for_namespace(&Default::default()).judge(&candidate, Timestamp::UNIX_EPOCH);
    decision.revisions[0].verdict = Some(verdict.clone());
    decision.blocked =
        Some(Blocked { stage: Stage::Trust, problem: verdict.problem().unwrap().clone(), retry: Some(Duration::from_secs(120)) });
    decision.verdict = Some(verdict);
    decision.current = None;
    decision
}

/// A pod that a policy took out of service, and that has not finished.
fn drained(name: &str) -> Arc<SlimPod> {
    let mut pod = (*pod_of("0000aaaa", name, loading())).clone();
    pod.metadata.annotations = Some([("bonafide.dev/draining".to_owned(), "2026-11-02T10:00:00Z".to_owned())].into());
    Arc::new(pod)
}

/// WHY, and the beginning of what Trusted and Ready say.
fn said(decision: &Decision, pods: &[Arc<SlimPod>]) -> (String, String) {
    let (status, conditions) = computed(decision, pods, 2, None);
    assert_eq!((is(&conditions, TRUSTED), is(&conditions, READY)), (("False", "Denied"), ("False", "Denied")));
    let of = |kind: &str| conditions.iter().find(|condition| condition.type_ == kind).unwrap().message.clone();
    assert_eq!(of(TRUSTED).split(". ").next(), of(READY).split(". ").next());
    assert!(of(TRUSTED).contains("w.gguf: ") && !of(READY).contains("that were there keep serving"), "{}", of(READY));
    (status.why, of(TRUSTED).split(" w.gguf: ").next().unwrap().to_owned())
}

#[test]
fn how_many_replicas_serve_what_is_refused_is_said_first_and_by_which_policy() {
    let two = [pod_of("0000aaaa", "a", answering()), pod_of("0000aaaa", "b", answering())];
    let cases = [
        ("BlockNew", "2 replicas still serve what ClusterModelPolicy strict refuses (onRecall: BlockNew)"),
        ("KeepRunning", "2 replicas go on serving what ClusterModelPolicy strict refuses (onRecall: KeepRunning)"),
        ("Drain", "2 replicas are being drained: ClusterModelPolicy strict recalls what they serve (onRecall: Drain)"),
    ];
    for (on, expected) in cases {
        let (why, first) = said(&refused(&[("strict", on)]), &two);
        assert_eq!((why, first), (format!("Denied: {expected}"), format!("{expected}.")));
    }
    let (_, both) = said(&refused(&[("a", "Drain"), ("b", "BlockNew"), ("c", "Drain")]), &[drained("a")]);
    assert_eq!(both, "1 replica is being drained: ClusterModelPolicies a and c recall what it serves (onRecall: Drain).");
    let (_, one) = said(&refused(&[("a", "BlockNew"), ("b", "BlockNew")]), &two[..1]);
    assert_eq!(one, "1 replica still serves what ClusterModelPolicies a and b refuse (onRecall: BlockNew).");
}

#[test]
fn when_nothing_runs_of_it_the_cause_comes_first() {
    for pods in [vec![], vec![pod_of("0000aaaa", "a", loading())]] {
        let (status, _) = computed(&refused(&[("strict", "Drain")]), &pods, 2, None);
        assert!(status.why.starts_with("Denied: w.gguf: ") && status.state == "Blocked", "{}", status.why);
    }
}

#[test]
fn an_older_revision_that_serves_instead_is_named() {
    let mut decision = refused(&[("strict", "Drain")]);
    let old = replacing().revisions.remove(0);
    decision.revisions.insert(0, old);
    let pods = [pod_of("0000bbbb", "old", answering()), drained("new")];
    let (_, first) = said(&decision, &pods);
    assert!(first.ends_with("(onRecall: Drain). Revision 0000bbbb serves instead."), "{first}");
    let (_, first) = said(&decision, &pods[..1]);
    assert_eq!(first, "Revision 0000bbbb serves instead.");
}
