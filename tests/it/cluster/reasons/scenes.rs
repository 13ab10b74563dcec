//! What provokes each reason. Each returns the moment of the write that makes it so.

use std::{
    sync::{Arc, Mutex},
    time::Instant,
};

use serde_json::{Value, json};

use super::{
    kubelet::{Kubelet, ago, container, now},
    told,
};
use crate::{cluster::place::NAME, support::merge};

type Player = Kubelet<'static>;

const GPUS: i32 = 4;

fn on_gpus() -> Value {
    json!({"resources": {"accelerator": {"class": "nvidia", "count": GPUS}}})
}

/// A pod of somebody else, with a place on the node already.
async fn somebody(kubelet: &Player, asks: Value) {
    let container = json!({"name": "x", "image": "x", "resources": {"limits": asks}});
    kubelet.place.create("Pod", "somebody", json!({"spec": {"nodeName": kubelet.node_name(), "containers": [container]}})).await;
}

/// A pod of ours that has its node.
async fn on_node(kubelet: &Player) -> String {
    kubelet.node(json!({})).await;
    kubelet.deploy(NAME, json!({})).await;
    kubelet.bound(NAME, None).await
}

pub async fn the_nodes_that_came_near_are_named(kubelet: &Player) -> Instant {
    kubelet.node(json!({"nvidia.com/gpu": "4"})).await;
    somebody(kubelet, json!({"nvidia.com/gpu": "2"})).await;
    kubelet.deploy(NAME, on_gpus()).await;
    Instant::now()
}

pub async fn a_pod_that_no_node_could_ever_take_says_so(kubelet: &Player) -> Instant {
    kubelet.node(json!({"nvidia.com/gpu": "1"})).await;
    kubelet.deploy(NAME, on_gpus()).await;
    Instant::now()
}

pub async fn a_node_that_is_on_its_way_is_waited_for(kubelet: &Player) -> Instant {
    kubelet.node(json!({"nvidia.com/gpu": "1"})).await;
    kubelet.deploy(NAME, on_gpus()).await;
    told(kubelet, "NoNodeFits").await;
    let pods = kubelet.place.of("Pod", NAME).await;
    let pod = pods[0]["metadata"]["name"].as_str().unwrap();
    kubelet.event(pod, "TriggeredScaleUp", "pod triggered scale-up: [{gpu-pool 1->2 (max: 3)}]", "cluster-autoscaler").await;
    Instant::now()
}

pub async fn a_quota_is_named_with_its_numbers(kubelet: &Player) -> Instant {
    kubelet.place.create("ResourceQuota", "few", json!({"spec": {"hard": {"pods": "0"}}})).await;
    kubelet.place.until("ResourceQuota", "few", "is counted", |quota| quota["status"]["used"]["pods"] == "0").await;
    kubelet.deploy(NAME, json!({})).await;
    Instant::now()
}

pub async fn pods_that_the_cluster_does_not_accept_are_told(kubelet: &Player) -> Instant {
    kubelet.deploy(NAME, json!({"pod": {"serviceAccountName": "nobody"}})).await;
    Instant::now()
}

async fn pull(kubelet: &Player, reason: &str, message: &str) -> Instant {
    let pod = on_node(kubelet).await;
    kubelet.engine(&pod, json!({"state": {"waiting": {"reason": reason, "message": message}}})).await;
    Instant::now()
}

pub async fn an_image_that_does_not_exist_is_told_as_such(kubelet: &Player) -> Instant {
    let said = "failed to pull and unpack image \"r/x:1\": failed to resolve reference \"r/x:1\": r/x:1: not found";
    pull(kubelet, "ErrImagePull", said).await
}

pub async fn an_image_that_is_not_given_says_what_it_takes(kubelet: &Player) -> Instant {
    let said =
        "Back-off pulling image \"r/x:1\": ErrImagePull: failed to authorize: failed to fetch oauth token: 401 Unauthorized";
    pull(kubelet, "ImagePullBackOff", said).await
}

/// The kubelet keeps why to itself, and an event tells.
pub async fn an_image_that_does_not_come_says_what_the_node_says(kubelet: &Player) -> Instant {
    let pod = on_node(kubelet).await;
    kubelet.engine(&pod, json!({"state": {"waiting": {"reason": "PodInitializing"}}})).await;
    let said = "Failed to pull image \"r/x:1\": failed to do request: Head \"https://r/v2/\": dial tcp: lookup r: no such host";
    kubelet.event(&pod, "Failed", said, "kubelet").await;
    let waiting = json!({"reason": "ImagePullBackOff", "message": "Back-off pulling image \"r/x:1\""});
    kubelet.engine(&pod, json!({"state": {"waiting": waiting}})).await;
    Instant::now()
}

