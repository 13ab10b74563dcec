//! A real vLLM, on the CPU, in real pods: what is said of it in `engines/vllm.yaml` is so. `make test-vllm` runs these; they fetch
//! 0.9 GB, and each start of vLLM takes half a minute of two processors.

mod failing;
mod serving;

use std::{fs, time::Duration};

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

/// Whether these tests were asked for.
fn asked() -> bool {
    let asked = std::env::var_os("BONAFIDE_TEST_VLLM").is_some();
    if !asked {
        eprintln!("skipped: `make test-vllm` runs this");
    }
    asked
}

/// A namespace in a cluster that has vLLM.
async fn place(stem: &str) -> Place {
    let place = Place::guarded(stem).await;
    ENGINE
        .get_or_init(|| async {
            place.world.cluster.load_image(&assets::path(assets::VLLM_IMAGE).await.unwrap()).await.unwrap();
            engine(&place, "vllm", &[], 1).await;
        })
        .await;
    place
}

/// The engine that is built in, on the CPU, with more arguments and a cache of so many GiB.
async fn engine(place: &Place, name: &str, args: &[&str], cache: u32) {
    let text = output(Command::new(env!("CARGO_BIN_EXE_bonafide")).args(["engines", "vllm", "--output", "json"])).await;
    let mut engine: Value = serde_json::from_str(&text).unwrap();
    engine["metadata"]["name"] = json!(name);
    engine["spec"]["images"] = json!([{"accelerator": "none", "image": assets::VLLM_NAME}]);
    let all = engine["spec"]["args"].as_array_mut().unwrap();
    all.extend(["--enforce-eager", "--dtype", "float32"].iter().chain(args).map(|arg| json!(arg)));
    engine["spec"]["env"].as_array_mut().unwrap().push(json!({"name": "VLLM_CPU_KVCACHE_SPACE", "value": cache.to_string()}));
    place.world.cluster.apply(&engine.to_string()).await.unwrap();
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

/// Waits until the condition Ready is so; tells what it was before.
async fn ready(place: &Place, name: &str, status: &str, reason: &str) -> String {
    let began = std::time::Instant::now();
    let mut seen: Vec<String> = Vec::new();
    loop {
        let object = place.get("ModelDeployment", name).await;
        if let Some(found) = condition(&object, "Ready") {
            if found["status"] == status && found["reason"] == reason {
                return found["message"].as_str().unwrap().to_owned();
            }
            let told = format!("{} {}: {}", found["status"], found["reason"], found["message"]);
            if seen.last() != Some(&told) {
                seen.push(told);
            }
        }
        assert!(began.elapsed() < START, "{name} is not Ready={status} ({reason}); it was {seen:#?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
