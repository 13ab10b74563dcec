use serde_json::{Value, json};

use super::{
    super::{
        authority::{Acme, NOW},
        fixtures::{self, manifest, signer},
        sigstore::{Ceremony, ISSUED, ISSUER, Sigstore},
        verdicts::{FILES, bundle, demanding, judge_at, person, refused, set},
    },
    MODELS,
};
use crate::{
    api::Reason,
    trust::{Policy, Trust},
};

fn keyless(name: &str, sigstore: &Sigstore, issuer: &str, identity: &Value) -> Value {
    let root = sigstore.trusted_root().to_string();
    json!({"name": name, "keyless": {"issuer": issuer, "identity": identity, "trustedRoot": {"json": root}}})
}

fn policy(signers: &Value, minimum: i32) -> Value {
    let names: Vec<_> = signers.as_array().unwrap().iter().map(|signer| signer["name"].clone()).collect();
    let mut spec = demanding(json!([{"name": "who", "anyOf": names, "minimum": minimum}]));
    spec["signers"] = signers.clone();
    spec
}

#[test]
fn a_keyless_verdict_holds_after_the_certificate_has_ended() {
    let sigstore = Sigstore::new();
    let set = set(&[("p", policy(&json!([keyless("models", &sigstore, ISSUER, &json!({"exact": MODELS}))]), 1))]);
    let bundles = bundle(sigstore.signs(MODELS, &FILES).text());
    let judge = |files: &[(&str, &str)], now| judge_at(&set, &manifest(files), &bundles, None, now);
    let verdict = judge(&FILES, NOW);
    assert_eq!((verdict.trust(), verdict.signers()), (Trust::Signed, &["models".to_owned()][..]), "{}", verdict.message());
    assert_eq!(verdict.holds_until(), None, "the log noted when it was signed");
    let early = judge(&FILES, "2025-05-01T00:00:00Z".parse().unwrap());
    assert_eq!(refused(&early).reason, Reason::CertificateNotYetValid);
    assert_eq!(early.holds_until().unwrap().as_second(), ISSUED + 5);
    let changed = judge(&[FILES[0], ("model.gguf", "weightz")], NOW);
    assert_eq!(refused(&changed).reason, Reason::DigestMismatch);
    let more = judge(&[FILES[0], FILES[1], ("more.gguf", "x")], NOW);
    assert_eq!(refused(&more).reason, Reason::UnsignedFile);
}

#[test]
fn a_refusal_says_who_signed_at_which_issuer() {
    let sigstore = Sigstore::new();
    let set = set(&[("p", policy(&json!([keyless("models", &sigstore, ISSUER, &json!({"exact": MODELS}))]), 1))]);
    let ann = sigstore.signs("ann@acme.example", &FILES).text();
    let verdict = judge_at(&set, &manifest(&FILES), &bundle(ann), None, NOW);
    assert_eq!(
        refused(&verdict).message,
        "hf://acme/smollm2@12fd25f is signed, but not by models: model.sig was signed by ann@acme.example (issuer https://accounts.acme.example), and wanted is models@acme.example (issuer https://accounts.acme.example). No new replica serves it. Have it signed by somebody who is wanted, or ask for the signer to be added to the policy. ClusterModelPolicy p demands a signature of models (rule ours, signedBy who)."
    );
    let other = sigstore.signs(MODELS, &[("else", "x")]).bundle();
    let mut moved = sigstore.signs(MODELS, &FILES).bundle();
    moved["dsseEnvelope"]["payload"] = other["dsseEnvelope"]["payload"].clone();
    let verdict = judge_at(&set, &manifest(&FILES), &bundle(moved.to_string()), None, NOW);
    assert_eq!(refused(&verdict).reason, Reason::SignatureInvalid);
    assert!(
        verdict.message().starts_with(
            "model.sig of hf://acme/smollm2@12fd25f carries a certificate for models@acme.example, but its key did not sign it: it was damaged or altered after it was signed."
        ),
        "{}",
        verdict.message()
    );
}

#[test]
fn a_name_as_long_as_a_certificate_bears_fits_the_message() {
    let sigstore = Sigstore::new();
    let set = set(&[("p", policy(&json!([keyless("models", &sigstore, ISSUER, &json!({"exact": MODELS}))]), 1))]);
    let long = sigstore.signs(&format!("{}@acme.example", "a".repeat(8_000)), &FILES).text();
    assert_eq!(refused(&judge_at(&set, &manifest(&FILES), &bundle(long), None, NOW)).reason, Reason::WrongSigner);
}

