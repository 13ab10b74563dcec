//! What a policy's mode passes over, and what it does not.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::authority::NOW;
use super::{
    fixtures::{manifest, statement},
    verdicts::{COMMIT, FILES, bundle, demanding, judge, judge_all, person, platform, recall, refused, set, signed, source},
};
use crate::{
    api::{Assurance, Reason},
    model::Digest,
    trust::{Candidate, Trust, Verdict},
};

fn mode(mode: &str, mut spec: Value) -> Value {
    spec["mode"] = json!(mode);
    spec
}

/// A bundle of the platform's whose signature was cut.
fn damaged() -> Vec<(String, String)> {
    let mut bundle: Value = serde_json::from_str(&person("platform").signs(&FILES)).unwrap();
    bundle["dsseEnvelope"]["signatures"][0]["sig"] = json!("MEQCIAAA");
    vec![("model.sig".to_owned(), bundle.to_string())]
}

/// Name, bundles, files that are served, pin, what `Enforce` says, and whether the other modes pass over it.
type Row<'a> = (&'a str, Vec<(String, String)>, Vec<(&'a str, &'a str)>, Option<Digest>, Reason, bool);

#[test]
fn a_mode_passes_over_missing_signatures_and_over_nothing_else() {
    let files = FILES.to_vec();
    let changed = vec![FILES[0], ("model.gguf", "weightz")];
    let more = vec![FILES[0], FILES[1], ("more.gguf", "x")];
    let mut hashed = statement(&FILES);
    hashed["predicate"]["serialization"]["hash_type"] = json!("blake3");
    let unsupported = person("platform").signs_statement(&hashed);
    let rows: [Row<'_>; 8] = [
        ("nobody signed", vec![], files.clone(), None, Reason::Unsigned, true),
        ("somebody else signed", signed(&["ann"]), files.clone(), None, Reason::WrongSigner, true),
        ("a kind that is not verified", bundle(unsupported), files.clone(), None, Reason::SignatureUnsupported, true),
        ("a file more than was signed", signed(&["platform"]), more, None, Reason::UnsignedFile, true),
        ("other bytes than were signed", signed(&["platform"]), changed, None, Reason::DigestMismatch, false),
        ("no bundle at all", bundle("{}".to_owned()), files.clone(), None, Reason::SignatureMalformed, false),
        ("a damaged signature", damaged(), files.clone(), None, Reason::SignatureInvalid, false),
        ("another content than the pinned", vec![], files, Some(Digest::of("x")), Reason::PinMismatch, false),
    ];
    for (case, bundles, files, pin, reason, passed_over) in rows {
        let judge = |name: &str| judge_all(&set(&[("p", mode(name, platform()))]), &manifest(&files), &bundles, pin);
        assert_eq!(refused(&judge("Enforce")).reason, reason, "{case}");
        for name in ["Warn", "Audit"] {
            let verdict = judge(name);
            if !passed_over {
                assert_eq!(refused(&verdict).reason, reason, "{case}, {name}");
                continue;
            }
            assert_eq!(
                (verdict.trust(), verdict.reason(), verdict.may_serve()),
                (Trust::Unsigned, reason, true),
                "{case}, {name}"
            );
            assert!(verdict.problem().is_none(), "{case}, {name}");
            assert_eq!(verdict.is_warned_of(), name == "Warn", "{case}");
            let told = verdict.message();
            assert!(told.contains(&format!("(mode {name})")) && !told.contains("No new replica serves it"), "{told}");
            let per_policy = verdict.per_policy();
            assert_eq!((per_policy[0].result.as_str(), per_policy[0].message.as_str()), ("Unsigned", told), "{case}, {name}");
        }
    }
}

#[test]
fn what_no_mode_passes_over_is_what_a_mode_that_passes_over_the_rest_tells() {
    let mixed = [bundle("{}".to_owned()), signed(&["ann"])].concat();
    let judge = |name: &str| refused(&judge(&[("p", mode(name, platform()))], &mixed)).reason;
    assert_eq!(
        ["Enforce", "Warn", "Audit"].map(judge),
        [Reason::WrongSigner, Reason::SignatureMalformed, Reason::SignatureMalformed]
    );
}

