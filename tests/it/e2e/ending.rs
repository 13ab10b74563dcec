//! Pods that end: what they are answering is answered to its end first. And pods of whatever user the cluster says.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::place::{PATIENCE, Place, SOON};

/// An answer that is long enough to be interrupted, while it is being read.
pub struct Answering {
    response: reqwest::Response,
    text: String,
}

impl Answering {
    /// Asks a pod, and waits for the first words.
    pub async fn begin(pod: &Value, model: &str, tokens: u32) -> Self {
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(600)).build().unwrap();
        let body =
            json!({"model": model, "prompt": "Once upon a time", "max_tokens": tokens, "ignore_eos": true, "stream": true});
        let request = client.post(format!("http://{}:8000/v1/completions", pod["status"]["podIP"].as_str().unwrap()));
        let response = request.header("content-type", "application/json").body(body.to_string()).send().await.unwrap();
        let mut answering = Self { response, text: String::new() };
        while answering.text.matches("data:").count() < 3 {
            assert!(answering.more().await, "it ended at once: {}", answering.text);
        }
        answering
    }

    async fn more(&mut self) -> bool {
        let Some(chunk) = self.response.chunk().await.unwrap() else { return false };
        self.text.push_str(&String::from_utf8_lossy(&chunk));
        true
    }

    /// Reads to the end; how long that took.
    pub async fn finish(mut self) -> Duration {
        let began = Instant::now();
        while self.more().await {}
        let end = &self.text[self.text.len().saturating_sub(600)..];
        assert!(end.trim_end().ends_with("data: [DONE]"), "it was cut short: {end}");
        assert!(end.contains("\"finish_reason\":\"length\""), "{end}");
        began.elapsed()
    }
}

/// Waits until a pod is gone.
pub async fn gone(place: &Place, pod: &Value, within: Duration) {
    let name = pod["metadata"]["name"].as_str().unwrap();
    place.until(within, &format!("{name} is gone"), async || place.get("Pod", name).await.is_null().then_some(())).await;
}

