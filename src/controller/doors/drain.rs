//! A pod that is to go gets no new requests, and goes when its engine has none left. Engines do not finish their work when they
//! are told to stop.

use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use kube::{
    Api,
    api::{ApiResource, DynamicObject, Patch, PatchParams},
};
use serde_json::json;
use tokio::time::Instant;

use super::ask::{Ask, Asking};
use crate::{
    api::VOUCHED,
    controller::{
        context::Context,
        objects::slim::{ANNOTATION_COST, ANNOTATION_DRAINING, SlimPod},
        plan::Owner,
        rollout::COST,
    },
};

/// Until then the network may still bring requests to a pod that is not routed to any more.
const SETTLES: Duration = Duration::from_secs(5);
/// The time between two looks at an engine.
const BETWEEN: Duration = Duration::from_secs(2);
/// So many looks in a row have to find nothing: between two requests of one person there is a moment without.
const LOOKS: u32 = 2;
/// How an engine was found.
#[derive(Debug, Clone, Copy)]
struct Seen {
    /// When it was seen first that it gets no requests.
    since: Instant,
    looking: bool,
    last: Instant,
    idle: u32,
}

/// The engines that were looked at, by the UID of their pods.
#[derive(Default)]
pub struct Drains(Arc<Mutex<HashMap<String, Seen>>>);

impl Drains {
    /// Whether the engine had no work, several times in a row.
    pub fn is_idle(&self, uid: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(uid).is_some_and(|seen| seen.idle >= LOOKS)
    }

    /// Looks at the engine of a pod that drains, in the background, if it is time to.
    pub fn look(&self, ask: &Arc<dyn Ask>, pod: &SlimPod, port: i32, asking: &Asking) {
        let unrouted = pod.condition(VOUCHED).is_some_and(|vouched| vouched.status == "False");
        let Some(uid) = pod.metadata.uid.clone() else { return };
        let Some(at) = address(pod, port) else { return };
        if !unrouted || asking.metrics_path.is_empty() || asking.idle_when_zero.is_empty() {
            return;
        }
        {
            let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let first = || Seen { since: Instant::now(), looking: false, last: Instant::now(), idle: 0 };
            let known = seen.entry(uid.clone()).or_insert_with(first);
            if known.since.elapsed() < SETTLES || known.looking || known.idle >= LOOKS || known.last.elapsed() < BETWEEN {
                return;
            }
            *known = Seen { looking: true, last: Instant::now(), ..*known };
        }
        let (ask, asking, known) = (ask.clone(), asking.clone(), self.0.clone());
        tokio::spawn(async move {
            let work = ask.work(at, &asking).await;
            if let Err(error) = &work {
                tracing::debug!(%at, error, "an engine that drains does not say what it works on");
            }
            let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(seen) = known.get_mut(&uid) {
                let idle = if work == Ok(0) { seen.idle + 1 } else { 0 };
                *seen = Seen { looking: false, last: Instant::now(), idle, ..*seen };
            }
        });
    }

    /// Forgets how the engine was found: it gets requests again.
    pub fn forget(&self, uid: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }

    /// Forgets the pods that are not in `alive`.
    pub fn keep_only(&self, alive: &HashSet<String>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|uid, _| alive.contains(uid));
    }
}

/// Where a pod's port is reached.
pub fn address(pod: &SlimPod, port: i32) -> Option<SocketAddr> {
    let ip: IpAddr = pod.status.pod_ip.as_deref()?.parse().ok()?;
    Some(SocketAddr::new(ip, u16::try_from(port).ok()?))
}

/// Writes on the pod that it is to go, since when, and that its ReplicaSet may have it cheaply.
pub async fn mark(context: &Context, owner: &Owner, pod: &SlimPod) -> Result<(), kube::Error> {
    let now = Timestamp::from_second(context.clock.now().as_second()).unwrap_or_else(|_| context.clock.now());
    let marks = json!({ ANNOTATION_DRAINING: now.to_string(), ANNOTATION_COST: COST.to_string() });
    context.drains.forget(pod.metadata.uid.as_deref().unwrap_or_default());
    annotate(context, owner, pod, marks).await
}

/// Takes that back.
pub async fn unmark(context: &Context, owner: &Owner, pod: &SlimPod) -> Result<(), kube::Error> {
    context.drains.forget(pod.metadata.uid.as_deref().unwrap_or_default());
    annotate(context, owner, pod, json!({ ANNOTATION_DRAINING: null, ANNOTATION_COST: null })).await
}

async fn annotate(context: &Context, owner: &Owner, pod: &SlimPod, marks: serde_json::Value) -> Result<(), kube::Error> {
    let resource = ApiResource::erase::<k8s_openapi::api::core::v1::Pod>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(context.client.clone(), &owner.namespace, &resource);
    let patch = json!({ "metadata": { "uid": pod.metadata.uid, "annotations": marks } });
    context.metrics.wrote("Pod", "patch");
    match api.patch(pod.name(), &PatchParams::default(), &Patch::Merge(patch)).await {
        // Gone, or another by its name (whose UID may not be changed): the next event tells.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409 | 422) => Ok(()),
        written => written.map(|_| ()),
    }
}

#[cfg(test)]
mod tests {
    use futures::future::BoxFuture;

    use super::{
        super::ask::{Download, FirstRequest},
        *,
    };

    /// Has so much work, one look after the other.
    struct Engine(Mutex<Vec<Result<u64, String>>>);

    impl Ask for Engine {
        fn download(&self, _: SocketAddr) -> BoxFuture<'_, Result<Download, String>> {
            unreachable!()
        }

        fn answers<'a>(&'a self, _: SocketAddr, _: &'a FirstRequest) -> BoxFuture<'a, Result<(), String>> {
            unreachable!()
        }

        fn work<'a>(&'a self, _: SocketAddr, _: &'a Asking) -> BoxFuture<'a, Result<u64, String>> {
            Box::pin(async { self.0.lock().unwrap().remove(0) })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_engine_has_no_work_when_two_looks_in_a_row_find_none() {
        let start = Timestamp::from_second(1_800_000_000).unwrap();
        let pod: SlimPod = serde_json::from_value(json!({
            "metadata": { "name": "p", "uid": "u", "annotations": { ANNOTATION_DRAINING: start.to_string() } },
            "status": { "podIP": "127.0.0.1", "conditions": [{ "type": VOUCHED, "status": "False", "lastTransitionTime": start.to_string() }] },
        }))
        .unwrap();
        let looks = [Ok(1), Ok(0), Err("no".to_owned()), Ok(0), Ok(0)];
        let engine = Arc::new(Engine(Mutex::new(looks.to_vec())));
        let ask: Arc<dyn Ask> = engine.clone();
        let drains = Drains::default();
        let asking = Asking { request: None, metrics_path: "/metrics".into(), idle_when_zero: vec!["g".into()] };
        let began = Instant::now();
        while !drains.is_idle("u") {
            drains.look(&ask, &pod, 8000, &asking);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert!(engine.0.lock().unwrap().is_empty());
        // Five seconds until nothing comes any more, and two between one look and the next.
        assert!((13..15).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
        // An engine that has no gauges is never known to be idle.
        drains.forget("u");
        drains.look(&ask, &pod, 8000, &Asking::default());
        assert!(!drains.is_idle("u"));
    }
}
