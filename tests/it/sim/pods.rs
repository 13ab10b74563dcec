//! Pods as they can be asked over the network.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bonafide::controller::ask::{Ask, Asking, Download, FirstRequest};
use futures::future::BoxFuture;
use serde_json::Value;
use tokio::time::sleep;

use crate::support::fake_api::FakeApi;

/// The network of pods.
#[derive(Clone)]
pub struct Pods {
    api: FakeApi,
    work: Arc<Mutex<BTreeMap<String, u64>>>,
    broken: Arc<AtomicBool>,
}

impl Pods {
    pub fn new(api: &FakeApi) -> Self {
        Self { api: api.clone(), work: Arc::default(), broken: Arc::default() }
    }

    /// From now on the engine of that pod works on so many requests.
    pub fn busy(&self, pod: &str, requests: u64) {
        self.work.lock().unwrap().insert(pod.to_owned(), requests);
    }

    /// From now on engines say that they are ready, and answer no request, or do again.
    pub fn broken(&self, broken: bool) {
        self.broken.store(broken, Ordering::Relaxed);
    }

    fn find(&self, at: SocketAddr) -> Result<Arc<Value>, String> {
        let address = at.ip().to_string();
        let pods = self.api.all("Pod");
        pods.into_iter().find(|pod| pod["status"]["podIP"] == address.as_str()).ok_or_else(|| "connection refused".to_owned())
    }

    fn engine(&self, at: SocketAddr) -> Result<Arc<Value>, String> {
        let pod = self.find(at)?;
        let ready = pod["status"]["containerStatuses"].as_array().is_some_and(|all| all.iter().any(|one| one["ready"] == true));
        if ready { Ok(pod) } else { Err("connection refused".to_owned()) }
    }
}

const SOON: Duration = Duration::from_millis(5);

impl Ask for Pods {
    fn download(&self, at: SocketAddr) -> BoxFuture<'_, Result<Download, String>> {
        Box::pin(async move {
            sleep(SOON).await;
            self.find(at).map(|_| Download { total: 1000, hashed: 500, rate: 100.0, elapsed_seconds: 5.0, idle_seconds: 0.0 })
        })
    }

    fn answers<'a>(&'a self, at: SocketAddr, _: &'a FirstRequest) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async move {
            sleep(SOON).await;
            if self.broken.load(Ordering::Relaxed) {
                return Err("/v1/completions answers 500: EngineDeadError".to_owned());
            }
            self.engine(at).map(|_| ())
        })
    }

    fn work<'a>(&'a self, at: SocketAddr, _: &'a Asking) -> BoxFuture<'a, Result<u64, String>> {
        Box::pin(async move {
            sleep(SOON).await;
            let pod = self.engine(at)?;
            let name = pod["metadata"]["name"].as_str().unwrap();
            Ok(self.work.lock().unwrap().get(name).copied().unwrap_or(0))
        })
    }
}
