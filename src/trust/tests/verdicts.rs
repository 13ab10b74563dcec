use std::collections::BTreeMap;

use serde_json::{Value, json};

use jiff::Timestamp;

use super::authority::NOW;
use super::fixtures::{Person, data, manifest, policy, signer};
use crate::{
    api::{Assurance, Problem, Reason},
    model::{Digest, Manifest, Source},
    trust::{Candidate, DefaultStance, PolicySet, PolicyState, Trust, Verdict},
};

pub(super) const FILES: [(&str, &str); 2] = [("config.json", "{}"), ("model.gguf", "weights")];
pub(super) const COMMIT: &str = "12fd25f77366fa6b3b4b768ec3050bf629380bac";

pub(super) fn person(name: &str) -> Person {
    Person::new(match name {
        "platform" => 1,
        "ann" => 2,
        "bob" => 3,
        "carol" => 4,
        _ => 9,
    })
}

pub(super) fn set(policies: &[(&str, Value)]) -> PolicySet {
    let state = |(name, spec): &(&str, Value)| PolicyState::of(&policy(name, spec.clone()), &|_| None);
    PolicySet { policies: policies.iter().map(state).collect(), default: DefaultStance::Allow }
}

pub(super) fn signers() -> Value {
    json!(["platform", "ann", "bob", "carol"].map(|name| signer(name, &person(name))))
}

/// A policy with one rule, for hf://acme/*: signed by the platform.
pub(super) fn platform() -> Value {
    demanding(json!([{"name": "platform", "anyOf": ["platform"]}]))
}

pub(super) fn demanding(signed_by: Value) -> Value {
    json!({"signers": signers(), "rules": [{"name": "ours", "sources": {"include": ["hf://acme/*"]}, "signedBy": signed_by}]})
}

pub(super) fn recall(content: &str) -> Value {
    json!({"unmatched": "Accept", "deny": [{"name": "poisoned", "fileDigests": [Digest::of(content)], "reason": "withdrawn by its publisher"}]})
}

pub(super) fn source() -> Source {
    "hf://acme/smollm2".parse().unwrap()
}

pub(super) fn signed(who: &[&str]) -> Vec<(String, String)> {
    who.iter().map(|name| (format!("{name}.sig"), person(name).signs(&FILES))).collect()
}

pub(super) fn bundle(content: String) -> Vec<(String, String)> {
    vec![("model.sig".to_owned(), content)]
}

pub(super) fn judge_all(set: &PolicySet, manifest: &Manifest, bundles: &[(String, String)], pin: Option<Digest>) -> Verdict {
    judge_at(set, manifest, bundles, pin, NOW)
}

pub(super) fn judge_at(
    set: &PolicySet,
    manifest: &Manifest,
    bundles: &[(String, String)],
    pin: Option<Digest>,
    now: Timestamp,
) -> Verdict {
    let source = source();
    let candidate =
        Candidate { source: &source, revision: COMMIT, manifest, bundles, pin, assurance: Assurance::Copied, image: None };
    set.for_namespace(&BTreeMap::new()).judge(&candidate, now)
}

pub(super) fn judge(policies: &[(&str, Value)], bundles: &[(String, String)]) -> Verdict {
    judge_all(&set(policies), &manifest(&FILES), bundles, None)
}

/// The problem of a refusal, having checked that everything about it says so.
pub(super) fn refused(verdict: &Verdict) -> &Problem {
    assert_eq!(verdict.trust(), Trust::Refused, "{}", verdict.message());
    assert!(!verdict.may_serve());
    let problem = verdict.problem().unwrap();
    assert_eq!((problem.reason, problem.message.as_str()), (verdict.reason(), verdict.message()));
    assert!(problem.message.len() < Problem::MAX_MESSAGE, "nothing is cut: {problem}");
    problem
}