#[tokio::test]
async fn a_request_in_flight_is_finished_when_its_pod_is_deleted_and_when_its_node_is_drained() {
    let place = Place::guarded("ending").await;
    let repository = place.publish_real("smollm2");
    place.world.platform.signs(&repository).await;
    place
        .deploy_with("smollm2", json!({"engine": {"contextLength": 4096, "args": ["--threads=1"]}, "rollout": {"drain": "10m"}}))
        .await;
    place.ready("smollm2").await;

    let pod = place.pod("smollm2").await;
    let answering = Answering::begin(&pod, "smollm2", 150).await;
    let name = pod["metadata"]["name"].as_str().unwrap();
    place.world.kubectl(&["delete", "pod", name, "-n", &place.name, "--wait=false"]).await;
    let took = answering.finish().await;
    assert!(took > Duration::from_secs(1), "it was over before the pod could have ended: {took:?}");
    gone(&place, &pod, SOON).await;
    place.ready("smollm2").await;

    let pod = place.pod("smollm2").await;
    let answering = Answering::begin(&pod, "smollm2", 150).await;
    let selector = "--pod-selector=bonafide.dev/deployment=smollm2";
    let node = pod["spec"]["nodeName"].as_str().unwrap();
    let arguments = ["drain", node, selector, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=590s"];
    let drained = place.world.kubectl(&arguments);
    let (took, told) = tokio::join!(answering.finish(), drained);
    let here = place.get("Pod", pod["metadata"]["name"].as_str().unwrap()).await;
    place.world.kubectl(&["uncordon", node]).await;
    assert!(told.contains("drained") && here.is_null(), "{told}");
    assert!(took > Duration::from_secs(1), "{took:?}");
    place.ready("smollm2").await;
    place.answers("smollm2").await;
}

#[tokio::test]
async fn an_idle_pod_ends_in_seconds_whatever_time_it_has() {
    let place = Place::guarded("idle").await;
    let repository = place.publish_real("smollm2");
    place.world.platform.signs(&repository).await;
    place.deploy_with("smollm2", json!({"rollout": {"drain": "20m"}})).await;
    place.ready("smollm2").await;
    let pod = place.pod("smollm2").await;
    assert_eq!(pod["spec"]["terminationGracePeriodSeconds"], 1230);
    let name = pod["metadata"]["name"].as_str().unwrap();
    let began = Instant::now();
    place.world.kubectl(&["delete", "pod", name, "-n", &place.name, "--wait=false"]).await;
    gone(&place, &pod, SOON).await;
    // It goes on answering until every node knows that it is going.
    assert!(began.elapsed() > Duration::from_secs(5), "{:?}", began.elapsed());
    let events = place.world.kubectl(&["get", "events", "-n", &place.name]).await;
    assert!(!events.contains("FailedPreStopHook"), "{events}");
}

/// The user that the cluster assigns: any, as OpenShift's are.
pub const USER: u32 = 1_000_680_000;

/// Has new pods of a place run as a user of the cluster's, as OpenShift does.
pub async fn assign_users(place: &Place) {
    let add = |path: &str, value: String| format!(r#"JSONPatch{{op: "add", path: "/spec/{path}", value: {value}}}"#);
    let security = |list: &str| add(&format!("{list}/0/securityContext/runAsUser"), USER.to_string());
    let patches = [
        add("securityContext/fsGroup", USER.to_string()),
        add("securityContext/seLinuxOptions", r#"{"level": "s0:c26,c15"}"#.to_owned()),
        security("containers"),
        security("initContainers"),
    ];
    let group = "admissionregistration.k8s.io/v1";
    let rule = json!({"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]});
    let policy = json!({"apiVersion": group, "kind": "MutatingAdmissionPolicy", "metadata": {"name": place.name}, "spec": {
        "failurePolicy": "Fail", "reinvocationPolicy": "Never", "matchConstraints": {"resourceRules": [rule]},
        "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": format!("[{}]", patches.join(", "))}}],
    }});
    let selector = json!({"matchLabels": {"kubernetes.io/metadata.name": place.name}});
    let binding = json!({"apiVersion": group, "kind": "MutatingAdmissionPolicyBinding", "metadata": {"name": place.name}, "spec": {
        "policyName": place.name, "matchResources": {"namespaceSelector": selector},
    }});
    for object in [policy, binding] {
        place.world.cluster.apply(&object.to_string()).await.unwrap();
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
}

#[tokio::test]
async fn an_engine_runs_as_whatever_user_the_cluster_assigns_with_nothing_writable_but_its_directories() {
    let place = Place::guarded("assigned").await;
    assign_users(&place).await;
    let repository = place.publish_real("smollm2");
    place.world.platform.signs(&repository).await;
    place.deploy_with("smollm2", json!({"pod": {"user": "Assigned"}})).await;
    place.ready("smollm2").await;
    place.answers("smollm2").await;
    let pod = place.pod("smollm2").await;
    assert_eq!(pod["spec"]["containers"][0]["securityContext"]["runAsUser"], USER);
    assert_eq!(pod["spec"]["containers"][0]["securityContext"]["readOnlyRootFilesystem"], true);
    let engines = place.processes("/usr/bin/llama-server", "--alias smollm2");
    let status = std::fs::read_to_string(format!("/proc/{}/status", engines.first().unwrap())).unwrap();
    assert!(status.contains(&format!("Uid:\t{USER}\t{USER}")), "{status}");
    // It ends in order too: the helper is anybody's.
    let name = pod["metadata"]["name"].as_str().unwrap();
    place.world.kubectl(&["delete", "pod", name, "-n", &place.name, "--wait=false"]).await;
    gone(&place, &pod, SOON.min(PATIENCE)).await;
    let events = place.world.kubectl(&["get", "events", "-n", &place.name]).await;
    assert!(!events.contains("FailedPreStopHook"), "{events}");
}
