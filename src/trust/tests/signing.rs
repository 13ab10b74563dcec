use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use rcgen::ExtendedKeyUsagePurpose;
use serde_json::{Value, json};

use super::{
    authority::{Acme, Made, NOW, authority, made, made_for, signer},
    fixtures::{Person, data, manifest, signer as named},
    verdicts::{self, FILES, bundle, demanding, person, signed},
};
use crate::{
    api::Reason,
    model::{CleanPath, Digest},
    trust::{
        Anchor, Authority, Bundle, Contents, Pattern, PrivateKey, PublicKey, Roots, Signer, Trust, Verdict, Wanted, listed_names,
    },
};

fn judge(spec: Value, bundles: &[(String, String)]) -> Verdict {
    verdicts::judge(&[("reviewed", spec)], bundles)
}

fn files() -> Vec<(CleanPath, Digest)> {
    FILES.iter().rev().map(|(name, content)| (name.parse().unwrap(), Digest::of(content))).collect()
}

fn parse(json: &str) -> Bundle {
    Bundle::parse(json.as_bytes(), Bundle::MAX_RECORDED).unwrap_or_else(|rejected| panic!("{rejected}: {json}"))
}

fn by_key(name: &str) -> (Signer, PublicKey) {
    let key = PrivateKey::from_pem(&data(&format!("keys/{name}.key"))).unwrap();
    let public = key.public().clone();
    (Signer::by_key(key), public)
}

#[test]
fn what_a_key_signs_here_holds_here_for_every_curve() {
    for name in ["sec1-p256", "pkcs8-p384", "sec1-p521"] {
        let (signer, public) = by_key(name);
        let bundle = parse(&signer.signs_files("smollm2", &files(), &[]));
        let attested = bundle.verify(&public).unwrap();
        for (path, digest) in files() {
            assert_eq!(attested.digest_of(&path), Some(digest), "{name}");
        }
        assert_eq!(bundle.verify(&Person::new(1).key()).unwrap_err().reason, Reason::WrongSigner);
    }
}

/// What of `made` a signer has in a file.
fn key(made: &Made) -> PrivateKey {
    PrivateKey::from_pem(&made.key.serialize_pem()).unwrap()
}

fn pem(chain: &[&Made]) -> String {
    chain.iter().map(|made| made.pem()).collect()
}

fn wanted(acme: &Acme, subject: &str) -> Anchor {
    let roots = Roots::from_pem(&acme.root.pem()).unwrap();
    Anchor::Certificate(Authority::new(roots, Wanted::new(Some(Pattern::exact(subject)), None).unwrap()))
}

#[test]
fn a_certificate_and_what_is_above_it_go_into_the_signature_in_order_and_the_root_does_not() {
    let acme = Acme::new();
    for chain in [[&acme.models, &acme.middle, &acme.root], [&acme.root, &acme.middle, &acme.models]] {
        let signer = Signer::by_certificate(key(&acme.models), &pem(&chain), NOW).unwrap();
        assert_eq!(signer.subject(), Some("CN=models,O=Acme"));
        let json = signer.signs_files("smollm2", &files(), &[]);
        let bundle = parse(&json);
        let written: Value = serde_json::from_str(&json).unwrap();
        let expected = [&acme.models, &acme.middle].map(|made| json!({"rawBytes": STANDARD.encode(&made.der)}));
        assert_eq!(written["verificationMaterial"]["x509CertificateChain"]["certificates"], json!(expected));
        assert!(bundle.verify_as(&wanted(&acme, "CN=models,O=Acme"), NOW, &mut vec![]).is_ok());
    }
    // One that stands there twice is one.
    assert!(Signer::by_certificate(key(&acme.models), &pem(&[&acme.models, &acme.models]), NOW).is_ok());
    // Alone it goes too: whoever verifies may know the authority right above it.
    let alone = Signer::by_certificate(key(&acme.models), &acme.models.pem(), NOW).unwrap();
    let roots = Roots::from_pem(&acme.middle.pem()).unwrap();
    let anchor = Authority::new(roots, Wanted::new(Some(Pattern::exact("CN=models,O=Acme")), None).unwrap());
    let bundle = parse(&alone.signs_files("smollm2", &files(), &[]));
    assert!(bundle.verify_as(&Anchor::Certificate(anchor), NOW, &mut vec![]).is_ok());
}

