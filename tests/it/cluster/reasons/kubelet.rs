//! The kubelet of a node, played by a test: it says how the node and its pods are, and hands out logs to the API server.

use std::{
    collections::HashMap,
    net::Ipv4Addr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use kube::{
    Api,
    api::{DynamicObject, Patch, PatchParams, PostParams},
};
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    task::JoinHandle,
};
use tokio_rustls::{TlsAcceptor, rustls};

use crate::cluster::place::{Place, parse, text};

/// Logs by container and whether they are of the run before the present one.
type Logs = Arc<Mutex<HashMap<(String, bool), String>>>;

/// Each played pod has a loopback address of its own.
static ADDRESSES: AtomicU8 = AtomicU8::new(10);

pub struct Kubelet<'a> {
    pub place: Place<'a>,
    logs: Logs,
    port: u16,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl Drop for Kubelet<'_> {
    fn drop(&mut self) {
        self.tasks.lock().unwrap().drain(..).for_each(|task| task.abort());
    }
}

/// Now, as the API server writes it.
pub fn now() -> String {
    jiff::Timestamp::from_second(jiff::Timestamp::now().as_second()).unwrap().to_string()
}

/// So many seconds ago.
pub fn ago(seconds: i64) -> String {
    jiff::Timestamp::from_second(jiff::Timestamp::now().as_second() - seconds).unwrap().to_string()
}

/// The status of a container.
pub fn container(name: &str, more: Value) -> Value {
    let base = json!({"name": name, "image": "i", "imageID": "", "ready": false, "restartCount": 0});
    crate::support::merge(&base, &more)
}

/// The container that fetches, done: in four seconds, one of which it hashed what lay there.
pub fn fetched() -> Value {
    let report = r#"{"outcome":"Complete","reason":"Verified","message":"","bytes":7,"seconds":4.0,"verifySeconds":1.0}"#;
    container(
        "fetch",
        json!({"ready": true, "state": {"terminated": {"exitCode": 0, "startedAt": ago(9), "finishedAt": ago(5), "message": report}}}),
    )
}

impl<'a> Kubelet<'a> {
    pub async fn new(place: Place<'a>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let logs = Logs::default();
        let serving = tokio::spawn(serve(listener, logs.clone()));
        Self { place, logs, port, tasks: Mutex::new(vec![serving]) }
    }

    /// The node's name, which is also a label that no other node has.
    pub fn node_name(&self) -> &str {
        &self.place.name
    }

