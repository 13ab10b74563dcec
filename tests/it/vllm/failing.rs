//! Every way in which vLLM was seen not to start, and what is said of it.

use std::{fs, path::Path};

use serde_json::{Value, json};

use super::{asked, deploy, engine, place, ready};
use crate::e2e::place::Place;

/// One way not to start.
struct Case {
    name: &'static str,
    /// What is asked for beside.
    spec: Value,
    /// What is done to the model.
    change: fn(&Path),
    /// What is said: the reason, and a part of the message.
    expected: (&'static str, &'static str),
}

fn case(name: &'static str, spec: Value, change: fn(&Path), expected: (&'static str, &'static str)) -> Case {
    Case { name, spec, change, expected }
}

/// Changes a JSON file of the model.
fn json_file(directory: &Path, name: &str, change: impl FnOnce(&mut Value)) {
    let file = directory.join(name);
    let mut value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    change(&mut value);
    fs::write(file, value.to_string()).unwrap();
}

fn config(directory: &Path, change: impl FnOnce(&mut Value)) {
    json_file(directory, "config.json", change);
}

/// Changes the weights.
fn weights(directory: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let file = directory.join("model.safetensors");
    let mut bytes = fs::read(&file).unwrap();
    change(&mut bytes);
    fs::write(file, bytes).unwrap();
}

/// A few at a time, each removed once it was explained: they would go on starting.
async fn explained(place: &Place, cases: Vec<Case>) {
    let mut wrong = Vec::new();
    for batch in cases.chunks(3) {
        for case in batch {
            deploy(place, case.name, &case.spec, case.change).await;
        }
        for case in batch {
            let began = std::time::Instant::now();
            let (reason, part) = case.expected;
            let found =
                futures::FutureExt::catch_unwind(std::panic::AssertUnwindSafe(ready(place, case.name, "False", reason))).await;
            match found {
                Ok(message) if message.contains(part) => {
                    eprintln!("vllm: {}: {reason} {:?}: {message}", case.name, began.elapsed())
                }
                Ok(message) => wrong.push(format!("{}: {part:?} is missing in {message}", case.name)),
                Err(_) => wrong.push(format!("{}: see above", case.name)),
            }
            place.world.kubectl(&["delete", "mdep", case.name, "-n", &place.name]).await;
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn as_it_is(_: &Path) {}

#[tokio::test]
async fn what_is_wrong_with_a_configuration_is_said() {
    if !asked() {
        return;
    }
    let place = place("vllm-config").await;
    engine(&place, "vllm-flag", &["--no-such-flag", "3"], 1).await;
    let cases = vec![
        case(
            "type",
            json!({}),
            |at| config(at, |config| config["model_type"] = json!("foobar")),
            ("UnknownArchitecture", "foobar"),
        ),
        case(
            "architecture",
            json!({}),
            |at| config(at, |config| config["architectures"] = json!(["FooBarForCausalLM"])),
            ("UnknownArchitecture", "FooBarForCausalLM"),
        ),
        case("long", json!({"engine": {"contextLength": 100_000}}), as_it_is, ("ContextTooLong", "2048")),
        case(
            "no-json",
            json!({}),
            |at| fs::write(at.join("config.json"), "{ not JSON").unwrap(),
            ("WeightsDamaged", "config.json is not JSON"),
        ),
        case("no-config", json!({}), |at| fs::remove_file(at.join("config.json")).unwrap(), ("WeightsDamaged", "no config.json")),
        case(
            "no-tokenizer",
            json!({}),
            |at| {
                for file in ["tokenizer.json", "tokenizer_config.json"] {
                    fs::remove_file(at.join(file)).unwrap();
                }
            },
            ("WeightsDamaged", "tokenizer"),
        ),
        case("flag", json!({"engine": {"name": "vllm-flag"}}), as_it_is, ("ArgumentRejected", "--no-such-flag")),
        case("value", json!({"engine": {"args": ["--dtype", "float99"]}}), as_it_is, ("ArgumentRejected", "--dtype")),
    ];
    explained(&place, cases).await;
}

#[tokio::test]
async fn what_is_wrong_with_weights_and_memory_is_said() {
    if !asked() {
        return;
    }
    let place = place("vllm-weights").await;
    engine(&place, "vllm-hungry", &[], 100).await;
    let cases = vec![
        case("noise", json!({}), |at| weights(at, |bytes| bytes[8..40].fill(0xfe)), ("WeightsDamaged", "header")),
        case(
            "header",
            json!({}),
            |at| weights(at, |bytes| bytes[..8].copy_from_slice(&(1_u64 << 62).to_le_bytes())),
            ("WeightsDamaged", "header too large"),
        ),
        case(
            "half",
            json!({}),
            |at| weights(at, |bytes| bytes.truncate(bytes.len() / 2)),
            ("WeightsDamaged", "not fully covered"),
        ),
        case(
            "shapes",
            json!({}),
            |at| config(at, |config| config["intermediate_size"] = json!(256)),
            ("WeightsDamaged", "other shapes than config.json says"),
        ),
        case(
            "shard",
            json!({}),
            |at| {
                fs::rename(at.join("model.safetensors"), at.join("model-00001-of-00002.safetensors")).unwrap();
                let map = json!({"lm_head.weight": "model-00002-of-00002.safetensors", "model.norm.weight": "model-00001-of-00002.safetensors"});
                let index = json!({"metadata": {"total_size": 1}, "weight_map": map});
                fs::write(at.join("model.safetensors.index.json"), index.to_string()).unwrap();
            },
            ("WeightsDamaged", "model-00002-of-00002"),
        ),
        case("hungry", json!({"engine": {"name": "vllm-hungry"}}), as_it_is, ("OutOfMemory", "100.0 GiB")),
        case(
            "cache",
            json!({"engine": {"contextLength": 3_000_000}}),
            |at| config(at, |config| config["max_position_embeddings"] = json!(4_000_000)),
            ("ContextTooLong", "3000000"),
        ),
        case("small", json!({"resources": {"memory": "1Gi", "sharedMemory": "256Mi"}}), as_it_is, ("OutOfMemory", "memory")),
    ];
    explained(&place, cases).await;
}