#[test]
fn a_certificate_that_would_make_the_signature_worthless_is_refused() {
    let acme = Acme::new();
    let mut tls = signer("tls");
    tls.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let tls = made(Some(&acme.middle), tls);
    let other = made(None, authority("other"));
    let renewed = made_for(&acme.middle, signer("renewed"), &acme.models);
    let late = Timestamp::from_second(NOW.as_second() + 400 * 86400).unwrap();
    let early = Timestamp::from_second(NOW.as_second() - 400 * 86400).unwrap();
    let models = pem(&[&acme.models]);
    for (key, pem, now, fragment) in [
        (key(&acme.models), pem(&[&acme.middle]), NOW, "its one certificate is not for the private key"),
        (key(&acme.models), pem(&[&acme.middle, &acme.root]), NOW, "none of its 2 certificates"),
        (key(&acme.models), pem(&[&acme.models, &renewed]), NOW, "2 of its certificates are for the private key"),
        (key(&acme.models), pem(&[&acme.models, &other]), NOW, "CN=other,O=Acme did not issue"),
        (key(&tls), pem(&[&tls]), NOW, "is a TLS server's"),
        (key(&acme.middle), pem(&[&acme.middle]), NOW, "its key usage leaves digitalSignature out"),
        (key(&acme.models), models.clone(), late, "has expired"),
        (key(&acme.models), models.clone(), early, "is not valid yet"),
        (key(&acme.models), String::new(), NOW, "there is no certificate"),
        (key(&acme.models), acme.models.key.serialize_pem(), NOW, "there is a private key in it"),
    ] {
        let why = Signer::by_certificate(key, &pem, now).unwrap_err();
        assert!(why.contains(fragment), "{fragment}: {why}");
    }
}

/// An approval of `digest` by a person of the tests.
fn approval(name: &str, digest: Digest) -> (String, String) {
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "content", "digest": {"sha256": digest.hex()}}],
        "predicateType": "https://bonafide.dev/approval/v1",
        "predicate": {},
    });
    (format!("ModelSignature {name}"), person(name).signs_statement(&statement))
}

#[test]
fn an_approval_is_about_one_content_and_lists_nothing() {
    let (signer, public) = by_key("sec1-p384");
    let content = manifest(&FILES).digest();
    for json in [signer.approves(content, None, NOW), signer.approves(content, Some("looks good"), NOW)] {
        let bundle = parse(&json);
        let attested = bundle.verify(&public).unwrap();
        assert_eq!(attested.contents(), &Contents::Whole(content));
        assert_eq!(attested.digest_of(&"config.json".parse().unwrap()), None);
        assert_eq!(listed_names(&json), None, "it narrows nothing");
    }
}

#[test]
fn a_statement_of_another_kind_about_the_same_content_is_no_signature_of_a_model() {
    let ann = person("ann");
    let content = manifest(&FILES).digest();
    for kind in [
        "https://spdx.dev/Document/v2.3",
        "https://cyclonedx.org/bom",
        "https://slsa.dev/provenance/v1",
        "https://cosign.sigstore.dev/attestation/v1",
        "https://bonafide.dev/approval/v2",
        "https://bonafide.dev/approval/v1.0",
        "https://bonafide.dev/approval/",
        "",
    ] {
        let statement = json!({
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"name": "content", "digest": {"sha256": content.hex()}}],
            "predicateType": kind,
            "predicate": {},
        });
        let json = ann.signs_statement(&statement);
        let rejected = Bundle::parse(json.as_bytes(), Bundle::MAX_RECORDED).unwrap_err();
        assert_eq!(rejected.reason, Reason::SignatureMalformed, "{kind}");
        assert!(rejected.message.contains("something else than a model"), "{rejected}");
        let verdict = judge(demanding(json!([{"name": "review", "anyOf": ["ann"]}])), &bundle(json));
        assert_eq!(verdict.trust(), Trust::Refused, "{kind}");
    }
}