async fn creating(kubelet: &Player) -> String {
    let pod = on_node(kubelet).await;
    let waiting = json!({"state": {"waiting": {"reason": "ContainerCreating"}}});
    let statuses = |name: &str| json!([container(name, waiting.clone())]);
    kubelet.says(&pod, json!({"initContainerStatuses": statuses("fetch"), "containerStatuses": statuses("engine")})).await;
    told(kubelet, "PullingImage").await;
    pod
}

pub async fn a_volume_that_cannot_be_mounted_is_told_from_an_event(kubelet: &Player) -> Instant {
    let pod = creating(kubelet).await;
    kubelet
        .event(&pod, "FailedMount", "MountVolume.SetUp failed for volume \"credentials\" : secret \"hf\" not found", "kubelet")
        .await;
    Instant::now()
}

pub async fn a_container_that_cannot_be_made_is_told(kubelet: &Player) -> Instant {
    let pod = on_node(kubelet).await;
    let waiting = json!({"reason": "CreateContainerError", "message": "exec: \"vllm\": executable file not found in $PATH"});
    kubelet.engine(&pod, json!({"state": {"waiting": waiting}})).await;
    Instant::now()
}

async fn fetch_ends(kubelet: &Player, reason: &str, message: &str) -> Instant {
    let pod = on_node(kubelet).await;
    let message = json!({"outcome": "Failed", "reason": reason, "message": message}).to_string();
    let ended = json!({"exitCode": 1, "reason": "Error", "message": message, "startedAt": ago(9), "finishedAt": now()});
    let fetch =
        json!({"restartCount": 1, "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": ended}});
    kubelet.says(&pod, json!({"initContainerStatuses": [container("fetch", fetch)]})).await;
    Instant::now()
}

pub async fn a_fetch_that_fails_is_told(kubelet: &Player) -> Instant {
    fetch_ends(kubelet, "FetchFailed", "connection reset by peer.").await
}

pub async fn a_full_disk_is_told(kubelet: &Player) -> Instant {
    fetch_ends(kubelet, "DiskFull", "98.0 GB more are needed and 10.0 GB are free.").await
}

/// A pod that fetches and says so at its port.
pub async fn downloading(kubelet: &Player, answer: Value) -> Arc<Mutex<Value>> {
    let answer = Arc::new(Mutex::new(answer));
    let pod = on_node(kubelet).await;
    let address = kubelet.progress(answer.clone()).await;
    let fetch = container("fetch", json!({"state": {"running": {"startedAt": now()}}}));
    kubelet.says(&pod, json!({"podIP": address, "podIPs": [{"ip": address}], "initContainerStatuses": [fetch]})).await;
    answer
}

pub async fn a_download_that_stands_still_is_told(kubelet: &Player) -> Instant {
    let going = json!({"total": 98_000_000_000_u64, "hashed": 2_100_000_000_u64, "rate": 1e9, "idleSeconds": 0.1});
    let answer = downloading(kubelet, going).await;
    told(kubelet, "Fetching").await;
    *answer.lock().unwrap() = json!({"total": 98_000_000_000_u64, "hashed": 2_100_000_000_u64, "rate": 0.0, "idleSeconds": 30.5});
    Instant::now()
}

async fn crash(kubelet: &Player, exit: i32, reason: &str, restarts: i32, log: &str) -> Instant {
    let pod = on_node(kubelet).await;
    kubelet.crashes(&pod, exit, reason, restarts, log).await;
    Instant::now()
}

/// The limit comes from the namespace; the template has none.
pub async fn an_engine_that_needs_too_much_memory_hears_how_much_would_do(kubelet: &Player) -> Instant {
    let limits = json!({"type": "Container", "default": {"memory": "1Gi"}, "defaultRequest": {"memory": "64Mi"}});
    kubelet.place.create("LimitRange", "limits", json!({"spec": {"limits": [limits]}})).await;
    crash(kubelet, 137, "OOMKilled", 1, "").await
}

pub async fn an_accelerator_that_is_too_small_is_told_from_the_log(kubelet: &Player) -> Instant {
    let log = "ggml_backend_cuda_buffer_type_alloc_buffer: allocating 4096.00 MiB on device 0: cudaMalloc failed: out of memory\nlast\n";
    crash(kubelet, 1, "Error", 1, log).await
}

/// The cause stands far above the last line.
pub async fn a_context_that_is_too_long_is_told_from_the_middle_of_the_log(kubelet: &Player) -> Instant {
    let log = format!(
        "start\nllama_init_from_model: failed to initialize the context: failed to allocate buffer for kv cache\n{}last line\n",
        "and so on\n".repeat(300)
    );
    crash(kubelet, 1, "Error", 1, &log).await
}

pub async fn an_unknown_architecture_is_told_from_the_log(kubelet: &Player) -> Instant {
    crash(kubelet, 1, "Error", 1, "llama_model_load: error loading model: unknown model architecture: 'zzzzz'\nsrv: exiting\n")
        .await
}