#[test]
fn a_signed_model_is_served() {
    let verdict = judge(&[("production", platform())], &signed(&["platform"]));
    assert_eq!((verdict.trust(), verdict.reason()), (Trust::Signed, Reason::Signed));
    assert!(verdict.may_serve() && verdict.problem().is_none());
    assert_eq!(verdict.signers(), ["platform"]);
    assert_eq!(verdict.digest(), manifest(&FILES).digest());
    assert_eq!(verdict.message(), "Signed by platform, as production demands.");
    let per_policy = verdict.per_policy();
    assert_eq!(per_policy.len(), 1);
    assert_eq!((per_policy[0].name.as_str(), per_policy[0].generation), ("production", 7));
    assert_eq!((per_policy[0].result.as_str(), per_policy[0].signers.as_slice()), ("Trusted", &["platform".to_owned()][..]));
}

#[test]
fn what_the_reference_client_signs_is_served() {
    for curve in ["p256", "p384", "p521"] {
        let spec = json!({
            "signers": [{"name": "tool", "publicKey": {"pem": data(&format!("{curve}.pub"))}}],
            "rules": [{"name": "all", "sources": {"include": ["hf://**"]}, "signedBy": [{"name": "tool", "anyOf": ["tool"]}]}],
        });
        let names = ["config.json", "model.safetensors"];
        let contents = names.map(|name| data(&format!("model/{name}")));
        let served = manifest(&[(names[0], &contents[0]), (names[1], &contents[1])]);
        let bundles = bundle(data(&format!("{curve}.sig")));
        let verdict = judge_all(&set(&[("production", spec)]), &served, &bundles, None);
        assert_eq!(verdict.trust(), Trust::Signed, "a subset of the signed files: {}", verdict.message());
    }
}

#[test]
fn no_signature_is_refused() {
    let verdict = judge(&[("production", platform())], &[]);
    let problem = refused(&verdict);
    assert_eq!(problem.reason, Reason::Unsigned);
    assert_eq!(
        problem.message,
        "hf://acme/smollm2@12fd25f has no signature. No new replica serves it. Have it signed, and put the signature beside the model as model.sig, or deliver it as a ModelSignature. ClusterModelPolicy production demands a signature of platform (rule ours, signedBy platform)."
    );
    let per_policy = verdict.per_policy();
    assert_eq!((per_policy[0].result.as_str(), per_policy[0].reason.as_str()), ("Refused", "Unsigned"));
    assert_eq!(per_policy[0].message, problem.message);
}

#[test]
fn a_changed_file_is_told_with_both_digests_and_what_to_do() {
    let changed = manifest(&[("config.json", "{}"), ("model.gguf", "weightz")]);
    let verdict = judge_all(&set(&[("production", platform())]), &changed, &signed(&["platform"]), None);
    let problem = refused(&verdict);
    assert_eq!(problem.reason, Reason::DigestMismatch);
    assert_eq!(
        problem.message,
        format!(
            "model.gguf: signed as sha256 {}, but hf://acme/smollm2@12fd25f now has {}. No new replica serves it. If the new file is wanted, have it signed again; if not, tell the repository's owner, or set spec.model.revision to what was signed. ClusterModelPolicy production demands a signature of platform (rule ours, signedBy platform).",
            Digest::of("weights").hex(),
            Digest::of("weightz").hex(),
        )
    );
}

#[test]
fn a_file_that_is_not_signed_hides_none_that_was_changed() {
    let served = manifest(&[("a-new.json", "{}"), ("config.json", "{}"), ("model.gguf", "weights of somebody else")]);
    for mode in ["Enforce", "Warn", "Audit"] {
        let mut spec = platform();
        spec["mode"] = json!(mode);
        let verdict = judge_all(&set(&[("p", spec)]), &served, &signed(&["platform"]), None);
        assert_eq!(refused(&verdict).reason, Reason::DigestMismatch, "{mode}: {}", verdict.message());
        assert!(verdict.message().starts_with("model.gguf: signed as sha256 "), "{}", verdict.message());
    }
}

