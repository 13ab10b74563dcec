//! What may be said of pods, and what others add to them: a real API server writes it down, and the pod is still what we wrote.

use serde_json::{Value, json};

use super::{
    place::{NAME, Place, gated, text},
    world::World,
};

/// A policy by which the API server changes new pods of a namespace, as a mesh's or OpenShift's webhook does.
async fn mutator(place: &Place<'_>, patches: &[&str]) {
    let name = World::unique("mutator");
    let expression = format!("[{}]", patches.join(", "));
    let group = "admissionregistration.k8s.io/v1";
    let rule = json!({"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]});
    let policy = json!({"apiVersion": group, "kind": "MutatingAdmissionPolicy", "metadata": {"name": name}, "spec": {
        "failurePolicy": "Fail", "reinvocationPolicy": "Never", "matchConstraints": {"resourceRules": [rule]},
        "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": expression}}],
    }});
    let selector = json!({"matchLabels": {"kubernetes.io/metadata.name": place.name}});
    let binding = json!({"apiVersion": group, "kind": "MutatingAdmissionPolicyBinding", "metadata": {"name": name}, "spec": {
        "policyName": name, "matchResources": {"namespaceSelector": selector},
    }});
    for object in [policy, binding] {
        place.world.cluster.apply(&object.to_string()).await.unwrap();
    }
    // It holds some time after it was written.
    let works = async || {
        let probe = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "probe"}, "spec": {
            "schedulingGates": [{"name": "acme.test/probe"}],
            "containers": [{"name": "c", "image": "i", "securityContext": {}, "volumeMounts": []}],
            "initContainers": [{"name": "c0", "image": "i", "securityContext": {}}],
            "volumes": [{"name": "weights", "emptyDir": {}}, {"name": "config", "emptyDir": {}}], "securityContext": {},
        }});
        let parameters = kube::api::PostParams { dry_run: true, ..Default::default() };
        let made = place.api("Pod").create(&parameters, &super::place::parse(probe)).await;
        let made = made.map(super::place::value).map_err(|error| error.to_string())?;
        let changed = made["spec"]["initContainers"].as_array().unwrap().len() > 1
            || made["spec"]["securityContext"]["fsGroup"].is_number()
            || made["spec"]["schedulingGates"].as_array().unwrap().len() > 1;
        if !changed { Err("pods are as before".to_owned()) } else { Ok(()) }
    };
    place.world.eventually("the mutator works", works).await;
}

/// The classes that the golden deployment names.
pub async fn classes(place: &Place<'_>) {
    for object in [
        json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "flight"}, "value": 1000}),
        json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "feather"}, "handler": "runc",
            "overhead": {"podFixed": {"memory": "64Mi"}},
            "scheduling": {"nodeSelector": {"sandbox": "feather"}, "tolerations": [{"key": "sandbox", "operator": "Exists"}]}}),
    ] {
        place.world.cluster.apply(&object.to_string()).await.unwrap();
    }
}

/// A world whose administrator trusts a mesh.
async fn meshed() -> World {
    let mut world = World::without_operator().await;
    let chart = crate::support::path("charts/bonafide");
    let set = r#"trustedMutators={istio-init,istio-proxy}"#;
    let upgrade =
        ["upgrade", "bonafide", chart.to_str().unwrap(), "--namespace", super::world::SYSTEM, "--reuse-values", "--set", set];
    world.helm(&upgrade).await.unwrap();
    world.start_operator().await;
    world
}

/// The one pod of a deployment, held by the gate, and what is said of it.
async fn held(place: &Place<'_>, name: &str) -> String {
    let object = place.condition(name, "Ready", "False", "NotVouched").await;
    let pods = place.of("Pod", name).await;
    assert!(!pods.is_empty() && pods.iter().all(gated), "{pods:?}");
    text(&super::place::condition(&object, "Ready").unwrap()["message"])
}

#[tokio::test]
async fn a_pod_with_everything_that_can_be_said_of_it_is_what_was_written() {
    let place = Place::new(World::shared()).await;
    classes(&place).await;
    place.create("ServiceAccount", "keeper", json!({})).await;
    let golden = crate::support::documents(&crate::support::text("tests/golden/render/pod.in.yaml"));
    let mut spec = golden.into_iter().find(|object| object["kind"] == "ModelDeployment").unwrap()["spec"].take();
    spec["model"]["source"] = json!(place.publish("Kiwi-GGUF", &[("kiwi-Q8_0.gguf", "kiwi")]));
    place.create("ModelDeployment", "kiwi", json!({"spec": spec})).await;
    let pod = place.let_in("kiwi", 1).await.remove(0);
    let found = &pod["spec"];
    assert_eq!((&found["schedulerName"], &found["priority"]), (&json!("flock"), &json!(1000)));
    assert_eq!((&found["overhead"]["memory"], &found["nodeSelector"]["sandbox"]), (&json!("64Mi"), &json!("feather")));
    assert_eq!(pod["metadata"]["labels"]["kueue.x-k8s.io/queue-name"], "aviary");
    assert_eq!(pod["metadata"]["annotations"]["note"], "a text of several words");
    // What the API server wrote down is what was meant: nothing is written again and again.
    let mut before = place.versions("kiwi").await;
    let rests = async || {
        tokio::time::sleep(std::time::Duration::from_secs(3)).await;
        let now = place.versions("kiwi").await;
        let same = now == before;
        before = now;
        if same { Ok(()) } else { Err(format!("{before:?}")) }
    };
    place.world.eventually("everything rests", rests).await;
}

