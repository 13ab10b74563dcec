//! Somebody changes by hand what Bonafide runs.

use std::time::Duration;

use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::place::{PATIENCE, Place, SOON, condition, says};

/// What a tenant tries with a pod, a Service, and the objects of a model; each is refused.
#[tokio::test]
async fn a_tenant_can_neither_pretend_to_be_a_model_nor_touch_one() {
    let place = Place::open("tenant").await;
    place.publish("chat", &[("model.gguf", "weights")]);
    place.deploy_with("chat", json!({"replicas": 0})).await;
    place.condition("chat", "Ready", "True", "Idle").await;
    let deployment = place.of("Deployment", "chat").await.remove(0);
    let name = deployment["metadata"]["name"].as_str().unwrap().to_owned();
    let pod = |metadata: Value| {
        let spec = json!({"containers": [{"name": "engine", "image": "localhost/llama-cpp:b11669", "ports": [{"name": "http", "containerPort": 8000}]}]});
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}).to_string()
    };
    let labels = json!({"bonafide.dev/deployment": "chat"});
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "mine"}, "spec": {"selector": labels, "ports": [{"port": 80}]}});
    let job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "mine"}, "spec": {"template": {"metadata": {"labels": labels},
        "spec": {"restartPolicy": "Never", "containers": [{"name": "a", "image": "localhost/llama-cpp:b11669"}]}}}});
    let status = json!({"status": {"trust": "Signed", "state": "Ready"}}).to_string();
    let template = json!({"spec": {"template": {"spec": {"hostPID": true}}}}).to_string();
    let create = ["create", "-f", "-"];
    let attempts: [(&str, Vec<&str>, String); 8] = [
        ("a pod with our label", create.to_vec(), pod(json!({"name": "mine", "labels": labels}))),
        ("a pod with a name of ours", create.to_vec(), pod(json!({"name": "bonafide-chat-x"}))),
        ("a Service for our pods", create.to_vec(), service.to_string()),
        ("a Job with our label", create.to_vec(), job.to_string()),
        ("the template", vec!["patch", "deployment", &name, "--type=merge", "-p", &template], String::new()),
        ("the replicas of the child", vec!["scale", "deployment", &name, "--replicas=1"], String::new()),
        (
            "the manifest",
            vec!["patch", "configmap", &name, "--type=merge", "-p", r#"{"data":{"manifest.json":"[]"}}"#],
            String::new(),
        ),
        ("the status", vec!["patch", "mdep", "chat", "--subresource=status", "--type=merge", "-p", &status], String::new()),
    ];
    for (what, arguments, input) in attempts {
        let refused = place.tenant(&arguments, &input).await.expect_err(what);
        says(&refused.to_lowercase(), &["forbidden"]);
    }
    // What is theirs they may: a pod of their own is no business of ours.
    place.tenant(&["scale", "mdep", "chat", "--replicas=0"], "").await.unwrap();
    place.tenant(&["create", "configmap", "mine"], "").await.unwrap();
    assert_eq!(place.witness.count("chat"), 0);
}

#[tokio::test]
async fn what_an_administrator_changes_by_hand_is_put_back_and_a_changed_pod_gets_no_traffic() {
    let place = Place::guarded("hands").await;
    let repository = place.publish_real("smollm2");
    place.world.platform.signs(&repository).await;
    place.deploy("smollm2").await;
    place.ready("smollm2").await;
    let good = place.pod("smollm2").await;
    let child = place.of("Deployment", "smollm2").await.remove(0);
    let name = child["metadata"]["name"].as_str().unwrap();

    // The status.
    let lie = Patch::Merge(json!({"status": {"trust": "Pinned", "state": "Idle", "why": "all is well"}}));
    place.api("ModelDeployment").patch_status("smollm2", &PatchParams::default(), &lie).await.unwrap();
    assert_eq!(place.shows("smollm2", ["Signed", "Ready", "1/1"]).await, "");

    // The list of files, and a further file beside it.
    let config = place.get("ConfigMap", name).await["data"].clone();
    place.change("ConfigMap", name, json!({"data": {"manifest.json": "[]", "extra": "x"}})).await;
    place
        .until(SOON, "the ConfigMap is put back", async || (place.get("ConfigMap", name).await["data"] == config).then_some(()))
        .await;

    // Where requests go.
    let selector = place.get("Service", "smollm2").await["spec"]["selector"].clone();
    place.change("Service", "smollm2", json!({"spec": {"selector": {"app": "mine", "bonafide.dev/deployment": null}}})).await;
    let back = async || (place.get("Service", "smollm2").await["spec"]["selector"] == selector).then_some(());
    place.until(SOON, "the selector is put back", back).await;

    // The template: what comes of it never passes the gate.
    let evil = json!({"spec": {"template": {"spec": {"containers": [{"name": "engine", "image": "localhost/bonafide:e2e"}]}}}});
    let evil = Patch::Strategic(evil);
    place.api("Deployment").patch(name, &PatchParams::default(), &evil).await.unwrap();
    let image = "/spec/template/spec/containers/0/image";
    let wanted = child.pointer(image).unwrap();
    let back = async || (place.get("Deployment", name).await.pointer(image) == Some(wanted)).then_some(());
    place.until(SOON, "the template is put back", back).await;
    let settled = async || {
        let pods = place.of("Pod", "smollm2").await;
        (pods.len() == 1 && pods[0]["metadata"]["uid"] == good["metadata"]["uid"]).then_some(())
    };
    place.until(PATIENCE, "the pod of the right template is the only one", settled).await;
    for pod in place.witness.pods("smollm2") {
        let engine = &pod["spec"]["containers"][0]["image"];
        assert!(engine == wanted || pod["spec"]["nodeName"].is_null(), "a pod with {engine} ran");
    }
    place.ready("smollm2").await;
    place.answers("smollm2").await;

    // A container inside a pod that serves: the pod is taken out of the Service and told about.
    let pod = good["metadata"]["name"].as_str().unwrap();
    let debugger = json!({"spec": {"ephemeralContainers": [{"name": "debugger", "image": "localhost/llama-cpp:b11669", "command": ["/usr/bin/wget", "--version"]}]}});
    let resource = kube::api::ApiResource::erase::<k8s_openapi::api::core::v1::Pod>(&());
    let pods: kube::Api<kube::api::DynamicObject> = kube::Api::namespaced_with(place.client.clone(), &place.name, &resource);
    pods.patch_subresource("ephemeralcontainers", pod, &PatchParams::default(), &Patch::Strategic(debugger)).await.unwrap();
    let out = async || place.endpoints("smollm2").await.is_empty().then_some(());
    place.until(SOON, "the changed pod gets no traffic", out).await;
    let message = place.condition("smollm2", "Ready", "False", "NotVouched").await;
    says(&message, &[&format!("Pod {pod} is not vouched for, and gets no traffic"), "ephemeralContainers", "Delete the pod"]);
    let object = place.get("Pod", pod).await;
    assert_eq!(condition(&object, "bonafide.dev/Vouched").unwrap()["status"], "False");
    // Restarted or reported upon, it stays out.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(place.endpoints("smollm2").await.is_empty(), "it gets traffic again");
    // The next step is what the message says.
    place.world.kubectl(&["delete", "pod", pod, "-n", &place.name, "--grace-period=1"]).await;
    place.ready("smollm2").await;
    assert_eq!(place.endpoints("smollm2").await.len(), 1);
}
