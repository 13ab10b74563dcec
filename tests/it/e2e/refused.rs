//! What may not be served is refused before there is a pod, with a reason that says what to do.

use std::{fs, time::Instant};

use serde_json::json;

use super::{
    node::sha256,
    place::{Place, says},
};

#[tokio::test]
async fn a_model_that_was_altered_after_signing_is_refused_before_there_is_a_pod() {
    let place = Place::guarded("honest").await;
    let repository = place.publish("chat", &[("model.gguf", "what was signed"), ("README.md", "# chat")]);
    place.world.platform.signs(&repository).await;
    let model = repository.join("model.gguf");
    let signed = sha256(&model).await;
    fs::write(&model, "what was signee").unwrap();
    let found = sha256(&model).await;
    let began = Instant::now();
    place.deploy("chat").await;
    let message = place.condition("chat", "Trusted", "False", "DigestMismatch").await;
    eprintln!("e2e: apply → refused: {:.2} s", began.elapsed().as_secs_f64());
    let commit = place.world.hub().commit(&format!("{}/chat", place.name)).unwrap();
    says(&message, &["model.gguf: ", &signed, &found, &format!("hf://{}/chat@{}", place.name, &commit[..7])]);
    says(&message, &["No new replica serves it", "have it signed again; if not, tell the repository's owner"]);
    assert_eq!(place.condition("chat", "Ready", "False", "DigestMismatch").await, message);
    place.condition("chat", "Stalled", "True", "DigestMismatch").await;
    let columns = place.columns("chat").await;
    assert_eq!([&*columns[1], &columns[2], &columns[3], &columns[4]], ["Refused", "Blocked", "0/1", &commit[..7]]);
    says(&columns[6], &["DigestMismatch: model.gguf: signed as sha256", &signed[..8], &found[..8]]);
    let events = place.world.kubectl(&["get", "events", "-n", &place.name]).await;
    says(&events, &["Warning", "DigestMismatch"]);
    place.never_a_pod(&["chat"]).await;
    assert!(place.downloads("chat", "model.gguf").is_empty(), "weights were read");
}

#[tokio::test]
async fn a_signature_that_does_not_hold_is_refused_with_the_reason_that_is_true() {
    let place = Place::guarded("signatures").await;
    let publish = |name: &str, file: &str| place.publish(name, &[(file, name), ("config.json", "{}")]);
    place.world.stranger.signs(&publish("stranger", "model.gguf")).await;
    fs::write(publish("junk", "model.gguf").join("model.sig"), [0xff, 0xfe, 0, 1, 2]).unwrap();
    let truncated = publish("truncated", "model.gguf");
    place.world.platform.signs(&truncated).await;
    let whole = fs::read(truncated.join("model.sig")).unwrap();
    fs::write(truncated.join("model.sig"), &whole[..whole.len() / 2]).unwrap();
    // The signatures of this model, beside one whose files have the same names and beside one whose have not.
    fs::copy(
        {
            let other = publish("other", "model.gguf");
            place.world.platform.signs(&other).await;
            other.join("model.sig")
        },
        publish("exchanged", "model.gguf").join("model.sig"),
    )
    .unwrap();
    let foreign = place.publish("foreign", &[("weights.gguf", "foreign")]);
    fs::copy(place.world.repository(&format!("{}/other/model.sig", place.name)), foreign.join("model.sig")).unwrap();
    publish("unsigned", "model.gguf");

    let cases: [(&str, &str, &[&str]); 6] = [
        (
            "stranger",
            "WrongSigner",
            &["is signed, but not by platform", "which no signer of the policy has", "Have it signed by somebody who is wanted"],
        ),
        ("junk", "SignatureMalformed", &["model.sig of hf://", "is not a Sigstore bundle", "No new replica serves it"]),
        ("truncated", "SignatureMalformed", &["model.sig of hf://", "is not a Sigstore bundle", "No new replica serves it"]),
        ("exchanged", "DigestMismatch", &["model.gguf: signed as sha256", "but hf://", "now has"]),
        ("foreign", "SignedFileMissing", &["model.gguf: the signature lists it", "does not have it", "Restore the file"]),
        ("unsigned", "Unsigned", &["has no signature", "put the signature beside the model as model.sig"]),
    ];
    for (name, ..) in cases {
        place.deploy(name).await;
    }
    for (name, reason, parts) in cases {
        let message = place.condition(name, "Trusted", "False", reason).await;
        says(&message, parts);
        place.condition(name, "Ready", "False", reason).await;
        let columns = place.columns(name).await;
        assert_eq!([&*columns[1], &columns[2], &columns[3]], ["Refused", "Blocked", "0/1"], "{name}");
        says(&columns[6], &[&format!("{reason}: ")]);
    }
    place.never_a_pod(&cases.map(|(name, ..)| name)).await;
    for (name, ..) in cases {
        assert!(place.downloads(name, ".gguf").is_empty(), "weights of {name} were read");
    }
}

#[tokio::test]
async fn without_a_policy_an_unsigned_model_is_served_and_said_to_be_unknown() {
    let place = Place::open("unknown").await;
    place.publish_real("smollm2");
    place.deploy("smollm2").await;
    place.ready("smollm2").await;
    place.answers("smollm2").await;
    let message = place.condition("smollm2", "Trusted", "Unknown", "NoPolicy").await;
    says(&message, &["polic"]);
    let columns = place.columns("smollm2").await;
    assert_eq!([&*columns[1], &columns[2], &columns[3]], ["Unknown", "Ready", "1/1"]);
    place.condition("smollm2", "ContentVerified", "True", "Verified").await;
}

#[tokio::test]
async fn a_wish_that_cannot_be_granted_is_refused_by_its_field() {
    let place = Place::open("wishes").await;
    place.publish("chat", &[("model.gguf", "weights")]);
    place.publish("pickles", &[("pytorch_model.bin", "pickle"), ("config.json", "{}")]);
    let source = |name: &str| json!({"model": {"source": place.source(name)}});
    let cases = [
        ("engine", source("chat"), json!({"name": "warp-drive"}), "UnknownEngine", "spec.engine.name"),
        ("pickles", source("pickles"), json!({"name": "llama-cpp"}), "UnsupportedFormat", "gguf"),
        ("anything", source("pickles"), json!({}), "UnsupportedFormat", "No engine loads what is there"),
        ("argument", source("chat"), json!({"args": ["--rpc=10.0.0.1:1"]}), "ArgumentNotAllowed", "spec.engine.args[0]: "),
        (
            "model",
            source("chat"),
            json!({"args": ["--threads=2", "--model=/etc/passwd"]}),
            "ArgumentNotAllowed",
            "spec.engine.args[1]: ",
        ),
        (
            "variable",
            source("chat"),
            json!({"env": [{"name": "LD_PRELOAD", "value": "/x"}]}),
            "EnvironmentNotAllowed",
            "spec.engine.env[\"LD_PRELOAD\"]: ",
        ),
    ];
    for (name, spec, engine, ..) in &cases {
        place.deploy_with(name, crate::support::merge(spec, &json!({"engine": engine}))).await;
    }
    for (name, _, _, reason, part) in &cases {
        let message = place.condition(name, "Ready", "False", reason).await;
        says(&message, &[part]);
        place.condition(name, "Stalled", "True", reason).await;
        let columns = place.columns(name).await;
        assert_eq!([&*columns[2], &columns[3]], ["Blocked", "0/1"], "{name}");
        says(&columns[6], &[&format!("{reason}: ")]);
    }
    place.never_a_pod(&cases.map(|(name, ..)| name)).await;
}