#[tokio::test]
async fn the_gate_of_kueue_is_left_to_kueue() {
    let place = Place::new(World::shared()).await;
    let gate = r#"JSONPatch{op: "add", path: "/spec/schedulingGates/-", value: Object.spec.schedulingGates{name: "kueue.x-k8s.io/admission"}}"#;
    mutator(&place, &[gate]).await;
    let source = place.publish("Queued-GGUF", &[("queued.gguf", "queued")]);
    place.create("ModelDeployment", NAME, json!({"spec": {"model": {"source": source}, "pod": {"queueName": "birds"}}})).await;
    let pod = place.let_in(NAME, 1).await.remove(0);
    assert_eq!(pod["spec"]["schedulingGates"], json!([{"name": "kueue.x-k8s.io/admission"}]));
}

#[tokio::test]
async fn a_mesh_that_the_administrator_trusts_may_add_its_containers_and_nobody_else_any() {
    let world = meshed().await;
    let volume = r#"JSONPatch{op: "add", path: "/spec/volumes/-", value: Object.spec.volumes{name: "certs", emptyDir: Object.spec.volumes.emptyDir{}}}"#;
    let first = r#"JSONPatch{op: "add", path: "/spec/initContainers/0", value: Object.spec.initContainers{name: "istio-init", image: "mesh:1"}}"#;
    let sidecar = r#"JSONPatch{op: "add", path: "/spec/initContainers/-", value: Object.spec.initContainers{name: "istio-proxy", image: "mesh:1", restartPolicy: "Always", volumeMounts: [Object.spec.initContainers.volumeMounts{name: "certs", mountPath: "/certs"}]}}"#;

    let trusted = Place::new(&world).await;
    mutator(&trusted, &[volume, first, sidecar]).await;
    trusted.deploy(NAME).await;
    let pod = trusted.let_in(NAME, 1).await.remove(0);
    let names: Vec<&Value> = pod["spec"]["initContainers"].as_array().unwrap().iter().map(|c| &c["name"]).collect();
    assert_eq!(names, ["istio-init", "fetch", "istio-proxy"]);

    let stranger = Place::new(&world).await;
    mutator(&stranger, &[&sidecar.replace("istio-proxy", "evil").replace("certs", "config")]).await;
    stranger.deploy(NAME).await;
    let message = held(&stranger, NAME).await;
    assert!(message.contains("'evil'"), "{message}");

    let greedy = Place::new(&world).await;
    mutator(&greedy, &[&sidecar.replace("certs", "weights")]).await;
    greedy.deploy(NAME).await;
    let message = held(&greedy, NAME).await;
    assert!(message.contains("'istio-proxy' mounts the volume 'weights'"), "{message}");
}

#[tokio::test]
async fn a_user_that_the_cluster_assigns_is_accepted_only_where_it_may_assign_one() {
    let place = Place::new(World::shared()).await;
    mutator(
        &place,
        &[
            r#"JSONPatch{op: "add", path: "/spec/securityContext/fsGroup", value: 1000680000}"#,
            r#"JSONPatch{op: "add", path: "/spec/securityContext/seLinuxOptions", value: {"level": "s0:c26,c15"}}"#,
            r#"JSONPatch{op: "add", path: "/spec/containers/0/securityContext/runAsUser", value: 1000680000}"#,
            r#"JSONPatch{op: "add", path: "/spec/initContainers/0/securityContext/runAsUser", value: 1000680000}"#,
        ],
    )
    .await;
    let source = place.publish("Assigned-GGUF", &[("assigned.gguf", "assigned")]);
    place
        .create("ModelDeployment", "assigned", json!({"spec": {"model": {"source": source}, "pod": {"user": "Assigned"}}}))
        .await;
    place.let_in("assigned", 1).await;
    place.create("ModelDeployment", "fixed", json!({"spec": {"model": {"source": source}}})).await;
    let message = held(&place, "fixed").await;
    assert!(message.contains("securityContext"), "{message}");
}
