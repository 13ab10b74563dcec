//! Looks up what the watches do not tell, for pods that are not ready, and only for those: events, the node, the log of an engine
//! that broke down, how far a download is. Each answer is kept for a moment, so that several looks in a row ask once.
//!
//! Nothing here makes a reconcile fail or wait for long: what does not come is as if nobody knew it.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{StreamExt as _, stream};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::{
    Api, Client, Resource,
    api::{ListParams, LogParams, ObjectMeta},
};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout};

use super::{
    context::Context,
    decide::{Decision, Judged},
    diagnose::{
        Asked, Found, Looked, departure, last_lines,
        looked::{Claim, Crash, Departure, Node, NodeState, SlimEvent, SlimNode, TakingPod, number},
        needs::{Needs, PERIOD},
    },
    objects::slim::SlimPod,
    observe::Observed,
    plan::{CONTAINER_ENGINE, Owner},
    progress, status,
};

/// The port on which a container that fetches says how far it is.
const PROGRESS_PORT: u16 = 8081;
/// How many pods of one ModelDeployment are looked up; the others are like them.
const MOST: usize = 16;
/// How many are looked up at the same time.
const AT_ONCE: usize = 8;
/// How long one answer is waited for.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long the list of all nodes is waited for.
const LISTING: Duration = Duration::from_secs(30);
/// How long an answer is taken for what is so: several looks in a row ask once.
const FRESH: Duration = Duration::from_secs(1);
/// The most events of a pod that are read.
const EVENTS: u32 = 100;
/// The most bytes and lines of a log that are read: the cause may stand more than a hundred lines above the last one.
const LOG: (i64, i64) = (256 * 1024, 1000);
/// The time between two lists of the nodes, as a multiple of what the last one took; and while there are pods that were made since.
const SHARE: u32 = 20;
const NEW_SHARE: u32 = 4;
/// The nodes are not listed more often than this.
const NODES_AGAIN: Duration = Duration::from_secs(1);
/// Nodes and pods come in pages of so many.
const PAGE: u32 = 500;
/// How often a log that does not come is asked for.
const TRIES: u32 = 3;

/// What was looked up, and when.
#[derive(Default)]
pub struct Lookups {
    events: Mutex<HashMap<String, (Instant, Vec<SlimEvent>)>>,
    hosts: Mutex<HashMap<String, (Instant, Option<NodeState>)>>,
    downloads: Mutex<HashMap<String, (Instant, Option<super::ask::Download>)>>,
    /// By pod and end of the container: how often it was asked for, and what it was.
    crashes: Mutex<HashMap<String, (u32, Option<Crash>)>>,
    limits: Mutex<HashMap<String, Option<f64>>>,
    nodes: Listing,
    /// By the UID of the ModelDeployment.
    departed: Mutex<HashMap<String, Vec<Departure>>>,
    /// Pods that are waited for, by UID of the ModelDeployment: the more there are, the less often each is looked at.
    waiting: Mutex<HashMap<String, usize>>,
}

/// The nodes as they were listed last, and whose turn it is to list them.
#[derive(Default)]
struct Listing {
    latest: Arc<Mutex<Option<Nodes>>>,
    turn: Arc<tokio::sync::Mutex<()>>,
}

struct Nodes {
    at: Instant,
    time: Timestamp,
    took: Duration,
    nodes: Option<Arc<Vec<Node>>>,
}