#[test]
fn every_served_file_is_looked_at_and_no_other() {
    let platform = set(&[("production", platform())]);
    let judge = |files: &[(&str, &str)]| judge_all(&platform, &manifest(files), &signed(&["platform"]), None);
    assert_eq!(judge(&FILES[1..]).trust(), Trust::Signed, "a signed file that is not served does not matter");
    for at in 0..FILES.len() {
        let mut files = FILES;
        files[at].1 = "changed";
        assert_eq!(refused(&judge(&files)).reason, Reason::DigestMismatch);
    }
    let both = judge(&[("config.json", "x"), ("model.gguf", "x")]);
    assert!(refused(&both).message.contains("(one more file differs)"), "{}", both.message());
    let more = judge(&[FILES[0], FILES[1], ("modeling_evil.py", "import os")]);
    let problem = refused(&more);
    assert_eq!(problem.reason, Reason::UnsignedFile);
    assert!(problem.message.starts_with("modeling_evil.py: "), "{problem}");
    let swapped = judge(&[("config.json", "weights"), ("model.gguf", "{}")]);
    assert_eq!(refused(&swapped).reason, Reason::DigestMismatch, "the right bytes under another's name");
}

#[test]
fn another_signer_is_told_who_was_wanted() {
    let problem = refused(&judge(&[("production", platform())], &signed(&["ann"]))).clone();
    assert_eq!(problem.reason, Reason::WrongSigner);
    assert!(problem.message.contains("not by platform: ann.sig names the key of ann."), "{problem}");
    let problem = refused(&judge(&[("production", platform())], &signed(&["stranger"]))).clone();
    assert_eq!(problem.reason, Reason::WrongSigner);
    let hint = person("stranger").key().hint().short().to_owned();
    assert!(problem.message.contains(&format!("names key {hint}…, which no signer of the policy has")), "{problem}");
}

#[test]
fn a_forged_hint_does_not_help() {
    let mut forged: Value = serde_json::from_str(&person("stranger").signs(&FILES)).unwrap();
    forged["verificationMaterial"]["publicKey"]["hint"] = json!(person("platform").key().hint().as_str());
    let verdict = judge(&[("production", platform())], &bundle(forged.to_string()));
    assert_eq!(refused(&verdict).reason, Reason::SignatureInvalid);
}

#[test]
fn junk_and_unsupported_methods_are_refused_by_their_own_reasons() {
    for (content, reason) in [
        ("junk".to_owned(), Reason::SignatureMalformed),
        ("x".repeat(600_000), Reason::SignatureMalformed),
        (data("blake3.sig"), Reason::SignatureUnsupported),
    ] {
        let verdict = judge(&[("production", platform())], &bundle(content));
        let problem = refused(&verdict);
        assert_eq!(problem.reason, reason);
        assert!(problem.message.starts_with("model.sig of hf://acme/smollm2@12fd25f "), "{problem}");
    }
}

#[test]
fn a_signature_of_another_model_is_refused() {
    let other = person("platform").signs(&[("other.safetensors", "x"), ("tokenizer.json", "y")]);
    let verdict = judge(&[("production", platform())], &bundle(other));
    let problem = refused(&verdict);
    assert_eq!(problem.reason, Reason::UnsignedFile);
    assert!(
        problem
            .message
            .starts_with("model.sig is platform's signature of another model: it lists 2 files, such as other.safetensors"),
        "{problem}"
    );
}

#[test]
fn a_nameless_signature_is_good_for_one_file_only() {
    let nameless = bundle(person("platform").signs(&[(".", "weights")]));
    let platform = set(&[("production", platform())]);
    let judge = |files: &[(&str, &str)]| judge_all(&platform, &manifest(files), &nameless, None);
    assert_eq!(judge(&[("model.gguf", "weights")]).trust(), Trust::Signed);
    assert_eq!(refused(&judge(&[("model.gguf", "weightz")])).reason, Reason::DigestMismatch);
    assert_eq!(refused(&judge(&FILES)).reason, Reason::UnsignedFile);
}

#[test]
fn any_bundle_of_the_signer_that_covers_everything_is_enough() {
    let mut bundles = vec![("junk.sig".to_owned(), "junk".to_owned())];
    bundles.push(("old.sig".to_owned(), person("platform").signs(&[("config.json", "{}"), ("model.gguf", "old")])));
    bundles.extend(signed(&["ann", "platform"]));
    assert_eq!(judge(&[("production", platform())], &bundles).signers(), ["platform"]);
    bundles.pop();
    let verdict = judge(&[("production", platform())], &bundles);
    assert_eq!(refused(&verdict).reason, Reason::DigestMismatch, "of several failures the one nearest to success");
}

