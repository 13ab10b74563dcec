use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use rcgen::{BasicConstraints, ExtendedKeyUsagePurpose, IsCa, SanType, date_time_ymd};
use serde_json::{Value, json};

use super::{
    super::{
        authority::{Acme, NOW},
        fixtures::{Person, statement},
        sigstore::{Ceremony, ISSUED, ISSUER, Sigstore},
        verdicts::FILES,
    },
    MODELS, models, verify, verify_at, wanted,
};
use crate::{
    api::Reason,
    model::Digest,
    trust::{
        Anchor, Bundle, Identity, Material, Pattern, Rejected, TrustRoot,
        method::keyless::{MAX_PAYLOAD, Signed},
        tests::certificates,
    },
};

const WORKFLOW: &str = "https://github.com/acme/models/.github/workflows/sign.yaml@refs/tags/v1.2";

#[test]
fn whoever_sigstore_attests_is_believed() {
    let sigstore = Sigstore::new();
    let good = sigstore.signs(MODELS, &FILES);
    assert_eq!(verify(&good.text(), &models(&sigstore)).map(drop), Ok(()));
    let uri = vec![SanType::URI(WORKFLOW.try_into().unwrap())];
    let workflow = Ceremony { names: uri, ..sigstore.signs(MODELS, &FILES) };
    let pattern = |text: &str| wanted(&sigstore, ISSUER, Pattern::regex(text).unwrap());
    let tags = "https://github[.]com/acme/models/[.]github/workflows/sign[.]yaml@refs/tags/v[0-9.]+";
    assert_eq!(verify(&workflow.text(), &pattern(tags)).map(drop), Ok(()));
    for (case, payload) in [
        ("a file whose name is not written down", statement(&[(".", "weights")])),
        ("a later version of the statement", {
            let mut later = statement(&FILES);
            later["predicateType"] = json!("https://model_signing/signature/v1.7");
            later
        }),
        (
            "a statement of model_signing 0.2",
            json!({
                "_type": "https://in-toto.io/Statement/v1",
                "subject": [{"name": "a", "digest": {"sha256": Digest::of("a").hex()}}, {"name": "b", "digest": {"sha256": Digest::of("b").hex()}}],
                "predicateType": "https://model_signing/Digests/v0.1",
                "predicate": {},
            }),
        ),
    ] {
        let signed = Ceremony { payload: payload.to_string(), ..sigstore.signs(MODELS, &FILES) };
        assert_eq!(verify(&signed.text(), &models(&sigstore)).map(drop), Ok(()), "{case}");
    }
    let mut last = sigstore.signs(MODELS, &FILES);
    last.logged = ISSUED + 600;
    assert!(verify(&last.text(), &models(&sigstore)).is_ok(), "the last second of the certificate");
}

#[test]
fn a_timestamp_proves_the_time_where_the_log_does_not() {
    let (sigstore, stranger) = (Sigstore::new(), Sigstore::new());
    let stamped = |second| Ceremony { stamped: Some(second), ..sigstore.signs(MODELS, &FILES) }.bundle();
    let good = stamped(ISSUED + 5);
    assert_eq!(verify(&good.to_string(), &models(&sigstore)).map(drop), Ok(()));
    let place = "/verificationMaterial/timestampVerificationData/rfc3161Timestamps";
    let with = |list: &Value| {
        let mut bundle = good.clone();
        *bundle.pointer_mut(place).unwrap() = list.clone();
        bundle
    };
    let of = |bundle: &Value| bundle.pointer(place).unwrap().clone();
    let foreign = Ceremony { stamped: Some(ISSUED + 5), ..stranger.signs(MODELS, &FILES) }.bundle();
    for (case, bundle, fragment) in [
        ("no timestamp", with(&json!([])), "nothing that proves when models@acme.example signed it"),
        ("another's timestamp", with(&of(&stamped(ISSUED + 5))), "that no authority of the Sigstore instance"),
        ("another authority's timestamp", with(&of(&foreign)), "that no authority of the Sigstore instance"),
        ("a timestamp after the certificate's end", stamped(ISSUED + 601), "outside the time of the certificate"),
        ("a timestamp before its beginning", stamped(ISSUED - 1), "outside the time of the certificate"),
    ] {
        let rejected = verify(&bundle.to_string(), &models(&sigstore)).expect_err(case);
        assert_eq!(rejected.reason, Reason::SignatureInvalid, "{case}: {rejected}");
        assert!(rejected.message.contains(fragment), "{case}: {rejected}");
    }
    let before = Timestamp::from_second(ISSUED + 4).unwrap();
    let early = verify_at(&good.to_string(), &models(&sigstore), before).unwrap_err();
    assert_eq!(early.reason, Reason::CertificateNotYetValid, "{early}");
}

