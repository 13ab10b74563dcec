//! What a real kubelet, a real runtime and a real engine say when something is wrong, and what is made of it.

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::place::{Place, says};

/// An engine of one's own: llama.cpp, changed.
async fn engine(place: &Place, name: &str, change: Value) {
    let text = place.world.kubectl(&["get", "ieng", "llama-cpp", "-o", "json"]).await;
    let object: Value = serde_json::from_str(&text).unwrap();
    let spec = crate::support::merge(&object["spec"], &change);
    let spec = crate::support::merge(&spec, &json!({"priority": -1}));
    let object =
        json!({"apiVersion": "bonafide.dev/v1alpha1", "kind": "InferenceEngine", "metadata": {"name": name}, "spec": spec});
    place.world.cluster.apply(&object.to_string()).await.unwrap_or_else(|error| panic!("{error:#}"));
}

/// A registry that has nothing, and shows nobody what is in `private/`; where it is.
async fn registry(place: &Place) -> String {
    let listener = TcpListener::bind((place.world.cluster.network().unwrap().host(), 0)).await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    place.world.cluster.allow_plain_http(&address).unwrap();
    let realm = format!("www-authenticate: Bearer realm=\"http://{address}/token\",service=\"x\"\r\n");
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0_u8; 8192];
            let read = stream.read(&mut request).await.unwrap_or_default();
            let closed = ["/v2/private", "/token"].iter().any(|path| String::from_utf8_lossy(&request[..read]).contains(path));
            let (status, header) = if closed { ("401 Unauthorized", realm.as_str()) } else { ("404 Not Found", "") };
            let answer = format!("HTTP/1.1 {status}\r\n{header}content-length: 0\r\nconnection: close\r\n\r\n");
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    address
}

#[tokio::test]
async fn a_real_node_and_a_real_engine_say_what_is_wrong_and_it_is_told() {
    let place = Place::open("reasons").await;
    let image = |image: String| json!({"images": [{"accelerator": "none", "image": image}]});
    let registry = registry(&place).await;
    let text = place.world.kubectl(&["get", "ieng", "llama-cpp", "-o", "jsonpath={.spec.args}"]).await;
    let mut args: Vec<Value> = serde_json::from_str(&text).unwrap();
    args.push(json!("--no-such-flag"));
    engine(&place, "missing", image(format!("{registry}/nobody/pushed:1"))).await;
    engine(&place, "private", image(format!("{registry}/private/thing:1"))).await;
    engine(&place, "flagged", json!({"args": args})).await;
    engine(&place, "elsewhere", json!({"command": ["/no/such/program"]})).await;
    // What a container gets when nobody says more.
    let limits = json!({"type": "Container", "default": {"memory": "512Mi"}, "defaultRequest": {"memory": "64Mi"}});
    place.apply("LimitRange", "limits", json!({"spec": {"limits": [limits]}})).await;

    let cases: [(&str, Value, &str, &[&str]); 6] = [
        (
            "missing",
            json!({"engine": {"name": "missing"}}),
            "ImageNotFound",
            &["There is no image", "nobody/pushed:1", "push it"],
        ),
        (
            "private",
            json!({"engine": {"name": "private"}}),
            "ImagePullUnauthorized",
            &["private/thing:1", "spec.pod.imagePullSecrets"],
        ),
        ("flagged", json!({"engine": {"name": "flagged"}}), "ArgumentRejected", &["the argument --no-such-flag", "exit code 1"]),
        (
            "elsewhere",
            json!({"engine": {"name": "elsewhere"}}),
            "ContainerNotStarted",
            &["cannot start the container engine", "/no/such/program"],
        ),
        // The cache of so long a context is gigabytes.
        (
            "long",
            json!({"engine": {"contextLength": 131_072}}),
            "OutOfMemory",
            &["more than its 512.0 MiB of memory", "set spec.resources.memory to 2Gi"],
        ),
        (
            "nowhere",
            json!({"pod": {"nodeSelector": {"gpu": "big"}}}),
            "NoNodeFits",
            &["None of the cluster's 1 node", "the label gpu=big"],
        ),
    ];
    for (name, spec, ..) in &cases {
        place.publish_real(name);
        place.deploy_with(name, spec.clone()).await;
    }
    for (name, _, reason, parts) in &cases {
        let message = place.condition(name, "Ready", "False", reason).await;
        says(&message, parts);
        says(&place.columns(name).await[6], &[&format!("{reason}: ")]);
    }
    // The log shows more than the last lines that the kubelet keeps, also when the exit code lies.
    let events =
        place.world.kubectl(&["get", "events", "-n", &place.name, "--field-selector=involvedObject.kind=ModelDeployment"]).await;
    says(&events, &["Warning", "ImageNotFound", "ArgumentRejected", "OutOfMemory", "NoNodeFits"]);
    for name in ["missing", "private", "flagged", "elsewhere"] {
        place.world.kubectl(&["delete", "ieng", name]).await;
    }
}
