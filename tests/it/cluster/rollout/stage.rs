//! A namespace with a node of its own, and a model whose engine does what its arguments say.

use std::{
    sync::{OnceLock, atomic::Ordering},
    time::Duration,
};

use kube::api::PostParams;
use serde_json::{Value, json};

use super::{
    super::{
        place::{NAME, Place, condition, parse, text},
        world::World,
    },
    node::{Node, PORT, has, is},
};

/// How long a rollout may take: each replica that is replaced takes some ten seconds to drain.
const PATIENCE: Duration = Duration::from_secs(90);

pub struct Stage {
    pub place: Place<'static>,
    pub node: Node,
}

/// The world of these tests. It ends with the process.
fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    World::kept(&WORLD)
}

impl Stage {
    /// A namespace and a node with room for so many pods.
    pub async fn new(room: usize) -> Self {
        let place = Place::new(world()).await;
        let engine = json!({
            "apiVersion": "bonafide.dev/v1alpha1", "kind": "InferenceEngine", "metadata": {"name": "stub"},
            "spec": {
                "version": "1", "images": [{"accelerator": "none", "image": "stub:1"}], "port": PORT, "args": ["--model", "$(MODEL_FILE)"],
                "loads": [{"format": "gguf", "files": ["**/*.gguf"], "choose": "One"}],
                "probes": {"ready": "/health", "startTimeoutSeconds": 60, "request": {"path": "/v1/completions", "body": "{\"model\":\"$(SERVED_NAME)\"}"}},
                "metrics": {"path": "/metrics"}, "drain": {"idleWhenZero": ["stub_running"]},
                "user": {"args": ["--mode", "--threads"]},
            },
        });
        let _ = place.api("InferenceEngine").create(&PostParams::default(), &parse(engine)).await;
        let node = Node::new(&place.client, &place.name, room).await;
        Self { place, node }
    }

    /// A ModelDeployment of that name with the engine's arguments.
    pub async fn deploy(&self, name: &str, replicas: i32, args: &[&str], rollout: Value) -> Value {
        let source = self.place.publish("Parrot-GGUF", &[("parrot.gguf", "parrot")]);
        let pod = json!({"nodeSelector": {"for": self.place.name}, "tolerations": [{"key": "for", "operator": "Exists"}]});
        let spec = json!({"model": {"source": source}, "engine": {"name": "stub", "args": args}, "replicas": replicas, "rollout": rollout, "pod": pod});
        self.place.create("ModelDeployment", name, json!({"spec": spec})).await
    }

    /// The author wants other arguments.
    pub async fn args(&self, args: &[&str]) {
        self.change(json!({"spec": {"engine": {"args": args}}})).await;
    }

    pub async fn change(&self, patch: Value) {
        self.place.change("ModelDeployment", NAME, patch).await;
    }

    /// Waits until so many replicas answer, all of them with that argument, and no other pod is there.
    pub async fn serves(&self, argument: &str, replicas: usize) {
        let look = async || {
            let pods = self.pods().await;
            let good = pods.iter().filter(|pod| is(pod, "Ready") && has(pod, argument)).count();
            let seen: Vec<String> = pods.iter().map(spoken).collect();
            if good == replicas && pods.len() == replicas { Ok(()) } else { Err(format!("{seen:#?}\n{:#}", self.status().await)) }
        };
        self.place
            .world
            .within(PATIENCE, &format!("{replicas} replicas with {argument} answer, and nothing else is there"), look)
            .await;
    }

    /// Waits until the pods are as they should be.
    pub async fn pods_are(&self, what: &str, are: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let look = async || {
            let pods = self.pods().await;
            let seen: Vec<String> = pods.iter().map(spoken).collect();
            if are(&pods) { Ok(pods) } else { Err(format!("{seen:#?}\n{:#}", self.status().await)) }
        };
        self.place.world.within(PATIENCE, what, look).await
    }

    pub async fn pods(&self) -> Vec<Value> {
        self.place.of("Pod", NAME).await
    }

    pub async fn status(&self) -> Value {
        self.place.get("ModelDeployment", NAME).await.unwrap_or_default()["status"].clone()
    }

    /// Waits until a condition says so; gives its message back.
    pub async fn says(&self, kind: &str, status: &str, reason: &str) -> String {
        let what = format!("is {kind}={status} ({reason})");
        let look = async || {
            let object = self.place.get("ModelDeployment", NAME).await.unwrap_or_default();
            let found = condition(&object, kind).filter(|c| c["status"] == status && c["reason"] == reason);
            found.map(|found| text(&found["message"])).ok_or_else(|| format!("{:#}", object["status"]))
        };
        self.place.world.within(PATIENCE, &what, look).await
    }

    /// Forgets what was seen, to see what comes.
    pub fn watch(&self) {
        self.node.pods.fewest.store(i64::MAX, Ordering::SeqCst);
        self.node.pods.most.store(0, Ordering::SeqCst);
    }

    /// The fewest replicas that answered and the most pods that there were since.
    pub fn seen(&self) -> (i64, i64) {
        (self.node.pods.fewest.load(Ordering::SeqCst), self.node.pods.most.load(Ordering::SeqCst))
    }

    /// The engines have so much work.
    pub fn busy(&self, requests: u64) {
        self.node.pods.busy.store(requests, Ordering::SeqCst);
    }

    /// The engines that were silent answer from now on.
    pub fn talk(&self) {
        self.node.pods.talks.store(true, Ordering::SeqCst);
    }
}

fn spoken(pod: &Value) -> String {
    let conditions: Vec<String> = pod["status"]["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|c| format!("{}={} {}", text(&c["type"]), text(&c["status"]), text(&c["reason"])))
        .collect();
    format!(
        "{} {} {conditions:?} {}",
        text(&pod["metadata"]["name"]),
        pod["spec"]["containers"][0]["args"],
        pod["metadata"]["annotations"]
    )
}
