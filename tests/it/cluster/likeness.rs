//! The real API server answers what the fake one, on which the controllers are simulated, was made to answer.

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    sync::Mutex,
};

use super::{
    place::{cluster_wide, parse},
    world::World,
};
use crate::{
    conformance::{ask, differences, record, recorded},
    support::updating,
};

#[tokio::test]
async fn the_real_one_answers_as_recorded() {
    let world = World::bare().await;
    for (_, definition) in bonafide::api::crds() {
        cluster_wide(&world.client().await, "CustomResourceDefinition")
            .create(&Default::default(), &parse(definition))
            .await
            .unwrap();
    }
    let client = world.client().await;
    // A definition is served a little after it was made.
    let served = async || {
        let list = cluster_wide(&client, "ModelDeployment").list(&Default::default()).await;
        list.map(|_| ()).map_err(|error| error.to_string())
    };
    world.eventually("our definitions are served", served).await;
    let world = Mutex::new(world);
    let place = async |number: usize| {
        let name = format!("case-{number}");
        let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
        cluster_wide(&client, "Namespace").create(&Default::default(), &parse(namespace)).await.unwrap();
        // Pods need the account that every namespace is given.
        let account = async || {
            let url = format!("/api/v1/namespaces/{name}/serviceaccounts/default");
            let found = client.request_text(http::Request::get(url).body(vec![]).unwrap()).await;
            found.map(|_| ()).map_err(|error| error.to_string())
        };
        world.lock().await.eventually("the namespace has its account", account).await;
        name
    };
    let forget = async || {
        let mut world = world.lock().await;
        compact(&world).await;
        world.cluster.kill("kube-apiserver").await.unwrap();
        world.cluster.ready().await.unwrap();
        // Connections to the one before are broken.
        world
            .eventually("it is reached again", async || {
                client.apiserver_version().await.map(drop).map_err(|error| error.to_string())
            })
            .await;
    };
    let answers = ask(&client, place, forget).await;
    if updating() {
        return record(&answers);
    }
    let differences = differences(&recorded(), &answers);
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// Lets etcd forget everything but how it is now.
async fn compact(world: &World) {
    let ask = async |path: &str, body: Value| -> Value {
        let mut socket = UnixStream::connect(world.cluster.state().join("etcd.sock")).await.unwrap();
        let body = body.to_string();
        let head =
            format!("POST /v3/kv/{path} HTTP/1.1\r\nHost: etcd\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
        socket.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        let (begin, end) = (answer.find('{'), answer.rfind('}'));
        let (Some(begin), Some(end)) = (begin, end) else { panic!("etcd answers {answer}") };
        serde_json::from_str(&answer[begin..=end]).unwrap_or_else(|error| panic!("etcd answers {answer}: {error}"))
    };
    let now = ask("range", json!({ "key": "AA==" })).await;
    let revision = now["header"]["revision"].as_str().unwrap_or_else(|| panic!("{now}")).to_owned();
    let done = ask("compaction", json!({ "revision": revision, "physical": true })).await;
    assert!(done["header"].is_object(), "{done}");
}