/// Name, the bundle, who is wanted, the reason, and what the message says.
type Row = (&'static str, Value, Anchor, Reason, &'static str);

#[test]
fn each_thing_that_can_be_wrong_with_a_keyless_signature_has_its_reason() {
    let (sigstore, stranger) = (Sigstore::new(), Sigstore::new());
    let wants = || models(&sigstore);
    let good = sigstore.signs(MODELS, &FILES).bundle();
    let with = |change: &dyn Fn(&mut Value)| {
        let mut bundle = good.clone();
        change(&mut bundle);
        bundle
    };
    let signed = |change: &dyn Fn(&mut Ceremony<'_>)| {
        let mut ceremony = sigstore.signs(MODELS, &FILES);
        change(&mut ceremony);
        ceremony.bundle()
    };
    let material = |bundle: &Value, part: &str| bundle["verificationMaterial"][part].clone();
    let other = sigstore.signs(MODELS, &[("config.json", "{}")]).bundle();
    let again = sigstore.signs(MODELS, &FILES).bundle();
    let by_issuer = |issuer: &str| signed(&|it| it.issuer = Some(issuer.to_owned()));
    let rows: Vec<Row> = vec![
        (
            "another name",
            sigstore.signs("ann@acme.example", &FILES).bundle(),
            wants(),
            Reason::WrongSigner,
            "was signed by ann@acme.example (issuer https://accounts.acme.example), and wanted is models@acme.example (issuer https://accounts.acme.example)",
        ),
        (
            "a name that only begins so",
            sigstore.signs("models@acme.example.evil.example", &FILES).bundle(),
            wants(),
            Reason::WrongSigner,
            "and wanted is",
        ),
        (
            "a pattern that fits a part",
            good.clone(),
            wanted(&sigstore, ISSUER, Pattern::regex("models@acme").unwrap()),
            Reason::WrongSigner,
            "and wanted is the pattern models@acme (issuer",
        ),
        (
            "an issuer that only begins so",
            by_issuer("https://accounts.acme.example.evil.example"),
            wants(),
            Reason::WrongSigner,
            "(issuer https://accounts.acme.example.evil.example), and wanted is",
        ),
        (
            "an issuer with a slash more",
            by_issuer("https://accounts.acme.example/"),
            wants(),
            Reason::WrongSigner,
            "and wanted is",
        ),
        ("an issuer in capitals", by_issuer("https://ACCOUNTS.acme.example"), wants(), Reason::WrongSigner, "and wanted is"),
        ("no issuer", signed(&|it| it.issuer = None), wants(), Reason::WrongSigner, "(without an issuer), and wanted is"),
        ("no name", signed(&|it| it.names.clear()), wants(), Reason::WrongSigner, "somebody without a name"),
        (
            "a DNS name",
            signed(&|it| it.names = vec![SanType::DnsName("acme.example".try_into().unwrap())]),
            wants(),
            Reason::WrongSigner,
            "somebody without a name",
        ),
        (
            "a second name",
            signed(&|it| it.names.push(SanType::Rfc822Name("ann@acme.example".try_into().unwrap()))),
            wants(),
            Reason::WrongSigner,
            "and wanted is",
        ),
        (
            "another instance",
            stranger.signs(MODELS, &FILES).bundle(),
            wants(),
            Reason::WrongSigner,
            "which the Sigstore instance that is trusted does not have",
        ),
        (
            "another authority with the same log",
            {
                let copied = sigstore.with_another_authority();
                copied.signs(MODELS, &FILES).bundle()
            },
            wants(),
            Reason::WrongSigner,
            "did not issue",
        ),
        (
            "another payload",
            with(&|it| it["dsseEnvelope"]["payload"] = other["dsseEnvelope"]["payload"].clone()),
            wants(),
            Reason::SignatureInvalid,
            "its key did not sign it",
        ),
        (
            "another envelope, logged by the same signer",
            with(&|it| it["dsseEnvelope"] = other["dsseEnvelope"].clone()),
            wants(),
            Reason::SignatureInvalid,
            "its key did not sign it",
        ),
        (
            "the log entry of another bundle",
            with(&|it| it["verificationMaterial"]["tlogEntries"] = material(&other, "tlogEntries")),
            wants(),
            Reason::SignatureInvalid,
            "the log entry of another signature",
        ),
        (
            "the log entry of another signature of the same files",
            with(&|it| it["verificationMaterial"]["tlogEntries"] = material(&again, "tlogEntries")),
            wants(),
            Reason::SignatureInvalid,
            "the log entry of another signature",
        ),
        (
            "the certificate of another bundle",
            with(&|it| it["verificationMaterial"]["certificate"] = material(&again, "certificate")),
            wants(),
            Reason::SignatureInvalid,
            "its key did not sign it",
        ),
        (
            "no log entry",
            with(&|it| it["verificationMaterial"]["tlogEntries"] = json!([])),
            wants(),
            Reason::SignatureInvalid,
            "no entry of a log",
        ),
        (
            "nothing about logs",
            with(&|it| drop(it["verificationMaterial"].as_object_mut().unwrap().remove("tlogEntries"))),
            wants(),
            Reason::SignatureInvalid,
            "no entry of a log",
        ),
        (
            "no proof in the log entry",
            with(&|it| it["verificationMaterial"]["tlogEntries"][0]["inclusionProof"] = Value::Null),
            wants(),
            Reason::SignatureInvalid,
            "without the proof that it is in the log",
        ),
        (
            "no proof in one of two log entries",
            with(&|it| {
                let mut bare = it["verificationMaterial"]["tlogEntries"][0].clone();
                bare["inclusionProof"] = Value::Null;
                it["verificationMaterial"]["tlogEntries"].as_array_mut().unwrap().push(bare);
            }),
            wants(),
            Reason::SignatureInvalid,
            "without the proof that it is in the log",
        ),
        (
            "a proof without the log's signature",
            with(&|it| it["verificationMaterial"]["tlogEntries"][0]["inclusionProof"]["checkpoint"] = json!({"envelope": ""})),
            wants(),
            Reason::SignatureInvalid,
            "without the proof that it is in the log",
        ),
        (
            "no promise, so that nothing proves the time",
            with(&|it| it["verificationMaterial"]["tlogEntries"][0]["inclusionPromise"] = Value::Null),
            wants(),
            Reason::SignatureInvalid,
            "nothing that proves when models@acme.example signed it",
        ),
        (
            "another time than the log's",
            with(&|it| it["verificationMaterial"]["tlogEntries"][0]["integratedTime"] = json!((ISSUED + 6).to_string())),
            wants(),
            Reason::SignatureInvalid,
            "a log entry for models@acme.example that the log did not make so",
        ),
        (
            "a certificate that had ended",
            signed(&|it| it.logged = ISSUED + 601),
            wants(),
            Reason::SignatureInvalid,
            "the log noted it at 2025-06-01T00:10:01Z, and the certificate is from 2025-06-01T00:00:00Z to 2025-06-01T00:10:00Z",
        ),
        (
            "a certificate that had not begun",
            signed(&|it| it.logged = ISSUED - 1),
            wants(),
            Reason::SignatureInvalid,
            "outside the time",
        ),
        (
            "a certificate in no log",
            signed(&|it| it.witness = None),
            wants(),
            Reason::SignatureInvalid,
            "that no trusted log of certificates vouches for",
        ),
        (
            "a certificate in another log",
            Ceremony { witness: Some(&stranger.certificates), ..sigstore.signs(MODELS, &FILES) }.bundle(),
            wants(),
            Reason::SignatureInvalid,
            "that no trusted log of certificates vouches for",
        ),
        (
            "a certificate for TLS servers",
            signed(&|it| it.change = |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]),
            wants(),
            Reason::CertificateUnfit,
            "is a TLS server's",
        ),
        (
            "an authority's own certificate",
            signed(&|it| it.change = |params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)),
            wants(),
            Reason::CertificateUnfit,
            "is an authority's own",
        ),
        (
            "no certificate",
            with(&|it| it["verificationMaterial"]["certificate"] = json!({"rawBytes": ""})),
            wants(),
            Reason::SignatureMalformed,
            "has a certificate that cannot be read",
        ),
        (
            "a certificate of 20 KB",
            with(&|it| it["verificationMaterial"]["certificate"] = json!({"rawBytes": "A".repeat(27_000)})),
            wants(),
            Reason::SignatureMalformed,
            "has a certificate of",
        ),
        (
            "five log entries",
            with(&|it| it["verificationMaterial"]["tlogEntries"] = json!(vec![material(it, "tlogEntries")[0].clone(); 5])),
            wants(),
            Reason::SignatureMalformed,
            "has 5 entries of logs, more than the 4",
        ),
        (
            "a log entry of 65 KB",
            with(&|it| it["verificationMaterial"]["tlogEntries"][0]["canonicalizedBody"] = json!("A".repeat(65_536))),
            wants(),
            Reason::SignatureMalformed,
            "has a log entry of",
        ),
        (
            "a log entry of another kind",
            with(&|it| it["verificationMaterial"]["tlogEntries"][0]["kindVersion"]["kind"] = json!("tuf")),
            wants(),
            Reason::SignatureMalformed,
            "has a log entry that cannot be read: unsupported Rekor entry format",
        ),
        (
            "entries that are no list",
            with(&|it| it["verificationMaterial"]["tlogEntries"] = json!({})),
            wants(),
            Reason::SignatureMalformed,
            "has proofs that cannot be read",
        ),
        (
            "a timestamp that nobody made",
            with(&|it| {
                it["verificationMaterial"]["timestampVerificationData"] =
                    json!({"rfc3161Timestamps": [{"signedTimestamp": "MAA="}]});
            }),
            wants(),
            Reason::SignatureInvalid,
            "a timestamp for the signature of models@acme.example that no authority",
        ),
        (
            "five timestamps",
            with(&|it| {
                it["verificationMaterial"]["timestampVerificationData"] =
                    json!({"rfc3161Timestamps": vec![json!({"signedTimestamp": "MAA="}); 5]});
            }),
            wants(),
            Reason::SignatureMalformed,
            "has 5 timestamps",
        ),
        (
            "a signature by a key",
            Person::new(1).bundle(&statement(&FILES).to_string()),
            wants(),
            Reason::WrongSigner,
            "without a certificate, and wanted is one of models@acme.example (issuer",
        ),
        (
            "a signature with an authority's certificate",
            serde_json::from_str(&Acme::new().models.signs(&FILES, &[])).unwrap(),
            wants(),
            Reason::WrongSigner,
            "an X.509 authority, and wanted is one of models@acme.example",
        ),
        (
            "where a key is wanted",
            good.clone(),
            Anchor::Key(Person::new(1).key()),
            Reason::WrongSigner,
            "was signed with Sigstore's keyless method, and wanted is a signature of key",
        ),
        (
            "where an authority's certificate is wanted",
            good.clone(),
            certificates::anchor(&Acme::new().root.pem(), certificates::MODELS),
            Reason::WrongSigner,
            "Sigstore's keyless method, and wanted is one with a certificate for CN=models,O=Acme",
        ),
    ];
    assert!(verify(&good.to_string(), &wants()).is_ok());
    for (case, bundle, anchor, reason, fragment) in rows {
        let rejected = verify(&bundle.to_string(), &anchor).expect_err(case);
        assert_eq!(rejected.reason, reason, "{case}: {rejected}");
        assert!(rejected.message.contains(fragment), "{case}: {rejected}");
    }
}