#[test]
fn one_identity_never_counts_as_two_people() {
    let sigstore = Sigstore::new();
    let named = |name: &str, issuer: &str, identity: Value| keyless(name, &sigstore, issuer, &identity);
    const OTHER: &str = "https://other.acme.example";
    let (exact, pattern) =
        (named("exact", ISSUER, json!({"exact": MODELS})), named("pattern", ISSUER, json!({"regex": "models@.*"})));
    let elsewhere = named("elsewhere", OTHER, json!({"exact": MODELS}));
    let Acme { root, middle, models } = &Acme::new();
    let san = json!({"ca": {"pem": root.pem()}, "san": {"email": {"exact": MODELS}}});
    let by_certificate = json!({"name": "certificate", "certificate": san});
    let at_other = Ceremony { issuer: Some(OTHER.to_owned()), ..sigstore.signs(MODELS, &FILES) };
    let texts = [
        sigstore.signs(MODELS, &FILES).text(),
        sigstore.signs(MODELS, &FILES).text(),
        at_other.text(),
        models.signs(&FILES, &[middle]),
    ];
    let signed: Vec<_> = texts.into_iter().enumerate().map(|(index, text)| (format!("{index}.sig"), text)).collect();
    for (case, signers) in [
        ("two patterns", json!([exact, pattern])),
        ("two issuers", json!([exact, elsewhere])),
        ("a certificate with the same name", json!([exact, by_certificate])),
    ] {
        let set = set(&[("p", policy(&signers, 2))]);
        let verdict = judge_at(&set, &manifest(&FILES), &signed, None, NOW);
        let problem = refused(&verdict);
        assert!(problem.reason == Reason::WrongSigner && problem.message.contains("1 different person"), "{case}: {problem}");
    }
    let ann = named("ann", ISSUER, json!({"exact": "ann@acme.example"}));
    let platform = signer("platform", &person("platform"));
    let mut all = signed;
    all.push(("ann.sig".to_owned(), sigstore.signs("ann@acme.example", &FILES).text()));
    all.push(("platform.sig".to_owned(), person("platform").signs(&FILES)));
    let three = set(&[("p", policy(&json!([exact, ann, platform]), 3))]);
    let verdict = judge_at(&three, &manifest(&FILES), &all, None, NOW);
    assert_eq!(verdict.trust(), Trust::Signed, "{}", verdict.message());
}

#[test]
fn a_policy_with_an_identity_that_cannot_be_used_is_broken() {
    let sigstore = Sigstore::new();
    let root = sigstore.trusted_root().to_string();
    let compile = |keyless: &Value| {
        let policy = fixtures::policy("p", policy(&json!([{"name": "x", "keyless": keyless}]), 1));
        Policy::compile(&policy, &|key| (key.key == "root.json").then(|| root.clone())).map(drop)
    };
    let identity = json!({"exact": MODELS});
    let secret = |key: &str| json!({"secretKeyRef": {"name": "sigstore", "key": key}});
    assert_eq!(compile(&json!({"issuer": ISSUER, "identity": identity})), Ok(()), "the public instance");
    assert_eq!(compile(&json!({"issuer": ISSUER, "identity": identity, "trustedRoot": secret("root.json")})), Ok(()));
    for (keyless, reason, field) in [
        (json!({"issuer": "accounts.google.com", "identity": identity}), Reason::InvalidPattern, "issuer: "),
        (json!({"issuer": ISSUER, "identity": {}}), Reason::InvalidPattern, "identity: "),
        (json!({"issuer": ISSUER, "identity": {"exact": ""}}), Reason::InvalidPattern, "identity: "),
        (json!({"issuer": ISSUER, "identity": {"regex": ".*"}}), Reason::InvalidPattern, "identity: "),
        (json!({"issuer": ISSUER, "identity": {"regex": "("}}), Reason::InvalidPattern, "identity: "),
        (json!({"issuer": ISSUER, "identity": identity, "trustedRoot": {}}), Reason::InvalidKey, "trustedRoot: "),
        (
            json!({"issuer": ISSUER, "identity": identity, "trustedRoot": {"json": "{}"}}),
            Reason::InvalidKey,
            "trustedRoot.json: ",
        ),
        (
            json!({"issuer": ISSUER, "identity": identity, "trustedRoot": secret("gone")}),
            Reason::SecretNotFound,
            "trustedRoot.secretKeyRef: ",
        ),
    ] {
        let problem = compile(&keyless).unwrap_err();
        assert_eq!(problem.reason, reason, "{keyless}: {problem}");
        assert!(problem.message.starts_with(&format!("spec.signers[x].keyless.{field}")), "{problem}");
    }
    let mixed =
        json!([{"name": "x", "keyless": {"issuer": ISSUER, "identity": identity}, "publicKey": {"pem": person("ann").pem()}}]);
    let problem = Policy::compile(&fixtures::policy("p", policy(&mixed, 1)), &|_| None).map(drop).unwrap_err();
    assert!(problem.message.contains("exactly one of publicKey, certificate and keyless"), "{problem}");
}
