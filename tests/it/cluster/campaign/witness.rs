//! Sees every pod and every EndpointSlice, and judges in the end whether anything was served that should not have been.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use futures::StreamExt as _;
use k8s_openapi::api::{core::v1::Pod, discovery::v1::EndpointSlice};
use kube::{Api, Client, ResourceExt as _, runtime::watcher};
use tokio::{task::JoinSet, time::sleep};

use super::wishes::Wishes;

/// What was seen of one pod.
#[derive(Debug, Default)]
struct Seen {
    name: String,
    artifact: String,
    gated_first: Option<Instant>,
    free_first: Option<Instant>,
    vouched: bool,
}

#[derive(Default)]
struct Book {
    pods: BTreeMap<String, Seen>,
    /// Pods that traffic was sent to.
    routed: BTreeSet<String>,
}

pub struct Witness {
    book: Arc<Mutex<Book>>,
    _tasks: JoinSet<()>,
}

impl Witness {
    pub fn start(client: Client) -> Self {
        let book = Arc::new(Mutex::new(Book::default()));
        let mut tasks = JoinSet::new();
        tasks.spawn(watch(Api::<Pod>::all(client.clone()), book.clone(), Book::pod));
        tasks.spawn(watch(Api::<EndpointSlice>::all(client), book.clone(), Book::slice));
        Self { book, _tasks: tasks }
    }

    /// Judges, once what was routed last was seen from both sides.
    pub async fn verdict(&self, wishes: &Wishes) {
        sleep(Duration::from_secs(3)).await;
        let book = self.book.lock().unwrap();
        assert!(book.routed.len() > 20, "hardly anything was served: this shows nothing");
        for uid in &book.routed {
            let pod = book.pods.get(uid);
            assert!(pod.is_some_and(|pod| pod.vouched), "{uid} was served and never vouched for: {pod:?}");
        }
        let moment = Duration::from_secs(3);
        for (uid, pod) in &book.pods {
            assert!(!pod.artifact.starts_with("nobody"), "a pod of what nobody signed: {uid} {pod:?}");
            let (Some(gated), Some(free)) = (pod.gated_first, pod.free_first) else { continue };
            let refused =
                |(from, until): &(Instant, Option<Instant>)| gated > *from + moment && until.is_none_or(|until| free < until);
            let second = pod.artifact.starts_with("second");
            assert!(!second || !wishes.refusals.iter().any(refused), "let in while the policy refused it: {uid} {pod:?}");
        }
        eprintln!(
            "campaign: {} pods seen, {} served, {} times the policy refused",
            book.pods.len(),
            book.routed.len(),
            wishes.refusals.len()
        );
    }
}

impl Book {
    fn pod(&mut self, pod: Pod) {
        let label = |key: &str| pod.labels().get(key).cloned().unwrap_or_default();
        if label("bonafide.dev/deployment").is_empty() {
            return;
        }
        let seen = self.pods.entry(pod.uid().unwrap_or_default()).or_default();
        seen.name = format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any());
        let spec = pod.spec.clone().unwrap_or_default();
        let text = serde_json::to_string(&spec.init_containers).unwrap_or_default();
        seen.artifact = ["first", "second", "nobody"]
            .iter()
            .find(|model| text.contains(*model))
            .map(|model| (*model).to_owned())
            .unwrap_or_default();
        let gated = spec.scheduling_gates.iter().flatten().any(|gate| gate.name == "bonafide.dev/verdict");
        if gated {
            seen.gated_first.get_or_insert(Instant::now());
        } else {
            seen.free_first.get_or_insert(Instant::now());
        }
        let conditions = pod.status.and_then(|status| status.conditions).unwrap_or_default();
        // One that is drained was vouched for before.
        let vouched = |status: &str, reason: Option<&str>| status == "True" || reason == Some("Draining");
        seen.vouched |= conditions.iter().any(|condition| {
            condition.type_ == "bonafide.dev/Vouched" && vouched(&condition.status, condition.reason.as_deref())
        });
    }

    fn slice(&mut self, slice: EndpointSlice) {
        if !matches!(slice.namespace().as_deref(), Some(super::STORMY | super::CALM)) {
            return;
        }
        let ready = slice.endpoints.iter().filter(|endpoint| endpoint.conditions.as_ref().and_then(|c| c.ready) == Some(true));
        self.routed.extend(ready.filter_map(|endpoint| endpoint.target_ref.as_ref()?.uid.clone()));
    }
}

async fn watch<K>(api: Api<K>, book: Arc<Mutex<Book>>, see: fn(&mut Book, K))
where
    K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + 'static,
{
    let events = watcher(api, watcher::Config::default());
    futures::pin_mut!(events);
    while let Some(event) = events.next().await {
        match event {
            Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object)) => see(&mut book.lock().unwrap(), object),
            Ok(_) => {}
            Err(_) => sleep(Duration::from_millis(300)).await,
        }
    }
}
