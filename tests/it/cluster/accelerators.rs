//! Nodes that say that they have accelerators, and the real scheduler, which believes them.

use std::{sync::Arc, time::Duration};

use kube::{
    Client,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::{
    place::{Place, cluster_wide, text},
    world::World,
};

/// Nodes without a kubelet that somebody keeps alive: without that they would be tainted after a while.
pub struct Nodes(JoinHandle<()>);

impl Drop for Nodes {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Nodes {
    /// Nodes by name, accelerators and taint.
    pub async fn start(world: &World, nodes: &[(&str, Option<(&str, &str)>)]) -> Self {
        let client = world.client().await;
        let mut names = Vec::new();
        for (name, accelerators) in nodes {
            let taints: Vec<Value> = accelerators
                .iter()
                .map(|(resource, _)| json!({"key": resource, "value": "present", "effect": "NoSchedule"}))
                .collect();
            let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}, "spec": {"taints": taints}});
            world.cluster.apply(&node.to_string()).await.unwrap();
            let mut capacity = json!({"cpu": "16", "memory": "64Gi", "ephemeral-storage": "200Gi", "pods": "110"});
            if let Some((resource, count)) = accelerators {
                capacity[*resource] = json!(count);
            }
            names.push(((*name).to_owned(), capacity));
        }
        let names = Arc::new(names);
        Self::beat(&client, &names).await;
        Self(tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_secs(5)).await;
                Self::beat(&client, &names).await;
            }
        }))
    }

    async fn beat(client: &Client, nodes: &[(String, Value)]) {
        let now = jiff::Timestamp::from_second(jiff::Timestamp::now().as_second()).unwrap().to_string();
        for (name, capacity) in nodes {
            let ready = json!({"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "", "lastHeartbeatTime": now, "lastTransitionTime": now});
            let status = json!({"status": {"capacity": capacity, "allocatable": capacity, "conditions": [ready]}});
            cluster_wide(client, "Node").patch_status(name, &PatchParams::default(), &Patch::Strategic(status)).await.unwrap();
        }
    }
}

#[tokio::test]
async fn models_go_to_the_nodes_with_their_accelerators_until_these_are_full() {
    let world = World::with_operator().await;
    let nodes = [("green", Some(("nvidia.com/gpu", "4"))), ("red", Some(("amd.com/gpu", "2"))), ("plain", None)];
    let _nodes = Nodes::start(&world, &nodes).await;
    let place = Place::new(&world).await;
    let tensors = place.publish("Tensors", &[("config.json", "{}"), ("model.safetensors", "tensors"), ("tokenizer.json", "{}")]);
    let gguf = place.publish("Gguf", &[("model.gguf", "gguf")]);
    let accelerators = |class: &str, count: u32| json!({"accelerator": {"class": class, "count": count}});
    for (name, source, resources, node) in [
        ("vllm-green", &tensors, accelerators("nvidia", 2), "green"),
        ("vllm-red", &tensors, accelerators("amd", 1), "red"),
        ("llama-red", &gguf, accelerators("amd", 1), "red"),
        ("llama-green", &gguf, accelerators("nvidia", 2), "green"),
        ("llama-plain", &gguf, json!({"memory": "2Gi", "cpu": "2"}), "plain"),
    ] {
        place.create("ModelDeployment", name, json!({"spec": {"model": {"source": source}, "resources": resources}})).await;
        let bound = async || {
            let pods = place.of("Pod", name).await;
            let bound = pods.iter().map(|pod| text(&pod["spec"]["nodeName"])).next().unwrap_or_default();
            if bound == node {
                Ok(pods[0].clone())
            } else {
                Err(format!("{bound:?}: {}", pods.first().unwrap_or(&Value::Null)["status"]))
            }
        };
        let pod = world.eventually(&format!("{name} is bound to {node}"), bound).await;
        let limits = &pod["spec"]["containers"][0]["resources"]["limits"];
        let expected = match node {
            "green" => json!({"nvidia.com/gpu": "2"}),
            "red" => json!({"amd.com/gpu": "1"}),
            _ => json!({"memory": "2Gi"}),
        };
        assert_eq!(*limits, expected, "{name}");
    }
    // Both kinds are taken now, and a node without any is no place for another.
    for (name, class) in [("full-green", "nvidia"), ("full-red", "amd")] {
        let spec = json!({"model": {"source": gguf}, "resources": accelerators(class, 1)});
        place.create("ModelDeployment", name, json!({"spec": spec})).await;
        let object = place.until("ModelDeployment", name, "waits for room", |object| {
            let ready = super::place::condition(object, "Ready");
            ready.is_some_and(|ready| text(&ready["message"]).contains(&format!("{class}.com/gpu")))
        });
        let object = object.await;
        assert_eq!(object["status"]["state"], "Waiting", "{object}");
    }
}