#[test]
fn a_signature_that_cannot_be_read_does_not_hide_who_signed() {
    let junk = |names: &[&str]| -> Vec<_> { names.iter().map(|name| ((*name).to_owned(), "junk".to_owned())).collect() };
    let told = |bundles: &[(String, String)]| refused(&judge(&[("production", platform())], bundles)).clone();
    for bundles in [[junk(&["junk.sig"]), signed(&["ann"])].concat(), [signed(&["ann"]), junk(&["junk.sig"])].concat()] {
        let problem = told(&bundles);
        assert_eq!(problem.reason, Reason::WrongSigner);
        assert!(problem.message.contains("ann.sig names the key of ann."), "{problem}");
        assert!(problem.message.contains("1 other could not be read: junk.sig."), "{problem}");
    }
    let problem = told(&[signed(&["ann"]), junk(&["a", "b", "c", "d", "e"])].concat());
    assert!(problem.message.contains("5 others could not be read: a, b, c and 2 more."), "{problem}");
    let problem = told(&junk(&["first", "second"]));
    assert_eq!(problem.reason, Reason::SignatureMalformed);
    assert!(
        problem.message.starts_with("first of ") && problem.message.contains("1 other could not be read: second."),
        "{problem}"
    );
    assert!(!told(&signed(&["ann"])).message.contains("could not be read"));
    let old = ("old.sig".to_owned(), person("platform").signs(&[("config.json", "{}"), ("model.gguf", "old")]));
    let problem = told(&[junk(&["junk.sig"]), vec![old]].concat());
    assert!(problem.reason == Reason::DigestMismatch && problem.message.contains("could not be read: junk.sig"), "{problem}");
}

#[test]
fn two_bundles_do_not_add_up() {
    let halves = FILES.map(|file| (format!("{}.sig", file.0), person("platform").signs(&[file]))).to_vec();
    assert_eq!(refused(&judge(&[("production", platform())], &halves)).reason, Reason::UnsignedFile);
}

#[test]
fn every_entry_of_signed_by_must_hold_with_its_minimum() {
    let spec = demanding(json!([
        {"name": "platform", "anyOf": ["platform"]},
        {"name": "review", "anyOf": ["ann", "bob", "carol"], "minimum": 2},
    ]));
    let with = |who: &[&str]| judge(&[("production", spec.clone())], &signed(who));
    let verdict = with(&["platform", "ann", "carol"]);
    assert_eq!(verdict.signers(), ["ann", "carol", "platform"]);
    assert_eq!(refused(&with(&["ann", "bob", "carol"])).reason, Reason::WrongSigner);
    let half = with(&["platform", "ann"]);
    let problem = refused(&half);
    assert_eq!(problem.reason, Reason::WrongSigner);
    assert!(problem.message.contains("not signed by bob or carol."), "{problem}");
    assert!(
        problem.message.contains("2 signatures of ann, bob, carol, of whom ann signed (rule ours, signedBy review)"),
        "{problem}"
    );
}

#[test]
fn one_key_under_two_names_counts_once() {
    let mut spec = demanding(json!([{"name": "review", "anyOf": ["ann", "twin", "bob"], "minimum": 2}]));
    spec["signers"].as_array_mut().unwrap().push(signer("twin", &person("ann")));
    let with = |who: &[&str]| judge(&[("production", spec.clone())], &signed(who));
    assert_eq!(refused(&with(&["ann"])).reason, Reason::WrongSigner);
    assert_eq!(with(&["ann", "bob"]).trust(), Trust::Signed);
}

#[test]
fn every_rule_that_matches_must_hold() {
    let rule = |name: &str, include: &str, who: &str| json!({"name": name, "sources": {"include": [include]}, "signedBy": [{"name": who, "anyOf": [who]}]});
    let spec = json!({
        "signers": signers(),
        "rules": [rule("all", "hf://**", "platform"), rule("acme", "hf://acme/*", "ann"), rule("other", "hf://other/*", "bob")],
    });
    let with = |who: &[&str]| judge(&[("production", spec.clone())], &signed(who));
    assert_eq!(with(&["platform", "ann"]).trust(), Trust::Signed, "a rule that does not match demands nothing");
    assert!(refused(&with(&["platform"])).message.contains("(rule acme, "));
    assert!(refused(&with(&["ann"])).message.contains("(rule all, "));
}