/// Looks up what the pods of the current revision need to be understood.
pub async fn look(context: &Context, observed: &Observed, decision: &Decision) -> Found {
    let lookups = &context.lookups;
    let current = decision.revisions.iter().find(|judged| Some(&judged.seen.revision.name) == decision.current.as_ref());
    let Some(current) = current else {
        lookups.settled(&observed.owner);
        return Found::default();
    };
    let pods = status::pods_of(&observed.pods, current);
    let waiting: Vec<&Arc<SlimPod>> = pods.iter().copied().filter(|pod| !progress::answers(pod)).collect();
    let wanted = usize::try_from(current.seen.asked.unwrap_or(1)).unwrap_or_default();
    if waiting.is_empty() && pods.len() >= wanted {
        lookups.settled(&observed.owner);
        return Found::default();
    }
    let now = context.clock.now();
    let mut needs: Vec<(&SlimPod, Needs)> =
        waiting.iter().map(|pod| (&***pod, Needs::of(pod, now))).filter(|(_, needs)| needs.any()).take(MOST).collect();
    let claims =
        if needs.iter().any(|(_, needs)| needs.claims) { Asked::of(&current.seen.revision.template, 0).claims } else { vec![] };
    let crowd = lookups.crowd(&observed.owner, needs.len());
    let mut found = Found::default();
    if needs.iter().any(|(_, needs)| needs.nodes) {
        let since = needs.iter().filter(|(_, needs)| needs.nodes).filter_map(|(pod, _)| pod.metadata.creation_timestamp.as_ref());
        found.nodes = nodes(context, since.map(|time| time.0).max().unwrap_or(now)).await;
        // Where there is no node, no autoscaler runs either: nobody has anything to say of a pod that waits for one.
        if found.nodes.as_ref().is_some_and(|nodes| nodes.is_empty()) {
            needs.iter_mut().filter(|(_, needs)| needs.nodes).for_each(|(_, needs)| needs.events = false);
        }
    }
    let looks = needs.iter().map(|(pod, needs)| async {
        let looked = look_at(context, &observed.owner, pod, needs, &claims, current).await;
        (pod.metadata.uid.clone().unwrap_or_default(), looked)
    });
    let looks: Vec<_> = looks.collect();
    found.pods = stream::iter(looks).buffer_unordered(AT_ONCE).collect::<Vec<_>>().await.into_iter().collect();
    found.departed = lookups.depart(&observed.owner, &pods, &found.pods);
    // What did not come is asked for again soon, however long it has been so.
    let missed = |(pod, needs): &(&SlimPod, Needs)| {
        needs.nodes && found.nodes.is_none() || found.pods.get(uid(pod)).is_some_and(|looked| looked.missed)
    };
    let again = needs.iter().filter_map(|asked| if missed(asked) { Some(PERIOD) } else { asked.1.again }).min();
    found.again = again.map(|again| again.max(crowd));
    found
}

async fn look_at(context: &Context, owner: &Owner, pod: &SlimPod, needs: &Needs, named: &[String], current: &Judged) -> Looked {
    let events = async { if needs.events { events(context, owner, pod).await } else { Some(vec![]) } };
    let node = async {
        let name = pod.spec.node_name.as_deref().filter(|_| needs.node)?;
        host(context, name).await
    };
    let download = async { if needs.download { download(context, pod).await } else { None } };
    let crash = async { if let Some(previous) = needs.log { crash(context, owner, pod, previous, current).await } else { None } };
    let limit = async { if needs.limit { limit(context, owner, pod).await } else { None } };
    let unbound = async { if needs.claims { claims(context, owner, named).await } else { vec![] } };
    let (events, node, download, crash, memory_limit, unbound) = futures::join!(events, node, download, crash, limit, unbound);
    Looked { missed: events.is_none(), events: events.unwrap_or_default(), node, crash, download, memory_limit, unbound }
}

/// What comes in time; what does not is told to the log, and not known.
async fn in_time<T>(what: &str, work: impl Future<Output = Result<T, kube::Error>>) -> Option<T> {
    match timeout(PATIENCE, work).await {
        Ok(Ok(found)) => Some(found),
        Ok(Err(error)) => {
            tracing::debug!(what, %error, "could not be looked up");
            None
        }
        Err(_) => {
            tracing::debug!(what, "did not come within {} s", PATIENCE.as_secs());
            None
        }
    }
}

fn fresh<V: Clone>(cache: &Mutex<HashMap<String, (Instant, V)>>, key: &str) -> Option<V> {
    let cache = cache.lock().unwrap_or_else(PoisonError::into_inner);
    cache.get(key).filter(|(at, _)| at.elapsed() < FRESH).map(|(_, value)| value.clone())
}

fn keep<V>(cache: &Mutex<HashMap<String, V>>, key: &str, value: V) {
    cache.lock().unwrap_or_else(PoisonError::into_inner).insert(key.to_owned(), value);
}

