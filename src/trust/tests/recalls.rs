//! What becomes of replicas that run: of the policies that refuse, the strictest says.

use serde_json::{Value, json};

use super::{
    fixtures::{manifest, policy},
    verdicts::{FILES, judge, judge_all, platform, recall, set, signed},
};
use crate::{
    api::OnRecall::{self, BlockNew, Drain, KeepRunning},
    model::Digest,
    trust::{DefaultStance, PolicySet, PolicyState, Recall, Verdict},
};

fn saying(on: &str, mut spec: Value) -> Value {
    spec["onRecall"] = json!(on);
    spec
}

fn says(verdict: &Verdict) -> Option<(OnRecall, Vec<&str>)> {
    verdict.recall().map(|Recall { on, by }| (*on, by.iter().map(String::as_str).collect()))
}

#[test]
fn the_strictest_of_those_that_refuse_says_what_becomes_of_what_runs() {
    let denied = || recall("weights");
    let unsigned = platform;
    type Case<'a> = (&'a [(&'a str, Value)], Option<(OnRecall, Vec<&'a str>)>);
    let cases: &[Case<'_>] = &[
        (&[("a", denied())], Some((BlockNew, vec!["a"]))),
        (&[("a", saying("Drain", denied()))], Some((Drain, vec!["a"]))),
        (&[("a", saying("KeepRunning", unsigned()))], Some((KeepRunning, vec!["a"]))),
        (&[("a", saying("KeepRunning", unsigned())), ("b", denied())], Some((BlockNew, vec!["b"]))),
        (&[("a", saying("Drain", unsigned())), ("b", denied()), ("c", saying("Drain", denied()))], Some((Drain, vec!["a", "c"]))),
        // One that accepts has nothing to say.
        (&[("a", saying("Drain", recall("other"))), ("b", denied())], Some((BlockNew, vec!["b"]))),
        (&[("a", saying("Drain", recall("other")))], None),
        (&[], None),
    ];
    for (policies, expected) in cases {
        let verdict = judge(policies, &[]);
        assert_eq!(says(&verdict), *expected, "{policies:?}");
        assert_eq!(verdict.on_recall(), expected.as_ref().map(|(on, _)| *on));
        assert_eq!(verdict.on_recall().is_some(), !verdict.may_serve());
    }
    assert_eq!(says(&judge(&[("a", saying("Drain", platform()))], &signed(&["platform"]))), None);
    // What a mode passes over is no refusal; what it does not pass over is one.
    let warned = |mut spec: Value| {
        spec["mode"] = json!("Warn");
        spec
    };
    assert_eq!(says(&judge(&[("a", warned(saying("Drain", platform())))], &[])), None);
    assert_eq!(says(&judge(&[("a", warned(saying("Drain", denied())))], &[])), Some((Drain, vec!["a"])));
}

#[test]
fn a_policy_that_cannot_be_used_refuses_and_drains_nothing() {
    let mut broken = saying("Drain", platform());
    broken["signers"][0]["publicKey"]["pem"] = json!("no key");
    assert_eq!(says(&judge(&[("a", broken.clone())], &[])), Some((BlockNew, vec!["a"])));
    let keeps = saying("KeepRunning", recall("weights"));
    assert_eq!(says(&judge(&[("a", keeps), ("b", broken.clone())], &[])), Some((BlockNew, vec!["b"])));
    assert_eq!(says(&judge(&[("a", saying("Drain", recall("weights"))), ("b", broken)], &[])), Some((Drain, vec!["a"])));
}

#[test]
fn what_else_refuses_starts_nothing_again_and_drains_nothing() {
    let pinned = |on: &str| {
        let policies = set(&[("a", saying(on, recall("weights")))]);
        judge_all(&policies, &manifest(&FILES), &[], Some(Digest::of("other")))
    };
    assert_eq!(says(&pinned("KeepRunning")), Some((BlockNew, vec![])));
    assert_eq!(says(&pinned("BlockNew")), Some((BlockNew, vec!["a"])));
    assert_eq!(says(&pinned("Drain")), Some((Drain, vec!["a"])));
    let state = PolicyState::of(&policy("a", saying("KeepRunning", recall("weights"))), &|_| None);
    let closed = PolicySet { policies: vec![state], default: DefaultStance::Deny };
    assert_eq!(says(&judge_all(&closed, &manifest(&FILES), &[], None)), Some((BlockNew, vec![])));
    let empty = PolicySet { policies: vec![], default: DefaultStance::Deny };
    assert_eq!(says(&judge_all(&empty, &manifest(&FILES), &[], None)), None, "no policy refuses it");
}