#[test]
fn no_bit_of_what_is_signed_or_proven_can_be_another_one() {
    let sigstore = Sigstore::new();
    let (anchor, bundle) = (models(&sigstore), sigstore.signs(MODELS, &FILES).bundle());
    let rejects = |bundle: &Value, what: &str| {
        let rejected: Result<_, Rejected> = verify(&bundle.to_string(), &anchor);
        assert!(rejected.is_err(), "{what}");
    };
    let entry = "/verificationMaterial/tlogEntries/0";
    for (place, step) in [
        ("/dsseEnvelope/payload".to_owned(), 7),
        ("/dsseEnvelope/signatures/0/sig".to_owned(), 1),
        ("/verificationMaterial/certificate/rawBytes".to_owned(), 3),
        (format!("{entry}/canonicalizedBody"), 11),
        (format!("{entry}/inclusionPromise/signedEntryTimestamp"), 1),
        (format!("{entry}/inclusionProof/rootHash"), 1),
        (format!("{entry}/inclusionProof/hashes/0"), 1),
        (format!("{entry}/logId/keyId"), 1),
    ] {
        let bytes = STANDARD.decode(bundle.pointer(&place).unwrap().as_str().unwrap()).unwrap();
        for at in (0..bytes.len()).step_by(step) {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            let mut bad = bundle.clone();
            *bad.pointer_mut(&place).unwrap() = json!(STANDARD.encode(&flipped));
            rejects(&bad, &format!("{place} {at}"));
        }
    }
    let place = format!("{entry}/inclusionProof/checkpoint/envelope");
    let note = bundle.pointer(&place).unwrap().as_str().unwrap();
    for at in 0..note.find("\n\n").unwrap() {
        let mut bytes = note.as_bytes().to_vec();
        bytes[at] ^= 1;
        let mut bad = bundle.clone();
        *bad.pointer_mut(&place).unwrap() = json!(String::from_utf8(bytes).unwrap());
        rejects(&bad, &format!("the log's note {at}"));
    }
    for (field, value) in [("logIndex", json!("42")), ("integratedTime", json!((ISSUED + 4).to_string()))] {
        let mut bad = bundle.clone();
        bad["verificationMaterial"]["tlogEntries"][0][field] = value;
        rejects(&bad, field);
    }
}