fn uid(pod: &SlimPod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

/// The events of one object, the newest first.
async fn events_of(context: &Context, namespace: &str, uid: &str) -> Option<Vec<SlimEvent>> {
    let api = Api::<SlimEvent>::namespaced(context.client.clone(), namespace);
    let parameters = ListParams::default().fields(&format!("regarding.uid={uid}")).limit(EVENTS);
    let mut events = in_time("events", api.list(&parameters)).await?.items;
    for event in &mut events {
        // They are kept for a while, and nothing else of this is read.
        event.metadata = ObjectMeta { creation_timestamp: event.metadata.creation_timestamp.take(), ..ObjectMeta::default() };
    }
    events.sort_by_key(|event| std::cmp::Reverse(event.at()));
    Some(events)
}

async fn events(context: &Context, owner: &Owner, pod: &SlimPod) -> Option<Vec<SlimEvent>> {
    let cache = &context.lookups.events;
    if let Some(events) = fresh(cache, uid(pod)) {
        return Some(events);
    }
    let events = events_of(context, &owner.namespace, uid(pod)).await?;
    keep(cache, uid(pod), (Instant::now(), events.clone()));
    Some(events)
}

/// How a node is; `Some(None)` when there is none of that name.
async fn host(context: &Context, name: &str) -> Option<Option<NodeState>> {
    let cache = &context.lookups.hosts;
    if let Some(state) = fresh(cache, name) {
        return Some(state);
    }
    let node = in_time("a node", Api::<SlimNode>::all(context.client.clone()).get_opt(name)).await?;
    let state = node.map(|node| node.state());
    keep(cache, name, (Instant::now(), state.clone()));
    Some(state)
}

async fn download(context: &Context, pod: &SlimPod) -> Option<super::ask::Download> {
    let cache = &context.lookups.downloads;
    if let Some(download) = fresh(cache, uid(pod)) {
        return download;
    }
    let address = pod.status.pod_ip.as_deref()?.parse().ok()?;
    // Pods of an earlier version have no such port, and that is no news.
    let download = timeout(PATIENCE, context.ask.download(SocketAddr::new(address, PROGRESS_PORT))).await.ok()?.ok();
    keep(cache, uid(pod), (Instant::now(), download));
    download
}

/// What the engine's log says of its last end; read once for each.
async fn crash(context: &Context, owner: &Owner, pod: &SlimPod, previous: bool, current: &Judged) -> Option<Crash> {
    let engine = pod.status.container_statuses.iter().find(|container| container.name == CONTAINER_ENGINE)?;
    let ended = engine.state.terminated.as_ref().or(engine.last_state.terminated.as_ref())?;
    let key = format!("{}/{previous}/{:?}", uid(pod), ended.finished_at);
    let known = context.lookups.crashes.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
    let tries = match known {
        Some((tries, crash)) if crash.is_some() || tries >= TRIES => return crash,
        known => known.map_or(0, |(tries, _)| tries),
    };
    let mut log = engine_log(context, owner, pod, previous).await;
    // The next run may have begun since, and has said nothing yet.
    if !previous && log.as_ref().is_some_and(|log| log.trim().is_empty()) {
        log = engine_log(context, owner, pod, true).await.or(log);
    }
    let engine = context.catalogue.lock().unwrap_or_else(PoisonError::into_inner).1.clone();
    let engine = engine.get(&current.seen.revision.engine).ok();
    let explain = |text: &str| engine.and_then(|engine| engine.errors().explain(text.as_bytes()));
    // The kubelet keeps the end of it as the termination message.
    let kept = || explain(&ended.message);
    let zero_is_crash = engine.is_some_and(|engine| engine.spec().exit.zero_is_crash);
    let crash = match log {
        Some(log) => Some(Crash { explained: explain(&log).or_else(kept), last: last_lines(log.as_bytes()), zero_is_crash }),
        None => kept().map(|said| Crash { explained: Some(said), last: last_lines(ended.message.as_bytes()), zero_is_crash }),
    };
    keep(&context.lookups.crashes, &key, (tries + 1, crash.clone()));
    crash
}

/// The end of the log of the engine's last run, or of the one before it.
async fn engine_log(context: &Context, owner: &Owner, pod: &SlimPod, previous: bool) -> Option<String> {
    let (bytes, lines) = LOG;
    let parameters = LogParams {
        container: Some(CONTAINER_ENGINE.to_owned()),
        previous,
        tail_lines: Some(lines),
        limit_bytes: Some(bytes),
        ..LogParams::default()
    };
    let api = Api::<Pod>::namespaced(context.client.clone(), &owner.namespace);
    in_time("a log", api.logs(pod.name(), &parameters)).await
}

/// The memory that the engine of this pod may use; a LimitRange may have set it.
async fn limit(context: &Context, owner: &Owner, pod: &SlimPod) -> Option<f64> {
    let known = context.lookups.limits.lock().unwrap_or_else(PoisonError::into_inner).get(uid(pod)).copied();
    if let Some(limit) = known {
        return limit;
    }
    let live = in_time("a pod", Api::<TakingPod>::namespaced(context.client.clone(), &owner.namespace).get(pod.name())).await?;
    let engine = live.spec.containers.into_iter().find(|container| container.name == CONTAINER_ENGINE)?;
    let limit = engine.resources.limits.get("memory").and_then(number);
    keep(&context.lookups.limits, uid(pod), limit);
    limit
}

/// The claims of these names that are not bound, and why.
async fn claims(context: &Context, owner: &Owner, names: &[String]) -> Vec<Claim> {
    let api = Api::<PersistentVolumeClaim>::namespaced(context.client.clone(), &owner.namespace);
    let mut unbound = Vec::new();
    for name in names {
        match in_time("a claim", api.get_opt(name)).await {
            Some(None) => unbound.push(Claim { name: name.clone(), why: None }),
            Some(Some(claim)) if claim.status.as_ref().and_then(|status| status.phase.as_deref()) != Some("Bound") => {
                let events = events_of(context, &owner.namespace, claim.metadata.uid.as_deref().unwrap_or_default()).await;
                let why = events.and_then(|events| events.into_iter().next()).map(|event| event.note).unwrap_or_default();
                unbound.push(Claim { name: name.clone(), why: Some(why) });
            }
            _ => {}
        }
    }
    unbound
}

/// Every object of a kind, in pages, as the API server has it at hand.
async fn all<K>(api: Api<K>, parameters: ListParams) -> Result<Vec<K>, kube::Error>
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug,
{
    let mut parameters = parameters.limit(PAGE);
    let mut found = Vec::new();
    loop {
        let page = api.list(&parameters).await?;
        found.extend(page.items);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => parameters = parameters.continue_token(&token),
            None => return Ok(found),
        }
    }
}

