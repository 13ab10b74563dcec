//! Sources in claims, and claims that keep what was fetched. The test is the kubelet and the pod that looks into the claim.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpListener},
    sync::atomic::{AtomicU8, Ordering},
};

use bonafide::model::Digest;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use super::{
    place::{NAME, Place, condition, text, value},
    world::World,
};
use crate::support::signer::Person;

const SOURCE: &str = "pvc://models/parrot";

async fn claim(place: &Place<'_>) {
    let spec =
        json!({"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": "none"});
    place.create("PersistentVolumeClaim", "models", json!({"spec": spec})).await;
}

async fn deploy(place: &Place<'_>, model: Value) {
    place.create("ModelDeployment", NAME, json!({"spec": {"model": model}})).await;
}

/// The pods that look into claims.
async fn measuring(place: &Place<'_>) -> Vec<Value> {
    measuring_of(place, NAME).await
}

async fn measuring_of(place: &Place<'_>, name: &str) -> Vec<Value> {
    let parameters = ListParams::default().labels(&format!("bonafide.dev/measures={name}"));
    place.api("Pod").list(&parameters).await.unwrap().items.into_iter().map(value).collect()
}

/// Serves `answer` at an address that nobody else has, on the port that the operator asks.
fn answering(answer: Value) -> String {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let address = Ipv4Addr::new(127, high | 1, low | 1, NEXT.fetch_add(1, Ordering::Relaxed));
    let listener = TcpListener::bind((address, 8081)).unwrap();
    let body = answer.to_string();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let _ = connection.read(&mut [0; 4096]);
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let _ = connection.write_all(format!("{head}{body}").as_bytes());
        }
    });
    address.to_string()
}

/// What the pod says that finds these files.
fn found(files: &[(&str, &str)]) -> Value {
    let line = |(path, content): &(&str, &str)| json!({"path": path, "size": content.len(), "sha256": Digest::of(content)});
    let texts: serde_json::Map<_, _> = files
        .iter()
        .filter(|(path, _)| path.ends_with(".sig"))
        .map(|(path, content)| ((*path).to_owned(), json!(content)))
        .collect();
    let files: Vec<Value> = files.iter().map(line).collect();
    json!({"revision": Digest::of(json!(files).to_string()).hex(), "files": files, "texts": texts})
}

/// Plays the kubelet for the pod that looks into the claim.
async fn run(place: &Place<'_>, status: Value) -> Value {
    run_of(place, NAME, status).await
}

async fn run_of(place: &Place<'_>, name: &str, status: Value) -> Value {
    let look = async || measuring_of(place, name).await.pop().ok_or("there is no pod that measures".to_owned());
    let pod = place.world.eventually("a pod looks into the claim", look).await;
    let patch = Patch::Merge(json!({"status": status}));
    place.api("Pod").patch_status(&text(&pod["metadata"]["name"]), &PatchParams::default(), &patch).await.unwrap();
    pod
}

/// How a pod stands there that could not read the claim.
fn failed(reason: &str, message: &str) -> Value {
    let now = jiff::Timestamp::from_second(jiff::Timestamp::now().as_second()).unwrap().to_string();
    let report = json!({"outcome": "Failed", "reason": reason, "message": message, "bytes": 0, "seconds": 0.0}).to_string();
    let terminated = json!({"exitCode": 65, "finishedAt": now, "startedAt": now, "message": report});
    let container = json!({"name": "measure", "image": "x", "imageID": "", "restartCount": 0, "ready": false, "state": {"terminated": terminated}});
    json!({"phase": "Failed", "containerStatuses": [container]})
}

fn policy(minimum: Value) -> Value {
    let mut spec = json!({
        "signers": [{"name": "keeper", "publicKey": {"pem": Person::new(1).pem()}}],
        "rules": [{"name": "all", "sources": {"include": ["pvc://*/models/**", "hf://**"]}, "signedBy": [{"name": "keeper", "anyOf": ["keeper"]}]}],
    });
    if !minimum.is_null() {
        spec["minimumAssurance"] = minimum;
    }
    spec
}

