//! A node that is played: the scheduler fills it, and what a kubelet would say of its pods is said here.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use kube::{
    Client,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use super::super::place::{cluster_wide, parse, text, value};

/// The engine's port.
pub const PORT: u16 = 8000;

/// What the test sees and decides of the node's pods.
#[derive(Default)]
pub struct Pods {
    /// Requests that every engine works on.
    pub busy: AtomicU64,
    /// Whether engines that were silent answer from now on.
    pub talks: AtomicBool,
    /// The fewest replicas that answered at the same time, since the test last asked.
    pub fewest: AtomicI64,
    /// The most pods that there were, those that were being deleted apart.
    pub most: AtomicI64,
}

pub struct Node {
    pub pods: Arc<Pods>,
    task: JoinHandle<()>,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Node {
    /// A node with room for so many pods, for pods that ask for the label `for=NAME`.
    pub async fn new(client: &Client, name: &str, room: usize) -> Self {
        let nodes = cluster_wide(client, "Node");
        let taint = json!({"key": "for", "value": name, "effect": "NoSchedule"});
        let metadata = json!({"name": name, "labels": {"for": name}});
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": metadata, "spec": {"taints": [taint]}});
        nodes.create(&PostParams::default(), &parse(node)).await.unwrap();
        let pods = Arc::new(Pods::default());
        let kubelet =
            Kubelet { client: client.clone(), name: name.to_owned(), room, pods: pods.clone(), engines: HashMap::new() };
        Self { pods, task: tokio::spawn(kubelet.run()) }
    }
}

struct Kubelet {
    client: Client,
    name: String,
    room: usize,
    pods: Arc<Pods>,
    /// The engines that run, by the UID of their pods.
    engines: HashMap<String, Engine>,
}

struct Engine {
    address: Ipv4Addr,
    since: Instant,
    crashes: i32,
    server: Option<JoinHandle<()>>,
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Some(server) = &self.server {
            server.abort();
        }
    }
}

impl Kubelet {
    async fn run(mut self) {
        let mut reported = None::<Instant>;
        loop {
            if reported.is_none_or(|at| at.elapsed() > Duration::from_secs(8)) {
                self.report().await;
                reported = Some(Instant::now());
            }
            self.tend().await;
            tokio::time::sleep(Duration::from_millis(150)).await;
        }
    }

    async fn report(&self) {
        let room = json!({"cpu": "64", "memory": "256Gi", "ephemeral-storage": "500Gi", "pods": self.room.to_string()});
        let ready = json!({"type": "Ready", "status": "True", "reason": "KubeletReady", "lastHeartbeatTime": now(), "lastTransitionTime": now()});
        let status = json!({"status": {"capacity": room, "allocatable": room, "conditions": [ready]}});
        let nodes = cluster_wide(&self.client, "Node");
        nodes.patch_status(&self.name, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    }

    async fn tend(&mut self) {
        let all = cluster_wide(&self.client, "Pod");
        let ours = ListParams::default().fields(&format!("spec.nodeName={}", self.name));
        let pods: Vec<Value> = all.list(&ours).await.unwrap().items.into_iter().map(value).collect();
        let answering = pods.iter().filter(|pod| is(pod, "Ready") && pod["metadata"]["deletionTimestamp"].is_null()).count();
        self.pods.fewest.fetch_min(i64::try_from(answering).unwrap(), Ordering::SeqCst);
        let there = pods.iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null()).count();
        self.pods.most.fetch_max(i64::try_from(there).unwrap(), Ordering::SeqCst);
        for pod in &pods {
            self.tend_to(pod).await;
        }
        let alive: Vec<String> = pods.iter().map(|pod| text(&pod["metadata"]["uid"])).collect();
        self.engines.retain(|uid, _| alive.contains(uid));
    }

    async fn tend_to(&mut self, pod: &Value) {
        let (uid, name, namespace) =
            (&pod["metadata"]["uid"], text(&pod["metadata"]["name"]), text(&pod["metadata"]["namespace"]));
        let resource = super::super::place::resource("Pod");
        let api: kube::Api<kube::api::DynamicObject> = kube::Api::namespaced_with(self.client.clone(), &namespace, &resource);
        if !pod["metadata"]["deletionTimestamp"].is_null() {
            self.engines.remove(&text(uid));
            let _ = api.delete(&name, &DeleteParams::default().grace_period(0)).await;
            return;
        }
        let mode = |mode: &str| has(pod, &format!("--mode={mode}"));
        let busy = self.pods.clone();
        let engine = self.engines.entry(text(uid)).or_insert_with(|| Engine {
            address: address(),
            since: Instant::now(),
            crashes: 0,
            server: None,
        });
        let stuck = mode("stuck") || has(pod, "--alias=stuck");
        let loaded = !stuck && engine.since.elapsed() > Duration::from_millis(700);
        if mode("crash") && engine.since.elapsed() > Duration::from_millis(500) {
            (engine.crashes, engine.since) = (engine.crashes + 1, Instant::now());
        }
        let crashes = mode("crash");
        if loaded && !crashes && engine.server.is_none() {
            let listener = TcpListener::bind(SocketAddr::from((engine.address, PORT))).await.unwrap();
            let silent = mode("silent");
            engine.server = Some(tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(serve(stream, silent, busy.clone()));
                }
            }));
        }
        let ready = engine.server.is_some();
        let wanted = status(pod, engine, ready);
        if differs(&wanted, &pod["status"]) {
            let patch = json!({"metadata": {"uid": uid}, "status": wanted});
            let _ = api.patch_status(&name, &PatchParams::default(), &Patch::Strategic(patch)).await;
        }
    }
}

