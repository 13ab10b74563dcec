//! Puts pods on nodes that have room.

use serde_json::{Value, json};

use super::kubelet::set_condition;
use crate::support::fake_api::FakeApi;

const WHO: &str = "scheduler";

/// Looks at every pod that waits for a node.
pub fn look(api: &FakeApi) {
    for pod in api.all("Pod") {
        let waits = pod["spec"]["nodeName"].is_null()
            && pod["metadata"]["deletionTimestamp"].is_null()
            && pod["spec"]["schedulingGates"].as_array().is_none_or(Vec::is_empty);
        if !waits {
            continue;
        }
        let node = room(api);
        let (namespace, name) = (text(&pod["metadata"]["namespace"]), text(&pod["metadata"]["name"]));
        let now = api.time();
        api.edit("Pod", &namespace, &name, WHO, |pod| match node {
            Some(node) => {
                pod["spec"]["nodeName"] = json!(node);
                set_condition(pod, "PodScheduled", true, "", "", &now);
            }
            None => {
                let message = "0/1 nodes are available: 1 Insufficient sim.dev/room.";
                set_condition(pod, "PodScheduled", false, "Unschedulable", message, &now);
            }
        });
    }
}

/// A node with room.
fn room(api: &FakeApi) -> Option<String> {
    let pods = api.all("Pod");
    let on = |node: &Value| pods.iter().filter(|pod| pod["spec"]["nodeName"] == *node).count();
    let has_room = |node: &&std::sync::Arc<Value>| {
        let room = node["status"]["allocatable"]["sim.dev/room"].as_str().unwrap().parse::<usize>().unwrap();
        on(&node["metadata"]["name"]) < room
    };
    api.all("Node").iter().find(has_room).map(|node| text(&node["metadata"]["name"]))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
