//! Somebody who sees every state of every pod and of every endpoint, so that "never" can be asserted.

use std::sync::{Arc, Mutex, PoisonError};

use futures::StreamExt as _;
use k8s_openapi::api::{core::v1::Pod, discovery::v1::EndpointSlice};
use kube::{Api, Client, Resource, runtime::watcher};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use tokio::{sync::oneshot, task::JoinHandle};

/// Every state that the watched objects of one namespace had, in order.
pub struct Witness {
    pods: Watched,
    slices: Watched,
}

struct Watched {
    seen: Arc<Mutex<Vec<Value>>>,
    task: JoinHandle<()>,
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Witness {
    /// Begins to look; when this returns, nothing is missed any more.
    pub async fn new(client: &Client, namespace: &str) -> Self {
        Self {
            pods: watch(Api::<Pod>::namespaced(client.clone(), namespace)).await,
            slices: watch(Api::<EndpointSlice>::namespaced(client.clone(), namespace)).await,
        }
    }

    /// Every state of every pod of a ModelDeployment.
    pub fn pods(&self, deployment: &str) -> Vec<Value> {
        let seen = self.pods.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter().filter(|pod| pod["metadata"]["labels"]["bonafide.dev/deployment"] == deployment).cloned().collect()
    }

    /// How many different pods a ModelDeployment had.
    pub fn count(&self, deployment: &str) -> usize {
        let mut uids: Vec<String> = self.pods(deployment).iter().map(|pod| pod["metadata"]["uid"].to_string()).collect();
        uids.sort();
        uids.dedup();
        uids.len()
    }

    /// Whether the engine of a ModelDeployment ever ran.
    pub fn engine_ran(&self, deployment: &str) -> bool {
        self.pods(deployment).iter().any(engine_runs_or_ran)
    }

    /// Every set of ready addresses that the Service had.
    pub fn endpoints(&self, service: &str) -> Vec<Vec<String>> {
        let seen = self.slices.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter().filter(|slice| slice["metadata"]["labels"]["kubernetes.io/service-name"] == service).map(ready).collect()
    }
}

fn engine_runs_or_ran(pod: &Value) -> bool {
    let containers = pod["status"]["containerStatuses"].as_array().into_iter().flatten();
    containers.filter(|container| container["name"] == "engine").any(|engine| {
        ["state", "lastState"].iter().any(|state| engine[state]["running"].is_object() || engine[state]["terminated"].is_object())
    })
}

/// The addresses of a slice that get traffic.
pub fn ready(slice: &Value) -> Vec<String> {
    let endpoints =
        slice["endpoints"].as_array().into_iter().flatten().filter(|endpoint| endpoint["conditions"]["ready"] == true);
    endpoints.filter_map(|endpoint| endpoint["addresses"][0].as_str().map(str::to_owned)).collect()
}

async fn watch<K>(api: Api<K>) -> Watched
where
    K: Resource + Clone + Serialize + DeserializeOwned + std::fmt::Debug + Send + Sync + 'static,
{
    let seen = Arc::<Mutex<Vec<Value>>>::default();
    let (begun, ready) = oneshot::channel();
    let mut begun = Some(begun);
    let task = tokio::spawn({
        let seen = seen.clone();
        async move {
            let mut events = std::pin::pin!(watcher(api, watcher::Config::default()));
            while let Some(event) = events.next().await {
                match event {
                    Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object)) => {
                        let object = serde_json::to_value(object).unwrap();
                        seen.lock().unwrap_or_else(PoisonError::into_inner).push(object);
                    }
                    Ok(watcher::Event::InitDone) => {
                        if let Some(begun) = begun.take() {
                            let _ = begun.send(());
                        }
                    }
                    Ok(watcher::Event::Init | watcher::Event::Delete(_)) => {}
                    Err(error) => eprintln!("e2e: a watch broke off and goes on: {error}"),
                }
            }
        }
    });
    ready.await.unwrap();
    Watched { seen, task }
}