pub async fn an_argument_that_is_rejected_is_told_from_the_log(kubelet: &Player) -> Instant {
    crash(kubelet, 1, "Error", 1, "error: invalid argument: --no-such-flag\n").await
}

pub async fn a_damaged_file_is_told_from_the_log(kubelet: &Player) -> Instant {
    let log = "llama_model_load: error loading model: tensor 'blk.16.ffn_down.weight' data is not within the file bounds, model is corrupted or incomplete\n";
    crash(kubelet, 1, "Error", 1, log).await
}

pub async fn an_engine_that_stops_shows_its_last_lines(kubelet: &Player) -> Instant {
    crash(kubelet, 3, "Error", 1, "line before\n\nlast line\n").await
}

pub async fn an_engine_that_stops_again_and_again_is_told(kubelet: &Player) -> Instant {
    crash(kubelet, 3, "Error", 5, "last line\n").await
}

pub async fn an_engine_that_runs_and_is_not_ready_says_what_the_probe_hears(kubelet: &Player) -> Instant {
    let pod = on_node(kubelet).await;
    kubelet.event(&pod, "Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 503", "kubelet").await;
    kubelet.engine(&pod, json!({"started": true, "state": {"running": {"startedAt": now()}}})).await;
    Instant::now()
}

/// The engine's probe is green, and so is the pod as far as the kubelet knows.
pub async fn says_ready(kubelet: &Player, pod: &str, address: &str) {
    kubelet.says(pod, json!({"podIP": address, "podIPs": [{"ip": address}]})).await;
    kubelet.engine(pod, json!({"ready": true, "started": true, "state": {"running": {"startedAt": now()}}})).await;
    let yes = |kind: &str| json!({"type": kind, "status": "True", "lastTransitionTime": now()});
    kubelet.says(pod, json!({"conditions": [yes("Initialized"), yes("ContainersReady"), yes("Ready")]})).await;
}

pub async fn an_engine_that_says_it_is_ready_and_fails_is_told(kubelet: &Player) -> Instant {
    let pod = on_node(kubelet).await;
    let address = kubelet.engine_answers("500 Internal Server Error").await;
    says_ready(kubelet, &pod, &address).await;
    Instant::now()
}

/// Nobody listens there.
pub async fn an_engine_that_cannot_be_reached_is_told(kubelet: &Player) -> Instant {
    let pod = on_node(kubelet).await;
    says_ready(kubelet, &pod, &super::kubelet::own_address().to_string()).await;
    Instant::now()
}

/// As the node controller does when a kubelet is silent.
pub async fn a_node_that_is_lost_is_told(kubelet: &Player) -> Instant {
    let pod = on_node(kubelet).await;
    let address = kubelet.engine_answers("200 OK").await;
    says_ready(kubelet, &pod, &address).await;
    let ready = |status: &str| json!({"conditions": [{"type": "Ready", "status": status, "lastTransitionTime": now()}]});
    kubelet.place.condition(NAME, "Ready", "True", "Ready").await;
    kubelet.node_is("Unknown", "NodeStatusUnknown", "Kubelet stopped posting node status.").await;
    kubelet.says(&pod, ready("False")).await;
    Instant::now()
}

/// The real scheduler takes the place away.
pub async fn a_pod_that_had_to_give_its_place_is_told(kubelet: &Player) -> Instant {
    kubelet.node(json!({"nvidia.com/gpu": "4"})).await;
    kubelet.deploy(NAME, on_gpus()).await;
    let pod = kubelet.bound(NAME, None).await;
    kubelet.engine(&pod, json!({"state": {"running": {"startedAt": now()}}})).await;
    told(kubelet, "Loading").await;
    let class = format!("{}-first", kubelet.node_name());
    let object =
        json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": class}, "value": 1000});
    kubelet.place.world.cluster.apply(&object.to_string()).await.unwrap();
    let container = json!({"name": "x", "image": "x", "resources": {"limits": {"nvidia.com/gpu": "4"}}});
    let spec = json!({"priorityClassName": class, "nodeSelector": {"place": kubelet.node_name()}, "containers": [container]});
    kubelet.place.create("Pod", "first", json!({"spec": spec})).await;
    Instant::now()
}

pub async fn a_pod_that_its_node_sent_away_is_told(kubelet: &Player) -> Instant {
    let pod = on_node(kubelet).await;
    let low = "The node was low on resource: memory. Threshold quantity: 100Mi, available: 20Mi. ";
    let status = json!({"phase": "Failed", "reason": "Evicted", "message": low});
    let target = json!({"type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet", "message": low, "lastTransitionTime": now()});
    kubelet.says(&pod, merge(&status, &json!({"conditions": [target]}))).await;
    Instant::now()
}