fn status(pod: &Value, engine: &Engine, ready: bool) -> Value {
    let condition =
        |kind: &str, is: bool| json!({"type": kind, "status": if is { "True" } else { "False" }, "lastTransitionTime": now()});
    let ended = json!({"exitCode": 1, "reason": "Error", "message": "no"});
    let last = if engine.crashes > 0 { json!({"terminated": ended}) } else { json!({}) };
    let done = json!({"terminated": {"exitCode": 0, "reason": "Completed"}});
    let container = |name: &str, ready: bool, crashes: i32, state: Value, last: Value| json!({"name": name, "image": "i", "imageID": "i", "ready": ready, "restartCount": crashes, "state": state, "lastState": last});
    let mut conditions = vec![condition("Initialized", true), condition("ContainersReady", ready)];
    let ready_now = ready && is(pod, "bonafide.dev/Vouched");
    conditions.push(condition("Ready", ready_now));
    // A condition keeps its time while it stays what it is.
    for condition in &mut conditions {
        let before =
            pod["status"]["conditions"].as_array().into_iter().flatten().find(|before| before["type"] == condition["type"]);
        if let Some(before) = before.filter(|before| before["status"] == condition["status"]) {
            condition["lastTransitionTime"] = before["lastTransitionTime"].clone();
        }
    }
    json!({
        "phase": "Running", "podIP": engine.address, "podIPs": [{"ip": engine.address}], "conditions": conditions,
        "initContainerStatuses": [container("fetch", true, 0, done, json!({}))],
        "containerStatuses": [container("engine", ready, engine.crashes, json!({"running": {}}), last)],
    })
}

/// Whether the API server's status lacks something of ours.
fn differs(wanted: &Value, found: &Value) -> bool {
    let condition = |status: &Value, kind: &str| {
        status["conditions"].as_array().into_iter().flatten().find(|c| c["type"] == kind).map(|c| c["status"].clone())
    };
    ["phase", "podIP"].iter().any(|field| wanted[field] != found[field])
        || ["Initialized", "ContainersReady", "Ready"].iter().any(|kind| condition(wanted, kind) != condition(found, kind))
        || wanted["containerStatuses"][0]["restartCount"] != found["containerStatuses"][0]["restartCount"]
        || wanted["containerStatuses"][0]["ready"] != found["containerStatuses"][0]["ready"]
}

/// Whether the pod's engine has the argument, however it was rendered.
pub fn has(pod: &Value, argument: &str) -> bool {
    let args = pod["spec"]["containers"][0]["args"].as_array().cloned().unwrap_or_default();
    args.iter().map(text).collect::<Vec<_>>().join(" ").contains(&argument.replace('=', " "))
}

/// Whether a condition of the pod is True.
pub fn is(pod: &Value, kind: &str) -> bool {
    pod["status"]["conditions"].as_array().into_iter().flatten().any(|c| c["type"] == kind && c["status"] == "True")
}

fn now() -> String {
    let now = jiff::Timestamp::now();
    jiff::Timestamp::from_second(now.as_second()).unwrap().to_string()
}

/// An address of this machine that no other pod has; other tests' pods are in other ranges.
fn address() -> Ipv4Addr {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    let [range, high, low] = [20 + std::process::id() % 200, next / 250, 1 + next % 250].map(|part| u8::try_from(part).unwrap());
    let address = Ipv4Addr::new(127, range, high, low);
    assert!(IpAddr::V4(address).is_loopback());
    address
}

/// How the models that engines know are asked for.
const KNOWN: [&str; 3] = ["\"model\":\"Parrot", "\"model\": \"Parrot", "\"model\": \"a\""];

/// Answers requests as an engine does.
async fn serve(mut stream: TcpStream, silent: bool, pods: Arc<Pods>) {
    let answers = !silent || pods.talks.load(Ordering::SeqCst);
    let mut request = vec![0; 4096];
    let read = stream.read(&mut request).await.unwrap_or(0);
    let request = String::from_utf8_lossy(&request[..read]).into_owned();
    let (status, body) = match request.split_whitespace().nth(1) {
        Some("/metrics") => {
            ("200 OK", format!("# TYPE stub_running gauge\nstub_running{{m=\"a\"}} {}\n", pods.busy.load(Ordering::SeqCst)))
        }
        Some("/v1/completions") if answers && KNOWN.iter().any(|name| request.contains(name)) => ("200 OK", "{}".to_owned()),
        Some("/v1/completions") => ("500 Internal Server Error", "no idea".to_owned()),
        _ => ("404 Not Found", String::new()),
    };
    let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
    let _ = stream.write_all(answer.as_bytes()).await;
}
