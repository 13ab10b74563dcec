use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::fixtures::{Person, policy, signer};
use crate::{
    api::{Problem, Reason, SecretKeyRef},
    trust::{Policy, PolicyState},
};

fn good() -> Value {
    json!({
        "namespaceSelector": {"matchLabels": {"tier": "production"}},
        "signers": [
            signer("platform", &Person::new(1)),
            {"name": "vault", "publicKey": {"secretKeyRef": {"name": "keys", "key": "vault.pem"}}},
        ],
        "rules": [{
            "name": "ours",
            "sources": {"include": ["hf://acme/*"], "exclude": ["hf://acme/lab"]},
            "signedBy": [{"name": "both", "anyOf": ["platform", "vault"], "minimum": 2}],
        }],
        "deny": [{"name": "bad", "fileDigests": [format!("sha256:{}", "0".repeat(64))]}],
    })
}

fn secret(reference: &SecretKeyRef) -> Option<String> {
    (reference.name == "keys" && reference.key == "vault.pem").then(|| Person::new(2).pem())
}

fn compile(spec: Value) -> Result<Policy, Problem> {
    Policy::compile(&policy("production", spec), &secret)
}

#[test]
fn a_complete_policy_is_accepted_and_selects_its_namespaces() {
    let policy = compile(good()).unwrap();
    assert_eq!((policy.name(), policy.generation()), ("production", 7));
    let tier = |value: &str| BTreeMap::from([("tier".to_owned(), value.to_owned())]);
    assert!(policy.selects(&tier("production")));
    assert!(!policy.selects(&tier("test")));
    assert!(!policy.selects(&BTreeMap::new()));
}

#[test]
fn each_field_that_cannot_be_used_is_named_with_its_path() {
    let set = |pointer: &str, value: Value| {
        let mut spec = good();
        *spec.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer}")) = value;
        compile(spec).unwrap_err()
    };
    let pinned = |digest: &str| json!({"name": "ours", "sources": {"include": ["hf://acme/*"]}, "digests": [digest]});
    let add = |field: &str, value: Value| {
        let mut spec = good();
        spec[field] = value;
        compile(spec).unwrap_err()
    };
    let deny = |source: &str, revision: &str| set("/deny/0", json!({"name": "bad", "source": source, "revision": revision}));
    for (problem, reason, path) in [
        (set("/signers/0/publicKey/pem", json!("x")), Reason::InvalidKey, "spec.signers[platform].publicKey.pem: "),
        (set("/signers/0/publicKey", json!({})), Reason::InvalidKey, "spec.signers[platform].publicKey: "),
        (set("/signers/0", json!({"name": "platform"})), Reason::InvalidKey, "spec.signers[platform]: "),
        (
            set("/signers/1/publicKey/secretKeyRef/key", json!("other")),
            Reason::SecretNotFound,
            "spec.signers[vault].publicKey.secretKeyRef: ",
        ),
        (add("engines", json!({"images": []})), Reason::InvalidSpec, "spec.engines.images "),
        (add("engines", json!({"images": ["ghcr.io/a/b:v1"]})), Reason::InvalidDigest, "spec.engines.images[0]: "),
        (set("/signers/1/name", json!("platform")), Reason::InvalidSpec, "spec.signers: "),
        (
            set("/rules/0/sources/include/0", json!("hf://acme/[ab]")),
            Reason::InvalidPattern,
            "spec.rules[ours].sources.include[0]: ",
        ),
        (set("/rules/0/sources/include/0", json!("acme/*")), Reason::InvalidPattern, "spec.rules[ours].sources.include[0]: "),
        (
            set("/rules/0/sources/exclude/0", json!("hf://acme/a b")),
            Reason::InvalidPattern,
            "spec.rules[ours].sources.exclude[0]: ",
        ),
        (set("/rules/0/sources/exclude/0", json!("a**")), Reason::InvalidPattern, "spec.rules[ours].sources.exclude[0]: "),
        (set("/rules/0/sources/include", json!([])), Reason::InvalidSpec, "spec.rules[ours].sources.include "),
        (set("/rules/0/signedBy", json!([])), Reason::InvalidSpec, "spec.rules[ours] has neither "),
        (set("/rules/0", pinned("sha256:00")), Reason::InvalidDigest, "spec.rules[ours].digests[0]: "),
        (set("/rules/0/signedBy/0/anyOf/0", json!("nobody")), Reason::UnknownSigner, "spec.rules[ours].signedBy[both].anyOf: "),
        (set("/rules/0/signedBy/0/minimum", json!(0)), Reason::InvalidSpec, "spec.rules[ours].signedBy[both].minimum "),
        (set("/rules/0/signedBy/0/minimum", json!(3)), Reason::InvalidSpec, "spec.rules[ours].signedBy[both].minimum "),
        (set("/deny/0/fileDigests/0", json!("sha256:00")), Reason::InvalidDigest, "spec.deny[bad].fileDigests[0]: "),
        (set("/deny/0/fileDigests", json!([])), Reason::InvalidSpec, "spec.deny[bad] has neither "),
        (set("/deny/0", json!({"name": "bad", "revision": "main"})), Reason::InvalidSpec, "spec.deny[bad].revision "),
        (deny("acme/chat", "main"), Reason::InvalidPattern, "spec.deny[bad].source: "),
        (deny("hf://acme/chat", "main"), Reason::InvalidSpec, "spec.deny[bad].revision "),
        (deny("https://models.acme.example/**", "v1"), Reason::InvalidSpec, "spec.deny[bad].revision "),
        (deny("**", "12fd25f"), Reason::InvalidSpec, "spec.deny[bad].revision "),
        (
            set("/deny/0", json!({"name": "bad", "source": "hf://a/b", "fileDigests": [format!("sha256:{}", "0".repeat(64))]})),
            Reason::InvalidSpec,
            "spec.deny[bad] has both ",
        ),
        (
            set("/namespaceSelector", json!({"matchExpressions": [{"key": "k", "operator": "Is"}]})),
            Reason::InvalidSpec,
            "spec.namespaceSelector.matchExpressions[0] ",
        ),
    ] {
        assert_eq!(problem.reason, reason, "{problem}");
        assert!(problem.message.starts_with(path), "{problem}");
        assert!(problem.message.ends_with('.') && !problem.message.ends_with(".."), "{problem}");
    }
}