#[test]
fn every_policy_that_selects_the_namespace_must_accept() {
    let ann = demanding(json!([{"name": "ann", "anyOf": ["ann"]}]));
    let both = |who: &[&str]| judge(&[("a", platform()), ("b", ann.clone())], &signed(who));
    let verdict = both(&["platform", "ann"]);
    assert_eq!(verdict.signers(), ["ann", "platform"]);
    assert_eq!(verdict.message(), "Signed by ann, platform, as a and b demand.");
    for who in ["platform", "ann"] {
        let verdict = both(&[who]);
        assert_eq!(refused(&verdict).reason, Reason::WrongSigner);
        let results: Vec<_> = verdict.per_policy().into_iter().map(|policy| policy.result).collect();
        assert_eq!(results.iter().filter(|result| *result == "Trusted").count(), 1, "{results:?}");
    }
}

#[test]
fn a_policy_of_other_namespaces_has_no_say() {
    let mut elsewhere = platform();
    elsewhere["namespaceSelector"] = json!({"matchLabels": {"tier": "production"}});
    let set = set(&[("production", elsewhere)]);
    assert_eq!(judge_all(&set, &manifest(&FILES), &[], None).trust(), Trust::Unknown);
    let source = source();
    let manifest = manifest(&FILES);
    let candidate = Candidate {
        source: &source,
        revision: COMMIT,
        manifest: &manifest,
        bundles: &[],
        pin: None,
        assurance: Assurance::Copied,
        image: None,
    };
    let production = BTreeMap::from([("tier".to_owned(), "production".to_owned())]);
    assert_eq!(refused(&set.for_namespace(&production).judge(&candidate, NOW)).reason, Reason::Unsigned);
}

#[test]
fn a_source_that_no_rule_matches_is_refused_unless_the_policy_accepts_it() {
    let mut spec = platform();
    spec["rules"][0]["sources"] = json!({"include": ["hf://acme/*"], "exclude": ["hf://acme/smollm2"]});
    let refusing = set(&[("production", spec.clone())]);
    let verdict = judge_all(&refusing, &manifest(&FILES), &signed(&["platform"]), None);
    let problem = refused(&verdict);
    assert_eq!(problem.reason, Reason::NoMatchingRule);
    assert!(problem.message.contains("its rules are for hf://acme/*"), "{problem}");
    assert_eq!(refusing.for_namespace(&BTreeMap::new()).before_resolve(&source(), Assurance::Copied).unwrap_err(), *problem);
    spec["unmatched"] = json!("Accept");
    let accepting = set(&[("production", spec)]);
    let verdict = judge_all(&accepting, &manifest(&FILES), &[], None);
    assert_eq!((verdict.trust(), verdict.reason()), (Trust::Unknown, Reason::NoPolicy));
    assert_eq!(verdict.per_policy()[0].result, "Trusted");
    assert_eq!(accepting.for_namespace(&BTreeMap::new()).before_resolve(&source(), Assurance::Copied), Ok(()));
}

#[test]
fn denied_bytes_are_refused_whatever_else_holds() {
    let policies = [("production", platform()), ("recall", recall("weights"))];
    let verdict = judge(&policies, &signed(&["platform"]));
    let problem = refused(&verdict);
    assert_eq!(problem.reason, Reason::Denied);
    for part in ["model.gguf: ", "recall", "poisoned", "withdrawn by its publisher", &Digest::of("weights").to_string()] {
        assert!(problem.message.contains(part), "{part}: {problem}");
    }
    assert_eq!(refused(&judge(&policies[1..], &[])).reason, Reason::Denied, "without any rule");
    assert_eq!(refused(&judge(&policies, &[])).reason, Reason::Denied, "it is said before the missing signature");
    let other = judge(&[("production", platform()), ("recall", recall("other"))], &signed(&["platform"]));
    assert_eq!((other.trust(), other.message()), (Trust::Signed, "Signed by platform, as production demands."));
}