#[test]
fn a_payload_longer_than_any_list_of_files_is_not_looked_at() {
    let sigstore = Sigstore::new();
    let bundle = sigstore.signs(MODELS, &FILES).text();
    let bundle = Bundle::parse(bundle.as_bytes(), Bundle::MAX_RECORDED).unwrap();
    let (Anchor::Keyless(identity), Material::Keyless(logged)) = (models(&sigstore), bundle.material()) else {
        panic!("{:?}", bundle.material());
    };
    let payload = vec![b' '; MAX_PAYLOAD + 1];
    let signed = Signed { payload: &payload, signature: &[], subject: Digest::of("") };
    let rejected = identity.vouches(logged, signed, NOW, &mut Vec::new()).unwrap_err();
    assert_eq!(rejected.reason, Reason::SignatureUnsupported, "{rejected}");
    assert!(rejected.message.contains("16777217 bytes"), "{rejected}");
}

#[test]
fn what_is_still_to_come_proves_nothing_yet() {
    let sigstore = Sigstore::new();
    let bundle = sigstore.signs(MODELS, &FILES).text();
    let logged = Timestamp::from_second(ISSUED + 5).unwrap();
    assert!(verify_at(&bundle, &models(&sigstore), logged).is_ok());
    let before = Timestamp::from_second(ISSUED + 4).unwrap();
    let mut edges = Vec::new();
    let read = Bundle::parse(bundle.as_bytes(), Bundle::MAX_RECORDED).unwrap();
    let rejected = read.verify_as(&models(&sigstore), before, &mut edges).map(drop).unwrap_err();
    assert_eq!(rejected.reason, Reason::CertificateNotYetValid, "{rejected}");
    assert!(rejected.message.contains("at 2025-06-01T00:00:05Z, which is still to come"), "{rejected}");
    assert_eq!(edges, [logged], "then it is looked at again");
    // Also where it is still to come by the clock of the machine, at which the library looks.
    let mut far = sigstore.signs(MODELS, &FILES);
    far.logged = "2039-06-01T00:00:05Z".parse::<Timestamp>().unwrap().as_second();
    far.change = |params| (params.not_before, params.not_after) = (date_time_ymd(2039, 6, 1), date_time_ymd(2039, 6, 2));
    let rejected = verify(&far.text(), &models(&sigstore)).unwrap_err();
    assert_eq!(rejected.reason, Reason::CertificateNotYetValid, "{rejected}");
    let mut later = sigstore.trusted_root();
    later["tlogs"][0]["publicKey"]["validFor"]["start"] = json!("2030-01-01T00:00:00Z");
    let later = TrustRoot::from_json(&later.to_string()).unwrap();
    let anchor = Anchor::Keyless(Identity::new(ISSUER, Pattern::exact(MODELS).unwrap(), later).unwrap());
    edges.clear();
    assert_eq!(read.verify_as(&anchor, NOW, &mut edges).map(drop).unwrap_err().reason, Reason::SignatureInvalid);
    assert_eq!(edges, ["2030-01-01T00:00:00Z".parse().unwrap()], "a key that begins to count");
}