/// The nodes and what is free on them: one list for everybody, and the longer it takes, the less often. Whoever finds that it takes
/// long goes on with what was there before, or without.
///
/// What was listed before a pod was made, which is `since`, says little of why it found no node.
async fn nodes(context: &Context, since: Timestamp) -> Option<Arc<Vec<Node>>> {
    let listing = &context.lookups.nodes;
    if listing.is_due(since)
        && let Ok(turn) = listing.turn.clone().try_lock_owned()
    {
        let (client, clock, latest) = (context.client.clone(), context.clock.clone(), listing.latest.clone());
        tokio::spawn(async move {
            let (time, began) = (clock.now(), Instant::now());
            let nodes = match timeout(LISTING, list_nodes(&client)).await {
                Ok(Ok(nodes)) => Some(Arc::new(nodes)),
                Ok(Err(error)) => {
                    tracing::debug!(%error, "the nodes could not be looked up");
                    None
                }
                Err(_) => None,
            };
            let listed = Nodes { at: Instant::now(), time, took: began.elapsed(), nodes };
            *latest.lock().unwrap_or_else(PoisonError::into_inner) = Some(listed);
            drop(turn);
        });
    }
    // Who knows nothing yet waits for it: a message that is put right a moment later is written twice.
    let patience = if listing.is_empty() { LISTING } else { PATIENCE };
    let _ = timeout(patience, listing.turn.lock()).await;
    let latest = listing.latest.lock().unwrap_or_else(PoisonError::into_inner);
    latest.as_ref().and_then(|latest| latest.nodes.clone())
}

