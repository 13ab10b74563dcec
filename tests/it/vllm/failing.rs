//! Every way in which vLLM was seen not to start, and what is said of it.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use futures::StreamExt as _;
use serde_json::{Value, json};

use super::{CACHE, START, after, asked, asked_for, deploy, engine, more, place, processes, ready, variable};
use crate::e2e::place::Place;

/// So many load at the same time: a start keeps one processor busy.
const AT_ONCE: usize = 2;

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

/// The same with an engine of the same name.
fn other(name: &'static str, change: fn(&Path), expected: (&'static str, &'static str)) -> Case {
    Case { name, spec: json!({"engine": {"name": format!("vllm-{name}")}}), change, expected }
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

/// An index of weights that says where these tensors are.
fn index(directory: &Path, map: &Value) {
    let index = json!({"metadata": {"total_size": 1}, "weight_map": map});
    fs::write(directory.join("model.safetensors.index.json"), index.to_string()).unwrap();
}

fn as_it_is(_: &Path) {}

/// A few at a time, each removed once it was explained: they would go on starting.
async fn explained(place: &Place, cases: Vec<Case>) -> Vec<String> {
    let cases = futures::stream::iter(cases).filter(|case| std::future::ready(asked_for(case.name))).map(|case| async move {
        let began = Instant::now();
        deploy(place, case.name, &case.spec, case.change).await;
        let wrong = is_said(place, case.name, case.expected, began).await.err();
        place.world.kubectl(&["delete", "mdep", case.name, "-n", &place.name]).await;
        wrong
    });
    cases.buffer_unordered(AT_ONCE).filter_map(async |wrong| wrong).collect().await
}

/// Waits until this reason and this part of a message stand in the status; keeps the engine's log for people.
async fn is_said(place: &Place, name: &str, (reason, part): (&str, &str), began: Instant) -> Result<(), String> {
    let found = ready(place, name, "False", reason).await;
    let log = log(place, name).await;
    let message = found.map_err(|error| format!("{error}; the log is in {}", log.display()))?;
    eprintln!("vllm: {name}: {reason} after {:.1} s: {message}", began.elapsed().as_secs_f64());
    if message.contains(part) { Ok(()) } else { Err(format!("{name}: {part:?} is missing in {message}")) }
}

/// Where the log of the engine that ended last is.
async fn log(place: &Place, name: &str) -> PathBuf {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("vllm").join(format!("{name}.log"));
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    let selector = format!("bonafide.dev/deployment={name}");
    let wanted = ["logs", "-n", &place.name, "-l", &selector, "-c", "engine", "--tail=-1"];
    let previous: Vec<&str> = wanted.into_iter().chain(["--previous"]).collect();
    let kubectl = place.world.cluster.kubectl();
    let text = match kubectl.run(&previous).await {
        Ok(text) => Ok(text),
        Err(_) => kubectl.run(&wanted).await,
    };
    fs::write(&file, text.unwrap_or_else(|error| format!("{error:#}"))).unwrap();
    file
}

#[tokio::test]
async fn what_is_wrong_with_a_configuration_is_said() {
    if !asked() {
        return;
    }
    let place = place("vllm-config").await;
    engine(&place, "vllm-flag", |spec| more(spec, &["--no-such-flag", "3"])).await;
    engine(&place, "vllm-elsewhere", |spec| spec["args"][0] = json!("somebody/something")).await;
    let cases = vec![
        case(
            "type",
            json!({}),
            |at| config(at, |config| config["model_type"] = json!("foobar")),
            ("UnknownArchitecture", "the model type foobar"),
        ),
        case(
            "architecture",
            json!({}),
            |at| config(at, |config| config["architectures"] = json!(["FooBarForCausalLM"])),
            ("UnknownArchitecture", "the architecture FooBarForCausalLM"),
        ),
        case(
            "long",
            json!({"engine": {"contextLength": 100_000}}),
            as_it_is,
            ("ContextTooLong", "contextLength to 2048 or less"),
        ),
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
            ("WeightsDamaged", "no tokenizer"),
        ),
        other("flag", as_it_is, ("ArgumentRejected", "the argument --no-such-flag 3")),
        case(
            "value",
            json!({"engine": {"args": ["--kv-cache-dtype", "float99"]}}),
            as_it_is,
            ("ArgumentRejected", "the value of --kv-cache-dtype"),
        ),
        other("elsewhere", as_it_is, ("EngineFailed", "look something up on a hub")),
    ];
    let wrong = explained(&place, cases).await;
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn what_is_wrong_with_weights_is_said() {
    if !asked() {
        return;
    }
    let place = place("vllm-weights").await;
    let cases = vec![
        case(
            "noise",
            json!({}),
            |at| weights(at, |bytes| bytes[8..40].fill(0xfe)),
            ("WeightsDamaged", "invalid UTF-8 in header"),
        ),
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
                index(at, &map);
            },
            ("WeightsDamaged", "model-00002-of-00002.safetensors"),
        ),
        // Weights that the index does not name are none.
        case("none", json!({}), |at| index(at, &json!({})), ("WeightsDamaged", "no weights that it can load")),
        // Heads of 16 instead of 32, and twice as many of them: the same shapes.
        case(
            "heads",
            json!({}),
            |at| {
                config(at, |config| {
                    for (name, number) in [("head_dim", 16), ("num_attention_heads", 8), ("num_key_value_heads", 4)] {
                        config[name] = json!(number);
                    }
                });
            },
            ("UnknownArchitecture", "attention heads of size 16"),
        ),
    ];
    let wrong = explained(&place, cases).await;
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn what_is_missing_around_it_is_said() {
    if !asked() {
        return;
    }
    let place = place("vllm-around").await;
    engine(&place, "vllm-hungry", |spec| variable(spec, CACHE, "100")).await;
    engine(&place, "vllm-limited", |spec| after(spec, "ulimit -v 2500000")).await;
    let listen = "python3.11 -c 'import socket,time; s=socket.create_server((\"0.0.0.0\", 8000)); time.sleep(3600)' & sleep 2";
    engine(&place, "vllm-taken", |spec| after(spec, listen)).await;
    let without = |spec: &mut Value, name: &str| {
        spec["writable"].as_array_mut().unwrap().retain(|writable| writable["env"] != name);
    };
    engine(&place, "vllm-no-temp", |spec| without(spec, "TMPDIR")).await;
    let compiling = |spec: &mut Value| {
        without(spec, "HOME");
        spec["args"].as_array_mut().unwrap().retain(|arg| arg != "--enforce-eager");
    };
    engine(&place, "vllm-no-home", compiling).await;
    engine(&place, "vllm-no-cache", |spec| {
        compiling(spec);
        variable(spec, "TORCHINDUCTOR_CACHE_DIR", "/tmp/inductor");
    })
    .await;
    let cases = vec![
        other("hungry", as_it_is, ("OutOfMemory", "a cache of 100.0 GiB")),
        case(
            "cache",
            json!({"engine": {"contextLength": 3_000_000}}),
            |at| config(at, |config| config["max_position_embeddings"] = json!(4_000_000)),
            ("ContextTooLong", "The context of 3000000 tokens needs"),
        ),
        case("small", json!({"resources": {"memory": "1Gi", "sharedMemory": "256Mi"}}), as_it_is, ("OutOfMemory", "memory")),
        other("limited", as_it_is, ("OutOfMemory", "more bytes of memory")),
        other("taken", as_it_is, ("EngineFailed", "port is taken")),
        other("no-temp", as_it_is, ("EngineFailed", "no directory for temporary files")),
        other("no-home", as_it_is, ("EngineFailed", "Read-only file system: '/home'")),
        other("no-cache", as_it_is, ("EngineFailed", "wants to write where it may not")),
    ];
    let mut wrong = explained(&place, cases).await;
    wrong.extend(killed(&place).await.err());
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Its worker is killed while it loads, as the kernel does when memory runs out.
async fn killed(place: &Place) -> Result<(), String> {
    if !asked_for("killed") {
        return Ok(());
    }
    let began = Instant::now();
    deploy(place, "killed", &json!({}), as_it_is).await;
    let worker = async || processes::worker(processes::server("killed")?);
    let worker = place.until(START, "vLLM has a worker", worker).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    place.kill(worker).await;
    is_said(place, "killed", ("OutOfMemory", "was killed while it loaded"), began).await
}

#[tokio::test]
async fn what_has_no_weights_or_names_others_never_becomes_a_pod() {
    if !asked() {
        return;
    }
    let place = place("vllm-refused").await;
    let bare = |at: &Path| fs::remove_file(at.join("model.safetensors")).unwrap();
    deploy(&place, "bare", &json!({}), bare).await;
    deploy(&place, "loan", &json!({"engine": {"args": ["--tokenizer", "somebody/something"]}}), as_it_is).await;
    for (name, expected) in [("bare", ("NoFiles", "no weights to load")), ("loan", ("ArgumentNotAllowed", "--tokenizer"))] {
        is_said(&place, name, expected, Instant::now()).await.unwrap();
    }
    place.never_a_pod(&["bare", "loan"]).await;
}
