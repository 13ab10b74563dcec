//! Starts the watches and turns the crank: which change concerns which object.

use std::{
    collections::HashSet,
    panic::AssertUnwindSafe,
    sync::{Arc, PoisonError},
    time::Duration,
};

use futures::{
    FutureExt as _, Stream, StreamExt as _,
    future::{Ready, ready},
};
use k8s_openapi::api::{
    apps::v1::ControllerRevision,
    core::v1::{ConfigMap, Namespace, Service},
    policy::v1::PodDisruptionBudget,
};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    runtime::{
        Config as ControllerConfig, Controller, WatchStreamExt as _,
        controller::Action,
        reflector::{self, ObjectRef},
        watcher,
    },
};
use tokio::{sync::watch, task::JoinSet, time::Instant};

use super::{
    backoff::Backoff,
    context::{Config, Context, read_sources},
    doors::ask::{Ask, Network},
    events::Events,
    objects::{
        shelf::{Change, Filler, deployments, shelf},
        slim::{SlimDeployment, SlimPod, SlimSignature},
        stores::Stores,
        survey,
        told::{Guarded, Meta},
    },
    unreadable,
    verdicts::{policies, protection, standing},
};
use crate::{
    api::{InferenceEngine, LABEL_DEPLOYMENT, LABEL_MEASURES, ModelArtifact, ModelDeployment},
    engine::Catalogue,
    runtime::{
        clock::Clock,
        http::Readiness,
        metrics::{Metrics, Outcome},
        shutdown::Shutdown,
    },
    weights::{Library, Resolver},
};

/// How many objects are reconciled at the same time.
const CONCURRENCY: u16 = 8;
/// The longest wait between two looks at what is in the way of an object.
const RETRY: Duration = Duration::from_secs(30);
/// A reconcile that takes longer is given up and tried again.
const PATIENCE: Duration = Duration::from_secs(300);

/// Why the controller could not be started.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The configuration cannot be used.
    #[error("{0}")]
    Config(String),
    /// The watches ended before they began.
    #[error("the watches ended before every kind was read once")]
    Watches,
}

type Wish = Guarded<ModelDeployment>;

/// What the controller reaches beside itself. A simulation has its own.
pub struct Surroundings {
    /// The API server.
    pub client: Client,
    /// Says what sources have.
    pub library: Arc<dyn Library>,
    /// Asks pods.
    pub ask: Arc<dyn Ask>,
    /// The time.
    pub clock: Clock,
}

impl Surroundings {
    /// The real ones: the servers of the administrator's table, the pods' own addresses. `clock` hears what `client` is answered.
    ///
    /// # Errors
    /// When the configuration's table of sources cannot be used.
    pub fn real(client: Client, clock: Clock, config: &Config) -> Result<Self, RunError> {
        let table = read_sources(&config.sources).map_err(RunError::Config)?;
        let library = Arc::new(Resolver::new(table).map_err(|error| RunError::Config(error.to_string()))?);
        let ask = Arc::new(Network::new().map_err(RunError::Config)?);
        Ok(Self { client, library, ask, clock })
    }
}