async fn list_nodes(client: &Client) -> Result<Vec<Node>, kube::Error> {
    let mut nodes: BTreeMap<String, Node> = BTreeMap::new();
    for node in all(Api::<SlimNode>::all(client.clone()), ListParams::default()).await? {
        let node = node.room();
        nodes.insert(node.name.clone(), node);
    }
    let running = "spec.nodeName!=,status.phase!=Succeeded,status.phase!=Failed";
    if !nodes.is_empty() {
        for pod in all(Api::<TakingPod>::all(client.clone()), ListParams::default().fields(running)).await? {
            let Some(node) = nodes.get_mut(&pod.spec.node_name) else { continue };
            for (name, number) in pod.spec.requests() {
                *node.used.entry(name).or_default() += number;
            }
        }
    }
    Ok(nodes.into_values().collect())
}

impl Listing {
    /// Whether they were never listed.
    fn is_empty(&self) -> bool {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    /// Whether what was listed last is too old. It is listed in at most a twentieth of the time, and in a fifth while pods are made.
    fn is_due(&self, since: Timestamp) -> bool {
        let latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        latest.as_ref().is_none_or(|latest| {
            let share = if latest.time < since { NEW_SHARE } else { SHARE };
            latest.at.elapsed() >= (latest.took * share).max(NODES_AGAIN)
        })
    }
}

impl Lookups {
    /// Everything is there: what happened before is over.
    fn settled(&self, owner: &Owner) {
        self.departed.lock().unwrap_or_else(PoisonError::into_inner).remove(&owner.uid);
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&owner.uid);
    }

    /// Notes how many pods wait, and says how long to wait between two looks, so that all together ask a few dozen times a second.
    fn crowd(&self, owner: &Owner, pods: usize) -> Duration {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.insert(owner.uid.clone(), pods);
        let all: usize = waiting.values().sum();
        PERIOD.max(Duration::from_millis(u64::try_from(all).unwrap_or(u64::MAX).saturating_mul(40)))
    }

    /// The pods that were sent away since everything was there.
    fn depart(&self, owner: &Owner, pods: &[&Arc<SlimPod>], looked: &BTreeMap<String, Looked>) -> Vec<Departure> {
        const REMEMBERED: usize = 4;
        let mut departed = self.departed.lock().unwrap_or_else(PoisonError::into_inner);
        let known = departed.entry(owner.uid.clone()).or_default();
        for departure in pods.iter().filter_map(|pod| departure(pod, looked.get(uid(pod)))) {
            known.retain(|known| known.uid != departure.uid);
            known.push(departure);
        }
        let from = known.len().saturating_sub(REMEMBERED);
        known.drain(..from);
        known.clone()
    }

    /// Forgets what is about pods that are gone, and what was not asked for lately.
    pub fn keep_only(&self, pods: &HashSet<String>, deployments: &HashSet<String>) {
        const LATELY: Duration = Duration::from_secs(60);
        let of_pod = |key: &str| pods.contains(key.split('/').next().unwrap_or_default());
        self.events.lock().unwrap_or_else(PoisonError::into_inner).retain(|uid, (at, _)| of_pod(uid) && at.elapsed() < LATELY);
        self.downloads.lock().unwrap_or_else(PoisonError::into_inner).retain(|uid, (at, _)| of_pod(uid) && at.elapsed() < LATELY);
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, (at, _)| at.elapsed() < LATELY);
        self.crashes.lock().unwrap_or_else(PoisonError::into_inner).retain(|key, _| of_pod(key));
        self.limits.lock().unwrap_or_else(PoisonError::into_inner).retain(|uid, _| of_pod(uid));
        self.departed.lock().unwrap_or_else(PoisonError::into_inner).retain(|uid, _| deployments.contains(uid));
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).retain(|uid, _| deployments.contains(uid));
        let mut latest = self.nodes.latest.lock().unwrap_or_else(PoisonError::into_inner);
        if latest.as_ref().is_some_and(|latest| latest.at.elapsed() > LATELY.max(latest.took * SHARE)) {
            *latest = None;
        }
    }
}
