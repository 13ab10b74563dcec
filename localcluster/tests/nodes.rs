//! Several nodes, and several clusters with nodes at the same time. Needs root.

#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use localcluster::{Cluster, Kubectl, Options, assets, binaries, image};

#[tokio::test]
async fn nodes_reach_each_other_are_lost_and_come_back_and_clusters_know_nothing_of_each_other() {
    let directory = tempfile::tempdir().unwrap();
    let tools = make_tools_image(directory.path()).await;
    let options =
        |nodes| Options { nodes, images: vec![tools.clone()], patience: Duration::from_secs(900), ..Options::default() };
    let (two, one) = tokio::join!(Cluster::start(options(2)), Cluster::start(options(1)));
    let (mut two, one) = (two.unwrap(), one.unwrap());
    assert_ne!(two.network().unwrap(), one.network().unwrap());
    assert_eq!(names(two.kubectl()).await, "node0 node1");
    assert_eq!(names(one.kubectl()).await, "node0");

    let kubectl = two.kubectl().clone();
    kubectl.apply(&[web("web0", "node0"), web("web1", "node1"), SERVICE.to_owned()].join("\n---\n")).await.unwrap();
    one.apply(&web("web0", "node0")).await.unwrap();
    for cluster in [&one, &two] {
        cluster.kubectl().run(&["wait", "--for=condition=Ready", "pod", "--selector=app=web", "--timeout=90s"]).await.unwrap();
    }
    let address = |kubectl: Kubectl, pod: &'static str| async move {
        kubectl.run(&["get", "pod", pod, "--output=jsonpath={.status.podIP}"]).await.unwrap()
    };
    let (first, second) = (address(kubectl.clone(), "web0").await, address(kubectl.clone(), "web1").await);
    assert_ne!(first, address(one.kubectl().clone(), "web0").await, "two clusters gave out one address");
    for (from, to) in [("web0", &second), ("web1", &first)] {
        assert!(asks(&kubectl, from, to).await.is_ok(), "{from} does not reach {to} on the other node");
    }
    for from in ["web0", "web1"] {
        assert!(asks(&kubectl, from, "web.default.svc.cluster.local").await.is_ok(), "{from} does not reach the Service");
    }

    let ready = |kubectl: Kubectl| async move {
        kubectl
            .run(&["get", "node", "node1", "--output=jsonpath={.status.conditions[?(@.type==\"Ready\")].status}"])
            .await
            .unwrap()
    };
    two.stop_node(1).await.unwrap();
    eventually("the node is lost", async || ready(kubectl.clone()).await == "Unknown").await;
    assert!(asks(&kubectl, "web0", &second).await.is_err(), "a pod of a stopped node answers");
    two.start_node(1).await.unwrap();
    eventually("its pod is back", async || {
        let pod = address(kubectl.clone(), "web1").await;
        asks(&kubectl, "web0", &pod).await.is_ok()
    })
    .await;
    two.link_node(1, false).unwrap();
    eventually("the node that is cut off is lost", async || ready(kubectl.clone()).await == "Unknown").await;
    two.link_node(1, true).unwrap();
    eventually("the node is back", async || ready(kubectl.clone()).await == "True").await;

    let state = two.state().to_owned();
    two.stop().await.unwrap();
    assert!(!state.exists());
    assert!(asks(one.kubectl(), "web0", "127.0.0.1").await.is_ok(), "one cluster ended with the other");
}

#[tokio::test]
async fn the_processes_of_a_control_plane_are_ended_and_started_again_and_a_snapshot_is_put_back() {
    let directory = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(Options::default()).await.unwrap();
    let create = async |cluster: &Cluster, name: &str| cluster.kubectl().run(&["create", "namespace", name]).await.unwrap();
    create(&cluster, "before").await;
    let snapshot = directory.path().join("snapshot");
    cluster.snapshot(&snapshot).await.unwrap();
    create(&cluster, "after").await;
    for process in ["kube-apiserver", "etcd", "kube-controller-manager", "kube-scheduler"] {
        cluster.kill(process).await.unwrap();
        assert!(cluster.kill(process).await.unwrap_err().to_string().contains("does not run"));
        cluster.restart(process).unwrap();
        cluster.ready().await.unwrap();
    }
    assert!(cluster.kubectl().run(&["get", "namespaces", "before", "after"]).await.is_ok());
    cluster.restore(&snapshot).await.unwrap();
    assert!(cluster.kubectl().run(&["get", "namespace", "before"]).await.is_ok());
    assert!(cluster.kubectl().run(&["get", "namespace", "after"]).await.unwrap_err().to_string().contains("not found"));
}

async fn names(kubectl: &Kubectl) -> String {
    kubectl.run(&["get", "nodes", "--output=jsonpath={.items[*].metadata.name}"]).await.unwrap()
}

/// Asks a web server from within a pod.
async fn asks(kubectl: &Kubectl, from: &str, whom: &str) -> anyhow::Result<String> {
    let server = format!("--server=http://{whom}:8080");
    kubectl.run(&["exec", from, "--", "/kubectl", &server, "--request-timeout=3s", "get", "--raw=/v2/"]).await
}

async fn eventually(what: &str, holds: impl AsyncFn() -> bool) {
    let began = Instant::now();
    while !holds().await {
        assert!(began.elapsed() < Duration::from_secs(120), "not within two minutes: {what}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// An image with a small web server (the registry: it answers `/v2/`) and a client.
async fn make_tools_image(directory: &std::path::Path) -> std::path::PathBuf {
    let configuration = directory.join("web.yaml");
    std::fs::write(&configuration, r#"{"version": "0.1", "storage": {"inmemory": {}}, "http": {"addr": ":8080"}}"#).unwrap();
    let [web, kubectl] = ["registry", "kubectl"].map(binaries::path);
    let added = [
        (web.await.unwrap(), "/web".to_owned()),
        (kubectl.await.unwrap(), "/kubectl".to_owned()),
        (configuration, "/etc/web.yaml".to_owned()),
    ];
    let out = directory.join("tools.tar");
    let entrypoint = ["/web", "serve", "/etc/web.yaml"].map(String::from);
    image::build("localhost/tools:1", &out, &added, &entrypoint, "65532:65532").await.unwrap();
    assets::path(assets::PAUSE_IMAGE).await.unwrap();
    out
}

fn web(name: &str, node: &str) -> String {
    format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: web}}}}
spec:
  nodeName: {node}
  containers:
  - name: web
    image: localhost/tools:1
    imagePullPolicy: Never
    readinessProbe: {{httpGet: {{path: /v2/, port: 8080}}, periodSeconds: 1}}
"#
    )
}

const SERVICE: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 8080}]}
"#;