/// Runs until the shutdown begins. Everything that it writes, it writes as the leader.
pub async fn run(
    surroundings: Surroundings,
    config: Config,
    namespace: &str,
    metrics: Arc<Metrics>,
    readiness: Readiness,
    shutdown: Shutdown,
) -> Result<(), RunError> {
    let Surroundings { client, library, ask, clock } = surroundings;
    let table = read_sources(&config.sources).map_err(RunError::Config)?;
    let sources = serde_json::to_value(&table).map_err(|error| RunError::Config(error.to_string()))?;
    let mut obstacle = readiness.obstacle();
    // What cannot exist cannot be watched.
    tokio::select! {
        biased;
        _ = obstacle.wait_for(|obstacle| !obstacle.as_ref().is_some_and(|obstacle| obstacle.absent)) => {}
        () = shutdown.begun() => return Ok(()),
    }
    let (publish, policies) = watch::channel(None);
    let (missing, next) = protection::first(&client).await;
    let (tell, unprotected) = watch::channel(missing);
    // They end with this function: what is not the leader any more writes nothing.
    let mut background = JoinSet::new();
    background.spawn(protection::run(client.clone(), tell, next));
    let stance = config.policy.default.into();
    background.spawn(policies::run(client.clone(), namespace.to_owned(), stance, metrics.clone(), clock.clone(), publish));

    let (wishes, writer) = reflector::store::<Wish>();
    let changed = watcher(Api::<Wish>::all(client.clone()), watcher::Config::default().page_size(100))
        .default_backoff()
        .reflect(writer)
        .applied_objects()
        .filter_map(told);
    let mut controller =
        Controller::for_stream(changed, wishes.clone()).with_config(ControllerConfig::default().concurrency(CONCURRENCY));
    let ours = watcher::Config::default().labels(LABEL_DEPLOYMENT).page_size(100);

    // Each watch fills a shelf and names the objects that a change concerns.
    macro_rules! watched {
        ($kind:ty, $config:expr, $concerns:expr) => {{
            let (shelf, filler) = shelf::<$kind>();
            let stream = watcher(Api::<$kind>::all(client.clone()), $config).default_backoff();
            controller = controller.reconcile_on(told_by(stream, filler, $concerns));
            shelf
        }};
    }
    let all_in = {
        let wishes = wishes.clone();
        move |namespace: &str| {
            let concerned = wishes.state();
            concerned
                .into_iter()
                .filter(|object| object.namespace().as_deref() == Some(namespace))
                .map(|object| ObjectRef::from_obj(&*object))
                .collect::<Vec<_>>()
        }
    };
    let all = {
        let wishes = wishes.clone();
        move || wishes.state().into_iter().map(|object| ObjectRef::from_obj(&*object)).collect::<Vec<_>>()
    };
    let stores = Stores {
        pods: watched!(SlimPod, ours.clone(), by_belonging),
        measuring: watched!(SlimPod, watcher::Config::default().labels(LABEL_MEASURES).page_size(100), by_belonging),
        deployments: watched!(SlimDeployment, ours.clone(), by_belonging),
        revisions: watched!(Meta<ControllerRevision>, ours.clone(), by_belonging),
        config_maps: watched!(Meta<ConfigMap>, ours.clone(), by_belonging),
        services: watched!(Meta<Service>, ours.clone(), by_belonging),
        budgets: watched!(Meta<PodDisruptionBudget>, ours.clone(), by_belonging),
        wishes: wishes.clone(),
        artifacts: watched!(Meta<ModelArtifact>, watcher::Config::default().page_size(100), by_change_of_owners),
        signatures: watched!(SlimSignature, watcher::Config::default().page_size(50), {
            let all_in = all_in.clone();
            move |change| {
                let namespace = change.either().and_then(|signature| signature.namespace()).filter(|_| !says_the_same(change));
                namespace.map(|namespace| all_in(&namespace)).unwrap_or_default()
            }
        }),
        namespaces: watched!(Meta<Namespace>, watcher::Config::default().page_size(100), move |change| {
            change.either().map(|namespace| all_in(&namespace.name_any())).unwrap_or_default()
        }),
        engines: watched!(Guarded<InferenceEngine>, watcher::Config::default(), move |_| all()),
    };
    let policies_changed = futures::stream::unfold(policies.clone(), |mut policies| async move {
        policies.changed().await.ok().map(|()| ((), policies))
    });
    let protection_changed = futures::stream::unfold(unprotected.clone(), |mut unprotected| async move {
        unprotected.changed().await.ok().map(|()| ((), unprotected))
    });
    let obstacle_changed = futures::stream::unfold(obstacle.clone(), |mut obstacle| async move {
        obstacle.changed().await.ok().map(|()| ((), obstacle))
    });
    controller = controller
        .reconcile_all_on(policies_changed)
        .reconcile_all_on(protection_changed)
        .reconcile_all_on(obstacle_changed)
        .graceful_shutdown_on(shutdown.begun());

    let backoff = Backoff::new(&clock);
    let (announced, everything_read) = watch::channel(false);
    let context = Arc::new(Context {
        events: Events::new(client.clone()),
        client,
        config,
        sources,
        library,
        ask,
        clock,
        stores,
        policies,
        unprotected,
        obstacle,
        told: Default::default(),
        metrics,
        compared: Default::default(),
        artifacts: Default::default(),
        recorded: Default::default(),
        catalogue: (vec![], Arc::new(Catalogue::builtin())).into(),
        revisions: Default::default(),
        trees: Default::default(),
        delivered: Default::default(),
        measured: Default::default(),
        judgements: Default::default(),
        vouchers: Default::default(),
        lookups: Default::default(),
        pace: Default::default(),
        answers: Default::default(),
        sightings: Default::default(),
        drains: Default::default(),
        backoff,
        everything_read,
    });
    let ready = announce(context.clone(), readiness.clone(), announced);
    let turning = controller.run(attempt, error_policy, context.clone()).for_each(|turn| async {
        if let Err(error) = turn {
            tracing::debug!(%error, "a turn of the controller");
        }
    });
    tokio::select! {
        biased;
        () = turning => Ok(()),
        Err(error) = ready => Err(error),
    }
}

