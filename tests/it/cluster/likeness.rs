//! The real API server answers what the fake one, on which the controllers are simulated, was made to answer.

use serde_json::json;

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
        world.eventually("the namespace has its account", account).await;
        name
    };
    let answers = ask(&client, place).await;
    if updating() {
        return record(&answers);
    }
    let differences = differences(&recorded(), &answers);
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}