#[test]
fn a_mode_passes_over_no_recall_and_no_source_without_a_rule() {
    let elsewhere = || {
        let mut spec = platform();
        spec["rules"][0]["sources"]["include"] = json!(["hf://other/*"]);
        spec
    };
    let broken = || {
        let mut spec = platform();
        spec["signers"][0]["publicKey"]["pem"] = json!("junk");
        spec
    };
    for name in ["Warn", "Audit"] {
        assert_eq!(refused(&judge(&[("p", mode(name, recall("weights")))], &[])).reason, Reason::Denied);
        assert_eq!(refused(&judge(&[("p", mode(name, elsewhere()))], &[])).reason, Reason::NoMatchingRule);
        assert_eq!(refused(&judge(&[("p", mode(name, broken()))], &[])).reason, Reason::PolicyNotAccepted);
    }
}

#[test]
fn what_one_policy_enforces_another_does_not_pass_over() {
    let ann = || demanding(json!([{"name": "ann", "anyOf": ["ann"]}]));
    let both = |name: &str, who: &[&str]| judge(&[("a", mode(name, platform())), ("b", ann())], &signed(who));
    for name in ["Warn", "Audit"] {
        assert_eq!(refused(&both(name, &["platform"])).reason, Reason::WrongSigner);
        assert_eq!(both(name, &["platform", "ann"]).trust(), Trust::Signed);
    }
    let warned = both("Warn", &["ann"]);
    assert_eq!((warned.trust(), warned.is_warned_of()), (Trust::Unsigned, true));
    let audited = both("Audit", &["ann"]);
    assert_eq!((audited.trust(), audited.message()), (Trust::Signed, "Signed by ann, as b demands."));
    assert_eq!(audited.per_policy()[0].result, "Unsigned", "it is recorded all the same");
    let two = judge(&[("a", mode("Audit", platform())), ("b", mode("Warn", ann()))], &[]);
    assert!(two.message().contains("mode Warn"), "{}", two.message());
}

#[test]
fn a_signature_that_holds_is_worth_the_same_in_every_mode() {
    for name in ["Enforce", "Warn", "Audit"] {
        let verdict = judge(&[("p", mode(name, platform()))], &signed(&["platform"]));
        assert_eq!((verdict.trust(), verdict.is_warned_of()), (Trust::Signed, false));
    }
}

#[test]
fn what_is_read_in_place_needs_a_policy_that_says_so() {
    let judge = |spec: Value, assurance| -> Verdict {
        let (source, manifest, bundles) = (source(), manifest(&FILES), signed(&["platform"]));
        let candidate = Candidate {
            source: &source,
            revision: COMMIT,
            manifest: &manifest,
            bundles: &bundles,
            pin: None,
            assurance,
            image: None,
        };
        let set = set(&[("p", spec)]);
        let applicable = set.for_namespace(&BTreeMap::new());
        let verdict = applicable.judge(&candidate, NOW);
        assert_eq!(
            applicable.before_resolve(&source, assurance).is_ok(),
            verdict.may_serve(),
            "it is known before anything is read"
        );
        verdict
    };
    let in_place = || {
        let mut spec = platform();
        spec["minimumAssurance"] = json!("InPlace");
        spec
    };
    for name in ["Enforce", "Warn", "Audit"] {
        assert_eq!(judge(mode(name, platform()), Assurance::Copied).trust(), Trust::Signed);
        assert_eq!(judge(mode(name, in_place()), Assurance::InPlace).trust(), Trust::Signed);
        assert_eq!(refused(&judge(mode(name, platform()), Assurance::InPlace)).reason, Reason::AssuranceTooLow);
    }
    assert_eq!(judge(recall("other"), Assurance::InPlace).trust(), Trust::Unknown, "a recall demands nothing");
}