#[test]
fn a_broken_policy_refuses_everything_in_its_namespaces() {
    let mut spec = platform();
    spec["signers"][0]["publicKey"]["pem"] = json!("junk");
    let broken = set(&[("a", spec.clone()), ("b", recall("other"))]);
    let verdict = judge_all(&broken, &manifest(&FILES), &signed(&["platform"]), None);
    let problem = refused(&verdict);
    assert_eq!(problem.reason, Reason::PolicyNotAccepted);
    assert!(problem.message.contains("spec.signers[platform].publicKey.pem"), "{problem}");
    assert_eq!(broken.for_namespace(&BTreeMap::new()).before_resolve(&source(), Assurance::Copied).unwrap_err(), *problem);
    assert_eq!(verdict.per_policy()[0].reason, "PolicyNotAccepted");
    spec["namespaceSelector"] = json!({"matchLabels": {"tier": "production"}});
    let elsewhere = judge_all(&set(&[("a", spec)]), &manifest(&FILES), &[], None);
    assert_eq!(elsewhere.trust(), Trust::Unknown);
}

#[test]
fn a_policy_that_cannot_be_read_refuses_everything_everywhere() {
    let problem = Problem::new(Reason::PolicyUnreadable, "spec.mode: unknown variant `Observe`");
    let unreadable = PolicyState::Broken { name: "new".to_owned(), generation: 0, selector: None, problem };
    let set = PolicySet { policies: vec![unreadable], default: DefaultStance::Allow };
    for labels in [BTreeMap::new(), BTreeMap::from([("tier".to_owned(), "lab".to_owned())])] {
        assert_eq!(
            set.for_namespace(&labels).before_resolve(&source(), Assurance::Copied).unwrap_err().reason,
            Reason::PolicyUnreadable
        );
    }
    let verdict = judge_all(&set, &manifest(&FILES), &[], None);
    assert!(refused(&verdict).message.contains("spec.mode"));
}

#[test]
fn without_a_policy_the_default_decides() {
    let allow = PolicySet::default();
    let deny = PolicySet { default: DefaultStance::Deny, ..PolicySet::default() };
    let found = manifest(&FILES).digest();
    let judge = |set: &PolicySet, pin| judge_all(set, &manifest(&FILES), &signed(&["platform"]), pin);
    let verdict = judge(&allow, None);
    assert_eq!((verdict.trust(), verdict.reason(), verdict.may_serve()), (Trust::Unknown, Reason::NoPolicy, true));
    assert!(verdict.signers().is_empty() && verdict.per_policy().is_empty());
    assert_eq!((judge(&allow, Some(found)).trust(), judge(&allow, Some(found)).reason()), (Trust::Pinned, Reason::Pinned));
    assert_eq!(refused(&judge(&deny, None)).reason, Reason::DefaultDeny);
    assert_eq!(refused(&judge(&deny, Some(found))).reason, Reason::DefaultDeny);
    assert_eq!(allow.for_namespace(&BTreeMap::new()).before_resolve(&source(), Assurance::Copied), Ok(()));
    assert_eq!(
        deny.for_namespace(&BTreeMap::new()).before_resolve(&source(), Assurance::Copied).unwrap_err().reason,
        Reason::DefaultDeny
    );
}

#[test]
fn a_recall_does_not_open_what_the_default_keeps_closed() {
    let closed = |policies: &[(&str, Value)]| PolicySet { default: DefaultStance::Deny, ..set(policies) };
    let judge = |set: PolicySet| judge_all(&set, &manifest(&FILES), &signed(&["platform"]), None);
    assert_eq!(refused(&judge(closed(&[("recall", recall("other"))]))).reason, Reason::DefaultDeny);
    assert_eq!(judge(closed(&[("recall", recall("other")), ("production", platform())])).trust(), Trust::Signed);
    assert_eq!(
        judge(closed(&[("open", json!({"unmatched": "Accept"}))])).trust(),
        Trust::Unknown,
        "an open door that somebody wrote down"
    );
    // With a rule for other sources it says more than what may not be served.
    let mut mixed = recall("other");
    mixed["signers"] = signers();
    mixed["rules"] = json!([{"name": "theirs", "sources": {"include": ["hf://other/*"]}, "signedBy": [{"name": "platform", "anyOf": ["platform"]}]}]);
    assert_eq!(judge(closed(&[("mixed", mixed)])).trust(), Trust::Unknown);
}

