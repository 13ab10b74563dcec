use serde_json::{Value, json};

use super::{
    super::{
        authority::{Acme, Made, NOW, made, signer},
        fixtures::{self, manifest},
        verdicts::{FILES, bundle, demanding, judge_at, refused, set},
    },
    MODELS, at,
};
use crate::{
    api::Reason,
    trust::{Policy, Trust},
};

fn by_certificate(name: &str, root: &Made, whom: Value) -> Value {
    let mut certificate = json!({"ca": {"pem": root.pem()}});
    certificate.as_object_mut().unwrap().extend(whom.as_object().unwrap().clone());
    json!({"name": name, "certificate": certificate})
}

fn policy(signers: Value, minimum: i32) -> Value {
    let names: Vec<_> = signers.as_array().unwrap().iter().map(|signer| signer["name"].clone()).collect();
    let mut spec = demanding(json!([{"name": "who", "anyOf": names, "minimum": minimum}]));
    spec["signers"] = signers;
    spec
}

#[test]
fn a_verdict_that_leans_on_a_certificate_holds_until_it_ends() {
    let Acme { root, middle, models } = &Acme::new();
    let set = set(&[("p", policy(json!([by_certificate("models", root, json!({"subject": {"exact": MODELS}}))]), 1))]);
    let bundles = bundle(models.signs(&FILES, &[middle]));
    let judge = |now| judge_at(&set, &manifest(&FILES), &bundles, None, at(now));
    let verdict = judge("2026-07-01T00:00:00Z");
    assert_eq!((verdict.trust(), verdict.signers()), (Trust::Signed, &["models".to_owned()][..]), "{}", verdict.message());
    let until = verdict.holds_until().unwrap();
    assert_eq!(until, at("2026-12-31T00:00:01Z"), "the last second is the signer's");
    assert_eq!(judge("2026-12-31T00:00:00Z").trust(), Trust::Signed);
    let over = judge_at(&set, &manifest(&FILES), &bundles, None, until);
    assert_eq!(refused(&over).reason, Reason::CertificateExpired);
    assert!(
        over.message().contains(
            "model.sig of hf://acme/smollm2@12fd25f was signed with a certificate for CN=models,O=Acme, which has expired"
        ),
        "{}",
        over.message()
    );
    assert_eq!(over.holds_until(), Some(at("2040-01-01T00:00:01Z")), "then only the authorities' are left");
    let early = judge("2025-06-01T00:00:00Z");
    assert_eq!((refused(&early).reason, early.holds_until()), (Reason::CertificateNotYetValid, Some(at("2026-01-01T00:00:00Z"))));
}

#[test]
fn one_person_under_two_names_never_counts_as_two() {
    let Acme { root, middle, models } = &Acme::new();
    let (by_subject, by_mail) = (
        by_certificate("subject", root, json!({"subject": {"exact": MODELS}})),
        by_certificate("mail", root, json!({"san": {"email": {"exact": "models@acme.example"}}})),
    );
    let by_key = json!({"name": "key", "publicKey": {"pem": models.key.public_key_pem()}});
    let mut plain = models.signs_with(&FILES, &[]);
    plain["verificationMaterial"] = json!({"publicKey": {}});
    let renewed = made(Some(middle), signer("models"));
    let ann = made(Some(middle), signer("ann"));
    let signed: Vec<_> = [models.signs(&FILES, &[middle]), plain.to_string(), renewed.signs(&FILES, &[middle])]
        .into_iter()
        .enumerate()
        .map(|(index, content)| (format!("{index}.sig"), content))
        .collect();
    for signers in [json!([by_subject, by_mail]), json!([by_subject, by_key]), json!([by_subject, by_mail, by_key])] {
        let set = set(&[("p", policy(signers, 2))]);
        let verdict = judge_at(&set, &manifest(&FILES), &signed, None, NOW);
        let problem = refused(&verdict);
        assert_eq!(problem.reason, Reason::WrongSigner);
        assert!(problem.message.contains("1 different person signed"), "{problem}");
    }
    let by_ann = by_certificate("ann", root, json!({"subject": {"exact": "CN=ann,O=Acme"}}));
    let set = set(&[("p", policy(json!([by_subject, by_ann]), 2))]);
    let mut both = signed.clone();
    both.push(("ann.sig".to_owned(), ann.signs(&FILES, &[middle])));
    assert_eq!(judge_at(&set, &manifest(&FILES), &both, None, NOW).trust(), Trust::Signed);
    assert_eq!(refused(&judge_at(&set, &manifest(&FILES), &signed, None, NOW)).reason, Reason::WrongSigner);
}