#[tokio::test]
async fn a_claim_is_looked_into_by_a_pod_of_ours_and_only_its_verified_files_are_mounted() {
    let place = Place::new(World::shared()).await;
    place.policy(policy(json!("InPlace"))).await;
    claim(&place).await;
    deploy(&place, json!({"source": SOURCE})).await;
    place.condition(NAME, "SourceResolved", "False", "Measuring").await;

    let weights = [("parrot.gguf", "the weights of a parrot")];
    let signature = Person::new(1).signs(&weights);
    let address = answering(found(&[weights[0], ("evil.py", "import os"), ("model.sig", &signature)]));
    let pod = run(&place, json!({"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]})).await;
    let spec = &pod["spec"];
    assert_eq!(pod["metadata"]["labels"]["bonafide.dev/deployment"], Value::Null, "no Service may take it for a replica");
    assert_eq!(spec["volumes"].as_array().unwrap().len(), 1, "{spec}");
    assert_eq!(spec["volumes"][0]["persistentVolumeClaim"], json!({"claimName": "models", "readOnly": true}));
    assert_eq!((&spec["automountServiceAccountToken"], &spec["restartPolicy"]), (&json!(false), &json!("Never")));
    crate::support::restricted::check(spec).unwrap();

    let pods = place.let_in(NAME, 1).await;
    let object = place.condition(NAME, "Trusted", "True", "Signed").await;
    assert_eq!(object["status"]["model"]["source"], format!("pvc://{}/models/parrot", place.name));
    let mounts = |container: &Value| -> Vec<Value> {
        let mounts = container["volumeMounts"].as_array().unwrap();
        mounts.iter().filter(|mount| mount["name"] == "weights").cloned().collect()
    };
    let mount = |path: &str| json!({"name": "weights", "mountPath": path, "subPath": "parrot/parrot.gguf", "readOnly": true});
    let spec = &pods[0]["spec"];
    assert_eq!(mounts(&spec["containers"][0]), [mount("/models/parrot.gguf")], "what is not in the manifest is not there");
    assert_eq!(mounts(&spec["initContainers"][0]), [mount("/var/lib/bonafide/weights/tree/parrot.gguf")]);
    let gone = async || match measuring(&place).await {
        pods if pods.iter().all(|pod| !pod["metadata"]["deletionTimestamp"].is_null()) => Ok(()),
        pods => Err(format!("{pods:?}")),
    };
    place.world.eventually("the pod that looked into the claim is gone", gone).await;
}

#[tokio::test]
async fn what_is_read_in_place_is_refused_before_anything_is_read_unless_a_policy_says_so() {
    let place = Place::new(World::shared()).await;
    place.policy(policy(Value::Null)).await;
    claim(&place).await;
    deploy(&place, json!({"source": SOURCE})).await;
    let object = place.condition(NAME, "Trusted", "False", "AssuranceTooLow").await;
    assert!(text(&condition(&object, "Trusted").unwrap()["message"]).contains("minimumAssurance: InPlace"), "{object}");
    assert!(measuring(&place).await.is_empty());
    let hub = place.publish("Parrot-GGUF", &[("parrot.gguf", "p")]);
    place.change("ModelDeployment", NAME, json!({"spec": {"model": {"source": hub, "cache": {"claimName": "models"}}}})).await;
    let now = |object: &Value| {
        let trusted = condition(object, "Trusted").unwrap();
        trusted["reason"] == "AssuranceTooLow" && trusted["observedGeneration"] == object["metadata"]["generation"]
    };
    place.until("ModelDeployment", NAME, "is refused with a cache too", now).await;
    place.change("ModelDeployment", NAME, json!({"spec": {"model": {"cache": null}}})).await;
    place.condition(NAME, "Trusted", "False", "Unsigned").await;
}

#[tokio::test]
async fn a_claim_that_is_missing_is_named_and_waited_for() {
    let place = Place::new(World::shared()).await;
    deploy(&place, json!({"source": SOURCE})).await;
    let object = place.condition(NAME, "SourceResolved", "False", "ClaimNotFound").await;
    let message = text(&condition(&object, "SourceResolved").unwrap()["message"]);
    assert!(message.contains("spec.model.source") && message.contains("PersistentVolumeClaim models"), "{message}");
    assert!(measuring(&place).await.is_empty());
    claim(&place).await;
    place.condition(NAME, "SourceResolved", "False", "Measuring").await;
    run(&place, failed("RepositoryNotFound", "the claim has no directory")).await;
    let object = place.condition(NAME, "SourceResolved", "False", "RepositoryNotFound").await;
    assert!(text(&condition(&object, "SourceResolved").unwrap()["message"]).contains("the claim has no directory"), "{object}");
}

#[tokio::test]
async fn a_mistake_of_ours_in_the_pod_that_looks_into_the_claim_is_told_as_one() {
    let place = Place::new(World::shared()).await;
    claim(&place).await;
    deploy(&place, json!({"source": SOURCE})).await;
    run(&place, failed("InternalError", "The measuring stopped: task 7 panicked.")).await;
    let object = place.condition(NAME, "SourceResolved", "False", "InternalError").await;
    assert!(text(&condition(&object, "SourceResolved").unwrap()["message"]).contains("task 7 panicked"), "{object}");
    assert_eq!(condition(&object, "Ready").unwrap()["reason"], "InternalError");
}

#[tokio::test]
async fn a_claim_with_more_files_than_can_be_recorded_or_mounted_says_which_number_is_too_high() {
    let place = Place::new(World::shared()).await;
    claim(&place).await;
    let weights = ("parrot.gguf".to_owned(), "the weights of a parrot");
    // So many files, each with a path of so many characters.
    let files = |count: usize, length: usize| -> Vec<(String, &str)> {
        let deep = format!("{}/{}", "d".repeat(length / 2), "e".repeat(length / 2));
        std::iter::once(weights.clone()).chain((1..count).map(|number| (format!("{deep}/{number}.txt"), "x"))).collect()
    };
    for (name, files, says) in [
        ("deep", files(2_500, 400), "spec.model.files: the list of these 2500 files"),
        ("wide", files(300, 8), "300 files would be mounted one by one, and at most 256 are"),
    ] {
        let model = json!({"source": SOURCE, "files": ["**"]});
        place.create("ModelDeployment", name, json!({"spec": {"model": model}})).await;
        place.condition(name, "SourceResolved", "False", "Measuring").await;
        let files: Vec<(&str, &str)> = files.iter().map(|(path, content)| (path.as_str(), *content)).collect();
        let address = answering(found(&files));
        run_of(&place, name, json!({"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]})).await;
        let object = place.condition(name, "SourceResolved", "False", "TooManyFiles").await;
        let message = text(&condition(&object, "SourceResolved").unwrap()["message"]);
        assert!(message.contains(says), "{message}");
        assert!(place.of("ControllerRevision", name).await.is_empty(), "nothing is begun that cannot be ended");
    }
}

#[tokio::test]
async fn what_is_fetched_is_kept_in_the_claim_under_its_digest() {
    let place = Place::new(World::shared()).await;
    let source = place.publish("Parrot-GGUF", &[("parrot.gguf", "the weights of a parrot")]);
    deploy(&place, json!({"source": source, "cache": {"claimName": "models"}})).await;
    let object = place.condition(NAME, "SourceResolved", "False", "ClaimNotFound").await;
    assert!(text(&condition(&object, "SourceResolved").unwrap()["message"]).contains("spec.model.cache.claimName"), "{object}");
    claim(&place).await;
    let pod = place.let_in(NAME, 1).await.remove(0);
    let digest = text(&place.get("ModelDeployment", NAME).await.unwrap()["status"]["model"]["digest"]).replace(':', "-");
    let weights = |container: &Value| {
        let mounts = container["volumeMounts"].as_array().unwrap();
        mounts.iter().find(|mount| mount["name"] == "weights").cloned().unwrap()
    };
    let spec = &pod["spec"];
    assert_eq!(weights(&spec["initContainers"][0])["subPath"], format!("bonafide/{digest}"));
    let engine = weights(&spec["containers"][0]);
    assert_eq!((&engine["subPath"], &engine["readOnly"]), (&json!(format!("bonafide/{digest}/tree")), &json!(true)));
    let volume = spec["volumes"].as_array().unwrap().iter().find(|volume| volume["name"] == "weights").unwrap();
    assert_eq!(volume["persistentVolumeClaim"], json!({"claimName": "models"}));
    assert_eq!(spec["containers"][0]["resources"]["requests"]["ephemeral-storage"], Value::Null, "the node needs no room for it");
}
