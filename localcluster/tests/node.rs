//! A cluster with a node: containers, names, Services, images. Needs root.

#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use localcluster::{Cluster, Options, assets, binaries, image};

#[tokio::test]
async fn pods_run_find_each_other_by_name_and_leave_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    let tools = make_tools_image(directory.path()).await;
    let pause = assets::path(assets::PAUSE_IMAGE).await.unwrap();
    let mut cluster =
        Cluster::start(Options { nodes: 1, images: vec![pause], patience: Duration::from_secs(900), ..Options::default() })
            .await
            .unwrap();
    let state = cluster.state().to_owned();

    let network = cluster.network().unwrap();
    cluster.start_registry().await.unwrap();
    image::push(&tools, &format!("{}/tools:1", network.registry()), true).await.unwrap();
    let kubectl = cluster.kubectl();
    kubectl.apply(&SERVED.replace("REGISTRY", &network.registry())).await.unwrap();
    kubectl.run(&["wait", "--for=condition=Ready", "pod/still", "pod/web", "--timeout=60s"]).await.unwrap();
    kubectl.apply(&ASKING.replace("REGISTRY", &network.registry())).await.unwrap();

    let address = kubectl.run(&["get", "service", "web", "--output=jsonpath={.spec.clusterIP}"]).await.unwrap();
    let answer = get(&format!("{address}:80"));
    assert!(answer.starts_with("HTTP/1.1 200"), "this machine reaches a pod through its Service: {answer}");

    let ended = "--for=jsonpath={.status.phase}=Succeeded";
    kubectl.run(&["wait", ended, "pod/asks-web", "pod/asks-api", "pod/looks-up", "--timeout=60s"]).await.unwrap();
    assert_eq!(kubectl.run(&["logs", "asks-web"]).await.unwrap().trim(), "{}", "a pod reaches another by its Service's name");
    assert!(kubectl.run(&["logs", "asks-api"]).await.unwrap().contains("v1.36.3"), "a pod reaches the API server");
    let looked_up = kubectl.run(&["logs", "looks-up"]).await.unwrap();
    assert!(looked_up.contains(&address), "the C library of the base image looks names up: {looked_up}");
    assert!(kubectl.run(&["exec", "web", "--", "/kubectl", "version", "--client"]).await.unwrap().contains("v1.36.3"));

    let shims = processes_of(&state);
    assert!(shims > 0, "containers are watched over by shims, which this test cannot see");
    cluster.stop().await.unwrap();
    assert!(!state.exists());
    assert_eq!(processes_of(&state), 0);
    assert!(!Path::new("/sys/class/net").join(network.to_string()).exists());
    let routes = std::fs::read_to_string("/proc/net/fib_trie").unwrap();
    assert!(!routes.contains(&network.host().to_string()), "an address or a route is left");
    assert!(!std::fs::read_to_string("/proc/mounts").unwrap().contains(state.to_str().unwrap()));
}

/// An image with a small web server (the registry: it answers `/v2/`), a client, and a program that needs the C library.
async fn make_tools_image(directory: &Path) -> std::path::PathBuf {
    let configuration = directory.join("web.yaml");
    let text = r#"{"version": "0.1", "storage": {"inmemory": {}}, "http": {"addr": ":8080"}}"#;
    std::fs::write(&configuration, text).unwrap();
    let [web, kubectl] = ["registry", "kubectl"].map(binaries::path);
    let added = [
        (web.await.unwrap(), "/web".to_owned()),
        (kubectl.await.unwrap(), "/kubectl".to_owned()),
        ("/usr/bin/getent".into(), "/getent".to_owned()),
        (configuration, "/etc/web.yaml".to_owned()),
    ];
    let out = directory.join("tools.tar");
    let entrypoint = ["/web", "serve", "/etc/web.yaml"].map(String::from);
    image::build("localhost/tools:1", &out, &added, &entrypoint, "65532:65532").await.unwrap();
    out
}

/// What an HTTP server answers to a request for `/v2/`.
fn get(address: &str) -> String {
    let address: SocketAddr = address.parse().unwrap();
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(10)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    write!(stream, "GET /v2/ HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// How many processes have the cluster's directory in their command lines.
fn processes_of(state: &Path) -> usize {
    let output = Command::new("pgrep").args(["--count", "--full", "--", &format!("shim.*{}", state.display())]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

const SERVED: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: still}
spec: {containers: [{name: still, image: "localhost/pause:1", imagePullPolicy: Never}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  containers:
  - name: web
    image: REGISTRY/tools:1
    readinessProbe: {httpGet: {path: /v2/, port: 8080}, periodSeconds: 1}
    securityContext:
      runAsNonRoot: true
      readOnlyRootFilesystem: true
      allowPrivilegeEscalation: false
      capabilities: {drop: [ALL]}
      seccompProfile: {type: RuntimeDefault}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
"#;

const ASKING: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: asks-web}
spec:
  restartPolicy: OnFailure
  containers:
  - {name: kubectl, image: "REGISTRY/tools:1", command: [/kubectl, "--server=http://web.default.svc.cluster.local", get, --raw=/v2/]}
---
apiVersion: v1
kind: Pod
metadata: {name: asks-api}
spec:
  restartPolicy: OnFailure
  containers: [{name: kubectl, image: "REGISTRY/tools:1", command: [/kubectl, get, --raw=/version]}]
---
apiVersion: v1
kind: Pod
metadata: {name: looks-up}
spec:
  restartPolicy: OnFailure
  containers: [{name: getent, image: "REGISTRY/tools:1", command: [/getent, ahostsv4, web]}]
"#;