#[test]
fn a_refusal_names_whose_certificate_it_was() {
    let Acme { root, middle, models } = &Acme::new();
    let set = set(&[("p", policy(json!([by_certificate("ann", root, json!({"subject": {"exact": "CN=ann,O=Acme"}}))]), 1))]);
    let verdict = judge_at(&set, &manifest(&FILES), &bundle(models.signs(&FILES, &[middle])), None, NOW);
    assert_eq!(
        refused(&verdict).message,
        "hf://acme/smollm2@12fd25f is signed, but not by ann: model.sig was signed with a certificate for CN=models,O=Acme, and wanted is CN=ann,O=Acme. No new replica serves it. Have it signed by somebody who is wanted, or ask for the signer to be added to the policy. ClusterModelPolicy p demands a signature of ann (rule ours, signedBy who)."
    );
    let other = judge_at(&set, &manifest(&[("model.gguf", "weightz")]), &bundle(models.signs(&FILES, &[middle])), None, NOW);
    assert_eq!(refused(&other).reason, Reason::WrongSigner);
}

#[test]
fn a_mode_that_passes_over_a_certificate_that_has_ended_does_not_pass_over_other_bytes() {
    let Acme { root, middle, models } = &Acme::new();
    let mut spec = policy(json!([by_certificate("m", root, json!({"subject": {"exact": MODELS}}))]), 1);
    spec["mode"] = json!("Warn");
    let (set, later) = (set(&[("p", spec)]), "2060-01-01T00:00:00Z".parse().unwrap());
    let judge = |files: &[(&str, &str)]| judge_at(&set, &manifest(files), &bundle(models.signs(&FILES, &[middle])), None, later);
    let ended = judge(&FILES);
    assert_eq!((ended.trust(), ended.reason()), (Trust::Unsigned, Reason::CertificateExpired));
    let changed = judge(&[FILES[0], ("model.gguf", "other weights")]);
    assert_eq!(refused(&changed).reason, Reason::DigestMismatch);
}

#[test]
fn a_policy_with_an_authority_that_cannot_be_used_is_broken() {
    let Acme { root, models, .. } = &Acme::new();
    let compile = |certificate: Value| {
        let spec = policy(json!([{"name": "x", "certificate": certificate}]), 1);
        let policy = fixtures::policy("p", spec);
        Policy::compile(&policy, &|key| (key.key == "ca.pem").then(|| root.pem())).map(drop)
    };
    let ca = json!({"pem": root.pem()});
    let subject = json!({"exact": MODELS});
    assert_eq!(compile(json!({"ca": {"secretKeyRef": {"name": "s", "key": "ca.pem"}}, "subject": subject})), Ok(()));
    for (certificate, reason, field) in [
        (json!({"ca": {"pem": models.pem()}, "subject": subject}), Reason::InvalidKey, "ca.pem: "),
        (json!({"ca": {}, "subject": subject}), Reason::InvalidKey, "ca: "),
        (
            json!({"ca": {"secretKeyRef": {"name": "s", "key": "gone"}}, "subject": subject}),
            Reason::SecretNotFound,
            "ca.secretKeyRef: ",
        ),
        (json!({"ca": ca}), Reason::InvalidPattern, "subject: "),
        (json!({"ca": ca, "subject": {}}), Reason::InvalidPattern, "subject: "),
        (json!({"ca": ca, "subject": {"exact": "models"}}), Reason::InvalidPattern, "subject: "),
        (json!({"ca": ca, "subject": {"regex": "("}}), Reason::InvalidPattern, "subject: "),
        (json!({"ca": ca, "san": {}}), Reason::InvalidPattern, "san: "),
        (json!({"ca": ca, "san": {"email": {"regex": ".*"}}}), Reason::InvalidPattern, "san: "),
    ] {
        let problem = compile(certificate.clone()).unwrap_err();
        assert_eq!(problem.reason, reason, "{certificate}: {problem}");
        assert!(problem.message.starts_with(&format!("spec.signers[x].certificate.{field}")), "{problem}");
    }
}
