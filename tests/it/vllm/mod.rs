//! A real vLLM, on the CPU, in real pods: what is said of it in `engines/vllm.yaml` is so. `make test-vllm` runs these; they fetch
//! 0.9 GB, and each start of vLLM takes half a minute of two processors.

mod failing;
mod processes;
mod serving;

use std::{
    fs,
    time::{Duration, Instant},
};

use localcluster::assets;
use serde_json::{Value, json};
use tokio::{process::Command, sync::OnceCell};

use crate::e2e::{
    place::{Place, condition},
    world::output,
};

/// How long a vLLM may take to start on a machine that is busy with others.
const START: Duration = Duration::from_secs(900);

static ENGINE: OnceCell<()> = OnceCell::const_new();

/// Which are asked for: `1` for all, or the names of some cases of [`failing`].
const ASKED: &str = "BONAFIDE_TEST_VLLM";

/// Whether these tests were asked for.
fn asked() -> bool {
    let asked = std::env::var_os(ASKED).is_some();
    if !asked {
        eprintln!("skipped: `make test-vllm` runs this");
    }
    asked
}

/// Whether this case was asked for.
fn asked_for(name: &str) -> bool {
    std::env::var(ASKED).is_ok_and(|names| names == "1" || names.split(',').any(|asked| asked == name))
}

/// A namespace in a cluster that has vLLM.
async fn place(stem: &str) -> Place {
    let place = Place::guarded(stem).await;
    ENGINE
        .get_or_init(|| async {
            place.world.cluster.load_image(&assets::path(assets::VLLM_IMAGE).await.unwrap()).await.unwrap();
            engine(&place, "vllm", |_| {}).await;
        })
        .await;
    place
}

/// The engine that is built in, on the CPU, without compiling kernels and with a cache of 1 GiB; what `change` does to its spec
/// is done last.
async fn engine(place: &Place, name: &str, change: impl FnOnce(&mut Value)) {
    let text = output(Command::new(env!("CARGO_BIN_EXE_bonafide")).args(["engines", "vllm", "--output", "json"])).await;
    let mut engine: Value = serde_json::from_str(&text).unwrap();
    engine["metadata"]["name"] = json!(name);
    engine["spec"]["images"] = json!([{"accelerator": "none", "image": assets::VLLM_NAME}]);
    more(&mut engine["spec"], &["--enforce-eager", "--dtype", "float32"]);
    engine["spec"]["env"].as_array_mut().unwrap().push(json!({"name": CACHE, "value": "1"}));
    change(&mut engine["spec"]);
    place.world.cluster.apply(&engine.to_string()).await.unwrap();
}

/// The variable that says how many GiB of the node's memory are for the cache.
const CACHE: &str = "VLLM_CPU_KVCACHE_SPACE";

/// More arguments for an engine.
fn more(spec: &mut Value, args: &[&str]) {
    spec["args"].as_array_mut().unwrap().extend(args.iter().map(|arg| json!(arg)));
}

/// Another value of a variable of an engine.
fn variable(spec: &mut Value, name: &str, value: &str) {
    let all = spec["env"].as_array_mut().unwrap();
    all.iter_mut().find(|variable| variable["name"] == name).unwrap()["value"] = json!(value);
}

/// A line of a shell before an engine; `$$` is a dollar sign there.
fn after(spec: &mut Value, line: &str) {
    spec["command"] = json!(["sh", "-c", format!("{line}; exec vllm serve \"$$@\""), "vllm"]);
}

/// Puts the small model on the hub, changed by `change`, signed; and deploys it.
async fn deploy(place: &Place, name: &str, patch: &Value, change: impl FnOnce(&std::path::Path)) {
    let directory = place.publish(name, &[("README.md", "# Small\n")]);
    for file in fs::read_dir(assets::path(assets::VLLM_MODEL).await.unwrap()).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), directory.join(file.file_name())).unwrap();
    }
    change(&directory);
    place.world.platform.signs(&directory).await;
    let spec = crate::support::merge(&json!({"engine": {"name": "vllm"}}), patch);
    place.deploy_with(name, spec).await;
}

/// Waits until the condition Ready is so, and tells all that it is meanwhile; its message, or what it was instead.
async fn ready(place: &Place, name: &str, status: &str, reason: &str) -> Result<String, String> {
    let began = Instant::now();
    let mut seen = String::new();
    while began.elapsed() < START {
        let object = place.get("ModelDeployment", name).await;
        if let Some(found) = condition(&object, "Ready") {
            let told = format!("{} {}: {}", found["status"], found["reason"], found["message"]);
            if seen != told {
                eprintln!("vllm: {name} {:6.1} s: {told}", began.elapsed().as_secs_f64());
                seen = told;
            }
            if found["status"] == status && found["reason"] == reason {
                return Ok(found["message"].as_str().unwrap().to_owned());
            }
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Err(format!("{name} does not become Ready={status} ({reason}); it is {seen}"))
}