#[test]
fn a_pattern_that_can_match_nothing_is_refused_with_what_was_probably_meant() {
    let said = |pattern: &str| {
        let mut spec = good();
        spec["rules"][0]["sources"]["include"][0] = json!(pattern);
        compile(spec).unwrap_err().message
    };
    let at = "spec.rules[ours].sources.include[0]: pattern";
    assert_eq!(said("acme/*"), format!("{at} \"acme/*\" can match no source; write hf://acme/* if that is meant."));
    let shapes = "write hf://OWNER/NAME, https://HOST/PATH or pvc://NAMESPACE/CLAIM/PATH, with * and ** as wildcards.";
    assert_eq!(said("s3://acme/**"), format!("{at} \"s3://acme/**\" can match no source; {shapes}"));
}

#[test]
fn a_key_in_a_secret_that_is_none_is_named_without_its_content() {
    let leak = "very-secret-text";
    let problem = Policy::compile(&policy("production", good()), &|_| Some(leak.to_owned())).unwrap_err();
    assert_eq!(problem.reason, Reason::InvalidKey);
    assert!(problem.message.starts_with("spec.signers[vault].publicKey.secretKeyRef: "), "{problem}");
    assert!(!problem.message.contains(leak));
}

#[test]
fn a_minimum_that_two_names_of_one_key_would_have_to_meet_is_refused() {
    let mut spec = good();
    spec["signers"][1] = signer("vault", &Person::new(1));
    let problem = compile(spec).unwrap_err();
    assert_eq!(problem.reason, Reason::InvalidSpec);
    assert!(problem.message.contains("1 different signer:"), "{problem}");
}

#[test]
fn a_broken_policy_keeps_its_name_generation_and_selector() {
    let mut spec = good();
    spec["signers"][0]["publicKey"]["pem"] = json!("x");
    let state = PolicyState::of(&policy("production", spec), &secret);
    let PolicyState::Broken { name, generation, selector, problem } = &state else { panic!("{state:?}") };
    assert_eq!((name.as_str(), *generation, problem.reason), ("production", 7, Reason::InvalidKey));
    assert!(selector.is_some());
    let tier = |value: &str| BTreeMap::from([("tier".to_owned(), value.to_owned())]);
    assert!(state.selects(&tier("production")));
    assert!(!state.selects(&tier("test")));
}

#[test]
fn a_broken_policy_whose_selector_is_broken_selects_every_namespace() {
    let mut spec = good();
    spec["namespaceSelector"] = json!({"matchExpressions": [{"key": "k", "operator": "Is"}]});
    let state = PolicyState::of(&policy("production", spec), &secret);
    assert!(matches!(&state, PolicyState::Broken { .. }));
    assert!(state.selects(&BTreeMap::new()));
}
