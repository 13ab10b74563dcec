//! What a signature alone does not say: which of a signer's contents this is, from where, and whether all of it is there.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    authority::NOW,
    fixtures::manifest,
    verdicts::{COMMIT, FILES, demanding, judge, judge_all, platform, refused, set, signed, source},
};
use crate::{
    api::{Assurance, Reason},
    model::{Digest, Source},
    trust::{Candidate, Trust, Verdict},
};

fn pinning(digests: &[Digest]) -> Value {
    let digests: Vec<_> = digests.iter().map(Digest::to_string).collect();
    json!({"rules": [{"name": "pinned", "sources": {"include": ["hf://acme/*"]}, "digests": digests}]})
}

fn denying(entry: Value) -> Value {
    let mut deny = json!({"name": "unlearn", "reason": "must be unlearned"});
    deny.as_object_mut().unwrap().extend(entry.as_object().unwrap().clone());
    json!({"unmatched": "Accept", "deny": [deny]})
}

fn judge_from(policy: Value, source: &str, revision: &str) -> Verdict {
    let (set, manifest, source) = (set(&[("recall", policy)]), manifest(&FILES), source.parse::<Source>().unwrap());
    let candidate = Candidate {
        source: &source,
        revision,
        manifest: &manifest,
        bundles: &signed(&["platform"]),
        pin: None,
        assurance: Assurance::Copied,
        image: None,
    };
    set.for_namespace(&BTreeMap::new()).judge(&candidate, NOW)
}

#[test]
fn a_rule_that_names_contents_takes_those_and_calls_them_pinned() {
    let content = manifest(&FILES).digest();
    let verdict = judge(&[("production", pinning(&[Digest::of("other"), content]))], &[]);
    assert_eq!((verdict.trust(), verdict.reason()), (Trust::Pinned, Reason::Pinned));
    assert_eq!(verdict.message(), "The content is one that production names by its digest.");
    let said = refused(&judge(&[("production", pinning(&[Digest::of("other")]))], &signed(&["platform"]))).clone();
    assert_eq!(said.reason, Reason::ContentNotListed);
    assert!(said.message.contains(&content.to_string()) && said.message.contains(&Digest::of("other").to_string()), "{said}");
    assert!(said.message.contains("rule pinned of ClusterModelPolicy production"), "{said}");
}

#[test]
fn a_validly_signed_other_model_does_not_pass_where_the_rule_names_contents() {
    let older = [("config.json", "{}"), ("model.gguf", "weights of last year")];
    let mut spec = platform();
    spec["rules"][0]["digests"] = json!([manifest(&FILES).digest().to_string()]);
    let set = set(&[("production", spec.clone())]);
    let replayed = super::verdicts::bundle(super::verdicts::person("platform").signs(&older));
    let verdict = judge_all(&set, &manifest(&older), &replayed, None);
    assert_eq!(refused(&verdict).reason, Reason::ContentNotListed);
    // No mode passes over it.
    spec["mode"] = json!("Warn");
    let verdict = judge_all(&super::verdicts::set(&[("production", spec.clone())]), &manifest(&older), &replayed, None);
    assert_eq!(refused(&verdict).reason, Reason::ContentNotListed);
    // The content alone is not enough either: the signature is asked for too.
    spec["mode"] = json!("Enforce");
    assert_eq!(refused(&judge(&[("production", spec.clone())], &[])).reason, Reason::Unsigned);
    assert_eq!(judge(&[("production", spec)], &signed(&["platform"])).trust(), Trust::Signed);
}

#[test]
fn a_rule_that_only_names_contents_does_not_narrow_the_files_to_what_is_signed() {
    let narrows = |spec: Value| set(&[("production", spec)]).for_namespace(&BTreeMap::new()).restricts_to_signed(&source());
    assert!(!narrows(pinning(&[Digest::of("other")])));
    assert!(narrows(platform()));
}

#[test]
fn an_origin_is_denied_in_every_spelling_and_whoever_signed_it() {
    let source = denying(json!({"source": "hf://acme/chat"}));
    for spelling in ["hf://acme/chat", "hf://Acme/Chat"] {
        let verdict = judge_from(source.clone(), spelling, COMMIT);
        let problem = refused(&verdict);
        assert_eq!(problem.reason, Reason::Denied);
        let said = format!("{spelling} is a source which ClusterModelPolicy recall denies (deny[unlearn]): must be unlearned.");
        assert!(problem.message.starts_with(&said), "{problem}");
    }
    assert!(judge_from(source, "hf://acme/chatter", COMMIT).may_serve());
    let everything_of = denying(json!({"source": "hf://acme/*"}));
    assert!(!judge_from(everything_of.clone(), "hf://acme/other", COMMIT).may_serve());
    assert!(judge_from(everything_of, "hf://acme2/other", COMMIT).may_serve());
}

#[test]
fn one_revision_is_denied_and_its_successor_is_not() {
    let successor = "a".repeat(40);
    let policy = denying(json!({"source": "hf://acme/chat", "revision": COMMIT.to_ascii_uppercase()}));
    let verdict = judge_from(policy.clone(), "hf://acme/chat", COMMIT);
    let problem = refused(&verdict);
    assert!(
        problem.message.starts_with("hf://acme/chat@12fd25f is a revision which ClusterModelPolicy recall denies"),
        "{problem}"
    );
    assert!(judge_from(policy.clone(), "hf://acme/chat", &successor).may_serve());
    assert!(judge_from(policy, "hf://acme/other", COMMIT).may_serve());
}

#[test]
fn a_denied_source_is_refused_before_anything_is_asked_of_it_and_a_denied_revision_is_not() {
    let before = |entry: Value| {
        let set = set(&[("recall", denying(entry))]);
        let asked = "hf://acme/chat".parse().unwrap();
        set.for_namespace(&BTreeMap::new()).before_resolve(&asked, Assurance::Copied)
    };
    assert_eq!(before(json!({"source": "hf://acme/chat"})).unwrap_err().reason, Reason::Denied);
    assert_eq!(before(json!({"source": "hf://acme/chat", "revision": COMMIT})), Ok(()));
    assert_eq!(before(json!({"fileDigests": [Digest::of("x").to_string()]})), Ok(()));
}

#[test]
fn a_policy_that_wants_the_whole_tree_refuses_what_leaves_a_signed_file_out() {
    let mut spec = demanding(json!([{"name": "platform", "anyOf": ["platform"]}]));
    let bundles = signed(&["platform"]);
    let weights_alone = manifest(&FILES[1..]);
    let judge = |spec: &Value| judge_all(&set(&[("production", spec.clone())]), &weights_alone, &bundles, None);
    assert_eq!(judge(&spec).trust(), Trust::Signed, "what is served is signed");
    spec["completeTree"] = json!(true);
    let verdict = judge(&spec);
    let problem = refused(&verdict);
    assert_eq!(problem.reason, Reason::SignedFileLeftOut);
    assert!(problem.message.starts_with("config.json: platform signed it (platform.sig), but"), "{problem}");
    assert!(judge_all(&set(&[("production", spec)]), &manifest(&FILES), &bundles, None).may_serve());
}