/// Says that everything was read once; then forgets, from time to time, what is about objects that are gone.
///
/// It alone waits for the stores: of several that wait for the same one, only the last is woken.
async fn announce(
    context: Arc<Context>,
    readiness: Readiness,
    announced: watch::Sender<bool>,
) -> Result<std::convert::Infallible, RunError> {
    if !context.stores.ready().await {
        return Err(RunError::Watches);
    }
    context.policies.clone().wait_for(Option::is_some).await.map_err(|_| RunError::Watches)?;
    survey::survey(&context).await;
    announced.send_replace(true);
    readiness.set(true);
    tracing::info!("everything was read once; reconciling");
    let tidying = async {
        loop {
            tokio::time::sleep(Duration::from_secs(300)).await;
            context.forget_what_is_gone().await;
        }
    };
    match futures::join!(tidying, standing::run(&context), context.events.run()) {}
}

/// One attempt at one object. A panic in it is this object's trouble and nobody else's.
async fn attempt(object: Arc<Wish>, context: Arc<Context>) -> Result<Action, Failed> {
    let key = format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any());
    // What a store has not read yet would look as if it were not there.
    if context.everything_read.clone().wait_for(|read| *read).await.is_err() {
        return Ok(Action::requeue(Duration::from_secs(1)));
    }
    let started = Instant::now();
    let obstacle = context.obstacle.borrow().clone();
    let work = async {
        if let Some(obstacle) = obstacle {
            return super::obstructed(&context, object.meta(), &obstacle).await.map(|()| ("obstructed", Some(super::RESYNC)));
        }
        context.told.lock().unwrap_or_else(PoisonError::into_inner).clear();
        match &object.0 {
            Ok(deployment) => super::reconcile(&context, deployment).await.map(|after| ("done", after)),
            Err(invalid) => {
                unreadable(&context, &invalid.metadata, &invalid.error).await.map(|()| ("unreadable", Some(super::RESYNC)))
            }
        }
    };
    let ended = tokio::time::timeout(PATIENCE, AssertUnwindSafe(work).catch_unwind()).await;
    context.metrics.reconcile_seconds.observe(started.elapsed().as_secs_f64());
    let count = |outcome| context.metrics.reconciles.get_or_create(&Outcome { outcome }).inc();
    match ended {
        Ok(Ok(Ok((outcome, Some(after))))) => {
            count(outcome);
            context.backoff.succeeded(&key);
            Ok(Action::requeue(after))
        }
        // What is in the way was told; it is looked at again, less and less often.
        Ok(Ok(Ok((outcome, None)))) => {
            count(outcome);
            Ok(Action::requeue(context.backoff.failed(&key).min(RETRY)))
        }
        Ok(Ok(Err(error))) => {
            count("failed");
            tracing::warn!(object = key, error = super::said(&error), "the API server did not do its part; trying again");
            Err(Failed(key))
        }
        Ok(Err(_)) => {
            count("panicked");
            tracing::error!(object = key, "a reconcile panicked; the object is tried again, the others go on");
            Err(Failed(key))
        }
        Err(_) => {
            count("failed");
            tracing::warn!(object = key, "a reconcile took longer than {} s; trying again", PATIENCE.as_secs());
            Err(Failed(key))
        }
    }
}

