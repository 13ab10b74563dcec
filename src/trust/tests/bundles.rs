use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::fixtures::{Person, data, statement};
use crate::{
    api::Reason,
    model::Digest,
    trust::{Bundle, Contents, Material, PublicKey, Rejected, listed_names},
};

const FILES: [(&str, &str); 2] = [("a.bin", "one"), ("d/b.bin", "two")];

fn parse(json: &str) -> Result<Bundle, Rejected> {
    Bundle::parse(json.as_bytes(), Bundle::MAX_RECORDED)
}

fn reason(json: &str) -> (Reason, String) {
    let rejected = parse(json).unwrap_err();
    (rejected.reason, rejected.message)
}

#[test]
fn what_the_reference_client_signs_holds_for_every_curve() {
    for curve in ["p256", "p384", "p521"] {
        let bundle = parse(&data(&format!("{curve}.sig"))).unwrap();
        let key = PublicKey::from_pem(&data(&format!("{curve}.pub"))).unwrap();
        let attested = bundle.verify(&key).unwrap();
        for name in ["config.json", "model.safetensors", "original/params.json"] {
            let signed = attested.digest_of(&name.parse().unwrap());
            assert_eq!(signed, Some(Digest::of(data(&format!("model/{name}")))), "{curve} {name}");
        }
        assert_eq!(attested.digest_of(&"README.md".parse().unwrap()), None);
    }
}

#[test]
fn another_key_is_told_by_both_hints() {
    let key = PublicKey::from_pem(&data("p256.pub")).unwrap();
    let signers = PublicKey::from_pem(&data("p384.pub")).unwrap();
    let rejected = parse(&data("p384.sig")).unwrap().verify(&key).unwrap_err();
    assert_eq!(rejected.reason, Reason::WrongSigner);
    assert!(rejected.message.contains(key.hint().as_str()), "{rejected}");
    assert!(rejected.message.contains(signers.hint().as_str()), "{rejected}");
}

#[test]
fn a_bundle_that_names_no_key_is_checked_all_the_same() {
    let ann = Person::new(1);
    for material in [json!({"publicKey": {}}), json!({"publicKey": {"hint": ""}}), json!({"publicKey": {"hint": null}})] {
        let mut bundle = ann.bundle(&statement(&FILES).to_string());
        bundle["verificationMaterial"] = material;
        let bundle = parse(&bundle.to_string()).unwrap();
        assert_eq!(bundle.material(), &Material::Key { hint: None });
        assert!(bundle.verify(&ann.key()).is_ok());
        assert_eq!(bundle.verify(&Person::new(2).key()).unwrap_err().reason, Reason::WrongSigner);
    }
}

#[test]
fn a_bundle_of_clients_before_1_1_names_its_key_by_writing_it_out() {
    let ann = Person::new(1);
    let mut bundle = ann.bundle(&statement(&FILES).to_string());
    bundle["verificationMaterial"] =
        json!({"publicKey": {"rawBytes": STANDARD.encode(ann.pem()), "keyDetails": "PKIX_ECDSA_P256_SHA_256"}});
    bundle["dsseEnvelope"]["signatures"][0]["keyid"] = Value::Null;
    let bundle = parse(&bundle.to_string()).unwrap();
    assert_eq!(bundle.material(), &Material::Key { hint: Some(ann.key().hint().to_string()) });
    assert!(bundle.verify(&ann.key()).is_ok());
    assert_eq!(bundle.verify(&Person::new(2).key()).unwrap_err().reason, Reason::WrongSigner);
}

#[test]
fn what_the_specification_leaves_open_is_accepted() {
    let ann = Person::new(1);
    let payload = statement(&FILES).to_string();
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut bundle = ann.bundle(&payload);
        change(&mut bundle);
        bundle.to_string()
    };
    let restated = |change: &dyn Fn(&mut Value)| {
        let mut statement = statement(&FILES);
        change(&mut statement);
        ann.signs_statement(&statement)
    };
    let recode = |text: &Value| text.as_str().unwrap().replace('+', "-").replace('/', "_").replace('=', "");
    for good in [
        changed(&|it| it["more"] = json!({"unknown": [1, 2]})),
        changed(&|it| it["mediaType"] = json!("application/vnd.dev.sigstore.bundle+json;version=0.2")),
        changed(&|it| drop(it["dsseEnvelope"]["signatures"][0].as_object_mut().unwrap().remove("keyid"))),
        changed(&|it| it["dsseEnvelope"]["signatures"][0]["keyid"] = json!("some name")),
        changed(&|it| drop(it["verificationMaterial"].as_object_mut().unwrap().remove("tlogEntries"))),
        changed(&|it| it["dsseEnvelope"]["payload"] = json!(recode(&it["dsseEnvelope"]["payload"]))),
        changed(&|it| it["dsseEnvelope"]["signatures"][0]["sig"] = json!(recode(&it["dsseEnvelope"]["signatures"][0]["sig"]))),
        restated(&|it| it["predicateType"] = json!("https://model_signing/signature/v1.1")),
        restated(&|it| it["subject"][0]["name"] = json!("anything")),
        restated(&|it| it["predicate"]["resources"][0]["annotations"] = json!({"x": 1})),
        restated(&|it| {
            it["predicate"]["serialization"] = json!({"method": "files", "hash_type": "sha256", "allow_symlinks": false})
        }),
    ] {
        assert!(parse(&good).unwrap().verify(&ann.key()).is_ok(), "{good}");
    }
}

