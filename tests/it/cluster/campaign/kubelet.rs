//! A node that only says so: its pods run, become ready when they are vouched for, answer, and end when they are deleted.

use std::{net::UdpSocket, sync::Arc, time::Duration};

use axum::{Router, routing::get};
use futures::StreamExt as _;
use k8s_openapi::{api::core::v1::Pod, jiff::Timestamp};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams},
    runtime::watcher,
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinSet, time::sleep};

use super::{
    super::place::{cluster_wide, parse},
    at_last, done,
};

const NODE: &str = "stand-in";

pub struct Kubelet {
    port: u16,
    _tasks: JoinSet<()>,
}

impl Kubelet {
    /// Makes the node known, and cares for its pods until the value is dropped.
    pub async fn start(client: Client) -> Self {
        let mut tasks = JoinSet::new();
        let listener = TcpListener::bind(("0.0.0.0", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let answer =
            || async { json!({"status": "ok", "choices": [{"text": "Yes", "message": {"content": "Yes"}}]}).to_string() };
        let gauges = "vllm:num_requests_running 0\nllamacpp:requests_processing 0\nllamacpp:requests_deferred 0\n";
        let engine = Router::new().route("/metrics", get(move || async move { gauges })).fallback(answer);
        tasks.spawn(async move { axum::serve(listener, engine).await.unwrap() });

        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}});
        at_last("a node", || async {
            done(cluster_wide(&client, "Node").create(&Default::default(), &parse(node.clone())).await)
        })
        .await;
        tasks.spawn(beat(client.clone()));
        tasks.spawn(care(client, Arc::new(address())));
        Self { port, _tasks: tasks }
    }

    /// Where its engines answer.
    pub fn port(&self) -> u16 {
        self.port
    }
}

/// An address of this machine that is no loopback address, which the API server does not take for a pod; whether anybody
/// answers there is another question.
fn address() -> String {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    let outside = socket.connect("192.0.2.1:9").and_then(|()| socket.local_addr()).map(|address| address.ip());
    outside.ok().filter(|address| !address.is_loopback()).map_or_else(|| "192.0.2.2".to_owned(), |address| address.to_string())
}

/// Says again and again that the node is there.
async fn beat(client: Client) {
    loop {
        let now = Timestamp::now().to_string();
        let much = json!({"cpu": "1000", "memory": "10Ti", "pods": "5000", "ephemeral-storage": "100Ti"});
        let ready = json!([{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "", "lastHeartbeatTime": now, "lastTransitionTime": now}]);
        let status = json!({"status": {"capacity": much, "allocatable": much, "conditions": ready}});
        let nodes = cluster_wide(&client, "Node");
        let _ = tokio::time::timeout(
            Duration::from_secs(3),
            nodes.patch_status(NODE, &PatchParams::default(), &Patch::Merge(status)),
        )
        .await;
        sleep(Duration::from_secs(3)).await;
    }
}

async fn care(client: Client, address: Arc<String>) {
    let pods = watcher(Api::<Pod>::all(client.clone()), watcher::Config::default().labels("bonafide.dev/deployment"));
    futures::pin_mut!(pods);
    while let Some(event) = pods.next().await {
        match event {
            Ok(watcher::Event::Apply(pod) | watcher::Event::InitApply(pod)) => {
                let (client, address) = (client.clone(), address.clone());
                tokio::spawn(async move { tend(client, &address, pod).await });
            }
            Ok(_) => {}
            Err(_) => sleep(Duration::from_millis(300)).await,
        }
    }
}

/// Brings the status of one pod to what a kubelet would say.
async fn tend(client: Client, address: &str, pod: Pod) {
    let Some(spec) = pod.spec.clone().filter(|spec| spec.node_name.as_deref() == Some(NODE)) else { return };
    let api: Api<Pod> = Api::namespaced(client, &pod.namespace().unwrap());
    let name = pod.name_any();
    if pod.metadata.deletion_timestamp.is_some() {
        let now = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
        return at_last("the end of a pod", || async { done(api.delete(&name, &now).await) }).await;
    }
    let status = pod.status.unwrap_or_default();
    let is =
        |kind: &str| status.conditions.iter().flatten().any(|condition| condition.type_ == kind && condition.status == "True");
    let gates = spec.readiness_gates.unwrap_or_default();
    let ready = gates.iter().all(|gate| is(&gate.condition_type));
    if status.phase.as_deref() == Some("Running") && ready == is("Ready") {
        return;
    }
    let now = Timestamp::now().to_string();
    let of = |container: &k8s_openapi::api::core::v1::Container, state: Value| json!({"name": container.name, "image": container.image, "imageID": "", "ready": true, "started": true, "restartCount": 0, "state": state});
    let ended = json!({"terminated": {"exitCode": 0, "reason": "Completed", "startedAt": now, "finishedAt": now}});
    let fetched: Vec<Value> = spec.init_containers.iter().flatten().map(|container| of(container, ended.clone())).collect();
    let running: Vec<Value> =
        spec.containers.iter().map(|container| of(container, json!({"running": {"startedAt": now}}))).collect();
    let condition = |kind: &str, holds: bool| json!({"type": kind, "status": if holds { "True" } else { "False" }, "lastTransitionTime": now});
    let patch = json!({
        "metadata": {"uid": pod.metadata.uid},
        "status": {
            "phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "startTime": status.start_time.map_or(json!(now), |time| json!(time)),
            "initContainerStatuses": fetched, "containerStatuses": running,
            "conditions": [condition("Initialized", true), condition("ContainersReady", true), condition("Ready", ready)],
        },
    });
    at_last("the status of a pod", || async {
        done(api.patch_status(&name, &PatchParams::default(), &Patch::Strategic(&patch)).await)
    })
    .await;
}