/// The object whose attempt failed.
#[derive(Debug, thiserror::Error)]
#[error("{0} was not reconciled")]
struct Failed(String);

fn error_policy(_: Arc<Wish>, error: &Failed, context: Arc<Context>) -> Action {
    Action::requeue(context.backoff.failed(&error.0))
}

/// A watch that fails tries again by itself. The controller is not to hear of it: it would wait before it looks at any watch.
fn told<T>(event: watcher::Result<T>) -> Ready<Option<watcher::Result<T>>> {
    if let Err(error) = &event {
        tracing::warn!(%error, "a watch failed; trying again");
    }
    ready(event.ok().map(Ok))
}

/// Puts what a watch says on a shelf, and names the objects that it concerns.
fn told_by<K: Resource<DynamicType = ()>>(
    watched: impl Stream<Item = watcher::Result<watcher::Event<K>>>,
    mut filler: Filler<K>,
    concerns: impl Fn(&Change<K>) -> Vec<ObjectRef<Wish>>,
) -> impl Stream<Item = ObjectRef<Wish>> {
    watched.flat_map(move |event| {
        let changes = event.map(|event| filler.take(event)).unwrap_or_else(|error| {
            tracing::debug!(%error, "a watch was interrupted; it goes on");
            vec![]
        });
        futures::stream::iter(changes.iter().flat_map(&concerns).collect::<Vec<_>>())
    })
}

/// Whether a signature is the same as before but for what we said of it.
fn says_the_same(change: &Change<SlimSignature>) -> bool {
    let (Some(before), Some(now)) = (&change.before, &change.now) else { return false };
    let seen = |signature: &SlimSignature| {
        let meta = &signature.metadata;
        (meta.uid.clone(), meta.generation, signature.spec.digest.clone(), meta.deletion_timestamp.is_some())
    };
    seen(before) == seen(now)
}

/// The ModelDeployments that a child or a pod belongs to or belonged to.
fn by_belonging<K: Resource>(change: &Change<K>) -> Vec<ObjectRef<Wish>> {
    let of = |object: &Option<Arc<K>>| object.as_ref().map(|object| belongs_to(&**object)).unwrap_or_default();
    let mut concerned = of(&change.now);
    let before = of(&change.before).into_iter().filter(|before| !concerned.contains(before)).collect::<Vec<_>>();
    concerned.extend(before);
    concerned
}

/// Those who began or ceased to own an artifact; for any other change one owner is enough to put it right, as what is
/// recorded is the same for all.
fn by_change_of_owners<K: Resource>(change: &Change<K>) -> Vec<ObjectRef<Wish>> {
    let of = |object: &Option<Arc<K>>| object.as_ref().map(|object| belongs_to(&**object)).unwrap_or_default();
    let (before, now) = (of(&change.before), of(&change.now));
    let known: HashSet<&ObjectRef<Wish>> = before.iter().collect();
    let still: HashSet<&ObjectRef<Wish>> = now.iter().collect();
    let changed: Vec<_> = known.symmetric_difference(&still).map(|concerned| (*concerned).clone()).collect();
    if changed.is_empty() { now.into_iter().take(1).collect() } else { changed }
}

fn belongs_to<K: Resource>(object: &K) -> Vec<ObjectRef<Wish>> {
    let namespace = object.meta().namespace.clone().unwrap_or_default();
    deployments(object).iter().map(|name| ObjectRef::new(name).within(&namespace)).collect()
}