#[test]
fn a_statement_that_says_something_else_is_refused_though_it_is_signed() {
    let ann = Person::new(1);
    let upper = |text: &Value| json!(text.as_str().unwrap().to_uppercase());
    type Change = fn(&mut Value);
    let cases: [(Change, &str); 17] = [
        (|it| it["_type"] = json!("https://in-toto.io/Statement/v0.1"), "statement of type"),
        (|it| it["predicateType"] = json!("https://model_signing/signature/v2.0"), "predicate type is"),
        (|it| it["predicateType"] = json!("https://model_signing/signature/v1."), "predicate type is"),
        (|it| it["predicateType"] = json!("https://model_signing/signature/v1.0-draft"), "predicate type is"),
        (|it| it["predicateType"] = json!("https://model_signing/signature/v1.0/../../approval"), "predicate type is"),
        (|it| it["predicateType"] = json!("https://slsa.dev/provenance/v1"), "predicate type is"),
        (|it| it["subject"] = json!([]), "0 subjects"),
        (|it| it["subject"] = json!([it["subject"][0], it["subject"][0]]), "2 subjects"),
        (|it| it["subject"][0]["digest"] = json!({"sha512": "00"}), "contradicts itself"),
        (|it| it["subject"][0]["digest"]["sha256"] = json!("00".repeat(32)), "contradicts itself"),
        (|it| it["predicate"]["resources"] = json!([]), "lists no file"),
        (|it| drop(it.as_object_mut().unwrap().remove("predicate")), "missing field `predicate`"),
        (|it| it["predicate"]["resources"][0]["name"] = json!("../up"), "'..'"),
        (|it| it["predicate"]["resources"][0]["name"] = json!("/etc/passwd"), "empty segment"),
        (|it| it["predicate"]["resources"][0]["name"] = json!("."), "'.'"),
        (|it| it["predicate"]["resources"][0]["name"] = json!("d/b.bin"), "d/b.bin twice"),
        (|it| it["predicate"]["resources"][0]["digest"] = json!("00"), "64 lower-case"),
    ];
    for (change, fragment) in cases {
        let mut statement = statement(&FILES);
        change(&mut statement);
        let (reason, message) = reason(&ann.signs_statement(&statement));
        assert_eq!(reason, Reason::SignatureMalformed, "{message}");
        assert!(message.contains(fragment), "{fragment}: {message}");
    }
    let mut shouted = statement(&FILES);
    shouted["predicate"]["resources"][0]["digest"] = upper(&shouted["predicate"]["resources"][0]["digest"]);
    assert!(reason(&ann.signs_statement(&shouted)).1.contains("64 lower-case"));
}

#[test]
fn an_envelope_that_is_none_is_refused() {
    let ann = Person::new(1);
    type Change = fn(&mut Value);
    let cases: [(Change, &str); 11] = [
        (|it| it["mediaType"] = json!("application/json"), "media type"),
        (|it| drop(it.as_object_mut().unwrap().remove("dsseEnvelope")), "no dsseEnvelope"),
        (|it| drop(it.as_object_mut().unwrap().remove("verificationMaterial")), "no verificationMaterial"),
        (|it| it["verificationMaterial"] = json!({"tlogEntries": []}), "does not say by which"),
        (|it| it["verificationMaterial"]["certificate"] = json!({"rawBytes": "AA=="}), "does not say by which"),
        (|it| it["dsseEnvelope"]["payloadType"] = json!("text/plain"), "payload type"),
        (|it| it["dsseEnvelope"]["signatures"] = json!([]), "0 signatures"),
        (
            |it| {
                it["dsseEnvelope"]["signatures"] =
                    json!([it["dsseEnvelope"]["signatures"][0], it["dsseEnvelope"]["signatures"][0]])
            },
            "2 signatures",
        ),
        (|it| it["dsseEnvelope"]["signatures"][0]["sig"] = json!("???"), "not base64"),
        (|it| it["dsseEnvelope"]["payload"] = json!("???"), "not base64"),
        (|it| it["dsseEnvelope"]["payload"] = json!(STANDARD.encode("junk")), "not an in-toto statement"),
    ];
    for (change, fragment) in cases {
        let mut bundle = ann.bundle(&statement(&FILES).to_string());
        change(&mut bundle);
        let (reason, message) = reason(&bundle.to_string());
        assert_eq!(reason, Reason::SignatureMalformed, "{message}");
        assert!(message.contains(fragment), "{fragment}: {message}");
    }
    for junk in ["", "{}", "null", "[1]", "{\"mediaType\": 3}", "\u{0}"] {
        assert_eq!(reason(junk).0, Reason::SignatureMalformed, "{junk:?}");
    }
}