    /// A node that is ready and has at least `more` of everything.
    pub async fn node(&self, more: Value) {
        let name = self.node_name();
        self.place.create("Node", name, json!({"metadata": {"name": name, "labels": {"place": name}}})).await;
        let has = json!({"cpu": "4", "memory": "8Gi", "ephemeral-storage": "50Gi", "pods": "20"});
        let has = crate::support::merge(&has, &more);
        let status = json!({
            "capacity": has, "allocatable": has,
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}], "daemonEndpoints": {"kubeletEndpoint": {"Port": self.port}},
        });
        self.node_status(status).await;
        self.node_is("True", "KubeletReady", "kubelet is posting ready status").await;
        self.tasks.lock().unwrap().push(tokio::spawn(beat(self.place.api("Node"), name.to_owned())));
        let free = |node: &Value| node["spec"]["taints"].as_array().is_none_or(Vec::is_empty);
        self.place.until("Node", name, "takes pods", free).await;
    }

    /// What the node says of itself.
    pub async fn node_is(&self, ready: &str, reason: &str, message: &str) {
        let condition = json!({"type": "Ready", "status": ready, "reason": reason, "message": message, "lastHeartbeatTime": now(), "lastTransitionTime": now()});
        self.node_status(json!({"conditions": [condition]})).await;
    }

    async fn node_status(&self, status: Value) {
        let patch = Patch::Strategic(json!({"status": status}));
        self.place.api("Node").patch_status(self.node_name(), &PatchParams::default(), &patch).await.unwrap();
    }

    /// A ModelDeployment whose pods run on this node alone.
    pub async fn deploy(&self, name: &str, spec: Value) {
        let source = self.place.publish(&format!("{name}-GGUF"), &[(&format!("{name}.gguf"), name)]);
        let base = json!({"model": {"source": source}, "pod": {"nodeSelector": {"place": self.node_name()}}});
        self.place.create("ModelDeployment", name, json!({"spec": crate::support::merge(&base, &spec)})).await;
    }

    /// The pod of a ModelDeployment that was given to the node, once there is one beside `not`.
    pub async fn bound(&self, deployment: &str, not: Option<&str>) -> String {
        let look = async || {
            let pods = self.place.of("Pod", deployment).await;
            let pod = pods.iter().find(|pod| {
                pod["spec"]["nodeName"] == self.node_name()
                    && pod["metadata"]["deletionTimestamp"].is_null()
                    && pod["metadata"]["name"] != json!(not)
            });
            pod.map(|pod| text(&pod["metadata"]["name"])).ok_or_else(|| format!("{pods:?}"))
        };
        self.place.world.eventually(&format!("a pod of {deployment} has its node"), look).await
    }

    /// What the kubelet says of a pod.
    pub async fn says(&self, pod: &str, status: Value) {
        let patch = Patch::Strategic(json!({"status": status}));
        self.place.api("Pod").patch_status(pod, &PatchParams::default(), &patch).await.unwrap();
    }

    /// The weights are there and this is what the engine does.
    pub async fn engine(&self, pod: &str, engine: Value) {
        self.says(
            pod,
            json!({"phase": "Running", "initContainerStatuses": [fetched()], "containerStatuses": [container("engine", engine)]}),
        )
        .await;
    }

    /// The engine ended so once, and waits to be started again; its log is this.
    pub async fn crashes(&self, pod: &str, exit: i32, reason: &str, restarts: i32, log: &str) {
        self.logs.lock().unwrap().insert(("engine".to_owned(), true), log.to_owned());
        let ended = json!({"exitCode": exit, "reason": reason, "startedAt": ago(4), "finishedAt": now()});
        let waits = json!({"reason": "CrashLoopBackOff", "message": "back-off 10s restarting failed container"});
        self.engine(pod, json!({"restartCount": restarts, "state": {"waiting": waits}, "lastState": {"terminated": ended}}))
            .await;
    }

    /// The engine ended with this log; the node has made the next one already, which has said nothing, before it says so.
    pub async fn is_overtaken(&self, pod: &str, exit: i32, log: &str) {
        self.logs.lock().unwrap().insert(("engine".to_owned(), true), log.to_owned());
        let ended = json!({"exitCode": exit, "reason": "Error", "startedAt": ago(4), "finishedAt": now()});
        self.engine(pod, json!({"state": {"terminated": ended}})).await;
    }

    /// An Event about a pod.
    pub async fn event(&self, pod: &str, reason: &str, note: &str, by: &str) {
        let object = self.place.get("Pod", pod).await.unwrap();
        let micro = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.000000Z").to_string();
        let regarding = json!({"apiVersion": "v1", "kind": "Pod", "namespace": self.place.name, "name": pod, "uid": object["metadata"]["uid"]});
        let event = json!({
            "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"generateName": "played-"}, "type": "Warning", "action": "x",
            "reason": reason, "note": note, "regarding": regarding, "reportingController": by, "reportingInstance": "x", "eventTime": micro,
        });
        self.place.api("Event").create(&PostParams::default(), &parse(event)).await.unwrap();
    }

    /// Answers on the port on which a pod says how far its download is; returns the pod's address.
    pub async fn progress(&self, answer: Arc<Mutex<Value>>) -> String {
        let address = own_address();
        self.answer(address, 8081, move || ("200 OK", answer.lock().unwrap().to_string())).await;
        address.to_string()
    }

    /// Answers what an engine is asked; returns the pod's address.
    pub async fn engine_answers(&self, status: &'static str) -> String {
        let address = own_address();
        self.answer(address, 8000, move || (status, "{}".to_owned())).await;
        address.to_string()
    }

    async fn answer(&self, address: Ipv4Addr, port: u16, say: impl Fn() -> (&'static str, String) + Send + 'static) {
        let listener = TcpListener::bind((address, port)).await.unwrap();
        let serving = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0_u8; 4096];
                let _ = stream.read(&mut request).await;
                let (status, body) = say();
                let _ = stream.write_all(respond(status, &body).as_bytes()).await;
            }
        });
        self.tasks.lock().unwrap().push(serving);
    }
}

/// A loopback address that nothing else has.
pub fn own_address() -> Ipv4Addr {
    let process = u8::try_from(std::process::id() % 200).unwrap() + 1;
    Ipv4Addr::new(127, 77, process, ADDRESSES.fetch_add(1, Ordering::Relaxed))
}

fn respond(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

/// A kubelet that is silent for long is taken for lost; this one says that it lives for as long as it says that it is well.
async fn beat(nodes: Api<DynamicObject>, name: String) {
    loop {
        tokio::time::sleep(Duration::from_secs(8)).await;
        let node = nodes.get(&name).await.map(crate::cluster::place::value).unwrap_or_default();
        let conditions = node["status"]["conditions"].as_array().cloned().unwrap_or_default();
        if !conditions.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True") {
            return;
        }
        let patch = json!({"status": {"conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": now()}]}});
        let _ = nodes.patch_status(&name, &PatchParams::default(), &Patch::Strategic(patch)).await;
    }
}

/// Serves `/containerLogs/NAMESPACE/POD/CONTAINER`, as a kubelet does.
async fn serve(listener: TcpListener, logs: Logs) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().self_signed(&key).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config =
        rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (acceptor, logs) = (acceptor.clone(), logs.clone());
        tokio::spawn(async move {
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            let mut request = vec![0_u8; 8192];
            let read = stream.read(&mut request).await.unwrap_or_default();
            let request = String::from_utf8_lossy(&request[..read]).into_owned();
            let path = request.split_whitespace().nth(1).unwrap_or_default().to_owned();
            let name = path.split('?').next().unwrap().rsplit('/').next().unwrap().to_owned();
            let log = logs.lock().unwrap().get(&(name, path.contains("previous=true"))).cloned().unwrap_or_default();
            let _ = stream.write_all(respond("200 OK", &log).as_bytes()).await;
            let _ = stream.shutdown().await;
        });
    }
}