#[test]
fn an_approval_that_says_not_exactly_one_content_cannot_be_read() {
    let subject = |digest: Value| json!({"name": "content", "digest": digest});
    let good = manifest(&FILES).digest().hex();
    for (subjects, fragment) in [
        (json!([]), "approves 0 contents"),
        (json!([subject(json!({"sha256": good})), subject(json!({"sha256": good}))]), "approves 2 contents"),
        (json!([subject(json!({"sha512": good}))]), "not 64 lower-case hexadecimal digits"),
        (json!([subject(json!({"sha256": good.to_uppercase()}))]), "not 64 lower-case hexadecimal digits"),
        (json!([subject(json!({"sha256": format!("sha256:{good}")}))]), "not 64 lower-case hexadecimal digits"),
    ] {
        let statement = json!({
            "_type": "https://in-toto.io/Statement/v1",
            "subject": subjects,
            "predicateType": "https://bonafide.dev/approval/v1",
            "predicate": {},
        });
        let json = person("ann").signs_statement(&statement);
        let rejected = Bundle::parse(json.as_bytes(), Bundle::MAX_RECORDED).unwrap_err();
        assert!(rejected.message.contains(fragment), "{fragment}: {rejected}");
    }
}

fn published_and_reviewed() -> Value {
    demanding(json!([{"name": "publisher", "anyOf": ["platform"]}, {"name": "review", "anyOf": ["ann", "bob"], "minimum": 2}]))
}

#[test]
fn reviewers_approve_what_the_publisher_signed() {
    let content = manifest(&FILES).digest();
    let all = |others: &[(String, String)]| [signed(&["platform"]), others.to_vec()].concat();
    let verdict = judge(published_and_reviewed(), &all(&[approval("ann", content), approval("bob", content)]));
    assert_eq!((verdict.trust(), verdict.signers().join(" ").as_str()), (Trust::Signed, "ann bob platform"));

    let one = judge(published_and_reviewed(), &all(&[approval("ann", content)]));
    assert_eq!(one.trust(), Trust::Refused);
    assert!(one.message().contains("bob"), "{}", one.message());
    let twice = judge(published_and_reviewed(), &all(&[approval("ann", content), approval("ann", content)]));
    assert_eq!(twice.trust(), Trust::Refused, "one reviewer twice is one");
    let unpublished = judge(published_and_reviewed(), &[approval("ann", content), approval("bob", content)]);
    assert_eq!(unpublished.trust(), Trust::Refused, "{}", unpublished.message());
}

#[test]
fn an_approval_by_somebody_with_two_names_counts_once() {
    let content = manifest(&FILES).digest();
    let mut spec = published_and_reviewed();
    spec["signers"] = json!([named("platform", &person("platform")), named("ann", &person("ann")), named("bob", &person("ann"))]);
    let verdict = judge(spec, &[signed(&["platform"]), vec![approval("ann", content)]].concat());
    assert_eq!(verdict.trust(), Trust::Refused, "{}", verdict.message());
}

#[test]
fn an_approval_of_another_content_is_refused_saying_both_digests() {
    let approved = manifest(&[("config.json", "{}"), ("model.gguf", "weightz")]).digest();
    let found = manifest(&FILES).digest();
    let verdict = judge(demanding(json!([{"name": "review", "anyOf": ["ann"]}])), &[approval("ann", approved)]);
    assert_eq!((verdict.trust(), verdict.reason()), (Trust::Refused, Reason::DigestMismatch));
    for part in [approved.to_string(), found.to_string(), "ann's approval".to_owned(), "No new replica serves it.".to_owned()] {
        assert!(verdict.message().contains(&part), "{part}: {}", verdict.message());
    }
    // Nothing was damaged: what a policy only warns of is served.
    let mut warning = demanding(json!([{"name": "review", "anyOf": ["ann"]}]));
    warning["mode"] = json!("Warn");
    assert_eq!(judge(warning, &[approval("ann", approved)]).trust(), Trust::Unsigned);
}

#[test]
fn fewer_files_than_approved_are_another_content() {
    let all = manifest(&[FILES[0], FILES[1], ("LICENSE", "free")]).digest();
    let verdict = judge(demanding(json!([{"name": "review", "anyOf": ["ann"]}])), &[approval("ann", all)]);
    assert_eq!(verdict.reason(), Reason::DigestMismatch);
}