#[test]
fn a_field_given_twice_is_refused_at_every_layer() {
    let ann = Person::new(1);
    let payload = statement(&FILES).to_string();
    let bundle = ann.bundle(&payload).to_string();
    let twice = |text: &str, field: &str, extra: &str| {
        assert!(text.contains(field), "{field}");
        text.replacen(field, &format!("{extra},{field}"), 1)
    };
    for bad in [
        twice(&bundle, "\"payload\":", "\"payload\":\"AA==\""),
        twice(&bundle, "\"publicKey\":", "\"publicKey\":{}"),
        ann.bundle(&twice(&payload, "\"predicate\":", "\"predicate\":{}")).to_string(),
        ann.bundle(&twice(&payload, "\"resources\":", "\"resources\":[]")).to_string(),
        ann.bundle(&twice(&payload, "\"sha256\":", "\"sha256\":\"00\"")).to_string(),
        ann.bundle(&twice(&payload, "\"name\":\"a.bin\"", "\"name\":\"b\"")).to_string(),
    ] {
        assert_eq!(reason(&bad).0, Reason::SignatureMalformed, "{bad}");
    }
}

#[test]
fn every_flipped_byte_of_payload_and_signature_is_noticed() {
    let ann = Person::new(1);
    let bundle = ann.bundle(&statement(&FILES).to_string());
    for (pointer, step) in [("/dsseEnvelope/payload", 7), ("/dsseEnvelope/signatures/0/sig", 1)] {
        let bytes = STANDARD.decode(bundle.pointer(pointer).unwrap().as_str().unwrap()).unwrap();
        for at in (0..bytes.len()).step_by(step) {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            let mut bad = bundle.clone();
            *bad.pointer_mut(pointer).unwrap() = json!(STANDARD.encode(&flipped));
            if let Ok(bundle) = parse(&bad.to_string()) {
                let rejected = bundle.verify(&ann.key()).unwrap_err();
                assert_eq!(rejected.reason, Reason::SignatureInvalid, "{pointer} {at}");
            }
        }
    }
}

#[test]
fn methods_that_are_not_supported_are_named() {
    for (json, name) in [(data("blake3.sig"), "blake3"), (data("shards.sig"), "shards")] {
        let (reason, message) = reason(&json);
        assert_eq!(reason, Reason::SignatureUnsupported);
        assert!(message.contains(name), "{message}");
    }
    let ann = Person::new(1);
    let mut mixed = statement(&FILES);
    mixed["predicate"]["resources"][1]["algorithm"] = json!("blake2b");
    let (unsupported, message) = reason(&ann.signs_statement(&mixed));
    assert_eq!(unsupported, Reason::SignatureUnsupported);
    assert!(message.contains("blake2b") && message.contains("d/b.bin"), "{message}");
}