#[test]
fn another_content_than_the_pinned_one_is_refused_even_when_it_is_signed() {
    let pin = Digest::of("something else");
    for policies in [&[][..], &[("production", platform())]] {
        let verdict = judge_all(&set(policies), &manifest(&FILES), &signed(&["platform"]), Some(pin));
        let problem = refused(&verdict);
        assert_eq!(problem.reason, Reason::PinMismatch);
        assert!(problem.message.contains(&pin.to_string()), "{problem}");
        assert!(problem.message.contains(&manifest(&FILES).digest().to_string()), "{problem}");
    }
}

#[test]
fn a_pin_replaces_no_signature() {
    let pin = Some(manifest(&FILES).digest());
    let production = set(&[("production", platform())]);
    assert_eq!(refused(&judge_all(&production, &manifest(&FILES), &[], pin)).reason, Reason::Unsigned);
    assert_eq!(judge_all(&production, &manifest(&FILES), &signed(&["platform"]), pin).trust(), Trust::Signed);
    let recalled = set(&[("recall", recall("other"))]);
    assert_eq!(judge_all(&recalled, &manifest(&FILES), &[], pin).trust(), Trust::Pinned);
}

#[test]
fn files_are_chosen_among_the_signed_ones_only_where_every_demanding_policy_leaves_others_out() {
    let rejecting = || {
        let mut spec = platform();
        spec["unsignedFiles"] = json!("Reject");
        spec
    };
    let elsewhere = || {
        let mut spec = rejecting();
        spec["rules"][0]["sources"]["include"] = json!(["hf://other/*"]);
        spec["unmatched"] = json!("Accept");
        spec
    };
    let restricts = |policies: &[(&str, Value)]| set(policies).for_namespace(&BTreeMap::new()).restricts_to_signed(&source());
    assert!(restricts(&[("a", platform())]));
    assert!(restricts(&[("a", platform()), ("recall", recall("x")), ("b", elsewhere())]));
    assert!(!restricts(&[]));
    assert!(!restricts(&[("recall", recall("x"))]));
    assert!(!restricts(&[("a", platform()), ("b", rejecting())]));
}

#[test]
fn an_unsigned_manifest_for_a_server_that_would_be_served_is_refused_like_any_other_unsigned_file() {
    let served = [FILES[0], FILES[1], ("bonafide.json", r#"{"files": []}"#)];
    let mut rejecting = platform();
    rejecting["unsignedFiles"] = json!("Reject");
    let verdict = judge_all(&set(&[("strict", rejecting)]), &manifest(&served), &signed(&["platform"]), None);
    let problem = refused(&verdict);
    assert_eq!(problem.reason, Reason::UnsignedFile);
    assert!(problem.message.starts_with("bonafide.json: hf://acme/smollm2@12fd25f would serve it"), "{problem}");
}

#[test]
fn many_changed_files_with_long_names_fit_a_condition() {
    let names: Vec<String> = (0..40).map(|number| format!("{}/{number}", vec!["d".repeat(100); 4].join("/"))).collect();
    let was: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "was")).collect();
    let is: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "is")).collect();
    let bundles = bundle(person("platform").signs(&was));
    let verdict = judge_all(&set(&[("production", platform())]), &manifest(&is), &bundles, None);
    assert!(verdict.message().len() <= Problem::MAX_MESSAGE);
    assert!(verdict.message().contains("39 more files differ"), "{}", verdict.message());
}

#[test]
fn trust_is_written_as_the_column_shows_it() {
    let words = [Trust::Signed, Trust::Pinned, Trust::Unsigned, Trust::Refused, Trust::Unknown].map(|trust| trust.to_string());
    assert_eq!(words, ["Signed", "Pinned", "Unsigned", "Refused", "Unknown"]);
}