#[test]
fn what_model_signing_0_2_signed_holds_by_its_own_rules_and_no_others() {
    for curve in ["p256", "p384", "p521"] {
        let json = data(&format!("old-{curve}.sig"));
        let key = PublicKey::from_pem(&data(&format!("old-{curve}.pub"))).unwrap();
        let bundle = parse(&json).unwrap();
        assert_eq!(bundle.material(), &Material::Key { hint: Some(key.hint().to_string()) });
        let attested = bundle.verify(&key).unwrap_or_else(|rejected| panic!("{curve}: {rejected}"));
        for name in ["config.json", "model.safetensors", "original/params.json"] {
            let signed = attested.digest_of(&name.parse().unwrap());
            assert_eq!(signed, Some(Digest::of(data(&format!("model/{name}")))), "{curve} {name}");
        }
        assert_eq!(bundle.verify(&Person::new(1).key()).unwrap_err().reason, Reason::WrongSigner);
    }
    let key = PublicKey::from_pem(&data("old-p256.pub")).unwrap();
    let good: Value = serde_json::from_str(&data("old-p256.sig")).unwrap();
    let payload = STANDARD.decode(good["dsseEnvelope"]["payload"].as_str().unwrap()).unwrap();
    for index in 0..payload.len() {
        let mut altered = payload.clone();
        altered[index] ^= 1;
        let mut bundle = good.clone();
        bundle["dsseEnvelope"]["payload"] = json!(STANDARD.encode(altered));
        assert!(parse(&bundle.to_string()).is_err() || parse(&bundle.to_string()).unwrap().verify(&key).is_err(), "byte {index}");
    }
    let ann = Person::new(1);
    let subject = |name: &str| json!({"name": name, "digest": {"sha256": Digest::of("").hex()}});
    let old = |subjects: Value| {
        let kind = "https://model_signing/Digests/v0.1";
        ann.signs_statement(&json!({"_type": "https://in-toto.io/Statement/v1", "subject": subjects, "predicateType": kind}))
    };
    let correct = parse(&old(json!([subject("a")]))).unwrap();
    assert_eq!(correct.verify(&ann.key()).unwrap_err().reason, Reason::SignatureInvalid, "0.2 never signed as DSSE wants it");
    let mut shard = subject("a:0:1");
    shard["annotations"] = json!({"actual_hash_algorithm": "file-sha256-1000"});
    for (subjects, expected, fragment) in [
        (json!([]), Reason::SignatureMalformed, "lists no file"),
        (json!([subject("a"), subject("a")]), Reason::SignatureMalformed, "a twice"),
        (json!([subject("../a")]), Reason::SignatureMalformed, "'..'"),
        (json!([{"name": "a", "digest": {"sha256": "00"}}]), Reason::SignatureMalformed, "64 lower-case"),
        (json!([{"name": "a", "digest": {}}]), Reason::SignatureMalformed, "sha256"),
        (json!([shard]), Reason::SignatureUnsupported, "file-sha256-1000"),
    ] {
        let (found, message) = reason(&old(subjects));
        assert_eq!(found, expected, "{message}");
        assert!(message.contains(fragment), "{message}");
    }
}

#[test]
fn bounds_hold() {
    let json = Person::new(1).signs(&FILES);
    assert!(Bundle::parse(json.as_bytes(), json.len()).is_ok());
    assert!(Bundle::parse(json.as_bytes(), json.len() - 1).unwrap_err().message.contains("bytes long"));
    let digest = Digest::of("");
    let with = |count: usize| {
        let root = Digest::of(digest.as_bytes().repeat(count)).hex();
        let resource = |at| format!(r#"{{"name":"{at}","algorithm":"sha256","digest":"{}"}}"#, digest.hex());
        let resources = (0..count).map(resource).collect::<Vec<_>>().join(",");
        let payload = format!(
            r#"{{"_type":"https://in-toto.io/Statement/v1","predicateType":"https://model_signing/signature/v1.0","subject":[{{"digest":{{"sha256":"{root}"}}}}],"predicate":{{"serialization":{{"method":"files","hash_type":"sha256"}},"resources":[{resources}]}}}}"#
        );
        Bundle::parse(Person::new(1).bundle(&payload).to_string().as_bytes(), Bundle::MAX_FILE)
    };
    assert!(with(1000).is_ok());
    assert!(with(Bundle::MAX_RESOURCES + 1).unwrap_err().message.contains("100001 files"));
}

#[test]
fn a_single_file_may_be_signed_without_its_name() {
    let bundle = parse(&data("one-file.sig")).unwrap();
    let key = PublicKey::from_pem(&data("p256.pub")).unwrap();
    let signed = Contents::Nameless(Digest::of(data("model/model.safetensors")));
    assert_eq!(bundle.verify(&key).unwrap().contents(), &signed);
    assert_eq!(listed_names(&data("one-file.sig")), None);
}

#[test]
fn the_listed_names_are_those_of_the_bundle() {
    let names = listed_names(&Person::new(1).signs(&[("b", ""), ("a/c", ""), ("a", "")])).unwrap();
    assert_eq!(names.iter().map(|name| name.as_str()).collect::<Vec<_>>(), ["a", "a/c", "b"]);
    assert_eq!(listed_names("junk"), None);
    // One that no record has room for is not read for its names either.
    let padded = format!("{}{}", Person::new(1).signs(&[("a", "")]), " ".repeat(Bundle::MAX_RECORDED));
    assert!(Bundle::parse(padded.as_bytes(), Bundle::MAX_FILE).is_ok());
    assert_eq!(listed_names(&padded), None);
}

#[test]
fn what_a_bundle_says_reaches_a_message_cut_and_without_control_characters() {
    let long = format!("\u{1b}[31m{}", "x".repeat(5000));
    let mut bundle = Person::new(1).bundle("{}");
    bundle["mediaType"] = json!(long);
    let (_, message) = reason(&bundle.to_string());
    assert!(message.len() < 400 && !message.chars().any(char::is_control), "{message}");
}
